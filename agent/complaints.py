"""What is said of events that a far side will not have: each fault once a minute, however many events have it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.events import Event

logger = logging.getLogger(__name__)

EVERY: Final = 60.0
"""Seconds between messages about events that are refused for the same reason; those in between are counted."""

REASONS: Final = 20
"""Reasons that are remembered, for some tell of each event's size."""

STUCK: Final = 3
"""Connections lost in a row with the same event first on its way, after which that event is named."""


class Complaints:
    """Those about one forwarder."""

    def __init__(self, forwarder: str) -> None:
        self._forwarder = forwarder
        self._told: dict[str, float] = {}  # by reason: when it may be said again
        # The event that was first on its way at the last loss, and at how many losses in a row.
        self._stuck = (0, 0)

    def refused(self, event: Event, reason: str, count: int) -> None:
        """Say that an event was refused for good, the last one of `count` since the start."""
        now = time.monotonic()
        if now < self._told.get(reason, 0.0):
            return
        if len(self._told) > REASONS:
            self._told.clear()
        self._told[reason] = now + EVERY
        logger.error(
            "forwarder %s: event %s (%s of %s) was refused and is set aside: %s (%d since the start)",
            self._forwarder, event.id, event.type, event.source, reason, count,
            extra={"facts": {"forwarder": self._forwarder, "reason": reason}},
        )  # fmt: skip

    def lost_with(self, event: Event) -> None:
        """Name an event that was first on its way at several losses in a row: MQTT 3.1.1 has no other way to refuse one."""
        self._stuck = (event.seq, self._stuck[1] + 1 if self._stuck[0] == event.seq else 1)
        if self._stuck[1] == STUCK:
            logger.warning(
                "forwarder %s: event %s (%s of %s) was on its way each of the last %d times that the connection was lost; "
                "if the far side refuses messages of its size, say so in the forwarder's settings (mqtt: max_packet)",
                self._forwarder, event.id, event.type, event.source, STUCK,
                extra={"facts": {"forwarder": self._forwarder}},
            )  # fmt: skip
