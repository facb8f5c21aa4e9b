"""One who has to be given every event: a cursor for each lane, kept over restarts, and what was refused for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.eventlog.group import Rejection
from agent.events import Lane

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.eventlog.memory import Memory
    from agent.eventlog.reader import Reader
    from agent.events import Event


class Consumer:
    """One of those that the log was opened for.

    Attributes:
        name: The name under which the log keeps its cursors.
        reader: What it reads events with.
    """

    def __init__(self, name: str, reader: Reader, memory: Memory, clock: Clock) -> None:
        self.name = name
        self.reader = reader
        self._memory = memory
        self._clock = clock

    @property
    def rewinds(self) -> int:
        """How often its cursors went back to what a file says that was found late; it must then begin anew."""
        return self._memory.rewinds

    def cursor(self, lane: Lane) -> int:
        """Return up to which sequence number it has acknowledged all of a lane."""
        return self._memory.cursors.at[self.name, lane]

    def undelivered(self, lane: Lane) -> list[tuple[int, int | None]]:
        """Return what it has not acknowledged, oldest first: after < seq <= upto, the last one without an end."""
        return self._memory.cursors.undelivered((self.name, lane))

    def acknowledge(self, lane: Lane, after: int, upto: int) -> None:
        """Note that all events of the lane with `after` < seq <= `upto` are delivered to it.

        Its cursor moves where nothing before them is missing; a stretch ahead of it is remembered until then.
        """
        memory = self._memory
        cursors = memory.cursors
        before = cursors.at[self.name, lane]
        if cursors.acknowledge((self.name, lane), after, upto) and max(before, after) < memory.taken:
            if not cursors.is_dirty:
                memory.wake.set()
            cursors.is_dirty = True

    def reject(self, event: Event, reason: str) -> None:
        """Set aside an event that its far side refuses for good, so that it stays readable."""
        self._memory.pending.rejections.append(Rejection(event, self.name, self._clock.wall(), reason))
        self._memory.wake.set()

    async def waiting(self) -> int:
        """Return how many events it has not acknowledged; of very many, how many they can be at most."""
        count = 0
        for lane in Lane:
            for after, upto in self.undelivered(lane):
                count += await self.reader.count(lane, after, upto)
        return count
