"""Raises an alarm while something has happened at least so many times within a time.

What happens is that an expression becomes true (`each: change`), such as `door.state == on`; or each reading for which it
is true (`each: reading`), where it names several channels each reading of the last one named. With `event` it is an event
of the device `of`: that it is down (`device.down`) or back (`device.up`), or brings bad readings (`reading.bad`).

An expression that is true when it is first seen has not become true. While one of its channels has no usable value, or a text
where a number must be, it is neither true nor false: nothing is counted, and it goes on from what it was.

It is raised by the occurrence that makes `at_least` of them, and clears when fewer are left within the time. What has been
counted grows old while the agent is down, so an alarm may clear at its start; values of before hold until others come.
The alarm's value is the occurrences within the time, `at_least` at most.

A value that is the same as before costs a comparison, another costs the expression. Memory is the latest values and the times
of the last `at_least` occurrences, 1000 at most.

Sample::

    rules:
      often-hot:
        count: {of: "air.temperature > 35", at_least: 5, within: 10m}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from agent import contracts
from agent.conditions.bursts import Burst, BurstRule, Occurrences
from agent.conditions.expressions import Expression
from agent.contracts import Verdict
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Event, Value

_KEEP: Final = Verdict(keep=True)


class Settings(contracts.Settings, frozen=True):
    """What may be written under `count:`.

    Attributes:
        of: When to count, such as `door.state == on`; or beside `event`, the name of the device.
        event: Count this event of the device in place of an expression.
        at_least: Raise when it happens that often.
        within: The time within which it is counted.
        each: Count when the expression becomes true (change), or each reading for which it is true (reading).
    """

    of: Expression
    at_least: Occurrences
    within: Duration
    event: Literal["device.down", "device.up", "reading.bad"] | None = None
    each: Literal["change", "reading"] = "change"

    def __post_init__(self) -> None:
        if not self.within:
            raise ValueError("within expects some time, such as 10m")
        if self.event is None and not self.of.names:
            raise ValueError(f"of expects an expression with a channel in it, not {str(self.of)!r}")
        if self.event is not None and (self.of.names != (self.of,) or "." in self.of):
            raise ValueError(f"of expects the name of a device beside event, not {str(self.of)!r}")
        if self.event is not None and self.each != "change":
            raise ValueError("each expects an expression in of, for events are counted one by one")


class Rule(BurstRule[Settings]):
    """The latest values, and whether the expression was true when it was last known."""

    message = "{of}: {value} times, {limit}"

    def __init__(self, settings: Settings) -> None:
        limit = f"at least {settings.at_least} times within {settings.within}"
        if settings.event is not None:
            limit = f"{settings.event} {limit}"
        super().__init__(settings, Burst(settings.at_least, settings.within), str(settings.of), limit)
        names = () if settings.event is not None else settings.of.names
        self._values: dict[str, Value] = dict.fromkeys(names)
        self._is_stale = False  # whether a value has come since the expression was looked at
        self._truth: bool | None = None  # None where that cannot be said
        self._was: bool | None = None  # the same when it could last be said

    def watches(self) -> Sequence[str]:
        """Return the channels of the expression."""
        return tuple(self._values)

    def hears(self) -> Sequence[tuple[str, str]]:
        """Return the event, where it is one."""
        return () if self.settings.event is None else ((self.settings.event, str(self.settings.of)),)

    def note(self, channel: str, value: Value, at: float) -> bool:  # noqa: ARG002
        """Take in a value without judging it: another of the same reading is about to come."""
        if value != self._values[channel]:
            self._values[channel] = value
            self._is_stale = True
        return True

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:
        """Count where the expression is true, or has become true."""
        self.note(channel, value, at)
        if self._is_stale:
            self.is_unsaved |= len(self._values) > 1  # that of a single channel comes again
            self._evaluate()
        if self.settings.each == "reading":
            return self.occurred(at) if self._truth and channel == self.settings.of.names[-1] else None
        if self._truth is None or self._truth is self._was:
            return None
        was, self._was = self._was, self._truth
        self.is_unsaved = True
        if was is None:
            return None
        return (self.occurred(at) or _KEEP) if self._truth else _KEEP

    def show_latest(self, latest: Mapping[str, tuple[Value, float]], at: float) -> Verdict | None:
        """Know whether the expression is true already, which is nothing to be counted."""
        for channel, (value, _) in latest.items():
            self.note(channel, value, at)
        self._evaluate()
        self._was = self._truth
        return None

    def on_event(self, event: Event, at: float) -> Verdict | None:
        """Count an event, or as many bad readings as it stands for."""
        times = event.values.get("count")
        return self.occurred(at, times if isinstance(times, int) else 1) or _KEEP

    def _evaluate(self) -> None:
        self._is_stale = False
        result = self.settings.of.evaluate(self._values)
        self._truth = None if result is None or isinstance(result, str) else bool(result)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return what was counted, the latest values, and whether the expression was true."""
        values = {f"value {name}": value for name, value in self._values.items()}
        return {**super().state(now), **values, "was": None if self._was is None else int(self._was)}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; what was counted grows old meanwhile."""
        super().restore(state, saved, now)
        was = state.get("was")
        self._was = None if was is None else bool(was)
        self._values = {name: state.get(f"value {name}") for name in self._values}
        if self._values:
            self._evaluate()
