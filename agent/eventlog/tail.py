"""The newest events in memory, in front of the log's file."""

from __future__ import annotations

import bisect
from operator import attrgetter
from typing import TYPE_CHECKING

from agent.events import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    def remove(self, seqs: set[int]) -> None:
        """Drop some events, wherever they are."""
        self.events = [event for event in self.events if event.seq not in seqs]

    def trim(self, upto: int) -> None:
        """Drop the events with a seq up to `upto`."""
        del self.events[: bisect.bisect_right(self.events, upto, key=_seq)]
        self.base = max(self.base, upto)


class Tails(dict[Lane, Tail]):
    """The tails of all lanes."""

    def __init__(self, base: int) -> None:
        super().__init__({lane: Tail(base) for lane in Lane})

    def merged(self, after: int, limit: int, upto: int) -> list[Event]:
        """Return up to `limit` events of all lanes with `after` < seq <= `upto`, in order of seq."""
        found = [event for tail in self.values() for event in tail.after(after, limit, upto)]
        return sorted(found, key=_seq)[:limit]

    def trim(self, written: int, passed: Mapping[Lane, int], keep: int) -> None:
        """Drop what is in the file and delivered everywhere, or not among the newest `keep` of its lane.

        So couriers a little behind go on reading from memory, and those far behind read the file.
        """
        for lane, tail in self.items():
            far = tail.events[-keep].seq - 1 if len(tail.events) > keep else 0
            tail.trim(min(written, max(passed[lane], far)))
