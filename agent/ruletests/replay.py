"""Plays a log to today's rules, and holds the alarms that come of it against those that are in the log.

The times of the events drive the virtual clock. Everything is played from where the log begins, so that windows are full and
delays run by the time from which it is told. An output puts out what today's rules want of it; what it said then is left out.
"""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent import reporter
from agent.alarms import ImpossibleError
from agent.events import ALARMS, EventType
from agent.ruletests.bench import Bench, CircleError
from agent.ruletests.model import Deed, Happening, Place, Subject
from agent.ruletests.moments import said

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.config import Config
    from agent.events import Event, Quality, Value
    from agent.ruletests.model import Trace
    from agent.ruletests.names import Names

SAME: Final = 1.0
"""Seconds by which the same alarm may be logged at another time."""
NEAR: Final = 3600.0
"""Seconds within which an alarm that is missing and one that is new are told as one that comes at another time."""

_VERBS: Final = {
    EventType.ALARM_ACKNOWLEDGED: "ack",
    EventType.ALARM_SHELVED: "shelve",
    EventType.ALARM_UNSHELVED: "unshelve",
}
_OF_THE_AGENT: Final = frozenset({"interlock", "dead_man"})
_NOWHERE: Final = Place("", 0, 0)


class Difference(NamedTuple):
    """One alarm event, then and now.

    Attributes:
        mark: `=` for the same, `~` for what is otherwise or at another time, `-` for what does not happen any more, `+` for
            what is new.
        happening: What happens now, or happened then where nothing happens now.
        note: How it differs.
    """

    mark: str
    happening: Happening
    note: str = ""


class Replayed(NamedTuple):
    """What a replay came to.

    Attributes:
        epoch: The wall time at 0, in microseconds since 1970-01-01 UTC.
        begin: From when on it is told, in seconds.
        end: When the last event happened.
        events: How many events were played.
        runs: How many starts of the agent there were.
        then: The alarms in the log, since `begin`.
        now: Those of today's rules, since `begin`.
        trace: Each reading, where they were asked for: time, device, values.
        missing: The channels that rules look at and that no reading in the log has.
        failure: Why it could not be played to its end; "" where it was.
    """

    epoch: int
    begin: float
    end: float
    events: int
    runs: int
    then: list[Happening]
    now: list[Happening]
    trace: Trace
    missing: list[str]
    failure: str = ""


class _Polled:
    """A polled device of which only changes are kept: in between it said much the same."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.values: dict[str, Value] = {}
        self.next_at = 0.0


class _Player:
    """Plays events, one after the other."""

    def __init__(self, config: Config, names: Names, epoch: int, *, with_trace: bool) -> None:
        self.then: list[Happening] = []
        self.now: list[Happening] = []
        self.trace: Trace = []
        self.bench = Bench(config, names, epoch, self.now.append)
        self._with_trace = with_trace
        self._names = names
        self._outputs = {channel.partition(".")[0] for channel in names.outputs}
        self._causes = set(names.rules) | _OF_THE_AGENT
        self._run: int | None = None
        self._thinned = {
            name: _Polled(names.every[name])
            for name, device in config.devices.items()
            if name in names.every and device.report != reporter.Settings()
        }
        self.runs = 0
        self.missing = {each for each in names.watched if each.partition(".")[0] not in self._outputs}

    def play(self, event: Event, at: float) -> None:
        """Take in an event at a time of the bench."""
        bench = self.bench
        is_new = event.run != self._run
        if is_new and not bench.is_away:
            bench.stop()  # it has not said so: then it ended with the last that it said
        self._fill(at)
        bench.advance(at)
        if is_new:
            self._begin(event.run)
        if event.type == EventType.AGENT_STOPPED:
            bench.stop()
        if bench.is_away:
            return
        values = dict(event.values)
        match event.type:
            case EventType.READING:
                self._read(event.source, values, at, event.quality)
            case EventType.DEVICE_DOWN:
                bench.turn(event.source, "down")
            case EventType.DEVICE_UP:
                bench.turn(event.source, "up")
            case EventType.BAD_READING:
                bench.turn(event.source, "bad")
            case EventType.COMMAND if values.get("cause") not in self._causes:
                self._do(
                    Deed(at, "set", f"{event.source}.{values.get('channel')}", values.get("value"), _NOWHERE)
                )
            case kind if kind in ALARMS:
                self._alarm(event, at)

    def _begin(self, run: int) -> None:
        """Begin as the agent began then."""
        self._run = run
        self.runs += 1
        for polled in self._thinned.values():
            polled.values = {}
        self.bench.forget_down()
        self.bench.start()

    def _read(
        self, device: str, values: dict[str, Value], at: float, quality: dict[str, Quality] | None
    ) -> None:
        if device in self._outputs or device not in self._names.devices:
            return
        if (polled := self._thinned.get(device)) is not None:
            polled.values |= values
            polled.next_at = at + polled.every
        if self.missing:
            self.missing.difference_update(f"{device}.{channel}" for channel in values)
        self._show(device, values, at, quality)

    def _show(
        self, device: str, values: dict[str, Value], at: float, quality: dict[str, Quality] | None = None
    ) -> None:
        if self.bench.show(device, values, quality) and self._with_trace:
            self.trace.append((at, device, values))

    def _fill(self, to: float) -> None:
        """Say again what polled devices have said, for readings that changed little were not kept."""
        while True:
            due = [
                (polled.next_at, name)
                for name, polled in self._thinned.items()
                if polled.values and polled.next_at < to - polled.every / 2
            ]
            if not due or self.bench.is_away:
                return
            at, name = min(due)
            polled = self._thinned[name]
            polled.next_at = at + polled.every
            self.bench.advance(max(at, self.bench.clock.now))
            self._show(name, dict(polled.values), at)

    def _alarm(self, event: Event, at: float) -> None:
        what = event.type.removeprefix("alarm.")
        self._causes.add(event.source)
        verb = _VERBS.get(event.type)
        is_echo = verb is not None and event.values.get("by") != "time"
        then = (event.time - self.bench.clock.epoch) / 1e6
        self.then.append(
            Happening(then, Subject(is_output=False, name=event.source), what, event.values, is_echo)
        )
        if verb is not None and is_echo:
            self._do(Deed(at, verb, event.source, event.values.get("for"), _NOWHERE))

    def _do(self, deed: Deed) -> None:
        if deed.verb == "set" and deed.target not in self._names.outputs:
            return
        try:
            self.bench.do(deed)
        except ImpossibleError:
            return  # today the alarm is in another state, which is told


def play(
    config: Config, names: Names, events: Iterable[Event], since: int, until: int, *, with_trace: bool = False
) -> Replayed | None:
    """Play events, in the order in which they were logged; None where there are none.

    Args:
        config: The configuration.
        names: Its names.
        events: All that the log has.
        since: From when on it is told, in microseconds since 1970-01-01 UTC.
        until: When it ends.
        with_trace: Whether the readings are wanted, for a plot.
    """
    player: _Player | None = None
    epoch, count, at, failure = 0, 0, 0.0, ""
    try:
        for event in events:
            if event.time > until:
                continue
            if player is None:
                epoch = event.time
                player = _Player(config, names, epoch, with_trace=with_trace)
            at = max(at, (event.time - epoch) / 1e6)
            count += 1
            player.play(event, at)
        if player is not None:
            player.bench.end()
    except CircleError as error:
        failure = str(error)
    if player is None:
        return None
    begin = max(0.0, (since - epoch) / 1e6)
    then, now = (
        [each for each in told if each.at >= begin and not each.subject.is_output]
        for told in (player.then, player.now)
    )
    trace = [each for each in player.trace if each[0] >= begin]
    return Replayed(epoch, begin, at, count, player.runs, then, now, trace, sorted(player.missing), failure)


def differences(replayed: Replayed) -> list[Difference]:
    """Hold the alarms of then against those of now, by time."""
    found: list[Difference] = []
    kinds = dict.fromkeys(
        (each.subject, each.what) for each in [*replayed.then, *replayed.now] if not each.echo
    )
    for kind in kinds:
        then, now = (
            [each for each in told if (each.subject, each.what) == kind and not each.echo]
            for told in (replayed.then, replayed.now)
        )
        found += _of_kind(then, now)
    return sorted(found, key=lambda each: each.happening.at)


def _of_kind(then: list[Happening], now: list[Happening]) -> Iterator[Difference]:
    """Yield what became of the alarms of one rule that turn in one way."""
    gone, new = [], []
    left, right = 0, 0
    while left < len(then) or right < len(now):
        if left == len(then):
            late = math.inf
        elif right == len(now):
            late = -math.inf
        else:
            late = then[left].at - now[right].at
        if late > SAME:
            new.append(now[right])
            right += 1
        elif late < -SAME:
            gone.append(then[left])
            left += 1
        else:
            note = _severity(then[left], now[right])
            yield Difference("~" if note else "=", now[right], note)
            left, right = left + 1, right + 1
    times = [each.at for each in new]
    for each in gone:
        index = _nearest(times, each.at)
        if index is None or abs(times[index] - each.at) > NEAR:
            yield Difference("-", each, "not any more")
        else:
            notes = [_moved(times.pop(index) - each.at), _severity(each, new[index])]
            yield Difference("~", new.pop(index), "; ".join(filter(None, notes)))
    for each in new:
        yield Difference("+", each, "new")


def _nearest(times: list[float], at: float) -> int | None:
    """Return the place of the time that is nearest to one; None where there is none."""
    after = bisect.bisect(times, at)
    near = range(max(0, after - 1), min(len(times), after + 1))
    return min(near, key=lambda index: abs(times[index] - at), default=None)


def _severity(then: Happening, now: Happening) -> str:
    before, after = then.facts.get("severity"), now.facts.get("severity")
    return f"was {before}" if now.what in {"raised", "changed"} and before != after else ""


def _moved(seconds: float) -> str:
    return f"{said(abs(seconds))} {'later' if seconds > 0 else 'earlier'} than then"


def unknown(config: Config, names: Names) -> list[str]:
    """Say what a log cannot tell of the readings that rules look at."""
    told: list[str] = []
    watched = {channel.partition(".")[0] for channel in names.watched}
    for name, device in config.devices.items():
        if name not in watched or device.report == reporter.Settings():
            continue
        kept = _kept(device.report)
        how = (
            f"in between the last one is taken as said again every {names.every[name]:g} s"
            if name in names.every
            else "in between it is taken as silent"
        )
        told.append(f"{name}: only some readings are kept (report: {kept}); {how}")
    return told


def _kept(report: Any) -> str:
    settings = {name: getattr(report, name) for name in report.__struct_fields__}
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
