"""Raises an alarm while an expression over the latest values of channels is beyond limits, or is true.

With limits, `of` is a number: `of: air.temperature - outside.temperature` with `above: 15`. Without, it is a condition:
`of: air.temperature - outside.temperature > 15`. Values of one reading of a device are taken in together.

A value counts until there is another, until it is older than `max_age`, or until its device is down; without a usable
quality it counts as missing. While one is missing, or the expression comes to no number (a division by zero, text where
a number must be), nothing can be said: delays begin anew, and an active alarm stays, or clears with `when_stale: clear`.
Without `max_age` a value may be as old as it likes, for a door that has not moved for a week is still shut.

The latest values survive a restart with their ages, after a crash those of a minute before. Where the agent was away for
more than a minute and there is no `max_age`, they are missing until devices report anew. Memory: one value per channel.

Sample::

    rules:
      heating-with-open-window:
        compare:
          of: air.temperature - air.outside
          above: 15
          clear: 12
          max_age: 5m
          for: 1m
        message: "{of} is {value:.1f}, {limit}"
      fan-stuck:
        compare: {of: "air.temperature > 35 and fan == off", for: 30s}
"""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import structs

from agent.conditions.expressions import Expression
from agent.conditions.limits import LimitRule, Limits, Step
from agent.events import EventType
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.contracts import Verdict
    from agent.events import Event, Value

AWAY: Final = 60.0
"""Seconds without the agent after which values without a `max_age` say nothing of the present."""


class Settings(Limits, frozen=True, kw_only=True):
    """What may be written under `compare:`.

    Attributes:
        of: A number over channels, to be held against the limits, such as `air.temperature - outside.temperature`; or,
            without limits, a condition such as `door == on and air.temperature < 5`.
        max_age: A value that is older is as if it were missing; without it, a value counts until its device is down.
        when_stale: What becomes of an active alarm while a value is missing: keep or clear.
    """

    of: Expression
    max_age: Duration | None = None
    when_stale: Literal["keep", "clear"] = "keep"

    @property
    def is_condition(self) -> bool:
        """Whether there are no limits."""
        return self.above is None and self.below is None and self.inside is None and self.outside is None

    def __post_init__(self) -> None:
        if not self.of.names:
            raise ValueError(f"of ({self.of}) names no channel, expected {Expression.expected}")
        says = self.of.tree[0]
        is_truth = isinstance(says, ast.Compare | ast.BoolOp) or (
            isinstance(says, ast.UnaryOp) and isinstance(says.op, ast.Not)
        )
        if not self.is_condition:
            if is_truth:
                raise ValueError(f"of ({self.of}) is true or false, expected no limits beside it")
            super().__post_init__()
        elif isinstance(says, ast.BinOp | ast.Call | ast.UnaryOp) and not is_truth:
            raise ValueError(
                f"of ({self.of}) is a number, expected one of above, below, inside, outside beside it, "
                "or a condition such as `… > 15`"
            )
        elif self.clear is not None:
            raise ValueError("clear expects one of above, below, inside, outside beside it")
        if self.max_age is not None and self.max_age <= 0:
            raise ValueError("max_age expects more than 0s")

    def steps(self) -> list[Step]:
        """Return the limits at work; a condition is 1 or 0."""
        if self.is_condition:
            return [Step(None, "expected false", (-math.inf, 0.5), (-math.inf, 0.5))]
        return super().steps()


class Rule(LimitRule[Settings]):
    """The latest values, what they come to, and the limits."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._is_condition = settings.is_condition
        self._max_age = math.inf if settings.max_age is None else settings.max_age
        self._clears = settings.when_stale == "clear"
        self._values: dict[str, Value] = dict.fromkeys(settings.of.names)
        self._seen = dict.fromkeys(
            settings.of.names, 0.0
        )  # where the value is None, since when it is missing
        self._is_judged = False  # whether the values are those that were held against the limits last

    @property
    def of(self) -> str:
        """The expression, as a plain text that the log can keep."""
        return str(self.settings.of)

    def watches(self) -> Sequence[str]:
        """Return the channels that the expression names."""
        return self.settings.of.names

    def hears(self) -> Sequence[tuple[str, str]]:
        """Return that the devices of the channels are down."""
        devices = dict.fromkeys(name.partition(".")[0] for name in self.watches())
        return [(EventType.DEVICE_DOWN, device) for device in devices]

    def note(self, channel: str, value: Value, at: float) -> bool:
        """Take in a value."""
        if self._values[channel] != value:
            self._values[channel] = value
            self._is_judged = False
        self._seen[channel] = at
        self.is_unsaved = True
        return True

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:
        """Take in a value, and hold what the values come to against the limits."""
        self.note(channel, value, at)
        if self._is_judged and (self._max_age == math.inf or at < self._expiry()):
            return None
        return self._weigh(at)

    def show_latest(self, latest: Mapping[str, tuple[Value, float]], at: float) -> Verdict | None:
        """Hold what the latest values come to against the limits, each as old as it is."""
        for channel, (value, seen) in latest.items():
            self.note(channel, value, seen)
        return self._weigh(at)

    def on_event(self, event: Event, at: float) -> Verdict | None:
        """Forget the values of a device that is down."""
        for channel in self._values:
            if channel.startswith(f"{event.source}."):
                self.note(channel, None, at)
        return self._weigh(at)

    def on_time(self, now: float) -> Verdict | None:
        """Raise or clear where a delay is over, and look whether a value has become too old."""
        verdict = super().on_time(now)
        if verdict is None and now >= self._expiry():
            self._is_judged = False
            verdict = self.unsaid(now, clear=self._clears)
        self._aim()
        return verdict

    def _weigh(self, at: float) -> Verdict | None:
        number = self._number() if at < self._expiry() else None
        self._is_judged = number is not None
        verdict = self.unsaid(at, clear=self._clears) if number is None else self.judge(number, at)
        if verdict is not None:
            self._aim()
        return verdict

    def _number(self) -> float | None:
        said = self.settings.of.evaluate(self._values)
        if self._is_condition:
            return None if said is None else float(bool(said))
        return None if isinstance(said, str) else said

    def _expiry(self) -> float:
        """Return since when a value is missing or too old, or when the next one will be."""
        return min(
            seen if self._values[name] is None else seen + self._max_age for name, seen in self._seen.items()
        )

    def _aim(self) -> None:
        """Ask for the time when a delay is over or, where that would change something, a value is too old."""
        self._note_switches()
        if self.deadline is not None or (self._clears and self._level):
            expiry = self._expiry()
            if expiry < (math.inf if self.deadline is None else self.deadline):
                self.deadline = expiry

    def _verdict(self) -> Verdict:
        verdict = super()._verdict()
        if verdict.transition is None:
            return verdict
        number = self._value if isinstance(self._value, float | int) else 0.0
        value: Value = float(f"{number:.6g}")  # `25.5 - 5.1` is 20.4, and no 20.399999999999999
        if self._is_condition:
            value = "true" if number else "false"
        return structs.replace(verdict, transition=structs.replace(verdict.transition, value=value))

    def state(self, now: float) -> Mapping[str, Value]:
        """Return the latest values with their ages too."""
        saved: dict[str, Any] = dict(super().state(now))
        for name, value in self._values.items():
            saved |= {f"is {name}": value, f"age {name}": now - self._seen[name]}
        return saved

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; delays have gone on meanwhile, and values have grown older."""
        super().restore(state, saved, now)
        is_away = self._max_age == math.inf and now - saved > AWAY
        for name in self._values:
            value, age = state.get(f"is {name}"), state.get(f"age {name}")
            is_known = isinstance(age, float | int) and not is_away
            self._values[name] = value if is_known else None
            self._seen[name] = saved - age if is_known and isinstance(age, float | int) else now
        self._is_judged = False
        if is_away:
            for _, switch in self._steps:
                switch.feed(switch.active, now)
        self._aim()
