"""Which readings are worth an event: change, heartbeat, rate limit."""

from __future__ import annotations

from agent import contracts
from agent.quantities import Change, Duration


class Settings(contracts.Settings, frozen=True):
    """What may be written under a device's `report:`. Without it, every reading is kept.

    Attributes:
        change: Keep a channel when it moved by that much since it was last kept; for all channels or by channel.
        at_least: Keep a channel at least that often, changed or not: a heartbeat.
        at_most: Keep a channel at most that often.
    """

    change: Change | dict[str, Change] | None = None
    at_least: Duration | None = None
    at_most: Duration | None = None

    def __post_init__(self) -> None:
        if self.at_least is not None and self.at_most is not None and self.at_least < self.at_most:
            raise ValueError(f"at_least ({self.at_least}) is shorter than at_most ({self.at_most})")
