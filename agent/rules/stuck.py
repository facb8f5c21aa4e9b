"""Raises an alarm when a channel's value has not moved for too long though readings come: a dead sensor repeats itself.

All values since a time lie within a band that is as wide as `within`; one that would widen it has moved, and the time
begins anew with it. That is exact for `within: 0`; beside that, a value that creeps may be judged a little later than it
could be, never earlier. Text is compared as it is. A reading of bad quality says nothing, neither way.

It judges at readings alone, the first that comes after the time is over. Without any reading for longer than `for` there is
nothing to judge, so the time begins anew, and `for` must be longer than the device takes between two readings; `absence` tells
of silence. A time during which the agent is down is taken as one without readings. An alarm stays until the value moves.

A reading costs a few comparisons; memory is two values and two times.

Sample::

    rules:
      air-stuck:
        stuck: {of: air.temperature, for: 1h}
        message: "{of} shows {value} all the time, the sensor may be dead"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from agent import contracts
from agent.conditions.ages import moment
from agent.contracts import Transition, Verdict
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Value


class Settings(contracts.Settings, frozen=True):
    """What may be written under `stuck:`.

    Attributes:
        of: The channel to watch, such as `scale.weight`.
        for_: Raise when its value has not moved for that long.
        within: What does not count as moving, in the channel's unit: noise that even a dead sensor shows.
    """

    of: str
    for_: Duration = msgspec.field(name="for")
    within: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def __post_init__(self) -> None:
        if not self.for_:
            raise ValueError("for expects some time, such as 1h")


class Rule(contracts.Rule[Settings]):
    """The band of the values since it last moved."""

    message = "{of} stays at {value}, {limit}"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._within = settings.within * (1 + 1e-9)  # 0.8 - 0.6 is a little more than 0.2
        moved = f"moved by no more than {settings.within:g}" if settings.within else "unmoved"
        self._limit = f"{moved} for {settings.for_}"
        self._active = False
        self._low: Value = None
        self._high: Value = None
        self._since = 0.0  # when the first value of the band was seen
        self._seen = 0.0  # when the last one was

    def watches(self) -> Sequence[str]:
        """Return the one channel."""
        return (self.settings.of,)

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Raise where the value has not moved for so long, clear where it has."""
        if value is None:
            return None
        self.is_unsaved = True
        pause, self._seen = at - self._seen, at
        if self._has_moved(value):
            return self._begin(value, at)
        if self._active or at < self._since + self.settings.for_:
            return None
        if pause > self.settings.for_:
            return self._begin(value, at)
        self._active = True
        return Verdict(
            keep=True, transition=Transition(True, self.settings.of, value, self._limit, self._since)
        )

    def show_latest(self, latest: Mapping[str, tuple[Value, float]], at: float) -> Verdict | None:
        """Begin with the band of what was seen last; the time begins now."""
        return self.on_reading(self.settings.of, latest[self.settings.of][0], at)

    def _has_moved(self, value: Value) -> bool:
        """Whether a value lies outside the band, which else becomes as wide as it must be."""
        low, high = self._low, self._high
        if not (
            isinstance(value, float | int) and isinstance(low, float | int) and isinstance(high, float | int)
        ):
            return value != low
        if low <= value <= high:
            return False
        low, high = min(low, value), max(high, value)
        if high - low > self._within:
            return True
        self._low, self._high = low, high
        return False

    def _begin(self, value: Value, at: float) -> Verdict | None:
        self._low = self._high = value
        self._since = at
        if not self._active:
            return None
        self._active = False
        return Verdict(keep=True, transition=Transition(False, self.settings.of, value, self._limit, at))

    def state(self, now: float) -> Mapping[str, Value]:
        """Return whether it is active, the band, how long the value has been in it, and when it was last seen."""
        return {
            "active": int(self._active), "low": self._low, "high": self._high,
            "since": now - self._since, "seen": now - self._seen,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:  # noqa: ARG002
        """Go on from a saved state; the time since was one without readings."""
        since, seen = moment(state, "since", saved), moment(state, "seen", saved)
        self._active = bool(state.get("active"))
        self._low, self._high = state.get("low"), state.get("high")
        self._since = saved if since is None else since
        self._seen = saved if seen is None else seen
