"""A number held against limits: what `threshold` and the rules that compute a number have in common.

`clear` gives hysteresis, so that a value that hovers at the limit does not raise the alarm again and again. `for` and
`clear_for` are the on-delay and off-delay of ISA-18.2: the condition must hold that long without a break. Several limits
by severity, `above: {warning: 30, critical: 35}`, are one alarm in steps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from agent import contracts
from agent.conditions.switch import Switch
from agent.contracts import Transition, Verdict
from agent.events import Severity
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.events import Value

_KEEP: Final = Verdict(keep=True)
_SEVERITIES: Final = list(Severity)

Steps = float | dict[Severity, float]
"""One limit, or one for each severity."""


class Step(NamedTuple):
    """One limit at work.

    Attributes:
        severity: None where there are no steps.
        text: As it is told, such as `above 35`.
        raising: Within these two values there is no alarm yet; for `inside`, there is.
        clearing: The same while the alarm is active.
    """

    severity: Severity | None
    text: str
    raising: tuple[float, float]
    clearing: tuple[float, float]


class Limits(contracts.Settings, frozen=True):
    """What may be written of the limits.

    Attributes:
        above: Raise above this value; or above the value of each severity, such as {warning: 30, critical: 35}.
        below: Raise below this value, or below the value of each severity.
        inside: Raise between these two values, both included.
        outside: Raise outside these two values.
        clear: Clear at this value and beyond (two values for inside and outside); without it, at the limit. With several
            severities it belongs to the mildest, and the others clear at the same distance from theirs.
        for_: Raise only after the condition has held that long.
        clear_for: Clear only after it has ceased for that long.
    """

    above: Steps | None = None
    below: Steps | None = None
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
        if self.above is not None or self.below is not None:
            self._check_steps(limits[0])
        if self.clear is not None:
            self._check_clear(limits[0])

    def _check_steps(self, name: str) -> None:
        values = [value for _, value in self._by_severity()]
        if not values:
            raise ValueError(f"{name} expects a value, or one for each severity")
        if values != sorted(set(values), reverse=self.below is not None):
            said = ", ".join(f"{severity} {value:g}" for severity, value in self._by_severity())
            worse = "lower" if self.below is not None else "higher"
            raise ValueError(f"{name} expects a {worse} value for each worse severity, not {said}")

    def _check_clear(self, name: str) -> None:
        clear = self.clear
        if isinstance(clear, tuple) is not (self.inside is not None or self.outside is not None):
            raise ValueError(
                f"clear expects {'one value' if isinstance(clear, tuple) else 'two values'} beside {name}"
            )
        if isinstance(clear, tuple):
            inner, outer = (self.inside, clear) if self.inside else (clear, self.outside or clear)
            if not (outer[0] <= inner[0] and inner[1] <= outer[1]):
                wanted = "enclose inside" if self.inside else "lie within outside"
                raise ValueError(f"clear [{clear[0]:g}, {clear[1]:g}] expects to {wanted}")
        elif clear is not None:
            first = self._by_severity()[0][1]
            if clear > first if self.above is not None else clear < first:
                wanted = f"{first:g} or {'lower' if self.above is not None else 'higher'}"
                raise ValueError(
                    f"clear ({clear:g}) is beyond {name} ({first:g}), so the alarm could never stay, expected {wanted}"
                )

    def _by_severity(self) -> list[tuple[Severity | None, float]]:
        """Return the limits of `above` or `below`, the mildest first."""
        said = self.above if self.above is not None else self.below
        if isinstance(said, dict):
            return [(severity, said[severity]) for severity in _SEVERITIES if severity in said]
        return [] if said is None else [(None, said)]

    def steps(self) -> list[Step]:
        """Return the limits at work, the mildest first."""
        pair = self.inside or self.outside
        if pair is not None:
            clearing = self.clear if isinstance(self.clear, tuple) else pair
            text = f"{'inside' if self.inside else 'outside'} {pair[0]:g} to {pair[1]:g}"
            return [Step(None, text, pair, clearing)]
        limits = self._by_severity()
        hysteresis = abs(limits[0][1] - self.clear) if isinstance(self.clear, float) else 0.0
        if self.above is not None:
            return [
                Step(severity, f"above {limit:g}", (-math.inf, limit), (-math.inf, limit - hysteresis))
                for severity, limit in limits
            ]
        return [
            Step(severity, f"below {limit:g}", (limit, math.inf), (limit + hysteresis, math.inf))
            for severity, limit in limits
        ]


L = TypeVar("L", bound=Limits)


class LimitRule(contracts.Rule[L]):
    """Holds a number against limits, each with delays of its own; the worst that is active is the alarm's severity."""

    def __init__(self, settings: L) -> None:
        super().__init__(settings)
        self._steps = [(step, Switch(settings.for_, settings.clear_for)) for step in settings.steps()]
        self._level = 0  # how many of the steps are active, counted up to the worst one
        self._is_inside = settings.inside is not None
        self._value: Value = None

    @property
    def of(self) -> str:
        """What the number is about, for the alarm."""
        raise NotImplementedError

    def judge(self, value: float, at: float) -> Verdict | None:
        """Hold a number against the limits; None (the usual answer) where nothing changes."""
        self._value = value
        has_changed = False
        for step, switch in self._steps:
            low, high = step.clearing if switch.active else step.raising
            if switch.feed((low <= value <= high) is self._is_inside, at) is not None:
                has_changed = True
        return self._verdict() if has_changed else None

    def on_time(self, now: float) -> Verdict | None:
        """Raise, clear or change the severity, where a delay is over."""
        changed = [switch.on_time(now) for _, switch in self._steps]
        return self._verdict() if any(changed) else None

    def unsaid(self, at: float, *, clear: bool = False) -> Verdict | None:
        """Nothing can be said of the number now: delays begin anew, and with `clear` the alarm is over, without a delay."""
        has_changed = False
        for _, switch in self._steps:
            if clear and switch.active:
                switch.end(at)
                has_changed = True
            elif switch.feed(switch.active, at) is not None:
                has_changed = True
        return self._verdict() if has_changed else None

    def _verdict(self) -> Verdict:
        before = self._level
        self._note_switches()
        if self._level == before:
            return _KEEP
        step, switch = self._steps[max(self._level, 1) - 1]
        transition = Transition(self._level > 0, self.of, self._value, step.text, switch.since, step.severity)
        return Verdict(keep=True, transition=transition)

    def _note_switches(self) -> None:
        active = [index for index, (_, switch) in enumerate(self._steps, 1) if switch.active]
        self._level = max(active, default=0)
        deadlines = [switch.deadline for _, switch in self._steps if switch.deadline is not None]
        self.deadline = min(deadlines, default=None)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return for each step whether it is active, since when, and since when it is about to turn."""
        saved: dict[str, Value] = {"value": self._value}
        for index, (_, switch) in enumerate(self._steps):
            saved |= {f"{name}{index or ''}": value for name, value in switch.state(now).items()}
        return saved

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:  # noqa: ARG002
        """Go on from a saved state; delays have gone on meanwhile."""
        self._value = state.get("value")
        for index, (_, switch) in enumerate(self._steps):
            names = ("active", "since", "turning")
            switch.restore({name: state.get(f"{name}{index or ''}") for name in names}, saved)
        self._note_switches()
