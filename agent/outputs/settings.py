"""What may be said of a device that is an output, beside its driver's own settings: `output:`."""

from __future__ import annotations

from agent import contracts
from agent.conditions.expressions import Expression
from agent.outcome import check_unless
from agent.quantities import Duration


class Commands(contracts.Settings, frozen=True):
    """Which commands from far sides are allowed.

    Attributes:
        min: No lower value.
        max: No higher value.
        at_most: No more than one in so long.
    """

    min: float | None = None
    max: float | None = None
    at_most: Duration | None = None

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is more than max ({self.max:g})")
        if self.at_most is not None and self.at_most <= 0:
            raise ValueError("at_most expects a time longer than 0")


class Settings(contracts.Settings, frozen=True):
    """What may be written under `output:`.

    Attributes:
        unless: While this condition is true or cannot be told, the safe value is put out, whoever wants another.
        max_age: A value in the condition that is older is as if it were missing.
        min_on: Once on, it stays on for so long at least; only the interlock, and a critical alarm that wants the safe value,
            are faster.
        min_off: Once off, it stays off for so long at least, and after the start of the agent.
        dead_man: Put the safe value out where no command comes for so long after the last one.
        commands: Whether far sides may set it: true, or a map of limits; they may not where it is not said.
    """

    unless: Expression | None = None
    max_age: Duration | None = None
    min_on: Duration = Duration(0)
    min_off: Duration = Duration(0)
    dead_man: Duration | None = None
    commands: Commands | bool = False

    def __post_init__(self) -> None:
        check_unless(self.unless, self.max_age)
        if self.dead_man is not None:
            if self.dead_man <= 0:
                raise ValueError("dead_man expects a time longer than 0")
            if self.allowed is None:
                raise ValueError("dead_man expects commands beside it: it waits for the next one")

    @property
    def allowed(self) -> Commands | None:
        """Which commands from far sides are allowed; None for none."""
        if isinstance(self.commands, Commands):
            return self.commands
        return Commands() if self.commands else None
