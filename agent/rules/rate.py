"""Raises an alarm while a channel rises or falls faster than limits, in its unit per second, minute or hour.

The rate is the slope over the last `over`: the median of the slopes between any two of 30 slices of it (after Theil and Sen), each
slice the mean of its readings. Noise averages out, and a spike does no harm. It is reckoned when a slice ends; where
readings are rarer than slices, with each. A fall is a negative rate: `below: -2`; `outside: [-2, 2]` is for both.

It is silent until it has seen at least three slices that span half of `over`; so `over` should be four times as long as
readings are apart, or more. Text, missing values and numbers that are not finite are left out. Where readings no longer
come the alarm stays as it is: that is what `absence` is for. A reading costs the same however long `over` is, and a rule
takes up to 12 kB.

What it has seen survives a restart; a crash loses a minute of it at most. While the agent is away it ages: what is older
than `over` no longer counts, so after a longer absence it is silent until it has seen enough again.

Sample::

    rules:
      warming-fast:
        rate: {of: air.temperature, per: minute, over: 5m, above: 2, clear: 1}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from agent.conditions.aggregates import Points
from agent.conditions.limits import LimitRule, Limits
from agent.conditions.windows import Window, usable
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.contracts import Verdict
    from agent.events import Value

SLICES: Final = 30
SHORTEST: Final = Duration(1)
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


class Settings(Limits, frozen=True, kw_only=True):
    """What may be written under `rate:`.

    Attributes:
        of: The channel to watch, such as `air.temperature`.
        per: The unit of time of the limits: second, minute or hour.
        over: How far back it looks for the slope.
    """

    of: str
    per: Literal["second", "minute", "hour"]
    over: Duration

    def __post_init__(self) -> None:
        """Refuse what is too short for a slope."""
        super().__post_init__()
        if self.over < SHORTEST:
            raise ValueError(f"over expects {SHORTEST} or longer, not {self.over}")


class Rule(LimitRule[Settings]):
    """The slope against the limits."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.message = f"{{of}} changes by {{value:.6g}} per {settings.per}, {{limit}}"
        self._over = float(settings.over)
        self._seconds = _SECONDS[settings.per]
        self._points = Points()
        self._window = Window(self._over, SLICES, self._points)

    @property
    def of(self) -> str:
        """The channel."""
        return self.settings.of

    def watches(self) -> Sequence[str]:
        """Return the one channel."""
        return (self.settings.of,)

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Take a value in; text and missing values change nothing."""
        number = usable(value)
        if number is None:
            return None
        self.is_unsaved = True
        window = self._window
        if at < window.closes:
            self._points.add(number, at - window.begins[-1])
            return None
        window.expire(at)
        window.open(at)
        self._points.add(number, 0.0)
        slope = self._points.slope(window.begins, self._over / 2)
        # Twelve digits: what is beyond is of floating-point numbers, not of the channel.
        return None if slope is None else self.judge(float(f"{slope * self._seconds:.12g}"), at)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return the state of the alarm, and what the slope is reckoned from."""
        return {**super().state(now), "window": self._window.state(now)}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; what it has seen has aged meanwhile."""
        self._window.restore(state.get("window"), saved)
        super().restore(state, saved, now)
