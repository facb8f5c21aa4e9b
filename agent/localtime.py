"""What a clock on the wall shows, as rules are told: how far it is ahead of the monotonic clock, and when that changes.

Summer time begins and ends at a moment that is known before. That somebody sets the clock is only seen by looking.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.clock import Clock

LOOK_EVERY: Final = 10.0
"""Seconds between looks at a clock that is not set."""

SLACK: Final = 1.0
"""Seconds by which a clock may be slewed before that is told."""


class LocalTime:
    """What the rules were told of the time. Times are of the monotonic clock, in seconds.

    Attributes:
        ahead: How far local time is ahead of the monotonic clock; None while the clock is not set.
        turn_at: When to look again, for summer time may begin or end then.
        look_at: When to look again because the clock is not set.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead: float | None = None
        self.turn_at = math.inf
        self.look_at = math.inf

    def look(self, at: float) -> bool:
        """Look at the clock; return whether there is something to tell."""
        is_set = self._clock.is_set()
        ahead = self._clock.local_offset(at) if is_set else None
        self.turn_at = self._clock.local_turn(at) if is_set else math.inf
        self.look_at = math.inf if is_set else at + LOOK_EVERY
        known = self.ahead
        if ahead is known or (ahead is not None and known is not None and abs(ahead - known) <= SLACK):
            return False
        self.ahead = ahead
        return True
