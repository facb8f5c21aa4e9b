"""Reads events by their sequence numbers: from memory where they are there, and otherwise from the file."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.eventlog.logfile import LogFile
    from agent.eventlog.memory import Memory
    from agent.events import Event, Lane

COUNT_UPTO: Final = 50_000
"""Events in the file that are counted one by one; of more, it is said how many they can be at most."""


class Reader:
    """Reads one log, for all who do."""

    def __init__(self, memory: Memory, file: LogFile) -> None:
        self._memory = memory
        self._file = file

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever there is something new to read; return what ends that."""
        self._memory.listeners.append(listener)
        return lambda: self._memory.listeners.remove(listener)

    @property
    def first(self) -> int:
        """The sequence number of this run's first event."""
        return self._memory.first

    @property
    def last(self) -> int:
        """The sequence number of the newest event."""
        return self._memory.last

    @property
    def visible(self) -> int:
        """The sequence number of the newest event that may be delivered: with `commit: 0`, that is written."""
        return self._memory.visible

    def base(self, lane: Lane) -> int:
        """Return the sequence number up to which events of a lane are no longer in memory."""
        return self._memory.tails[lane].base

    def peek(self, lane: Lane, after: int, limit: int) -> list[Event] | None:
        """Return the next events of a lane after a sequence number, or None where `fetch` must read the file."""
        memory = self._memory
        tail = memory.tails[lane]
        return memory.mended(tail.after(after, limit, memory.visible)) if after >= tail.base else None

    async def fetch(self, lane: Lane, after: int, limit: int) -> list[Event]:
        """Return the next events of a lane after a sequence number, from the file and then from the tail.

        Raises:
            sqlite3.Error: The file cannot be read at present.
        """
        base = self.base(lane)
        if after < base:
            found = await self._file.read(lane, after, base, limit)
            if found:
                return found
        return self.peek(lane, max(after, base), limit) or []

    async def history(self, after: int, limit: int) -> list[Event]:
        """Return the next events of both lanes after a sequence number, in order of seq.

        Raises:
            sqlite3.Error: The file cannot be read at present.
        """
        memory = self._memory
        base = max(tail.base for tail in memory.tails.values())
        if after < base and (after < memory.written or self._file.is_held):
            found = await self._file.read(None, after, base, limit)
            if found:
                return found
        return memory.mended(memory.tails.merged(max(after, base), limit, memory.last))

    async def count(self, lane: Lane, after: int, upto: int | None) -> int:
        """Return how many events of a lane have `after` < seq <= `upto`; of very many, how many they can be at most."""
        tail = self._memory.tails[lane]
        last = self._memory.last if upto is None else upto
        in_memory = len(tail.after(after, len(tail.events), last))
        in_file = max(min(tail.base, last) - after, 0)
        if 0 < in_file <= COUNT_UPTO:
            with contextlib.suppress(sqlite3.Error):
                in_file = await self._file.count(lane, after, min(tail.base, last))
        return in_memory + in_file
