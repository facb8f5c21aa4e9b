"""What goes when there is no more room, and that it is said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.events import EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.clock import Clock
    from agent.eventlog.settings import DropPolicy
    from agent.events import Event, Value

logger = logging.getLogger(__name__)

TELL_EVERY: Final = 10.0
"""Seconds between reports of what had to go for one reason."""


def chosen(policy: DropPolicy, seqs: Sequence[int], excess: int) -> list[int]:
    """Return which readings go, by sequence number.

    Args:
        policy: Which ones.
        seqs: The readings that there are, oldest first.
        excess: How many must go.
    """
    if policy == "newest":
        return list(seqs[max(len(seqs) - excess, 0) :])
    if policy == "thin" and excess <= len(seqs) // 2:
        return list(seqs[: 2 * excess : 2])
    return list(seqs[:excess])


class Gap(NamedTuple):
    """Undelivered events that had to go.

    Attributes:
        first: The first sequence number.
        last: The last one; between them are others that stayed.
        events: How many went.
        reason: Why.
    """

    first: int
    last: int
    events: int
    reason: str


class Losses:
    """Gathers gaps, so that the log is not filled with reports: the first at once, then every ten seconds and reason.

    Attributes:
        dropped: Undelivered events that had to go since the start, as far as that was told.
    """

    def __init__(self, clock: Clock, append: Callable[[str, str, dict[str, Value]], Event]) -> None:
        self.dropped = 0
        self._clock = clock
        self._append = append
        self._gaps: dict[str, Gap] = {}
        self._tell_at: dict[str, float] = {}

    def note(self, first: int, last: int, count: int, reason: str) -> None:
        """Note that events went."""
        known = self._gaps.get(reason)
        if known is None:
            self._gaps[reason] = Gap(first, last, count, reason)
        else:
            self._gaps[reason] = Gap(
                min(known.first, first), max(known.last, last), known.events + count, reason
            )

    def tell(self, *, at_once: bool = False) -> None:
        """Tell what is due, or all of it at once."""
        for first, last, count, reason in self._due(self._clock.monotonic(), at_once=at_once):
            self.dropped += count
            logger.warning("dropped %d undelivered events, %d to %d: %s", count, first, last, reason)
            facts: dict[str, Value] = {"from": first, "to": last, "count": count, "reason": reason}
            self._append(EventType.LOG_DROPPED, "agent", facts)

    def _due(self, now: float, *, at_once: bool) -> list[Gap]:
        """Return, and forget, what is to be told at a time of the monotonic clock, in seconds."""
        told = [gap for gap in self._gaps.values() if at_once or now >= self._tell_at.get(gap.reason, now)]
        for gap in told:
            del self._gaps[gap.reason]
            self._tell_at[gap.reason] = now + TELL_EVERY
        return told
