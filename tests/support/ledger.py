"""The books of an agent, kept outside of it: what was produced, what was on its disk when it was killed, what arrived."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from support.chances import REPEAT
from support.instruments import HEAVY
from support.waiting import until

from agent.contracts import Gateway, Message
from agent.encodings import json as plain_json
from agent.events import Event, EventType, Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from support.agents import Agent
    from support.instruments import CountingScale, Line
    from support.subscribers import Received, Subscriber

SLACK: Final = 3.0
"""Seconds that a line may take from the port into the log, and a commit that is due to the disk, on a busy machine."""

SCALE: Final = "scale"
"""The device whose lines are counted; others may be there."""

SHOWN: Final = 5
"""Faults of one kind that are told one by one; the others are counted."""

_json = plain_json.Encoding(plain_json.Settings(), Gateway("g", "", 0))


class Arrival(NamedTuple):
    """An event as a subscriber received it.

    Attributes:
        event: What it said.
        connection: Which connection of the agent brought it, counted from 1.
        run: Which run of the agent made that connection.
    """

    event: Event
    connection: int
    run: int


class Kill(NamedTuple):
    """A power cut.

    Attributes:
        at: When, in seconds of the monotonic clock.
        run: The newest run that the file knew.
        cursors: Up to where the file knew that events were delivered, by forwarder and lane.
    """

    at: float
    run: int
    cursors: Mapping[tuple[str, Lane], int]


def is_same(one: Event, other: Event) -> bool:
    """Whether two are the same event; the time of one from before the clock was set may be known by the other."""
    if not (one.clock_unset or other.clock_unset):
        return one == other
    first, second = (
        msgspec.structs.replace(each, time=0, recorded=None, clock_unset=False) for each in (one, other)
    )
    return first == second


class Ledger:
    """Compares what arrived with what was produced and committed.

    Args:
        scale: What produced the lines.
        commit: The agent's `log: {commit: …}`, in seconds.
        window: The forwarder's window.
    """

    def __init__(self, scale: CountingScale, *, commit: float = 1.0, window: int = 100) -> None:
        self._scale = scale
        self._commit = commit
        self._window = window
        self._kills: list[Kill] = []
        self._committed: dict[str, Event] = {}
        self._spoiled: list[str] = []  # faults that a look at the file alone has shown

    def killed(self, agent: Agent) -> None:
        """Write down what the file of an agent holds that was killed just now."""
        now = time.monotonic()
        with agent.copied() as store:
            self.note_kill(now, store.read(None, 0, None, 10_000_000), store.cursors())

    def note_kill(
        self, at: float, committed: Sequence[Event], cursors: Mapping[tuple[str, Lane], int]
    ) -> None:
        """Write down a kill at a moment of the monotonic clock, and what the file held after it."""
        there = {event.id: as_sent(event) for event in committed if event.type != EventType.DEVICE_ABOUT}
        gone = [event_id for event_id in self._committed if event_id not in there]
        self._spoiled += [
            f"gone: {event_id} was committed, and is no longer in the file" for event_id in gone
        ]
        for event_id, event in there.items():
            known = self._committed.setdefault(event_id, event)
            if not is_same(known, event):
                self._spoiled.append(f"changed: {known} is {event} in the file now")
        run = max((event.run for event in committed), default=0)
        self._kills.append(Kill(at, run, dict(cursors)))

    # --- the verdict ----------------------------------------------------------------------------------------------

    def wait_balanced(self, subscriber: Subscriber, forwarder: str = "site", timeout: float = 120.0) -> None:
        """Wait until everything that must arrive has, and see that all is as it should be."""
        counts = [-1, -1]  # messages at the last look, and when it was last worth while to read them all

        def complete() -> bool:
            last, counts[0] = counts[0], len(subscriber.received)
            if last != counts[0] or counts[0] == counts[1]:
                return False
            counts[1] = counts[0]
            return not any(self._missing(arrivals(subscriber.received)))

        until(
            complete,
            lambda: f"all that must arrive; {REPEAT}\n{self._told(subscriber.received, forwarder)}",
            timeout,
        )
        self.check(subscriber.received, forwarder)

    def check(self, received: Iterable[Received], forwarder: str = "site") -> None:
        """Raise where there is any fault in what a forwarder delivered."""
        told = self._told(received, forwarder)
        assert not told, f"{told}\n{REPEAT}"

    def _told(self, received: Iterable[Received], forwarder: str) -> str:
        faults = self.faults(received, forwarder)
        kinds = Counter(fault.partition(":")[0] for fault in faults)
        shown = [
            fault
            for kind in kinds
            for fault in [each for each in faults if each.startswith(f"{kind}:")][:SHOWN]
        ]
        return "\n".join([*shown, *(f"{count} times {kind}" for kind, count in kinds.items())])

    def faults(self, received: Iterable[Received], forwarder: str = "site") -> list[str]:
        """Return everything that is wrong with what a forwarder delivered; each begins with its kind and a colon."""
        came = arrivals(received)
        return [
            *self._spoiled,
            *self._missing(came),
            *self.untrue(came),
            *disordered(came),
            *self._repeated(came, forwarder),
            *(f"dropped: {a.event}" for a in came if a.event.type == EventType.LOG_DROPPED),
        ]

    def untrue(self, came: Sequence[Arrival]) -> Iterator[str]:
        """Tell what was changed, made up or logged twice."""
        known = dict(self._committed)
        lines: dict[int, str] = {}
        for event in (arrival.event for arrival in came):
            first = known.setdefault(event.id, event)
            if not is_same(first, event):
                yield f"changed: {first} arrived as {event}"
            if event.type != EventType.READING or event.source != SCALE:
                continue
            n = event.values.get("n")
            if not isinstance(n, int) or not 0 <= n < self._scale.written:
                yield f"invented: {event}"
            elif event.values.get("weight") != self._scale.lines[n].weight:
                yield f"changed: {self._scale.lines[n]} arrived as {event}"
            elif lines.setdefault(n, event.id) != event.id:
                yield f"twice: line {n} is {lines[n]} and {event.id}"

    def missing_lines(self, came: Sequence[Arrival]) -> list[int]:
        """Return the numbers of the lines that must have arrived and have not."""
        there = {a.event.values.get("n") for a in came if a.event.type == EventType.READING}
        allowed = self._commit + SLACK
        return [
            line.n for line in self._scale.lines if line.n not in there and not self._may_lose(line, allowed)
        ]

    def _missing(self, came: Sequence[Arrival]) -> Iterator[str]:
        there = {arrival.event.id for arrival in came}
        yield from (f"lost: {event}" for event_id, event in self._committed.items() if event_id not in there)
        for n in self.missing_lines(came):
            yield f"missing: {self._scale.lines[n]}, no kill came within {self._commit + SLACK:g} s after it"
        events = [*self._committed.values(), *(arrival.event for arrival in came)]
        logged = {event.values.get("n") for event in events if event.type == EventType.READING}
        raised = {a.event.values.get("value") for a in came if a.event.type == EventType.ALARM_RAISED}
        for line in self._scale.lines:
            # Its cause arrived or was on the disk, or there was time enough to commit it.
            due = line.weight >= HEAVY and (line.n in logged or not self._may_lose(line, SLACK))
            if due and line.weight not in raised:
                yield f"no alarm: {line}"

    def _may_lose(self, line: Line, within: float) -> bool:
        """Whether a kill came so soon after a line that it may have been in memory only."""
        return any(0 <= kill.at - line.at <= within for kill in self._kills)

    def _repeated(self, came: Sequence[Arrival], forwarder: str) -> Iterator[str]:
        last: dict[str, int] = {}  # by id: the connection that brought it last
        again: Counter[int] = Counter()  # by connection: what an earlier one had brought
        runs: dict[int, int] = {}
        for event, connection, run in came:
            runs[connection] = run
            before = last.get(event.id)
            last[event.id] = connection
            if before == connection:
                yield f"repeated: {event.id} twice in connection {connection}"
            elif before is not None:
                again[connection] += 1
                for kill in self._kills:
                    if kill.run < run and event.seq <= kill.cursors.get((forwarder, event.lane), 0):
                        yield f"repeated: {event.id} in run {run}, its delivery was committed in run {kill.run}"
                        break
        for connection, count in again.items():
            if runs.get(connection - 1) == runs[connection] and count > self._window:
                yield f"repeated: {count} events in connection {connection}, the window is {self._window}"


def as_sent(event: Event) -> Event:
    """Return an event as its receiver reads it."""
    return _json.decode(_json.encode(event))


def disordered(came: Sequence[Arrival]) -> Iterator[str]:
    """Tell what came after a later event of its lane, not looking at repeats."""
    seen: set[str] = set()
    newest = dict.fromkeys(Lane, (0, 0))
    for event in (arrival.event for arrival in came):
        if event.id not in seen:
            seen.add(event.id)
            if (event.run, event.seq) < newest[event.lane]:
                yield f"order: {event.id} came after {newest[event.lane]} of the same lane"
            newest[event.lane] = max(newest[event.lane], (event.run, event.seq))


def arrivals(received: Iterable[Received]) -> list[Arrival]:
    """Return the events among messages, without what the broker itself says again.

    What a device is (`device.about`) is left out: it is state, published anew in each connection.
    """
    found: list[Arrival] = []
    seen: set[str] = set()
    connection = run = 0
    for message in list(received):
        if message.retain:
            continue
        body = msgspec.json.decode(message.payload, type=dict[str, Any])
        if message.topic.endswith("/status"):
            if body["state"] == "online":
                connection += 1
                run = body["run"]
            continue
        event = _json.decode(Message(message.payload, plain_json.CONTENT_TYPE))
        if event.type == EventType.DEVICE_ABOUT or (message.repeated and event.id in seen):
            continue
        seen.add(event.id)
        found.append(Arrival(event, connection, run))
    return found
