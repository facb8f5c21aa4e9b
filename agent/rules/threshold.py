"""Raises an alarm while a channel is above, below, inside or outside limits.

`clear` gives hysteresis, so that a value that hovers at the limit does not raise the alarm again and again. `for` and
`clear_for` are the on-delay and off-delay of ISA-18.2: the condition must hold that long without a break.

Sample::

    rules:
      too-hot:
        threshold: {of: air.temperature, above: 35, clear: 33, for: 30s}
        severity: critical
        message: "{of} is {value}, {limit}"
        then: {set: {fan: on}, otherwise: off}
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from agent import contracts
from agent.contracts import Transition, Verdict
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Value

_KEEP = Verdict(keep=True)


class Settings(contracts.Settings, frozen=True):
    """What may be written under `threshold:`.

    Attributes:
        of: The channel to watch, such as `air.temperature`.
        above: Raise above this value.
        below: Raise below this value.
        inside: Raise between these two values, both included.
        outside: Raise outside these two values.
        clear: Clear at this value and beyond (two values for inside and outside); without it, at the limit.
        for_: Raise only after the condition has held that long.
        clear_for: Clear only after it has ceased for that long.
    """

    of: str
    above: float | None = None
    below: float | None = None
    inside: tuple[float, float] | None = None
    outside: tuple[float, float] | None = None
    clear: float | tuple[float, float] | None = None
    for_: Duration = msgspec.field(default=Duration(0), name="for")
    clear_for: Duration = Duration(0)

    def __post_init__(self) -> None:
        limits = [name for name in ("above", "below", "inside", "outside") if getattr(self, name) is not None]
        if len(limits) != 1:
            raise ValueError(
                f"expected exactly one of above, below, inside, outside, not {' and '.join(limits) or 'none'}"
            )
        for name in ("inside", "outside", "clear"):
            pair = getattr(self, name)
            if isinstance(pair, tuple) and pair[0] >= pair[1]:
                raise ValueError(f"{name} expects the lower value first, not [{pair[0]:g}, {pair[1]:g}]")
        if self.clear is None:
            return
        if isinstance(self.clear, tuple) is not (self.inside is not None or self.outside is not None):
            raise ValueError(
                f"clear expects {'one value' if isinstance(self.clear, tuple) else 'two values'} beside {limits[0]}"
            )
        if self.above is not None and isinstance(self.clear, float) and self.clear > self.above:
            raise ValueError(
                f"clear ({self.clear:g}) is beyond above ({self.above:g}), so the alarm could never stay"
            )
        if self.below is not None and isinstance(self.clear, float) and self.clear < self.below:
            raise ValueError(
                f"clear ({self.clear:g}) is beyond below ({self.below:g}), so the alarm could never stay"
            )
        if isinstance(self.clear, tuple):
            inner, outer = (
                (self.inside, self.clear) if self.inside else (self.clear, self.outside or self.clear)
            )
            if not (outer[0] <= inner[0] and inner[1] <= outer[1]):
                wanted = "enclose inside" if self.inside else "lie within outside"
                raise ValueError(f"clear [{self.clear[0]:g}, {self.clear[1]:g}] expects to {wanted}")


class Rule(contracts.Rule[Settings]):
    """Four states: inactive, about to be raised, active, about to be cleared."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._active = False
        self._turning_since: float | None = None  # since when the value has asked for the other state
        self._since = 0.0
        self._value: Value = None
        clear = settings.clear
        if settings.above is not None:
            self._limit = f"above {settings.above:g}"
            self._raise = (-math.inf, settings.above)
            self._clear = (-math.inf, clear) if isinstance(clear, float) else self._raise
        elif settings.below is not None:
            self._limit = f"below {settings.below:g}"
            self._raise = (settings.below, math.inf)
            self._clear = (clear, math.inf) if isinstance(clear, float) else self._raise
        else:
            self._raise = settings.inside or settings.outside or (0.0, 0.0)
            self._limit = (
                f"{'inside' if settings.inside else 'outside'} {self._raise[0]:g} to {self._raise[1]:g}"
            )
            self._clear = clear if isinstance(clear, tuple) else self._raise
        self._inside = settings.inside is not None

    def watches(self) -> Sequence[str]:
        """Return the one channel."""
        return (self.settings.of,)

    def _wants(self, value: float) -> bool:
        """Whether a value asks for the alarm to be active."""
        low, high = self._clear if self._active else self._raise
        return (low <= value <= high) is self._inside

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Hold a value against the limits; text and missing values change nothing."""
        if value is None or isinstance(value, str):
            return None
        self._value = value
        if self._wants(value) is self._active:
            if self._turning_since is None:
                return None
            self._turning_since = self.deadline = None
            return _KEEP
        if self._turning_since is None:
            self._turning_since = at
            delay = self.settings.clear_for if self._active else self.settings.for_
            self.deadline = at + delay
            if delay:
                return _KEEP
        return self.on_time(at)

    def on_time(self, now: float) -> Verdict | None:
        """Raise or clear, where the delay is over."""
        if self.deadline is None or self._turning_since is None or now < self.deadline:
            return None
        self._active = not self._active
        if self._active:
            self._since = self._turning_since
        self._turning_since = self.deadline = None
        return Verdict(
            keep=True,
            transition=Transition(self._active, self.settings.of, self._value, self._limit, self._since),
        )

    def state(self, now: float) -> Mapping[str, Value]:
        """Return whether it is active, since when, and since when it is about to turn."""
        turning = None if self._turning_since is None else now - self._turning_since
        return {
            "active": int(self._active),
            "since": now - self._since,
            "turning": turning,
            "value": self._value,
        }

    def restore(self, state: Mapping[str, Value], now: float) -> None:
        """Go on from a saved state."""
        self._active = bool(state.get("active"))
        self._value = state.get("value")
        since, turning = state.get("since"), state.get("turning")
        self._since = now - since if isinstance(since, float | int) else now
        if isinstance(turning, float | int):
            self._turning_since = now - turning
            self.deadline = self._turning_since + (
                self.settings.clear_for if self._active else self.settings.for_
            )
