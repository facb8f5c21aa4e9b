"""The newest events of one lane in memory, in front of the log's file."""

from __future__ import annotations

import bisect
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.events import Event

_seq = attrgetter("seq")


class Tail:
    """All events of a lane that are not written yet, and some that are.

    Attributes:
        events: In order of seq.
        base: Every event of the lane with a seq up to this one is in the file, or gone.
    """

    def __init__(self, base: int) -> None:
        self.events: list[Event] = []
        self.base = base

    def after(self, seq: int, limit: int, upto: int) -> list[Event]:
        """Return up to `limit` events with `seq` < seq <= `upto`."""
        start = bisect.bisect_right(self.events, seq, key=_seq)
        found = self.events[start : start + limit]
        while found and found[-1].seq > upto:
            found.pop()
        return found

    def trim(self, upto: int) -> None:
        """Drop the events with a seq up to `upto`."""
        del self.events[: bisect.bisect_right(self.events, upto, key=_seq)]
        self.base = max(self.base, upto)
