"""What makes the ids of events unique: the number of the run, and sequence numbers that no earlier run has had."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from agent.clock import NO_EARLIER

SKIPPED: Final = 10**8
"""Sequence numbers left out after a damaged file, for what could not be read of it: no id may come again."""


class Numbers(NamedTuple):
    """What makes the ids of a run unique.

    Attributes:
        run: The run's number.
        first_seq: Its first sequence number.
    """

    run: int
    first_seq: int


def unknown(first_seq: int) -> Numbers:
    """Return numbers that no earlier run has had, where those are not known.

    The run's is by chance, and the first sequence number usually the time in microseconds, which no counter reaches.
    """
    return Numbers(jump(0), max(first_seq, NO_EARLIER))


def next_run(run: int, now: int) -> int:
    """Return the number of the run after another one, 0 where there is none.

    Nobody but the file remembers it, and that may have been removed, or be an older copy of itself. So it is the seconds since
    `NO_EARLIER`, where the clock is set and they are more.
    """
    if now >= NO_EARLIER:
        return max(run, (now - NO_EARLIER) // 1_000_000) + 1
    return run + 1 if run else jump(0)


def jump(run: int) -> int:
    """Return a run's number that nobody has counted up to."""
    return run + random.randrange(10**6, 10**9)  # noqa: S311 -- a counter never gets there
