"""Raises an alarm while a channel is far from what is usual for it, which the rule learns by itself.

The usual is an exponentially weighted mean and mean absolute deviation, with `over` as the time constant. Weights go by the
time between readings, so uneven sampling does not distort it, and no single reading counts for more than a twentieth. A
value is an anomaly where it is more than `z` standard deviations from the mean (for noise of normal distribution a standard
deviation is 1.2533 mean absolute deviations); the alarm clears where it is within `clear` of them. A value farther than
three standard deviations from the mean teaches no more than one at three. So a short anomaly hardly teaches itself: one of
a twentieth of `over` moves the mean by a fifth of a standard deviation;
and a level that stays has become usual after about `over`.

It is silent until it has learnt for `warm_up`, and from 20 readings at least; all that it sees until then teaches in full. With `seasonal: hour` there is a baseline for
each hour of the day, in the time zone of the configuration, and the rule is silent, and does not learn, while the machine does not
know the time. Each hour then learns for an hour a day, so `over` and `warm_up` are longer: 14d and 3d where nothing is said.

A channel that never changes has no deviation, and any change of it is an anomaly; `at_least` says how far, in the channel's
unit, one must be from the mean to matter. Text, missing values and numbers that are not finite are left out; they neither
raise nor clear. A reading costs the same whatever `over` is. A rule takes about 3 kB, with `seasonal` 6 kB.

What it has learnt survives a restart; a crash loses a minute of it at most. An absence teaches nothing.

Sample::

    rules:
      unusual:
        anomaly: {of: air.temperature, z: 4, over: 1d, warm_up: 1h, for: 1m}
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from agent import contracts
from agent.conditions.switch import Change, Switch
from agent.conditions.windows import pack, unpack, usable
from agent.contracts import Transition, Verdict
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Value

HOURS: Final = 24
MOST: Final = 0.05
"""What one reading counts for, at most, once there are 20."""
FEWEST: Final = 20
CLIP: Final = 3.0
"""Standard deviations from the mean beyond which a value teaches no more."""
NORMAL: Final = math.sqrt(math.pi / 2)
"""A normal distribution's standard deviation, in mean absolute deviations."""

_KEEP: Final = Verdict(keep=True)
_DEFAULTS: Final = {
    None: (Duration(86_400), Duration(3600)),
    "hour": (Duration(14 * 86_400), Duration(3 * 86_400)),
}
_BASELINE: Final = struct.Struct("<4d")


class Settings(contracts.Settings, frozen=True, kw_only=True):
    """What may be written under `anomaly:`.

    Attributes:
        of: The channel to watch, such as `air.temperature`.
        z: How many standard deviations from the mean are an anomaly.
        clear: Clear within that many; without it, three quarters of `z`.
        side: Whether only values above the mean, or only those below it, are anomalies.
        at_least: An anomaly is at least that far from the mean, in the channel's unit.
        over: The time constant of what is usual; without it, 1d, and 14d with `seasonal`.
        warm_up: For how long it learns before it judges; without it, 1h, and 3d with `seasonal`.
        seasonal: What is usual, by hour of the day.
        for_: Raise only after the anomaly has lasted that long.
        clear_for: Clear only after it has ceased for that long.
    """

    of: str
    z: Annotated[float, msgspec.Meta(gt=0)] = 4.0
    clear: Annotated[float, msgspec.Meta(gt=0)] | None = None
    side: Literal["both", "above", "below"] = "both"
    at_least: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    over: Duration | None = None
    warm_up: Duration | None = None
    seasonal: Literal["hour"] | None = None
    for_: Duration = msgspec.field(default=Duration(0), name="for")
    clear_for: Duration = Duration(0)

    def __post_init__(self) -> None:
        """Refuse what could never clear, or never learn."""
        if self.clear is not None and self.clear > self.z:
            raise ValueError(
                f"clear ({self.clear:g}) is beyond z ({self.z:g}), so the alarm could never stay"
            )
        if self.over is not None and self.over <= 0:
            raise ValueError("over expects longer than 0s")


class _Baseline:
    """What is usual.

    Attributes:
        count: How many readings it has learnt from.
        learnt: For how long, in seconds.
        mean: Of the values.
        deviation: The mean absolute deviation from it.
    """

    __slots__ = ("count", "deviation", "learnt", "mean")

    def __init__(
        self, count: float = 0.0, learnt: float = 0.0, mean: float = 0.0, deviation: float = 0.0
    ) -> None:
        self.count = count
        self.learnt = learnt
        self.mean = mean
        self.deviation = deviation

    def learn(self, value: float, seconds: float, over: float, near: float) -> None:
        """Take in a value.

        Args:
            value: The value.
            seconds: The time since the reading before.
            over: The time constant.
            near: A distance from the mean that is always learnt from in full.
        """
        self.count += 1.0
        self.learnt += seconds
        if self.learnt >= over:
            weight = -math.expm1(-seconds / over)
        else:  # all that there is counts the same
            weight = seconds / self.learnt if self.learnt else 0.0
        weight = 1.0 if self.count == 1.0 else min(weight, max(1.0 / self.count, MOST))
        apart = value - self.mean
        if self.deviation:
            reach = max(CLIP * NORMAL * self.deviation, near)
            apart = max(-reach, min(apart, reach))
        if self.count > 1.0:
            self.deviation += weight * (abs(apart) - self.deviation)
        self.mean += weight * apart


class Rule(contracts.Rule[Settings]):
    """Learns what is usual, and finds what is not."""

    message = "{of} is {value:.6g}, usual is {limit}"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        over, warm_up = _DEFAULTS[settings.seasonal]
        seasons = HOURS if settings.seasonal else 1
        self._over = float(over if settings.over is None else settings.over) / seasons
        self._warm_up = float(warm_up if settings.warm_up is None else settings.warm_up) / seasons
        self._hysteresis = 0.75 if settings.clear is None else settings.clear / settings.z
        self._baselines = [_Baseline() for _ in range(seasons)]
        self._switch = Switch(settings.for_, settings.clear_for)
        self._ahead: float | None = None
        self._last_at: float | None = None
        self._value: float | None = None
        self._usual = ""

    def watches(self) -> Sequence[str]:
        """Return the one channel."""
        return (self.settings.of,)

    def on_local_time(self, ahead: float | None, at: float) -> None:  # noqa: ARG002
        """Know from now on which hour it is."""
        self._ahead = ahead

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Judge a value by what is usual, then learn from it."""
        number = usable(value)
        baseline = self._baseline(at)
        if number is None or baseline is None:
            return None
        # A pause teaches no more than what one reading may count for.
        seconds = 0.0 if self._last_at is None else min(max(at - self._last_at, 0.0), self._over * MOST)
        change, near = None, math.inf
        if baseline.count >= FEWEST and baseline.learnt + seconds >= self._warm_up:
            self._value = number
            change = self._judge(baseline, number, at)
            near = self.settings.at_least
        baseline.learn(number, seconds, self._over, near)
        self._last_at = at
        self.is_unsaved = True
        return None if change is None else self._verdict(change)

    def _baseline(self, at: float) -> _Baseline | None:
        if len(self._baselines) == 1:
            return self._baselines[0]
        return None if self._ahead is None else self._baselines[int((at + self._ahead) // 3600 % HOURS)]

    def _judge(self, baseline: _Baseline, value: float, at: float) -> Change | None:
        far = max(self.settings.z * NORMAL * baseline.deviation, self.settings.at_least)
        apart = value - baseline.mean
        if self.settings.side == "both":
            apart = abs(apart)
        elif self.settings.side == "below":
            apart = -apart
        active = self._switch.active
        change = self._switch.feed(apart > (far * self._hysteresis if active else far), at)
        if change is not None:
            self._usual = f"{baseline.mean:.6g} ± {far:.3g}"
        return change

    def on_time(self, now: float) -> Verdict | None:
        """Raise or clear, where a delay is over."""
        change = self._switch.on_time(now)
        return None if change is None else self._verdict(change)

    def _verdict(self, change: Change) -> Verdict:
        self.deadline = self._switch.deadline
        if change is Change.TURNING:
            return _KEEP
        switch = self._switch
        return Verdict(
            keep=True,
            transition=Transition(switch.active, self.settings.of, self._value, self._usual, switch.since),
        )

    def state(self, now: float) -> Mapping[str, Value]:
        """Return the state of the alarm, and what is usual."""
        rows = [_BASELINE.pack(b.count, b.learnt, b.mean, b.deviation) for b in self._baselines]
        return {
            **self._switch.state(now),
            "value": self._value,
            "usual": self._usual,
            "last": None if self._last_at is None else now - self._last_at,
            "baselines": pack(b"".join(rows)),
        }

    def learnt(self, now: float) -> Mapping[str, Value]:
        """Return what is usual: a pause is no reason to learn it anew."""
        return {"baselines": self.state(now)["baselines"]}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:  # noqa: ARG002
        """Go on from a saved state; delays have gone on meanwhile."""
        self._switch.restore(state, saved)
        self.deadline = self._switch.deadline
        value, usual, last = state.get("value"), state.get("usual"), state.get("last")
        self._value = float(value) if isinstance(value, float | int) else None
        self._usual = usual if isinstance(usual, str) else ""
        self._last_at = saved - last if isinstance(last, float | int) else None
        data = unpack(state.get("baselines"))
        if len(data) == _BASELINE.size * len(self._baselines):
            self._baselines = [_Baseline(*row) for row in _BASELINE.iter_unpack(data)]
