"""What follows from a rule, whatever its kind: how its alarm behaves, and what it does to outputs."""

from __future__ import annotations

import ast
from string import Formatter
from typing import Annotated, Final

import msgspec

from agent import contracts
from agent.conditions.expressions import Expression
from agent.conditions.quality import QualitySettings
from agent.conditions.schedule import Span
from agent.events import Severity
from agent.quantities import Duration

MESSAGE_FIELDS: Final = frozenset({"rule", "severity", "of", "value", "limit"})
"""What may stand in braces in the message of a rule."""

Plain = bool | int | float | str
"""A value as a person writes it."""

LEAVE: Final = "leave"
"""What `otherwise` says to let outputs be as they are."""

FASTEST_BLINK: Final = Duration(0.05)
"""Seconds, at least, that a blinking output is on or off: relays and the log must follow."""


class Flood(contracts.Settings, frozen=True):
    """From when on an alarm that comes and goes is told in sum.

    Attributes:
        more_than: That many times raised, cleared or changed,
        within: in that time; as long as it goes on, one event an interval says how often.
    """

    more_than: Annotated[int, msgspec.Meta(ge=1)] = 20
    within: Duration = Duration(60)

    def __post_init__(self) -> None:
        if self.within <= 0:
            raise ValueError("within expects a time longer than 0")


class RuleOutcome(contracts.Settings, frozen=True):
    """What else may be said of any rule, beside its kind.

    Attributes:
        severity: warning, minor, major or critical.
        alarm: false where it only reacts: nothing is told of it but what it does to outputs.
        message: The alarm's text; {of}, {value}, {limit}, {rule} and {severity} are filled in; {value:.1f} has one decimal.
        then: What to do when the alarm is raised.
        latch: Whether the alarm stays until it is acknowledged, also when its condition has ceased.
        repeat: Tell it again that often while it is not acknowledged; without `latch` only while it is active.
        max_shelved: How long it may be shelved at most.
        suppressed_by: Rules that keep it quiet while their alarms are active.
        in_service: false takes the rule out of service.
        flood: From when on an alarm that comes and goes is told in sum; without it each change is told.
        where: The rule is at work only while this is true, such as `mode.state == on`; where that cannot be said, it is.
        only: The rule is at work only at these times: {between: [22:00, 06:00], days: [mon, tue]}, or a list of such.
        quality: What it makes of values of uncertain and bad quality.
    """

    severity: Severity = Severity.WARNING
    alarm: bool = True
    message: str | None = None
    then: Reaction | None = None
    latch: bool = False
    repeat: Duration | None = None
    max_shelved: Duration = Duration(8 * 3600)
    suppressed_by: tuple[str, ...] = ()
    in_service: bool = True
    flood: Flood | None = None
    where: Expression | None = None
    only: Span | tuple[Span, ...] | None = None
    quality: QualitySettings = QualitySettings()

    def __post_init__(self) -> None:
        """Refuse what makes no sense together, and a message that cannot be filled in."""
        told = ("message", "latch", "repeat", "flood", "suppressed_by")
        if not self.alarm and (vain := [name for name in told if getattr(self, name)]):
            raise ValueError(f"{vain[0]} is about an alarm, which `alarm: false` leaves out")
        if self.repeat is not None and self.repeat < 1:
            raise ValueError(f"repeat expects 1s or longer, not {self.repeat}")
        if self.where is not None and not self.where.names:
            raise ValueError(
                f"where ({self.where}) names no channel, expected a condition such as `mode.state == on`"
            )
        if isinstance(self.only, tuple) and not self.only:
            raise ValueError("only expects some time, not an empty list")
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.message or "") if name is not None}
            if fields - MESSAGE_FIELDS:
                raise ValueError("another name in braces")
            (self.message or "").format(rule="", severity="", of="", value=0.5, limit="")
        except ValueError as error:
            raise ValueError(
                f"message cannot be filled in: {error}, "
                "expected text with {rule}, {severity}, {of}, {value} or {limit} in it; {{ stands for a brace"
            ) from None


class Blink(contracts.Settings, frozen=True):
    """On and off in turns.

    Attributes:
        on: How long it is on each time.
        off: How long it is off each time.
    """

    on: Duration
    off: Duration

    def __post_init__(self) -> None:
        if min(self.on, self.off) < FASTEST_BLINK:
            raise ValueError(f"on and off expect {FASTEST_BLINK} or longer")

    def __str__(self) -> str:
        return f"{self.on} on, {self.off} off"


class Action(contracts.Settings, frozen=True):
    """What is done to one output, where that is more than a value held while the alarm is not over.

    Attributes:
        value: What is put out.
        for_: For so long at most, from when it is put out.
        pulse: On for so long, once, also where the alarm is over sooner.
        toggle: Once, from on to off or from off to on; it stays so, as if commanded.
        blink: On and off in turns: for so long each, or a map of on and off.
    """

    value: Plain | None = None
    for_: Duration | None = msgspec.field(default=None, name="for")
    pulse: Duration | None = None
    toggle: bool = False
    blink: Duration | Blink | None = None

    def __post_init__(self) -> None:
        written = {
            "value": self.value is not None,
            "pulse": self.pulse is not None,
            "toggle": self.toggle,
            "blink": self.blink is not None,
        }
        said = [name for name, is_written in written.items() if is_written]
        if len(said) != 1:
            raise ValueError(
                f"expected one of value, pulse, toggle, blink, not {' and '.join(said) or 'none'}"
            )
        if self.for_ is not None and said[0] in {"pulse", "toggle"}:
            raise ValueError(f"for expects value or blink beside it, not {said[0]}")
        for name in ("for_", "pulse"):
            time = getattr(self, name)
            if time is not None and time <= 0:
                raise ValueError(f"{name.rstrip('_')} expects a time longer than 0")
        if isinstance(self.blink, Duration):
            Blink(self.blink, self.blink)

    @property
    def turns(self) -> Blink | None:
        """How it blinks; None where it does not."""
        return Blink(self.blink, self.blink) if isinstance(self.blink, Duration) else self.blink


class Reaction(contracts.Settings, frozen=True):
    """What a rule does to outputs, without any network.

    Attributes:
        set: By output: the value that it has while the alarm is not over; or a map of value and for, pulse, toggle, or blink.
        otherwise: The value put out when the alarm is over, as if commanded; leave lets the outputs be as they are. Where
            it is not said, other rules have their way, then the last command, then the safe value.
        unless: While this condition is true or cannot be told, the reaction waits, or is taken back.
        max_age: A value in the condition that is older is as if it were missing.
    """

    set: dict[str, Plain | Action]
    otherwise: Plain | None = None
    unless: Expression | None = None
    max_age: Duration | None = None

    def __post_init__(self) -> None:
        check_unless(self.unless, self.max_age)
        if self.otherwise == LEAVE and any(
            isinstance(each, Action) and (each.value is None or each.for_ is not None)
            for each in self.set.values()
        ):
            raise ValueError("otherwise: leave expects values that are held, not for, pulse, toggle or blink")

    def actions(self) -> dict[str, Action]:
        """Return what is done by output, a plain value as an action too."""
        return {
            target: each if isinstance(each, Action) else Action(value=each)
            for target, each in self.set.items()
        }


def check_unless(unless: Expression | None, max_age: Duration | None) -> None:
    """Refuse a condition that says nothing.

    Raises:
        ValueError: It names no channel, is a number, or there is an age without it.
    """
    if max_age is not None and (unless is None or max_age <= 0):
        raise ValueError(
            "max_age expects unless beside it" if unless is None else "max_age expects more than 0s"
        )
    if unless is None:
        return
    if not unless.names:
        raise ValueError(
            f"unless ({unless}) names no channel, expected a condition such as `tank.level < 10`"
        )
    says = unless.tree[0]
    is_not = isinstance(says, ast.UnaryOp) and isinstance(says.op, ast.Not)
    if isinstance(says, ast.BinOp | ast.Call | ast.UnaryOp) and not is_not:
        raise ValueError(f"unless ({unless}) is a number, expected a condition such as `tank.level < 10`")
