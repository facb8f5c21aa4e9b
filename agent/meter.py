"""Rates: how fast counters of the agent have risen over the last while, and what it has written to disks."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

DAY: Final = 86_400.0

CELL_WRITES: Final = 500
"""How often each cell of a memory card is assumed to bear being written: consumer cards of three-bit cells say 300 to 1,000."""

AMPLIFICATION: Final = 10
"""Bytes that a card is assumed to write for each byte it is given: it erases blocks of megabytes, and we write pages of 4 KiB."""


class Rate(NamedTuple):
    """How fast something has risen.

    Attributes:
        per_second: So much a second.
        over: The seconds over which that was measured.
    """

    per_second: float
    over: float


class Trend:
    """A counter over the last while: what it was at some moments."""

    def __init__(self, window: float, samples: int) -> None:
        """Begin without a sample.

        Args:
            window: Seconds over which a rate is told.
            samples: How many moments of it are remembered.
        """
        self._window = window
        self._every = window / samples
        self._samples: deque[tuple[float, float]] = deque()

    def note(self, now: float, count: float) -> None:
        """Note a count at a time of the monotonic clock, in seconds; as often as one likes."""
        samples = self._samples
        if not samples or now - samples[-1][0] >= self._every:
            samples.append((now, count))
        while len(samples) > 1 and samples[1][0] <= now - self._window:
            samples.popleft()

    def rate(self, now: float, count: float) -> Rate | None:
        """Return how fast it has risen until now; None where it was not noted before. One that begins anew has not risen."""
        if not self._samples or now <= self._samples[0][0]:
            return None
        at, before = self._samples[0]
        return Rate(max(count - before, 0.0) / (now - at), now - at)


def bytes_written() -> int | None:
    """Return the bytes that this process has had written to disks since its start (proc(5), io); None where that is not told."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
        return int(dict(line.split(": ") for line in lines)["write_bytes"])
    except (OSError, ValueError, KeyError):
        return None


def years(per_day: float, size: int) -> float | None:
    """Return how many years a card of a size in bytes bears so many bytes a day; None where nothing is written."""
    return size * CELL_WRITES / AMPLIFICATION / per_day / 365.25 if per_day > 0 else None
