"""What follows from a rule, whatever its kind: how its alarm behaves, and what it does to outputs."""

from __future__ import annotations

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
        message: The alarm's text; {of}, {value}, {limit}, {rule} and {severity} are filled in.
        then: What to do when the alarm is raised.
        latch: Whether the alarm stays until it is acknowledged, also when its condition has ceased.
        repeat: Tell it again that often while it is active and not acknowledged.
        max_shelved: How long it may be shelved at most.
        suppressed_by: Rules that keep it quiet while their alarms are active.
        in_service: false takes the rule out of service.
        flood: From when on an alarm that comes and goes is told in sum; without it each change is told.
        where: The rule is at work only while this is true, such as `mode.state == on`; where that cannot be said, it is.
        only: The rule is at work only at these times: {between: [22:00, 06:00], days: [mon, tue]}, or a list of such.
        quality: What it makes of values of uncertain and bad quality.
    """

    severity: Severity = Severity.WARNING
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
        """Refuse a message that cannot be filled in."""
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


class Reaction(contracts.Settings, frozen=True):
    """What a rule does to outputs, without any network.

    Attributes:
        set: The value by output, put out when the alarm is raised.
        otherwise: The value put out to the same outputs when it is over; left as they are where it is not said.
    """

    set: dict[str, bool | int | float | str]
    otherwise: bool | int | float | str | None = None
