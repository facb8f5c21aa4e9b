"""Who wants the time, and when: a queue by deadline."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What may be in the queue.

    Attributes:
        queued: The times that it is in the queue with, the next one last; the queue's own.
    """

    queued: list[float]

    @property
    def deadline(self) -> float | None:
        """When it next wants the time; None where it does not."""
        ...


W = TypeVar("W", bound=Waiting)


class Agenda(Generic[W]):
    """All that wait, each by its deadline or before it.

    Attributes:
        head: When the first of them is to be looked at; infinite where none waits.
    """

    def __init__(self) -> None:
        self.head = math.inf
        self._queue: list[tuple[float, int, W]] = []
        self._tie = itertools.count()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, waiting: W) -> bool:
        """See to it that one is looked at by its deadline; return whether it is the first now.

        Where it is in the queue with an earlier time, that is when it is put again: a delay that begins and ends with
        every reading leaves nothing behind.
        """
        deadline, queued = waiting.deadline, waiting.queued
        if deadline is None or (queued and queued[-1] <= deadline):
            return False
        queued.append(deadline)
        heapq.heappush(self._queue, (deadline, next(self._tie), waiting))
        self.head = self._queue[0][0]
        return self._queue[0][2] is waiting

    def pop(self) -> tuple[float, W]:
        """Take out the first, and return the time that it was queued with."""
        queued, _, waiting = heapq.heappop(self._queue)
        waiting.queued.pop()
        self.head = self._queue[0][0] if self._queue else math.inf
        return queued, waiting
