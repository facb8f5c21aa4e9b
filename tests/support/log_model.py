"""What must hold of an event log, in lists, sets and numbers: it knows events, but nothing of how a log keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.events import Event, EventType, Lane, Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Key = tuple[str, Lane]
"""A consumer and a lane."""

Range = tuple[int, int | None]
"""What is not acknowledged: after < seq <= upto, or without an end."""

TELL_EVERY: Final = 60.0
"""Seconds after which losses must have been told."""

REJECTED_FOR: Final = 30 * 86_400.0
"""Seconds that rejected events stay listed at least."""


@dataclass
class Picture:
    """What a log knows: all of it, or what of it is in the file.

    Attributes:
        events: By sequence number.
        at: By consumer and lane, up to which sequence number all is acknowledged.
        ahead: By consumer and lane, the sequence numbers beyond that are acknowledged.
        states: By part.
        rejected: By the event's id and the consumer: event, consumer, time, reason.
    """

    events: dict[int, Event]
    at: dict[Key, int]
    ahead: dict[Key, set[int]]
    states: dict[str, dict[str, Value]]
    rejected: dict[tuple[str, str], tuple[Any, ...]]

    def copy(self) -> Picture:
        """Return one that changes apart from this one."""
        ahead = {key: set(seqs) for key, seqs in self.ahead.items()}
        return Picture(dict(self.events), dict(self.at), ahead, dict(self.states), dict(self.rejected))

    def undelivered(self, key: Key) -> list[int]:
        """Return the events that a consumer has not acknowledged of a lane."""
        at, ahead = self.at[key], self.ahead.get(key, set())
        return [
            seq
            for seq, event in sorted(self.events.items())
            if event.lane is key[1] and seq > at and seq not in ahead
        ]

    def facts(self) -> tuple[Any, ...]:
        """Return what two pictures that mean the same have in common."""
        listed = [each for each in self.rejected.values() if self.events.get(each[0].seq) == each[0]]
        return (
            [self.events[seq] for seq in sorted(self.events)],
            self.states,
            sorted(listed, key=lambda each: (each[0].seq, each[1])),
            {key: self.undelivered(key) for key in self.at},
        )


class Model:
    """One log, over all its runs.

    Attributes:
        now: What it knows.
        file: What of it is in the file, so what a crash leaves.
        loose: Events that were told as dropped, or are out of the file by age: they may still be handed out.
        written: Up to which sequence number it has been committed in this run.
        last: The newest sequence number.
    """

    def __init__(self, retain: float, *, commits_first: bool, is_bounded: bool, memory: int) -> None:
        """Begin with nothing.

        Args:
            retain: Seconds that delivered events are kept in the file.
            commits_first: Whether nothing is handed out that is not committed.
            is_bounded: Whether the file has a size at which readings must go.
            memory: Events that are kept in memory while the disk refuses.
        """
        self._retain, self._commits_first, self._is_bounded = retain, commits_first, is_bounded
        self._memory = memory
        self.now, self.file = Picture({}, {}, {}, {}, {}), Picture({}, {}, {}, {}, {})
        self.loose: set[int] = set()
        self.run = self.last = self.written = 0
        self._ids: set[str] = set()
        self._lost: list[int] = []
        self._overtaken: list[int] = []
        self._told: list[tuple[int, int, int]] = []
        self._told_at = 0

    # --- what is done to it -------------------------------------------------------------------------------------

    def reopen(self, run: int, first: int, consumers: Iterable[str]) -> None:
        """Begin a run: what is in the file is all there is, and new consumers begin at its end."""
        assert run > self.run
        assert first > max(self.file.events, default=0)
        keys = [(name, lane) for name in consumers for lane in Lane]
        self.file.at = {key: seq for key, seq in self.file.at.items() if key in keys}
        self.file.ahead = {key: seqs for key, seqs in self.file.ahead.items() if key in keys}
        self.now = self.file.copy()
        self.now.at = {key: self.file.at.get(key, first - 1) for key in keys}
        self.now.ahead = {key: self.now.ahead.get(key, set()) for key in keys}
        self.run, self.last, self.written = run, first - 1, first - 1
        self.loose, self._lost, self._overtaken, self._told, self._told_at = set(), [], [], [], 0

    def append(self, event: Event) -> None:
        """Take in an event, which must have a new id and the next sequence number."""
        assert event.id not in self._ids
        assert (event.run, event.seq) == (self.run, self.last + 1)
        self._ids.add(event.id)
        self.last = event.seq
        self.now.events[event.seq] = event

    def acknowledge(self, key: Key, after: int, upto: int) -> None:
        """Move a cursor over all that is acknowledged without a gap."""
        at, ahead = self.now.at[key], self.now.ahead[key]
        ahead.update(range(after + 1, upto + 1))
        while at + 1 in ahead:
            at += 1
        self.now.at[key] = at
        self.now.ahead[key] = {seq for seq in ahead if seq > at}

    def ranges(self, key: Key) -> list[Range]:
        """Return what a consumer has not acknowledged of a lane, oldest first."""
        found: list[Range] = []
        after = self.now.at[key]
        for seq in sorted(self.now.ahead[key]):
            if seq > after + 1:
                found.append((after, seq - 1))
            after = seq
        return [*found, (after, None)]

    def adopt(self, key: Key, ranges: Sequence[Range], *, was_clean: bool) -> None:
        """Begin where a consumer begins after a start; after a crash that may be earlier, but over no other events."""
        at, ahead = ranges[0][0], ranges[-1][0]
        assert at == self.now.at[key] or (at < self.now.at[key] and not was_clean and key in self.file.at)
        assert ahead <= self.last, "what comes is not delivered yet"
        missing = {seq for after, upto in ranges[:-1] for seq in range(after + 1, (upto or 0) + 1)}
        undelivered = self.now.undelivered(key)
        for picture in (self.now, self.file) if key in self.file.at else (self.now,):
            picture.at[key], picture.ahead[key] = at, set(range(at + 1, ahead + 1)) - missing
        assert self.now.undelivered(key) == undelivered

    def passed(self) -> dict[Lane, int]:
        """By lane, up to which sequence number every consumer has acknowledged."""
        return {
            lane: min((seq for key, seq in self.now.at.items() if key[1] is lane), default=self.last)
            for lane in Lane
        }

    def pending(self) -> set[int]:
        """Return the events that no commit has been said to have written."""
        return {seq for seq in self.now.events if seq > self.written and seq not in self.loose}

    def taken(self) -> Picture:
        """Return what a commit that begins now makes of the file."""
        passed, new = self.passed(), self.pending()
        if not self._retain and self.now.at:
            new = {seq for seq in new if seq > passed[self.now.events[seq].lane]}
        refused = [self.now.rejected[key][0] for key in self.now.rejected.keys() - self.file.rejected.keys()]
        group = self.now.copy()
        group.events = self.file.events | {seq: self.now.events[seq] for seq in new}
        group.events |= {event.seq: event for event in refused}
        return group

    def committed(self, group: Picture, upto: int) -> None:
        """Note that a commit has succeeded, of what was there up to a sequence number."""
        self.file, self.written = group, upto
        for seq in [seq for seq in self.now.events if seq <= upto]:
            if seq not in group.events and seq not in self.loose:  # delivered, and never to be in the file
                del self.now.events[seq]

    def lose(self, gone: Iterable[int], passed: dict[Lane, int], before: float) -> None:
        """Take in that events are gone from the file, or from memory while the disk refuses.

        Args:
            gone: Their sequence numbers.
            passed: What every consumer had.
            before: Delivered events from before this time may go, in microseconds since 1970-01-01 UTC.
        """
        listed = {event_id for event_id, _ in self.file.rejected}
        may_drop = self._is_bounded or len(self.pending()) > self._memory
        gone = set(gone)
        is_reading_left = any(self.now.events[seq].type == EventType.READING for seq in self.pending() - gone)
        for seq in sorted(gone):
            event = self.now.events.get(seq) or self.file.events[seq]
            if seq > passed[event.lane] and self._overtook(seq, event.lane):
                assert may_drop, f"{event} is gone too early"
                self._overtaken.append(seq)
            elif seq > passed[event.lane]:
                assert may_drop, f"{event} is gone, and nobody has had it"
                assert event.type == EventType.READING or not is_reading_left, f"{event} went before readings"
                self._lost.append(seq)
            else:
                is_old = event.time < before and event.id not in listed
                assert may_drop or is_old, f"{event} is gone too early"
            self.loose.add(seq)

    def _overtook(self, seq: int, lane: Lane) -> bool:
        """Whether every consumer has an event, and has it out of turn: the log may count it as lost, or not."""
        keys = [key for key in self.now.at if key[1] is lane]
        return bool(keys) and all(seq <= self.now.at[key] or seq in self.now.ahead[key] for key in keys)

    def look_at_file(self, stored: Collection[int], passed: dict[Lane, int], before: float) -> None:
        """Take in what is in the file; the rest of what was there is gone: see `lose`."""
        gone = self.file.events.keys() - set(stored)
        self.lose(gone, passed, before)
        for seq in gone:
            del self.file.events[seq]

    def expire(self, now: int) -> None:
        """Take in that all that may go by age at a time, in microseconds, has gone, and rejections of long ago."""
        before, passed = now - self._retain * 1e6, self.passed()
        listed = {event_id for event_id, _ in self.file.rejected}
        for seq, event in self.file.events.items():
            is_old = event.time < before and seq <= passed[event.lane]
            assert self._is_bounded or not is_old or event.id in listed, f"{event} is still there"
        for key, rejection in list(self.file.rejected.items()):
            if rejection[2] < now - max(self._retain, REJECTED_FOR) * 1e6:
                del self.file.rejected[key]
                self.now.rejected.pop(key, None)

    # --- what must hold -----------------------------------------------------------------------------------------

    def hear(self, events: Iterable[Event]) -> None:
        """Take in the events that nobody has appended: the log's own, which can only say what was dropped."""
        for event in events:
            if event.seq in self.now.events:
                continue
            assert event.type == EventType.LOG_DROPPED, f"nobody has appended {event}"
            first, last, count = (int(event.values[name] or 0) for name in ("from", "to", "count"))
            self._told.append((first, last, count))
            self._told_at = event.time
            self.append(event)

    def is_telling_due(self, now: int) -> bool:
        """Whether losses must be told at once at a time, in microseconds."""
        return not self._told or now >= self._told_at + TELL_EVERY * 1e6

    def agrees_on_losses(self, *, all_of_them: bool) -> None:
        """Whether what was told is what was lost: all of it, or not more."""
        told = sum(count for _, _, count in self._told)
        assert told <= len(self._lost) + len(self._overtaken)
        if all_of_them:
            assert told >= len(self._lost)
            assert all(any(first <= seq <= last for first, last, _ in self._told) for seq in self._lost)

    def readable(self, key: Key) -> list[Event]:
        """Return what a consumer has not acknowledged and may read."""
        upto = self.written if self._commits_first else self.last
        return [self.now.events[seq] for seq in self.now.undelivered(key) if seq <= upto]

    def is_seen(self, seen: Sequence[Event], expected: Sequence[Event]) -> None:
        """Whether events are those that are expected, in order and once, but for loose ones that are gone."""
        seqs = {event.seq for event in seen}
        assert [event for event in expected if event.seq in seqs or event.seq not in self.loose] == seen

    def waits(self, consumer: str) -> tuple[int, int]:
        """Return how many events a consumer must still get, and how many with those that it may get."""
        seqs = [seq for lane in Lane for seq in self.now.undelivered((consumer, lane))]
        return len([seq for seq in seqs if seq not in self.loose]), len(seqs)
