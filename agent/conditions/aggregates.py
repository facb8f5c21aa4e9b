"""What the slices of a window come to, kept as readings come and slices leave: see `agent.conditions.windows`.

The slices that are closed are folded into one, and folded anew, from the oldest to the newest, whenever one leaves. Nothing
is ever subtracted from a sum of floating-point numbers, so none drifts, and the same slices give the same number to the
last digit, also after a restart.
"""

from __future__ import annotations

import functools
import math
import struct
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections import deque
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DIFFERENT: Final = 128
"""Different values that one slice of `Ranks` tells apart, at most."""
_COARSEST: Final = 3
_FINEST: Final = 24  # significant bits from which on rounding is no longer worth it


class Aggregate(ABC):
    """Slices of a window: one that is open, and those that are closed.

    Attributes:
        name: What its state is told by.
        count: How many readings are in all slices.
    """

    name: ClassVar[str]
    count: int = 0

    @abstractmethod
    def close(self) -> None:
        """Close the open slice, and open the next."""

    @abstractmethod
    def drop(self, slices: int) -> None:
        """Let go of the oldest slices; where it is all of them, of the open one too."""

    @abstractmethod
    def state(self) -> bytes:
        """Return all slices."""

    @abstractmethod
    def restore(self, data: bytes, slices: int) -> None:
        """Go on from what `state` said of that many slices.

        Raises:
            ValueError: It is not that.
            struct.error: It is not that either.
        """


Row = tuple[float, ...]
"""What one slice comes to: first the count of its readings."""


class _Folded(Aggregate):
    """Slices that each come to a few numbers. About 7 kB for 60 of them.

    Attributes:
        row: The open slice.
        rest: All closed slices, folded into one.
    """

    empty: ClassVar[Row]

    def __init__(self) -> None:
        self._closed: deque[Row] = deque()
        self.row = self.rest = self.empty

    @staticmethod
    @abstractmethod
    def fold(older: Row, newer: Row) -> Row:
        """Return what two slices come to as one."""

    def close(self) -> None:
        self._closed.append(self.row)
        self.rest = self.fold(self.rest, self.row)
        self.row = self.empty

    def drop(self, slices: int) -> None:
        if slices > len(self._closed):
            self._closed.clear()
            self.row = self.empty
        else:
            for _ in range(slices):
                self._closed.popleft()
        self.rest = functools.reduce(self.fold, self._closed, self.empty)
        self.count = int(self.rest[0] + self.row[0])

    def state(self) -> bytes:
        return b"".join(struct.pack(f"<{len(row)}d", *row) for row in (*self._closed, self.row))

    def restore(self, data: bytes, slices: int) -> None:
        rows = list(struct.iter_unpack(f"<{len(self.empty)}d", data))
        if len(rows) != slices:
            raise ValueError(f"{len(rows)} slices, not {slices}")
        self._closed.extend(rows[:-1])
        self.row = rows[-1]
        self.drop(0)


class Totals(_Folded):
    """Count and sum: rows of (count, sum)."""

    name: ClassVar[str] = "totals"
    empty: ClassVar[Row] = (0.0, 0.0)

    @staticmethod
    def fold(older: Row, newer: Row) -> Row:
        """Return the sums."""
        return (older[0] + newer[0], older[1] + newer[1])

    def add(self, value: float) -> None:
        """Take in a reading."""
        count, total = self.row
        self.row = (count + 1.0, total + value)
        self.count += 1

    def sum(self) -> float:
        """Return the sum; 0 for an empty window."""
        return self.rest[1] + self.row[1]

    def mean(self) -> float:
        """Return the mean of a window that is not empty."""
        return (self.rest[1] + self.row[1]) / self.count


class Extremes(_Folded):
    """The least and the greatest value: rows of (count, min, max)."""

    name: ClassVar[str] = "extremes"
    empty: ClassVar[Row] = (0.0, math.inf, -math.inf)

    @staticmethod
    def fold(older: Row, newer: Row) -> Row:
        """Return the extremes of both."""
        return (older[0] + newer[0], min(older[1], newer[1]), max(older[2], newer[2]))

    def add(self, value: float) -> None:
        """Take in a reading."""
        count, least, greatest = self.row
        self.row = (count + 1.0, min(least, value), max(greatest, value))
        self.count += 1

    def min(self) -> float:
        """Return the least value of a window that is not empty."""
        return min(self.rest[1], self.row[1])

    def max(self) -> float:
        """Return the greatest value of a window that is not empty."""
        return max(self.rest[2], self.row[2])


class Spread(_Folded):
    """The standard deviation: rows of (count, mean, sum of squared deviations from it).

    Within a slice after Welford (1962), between slices after Chan, Golub and LeVeque (1979): neither subtracts large squares.
    """

    name: ClassVar[str] = "spread"
    empty: ClassVar[Row] = (0.0, 0.0, 0.0)

    @staticmethod
    def fold(older: Row, newer: Row) -> Row:
        """Return what both come to."""
        if not newer[0]:
            return older
        count = older[0] + newer[0]
        apart = newer[1] - older[1]
        mean = older[1] + apart * newer[0] / count
        return (count, mean, older[2] + newer[2] + apart * apart * older[0] * newer[0] / count)

    def add(self, value: float) -> None:
        """Take in a reading."""
        count, mean, squares = self.row
        count += 1.0
        apart = value - mean
        mean += apart / count
        self.row = (count, mean, squares + apart * (value - mean))
        self.count += 1

    def stddev(self) -> float:
        """Return the standard deviation of a sample of two readings or more."""
        return math.sqrt(self.fold(self.rest, self.row)[2] / (self.count - 1))


class Points(_Folded):
    """Where each slice lies, for the slope: rows of (count, sum of seconds since the slice began, sum of values)."""

    name: ClassVar[str] = "points"
    empty: ClassVar[Row] = (0.0, 0.0, 0.0)

    @staticmethod
    def fold(older: Row, newer: Row) -> Row:
        """Return the count of both; no more is wanted of all slices together."""
        return (older[0] + newer[0], 0.0, 0.0)

    def add(self, value: float, after: float) -> None:
        """Take in a reading, that many seconds after the slice began."""
        count, late, total = self.row
        self.row = (count + 1.0, late + after, total + value)
        self.count += 1

    def slope(self, begins: Sequence[float], span: float) -> float | None:
        """Return the slope per second after Theil (1950) and Sen (1968): the median of those between any two slices' means.

        Three slices in ten may be wildly wrong and do it no harm.

        Args:
            begins: When each slice began.
            span: How far the first and the last must begin apart, in seconds; None is returned where they are not, or where
                there are fewer than three.
        """
        rows = [(late / count, total / count) for count, late, total in (*self._closed, self.row)]
        if len(rows) < 3 or begins[-1] - begins[0] < span:
            return None
        slopes = [
            (there - here) / seconds
            for (begin, (late, here)), (later_begin, (later, there)) in combinations(
                zip(begins, rows, strict=True), 2
            )
            if (seconds := later_begin - begin + later - late) > 0
        ]
        return median(slopes) if slopes else None


class Ranks(Aggregate):
    """Any percentile, from how often each value was seen.

    Exact while no slice holds more than 128 different values: always where readings are few, and for a sensor that tells
    fewer apart. In a slice that holds more, values are rounded to as many significant bits as leave 64 to 128 of them, those
    less than usual to the same step as the usual ones; no reading is left out. Where even 3 bits leave more, over hundreds of powers of two, neighbours are put together in pairs. A
    window takes at most 12 bytes for each of 128 values of each slice, and about 75 for each value that is seen in no other
    slice: 331 kB, as measured, for 30 slices of 128 values that all differ.
    """

    name: ClassVar[str] = "ranks"

    def __init__(self) -> None:
        self._closed: deque[tuple[array[float], array[int]]] = deque()
        self._open: dict[float, int] = {}
        self._bits: int | None = None  # to which values are rounded; None where they are not
        self._floor = 0  # the power of two below which values are rounded as those just below it
        self._seen: dict[float, int] = {}  # in all slices, by value
        self._values: list[float] = []  # the keys of `_seen`, sorted
        self._place = 0  # an index of `_values`: where the last percentile was found
        self._before = 0  # how many readings have a value before that one

    def add(self, value: float) -> None:
        """Take in a reading."""
        if self._bits is not None:
            value = _rounded(value, self._bits, self._floor)
        self._open[value] = self._open.get(value, 0) + 1
        self._put(value, 1)
        if len(self._open) > DIFFERENT:
            self._coarsen()

    def _put(self, value: float, count: int) -> None:
        known = self._seen.get(value)
        if known is None:
            at = bisect_left(self._values, value)
            self._values.insert(at, value)
            if at <= self._place and len(self._values) > 1:
                self._place += 1
        self._seen[value] = count + (known or 0)
        if value < self._values[self._place]:
            self._before += count
        self.count += count

    def _take(self, pairs: Iterable[tuple[float, int]]) -> None:
        for value, count in pairs:
            left = self._seen[value] - count
            self.count -= count
            if left:
                self._seen[value] = left
            else:
                del self._seen[value]
                del self._values[bisect_left(self._values, value)]
        self._place = self._before = 0

    def _coarsen(self) -> None:
        """Round what is in the open slice until half of the different values are left, or almost none of the bits."""
        before = self._open
        bits = _FINEST if self._bits is None else max(self._bits - 1, _COARSEST)
        self._floor = _usual_power(before)
        while len(after := _tally(before, bits, self._floor)) > DIFFERENT // 2 and bits > _COARSEST:
            bits -= 1
        while len(after) > DIFFERENT:  # of neighbours in pairs, the rarer counts as the more frequent
            ordered = sorted(after)
            for pair in zip(ordered[::2], ordered[1::2], strict=False):
                rarer, more_frequent = sorted(pair, key=after.__getitem__)
                after[more_frequent] += after.pop(rarer)
        self._open, self._bits = after, bits
        self._take(before.items())
        for value, count in after.items():
            self._put(value, count)

    def close(self) -> None:
        """Close the open slice: it takes up less from now on."""
        ordered = sorted(self._open.items())
        self._closed.append((array("d", (each for each, _ in ordered)), array("I", (n for _, n in ordered))))
        if self._bits is not None:
            self._floor = _usual_power(self._open)
            if len(self._open) <= DIFFERENT // 2:  # the next may be finer
                self._bits = self._bits + 1 if self._bits < _FINEST else None
        self._open = {}

    def drop(self, slices: int) -> None:
        """Let go of the oldest slices."""
        for _ in range(min(slices, len(self._closed))):
            self._take(zip(*self._closed.popleft(), strict=True))
            slices -= 1
        if slices:
            self._take(self._open.items())
            self._open = {}

    def percentile(self, percent: float) -> float:
        """Return the value that so many of 100 readings do not exceed, of a window that is not empty.

        Between two readings it is interpolated, as spreadsheets do (PERCENTILE.INC); 50 is the median.
        """
        rank = (self.count - 1) * percent / 100
        whole = math.floor(rank)
        low = self._ranked(whole)
        if rank == whole:
            return low
        return low + (self._ranked(whole + 1) - low) * (rank - whole)

    def _ranked(self, rank: int) -> float:
        """Return the reading before which so many others are, when sorted; found from where the last one was."""
        values, seen = self._values, self._seen
        while self._before > rank:
            self._place -= 1
            self._before -= seen[values[self._place]]
        while self._before + (count := seen[values[self._place]]) <= rank:
            self._before += count
            self._place += 1
        return values[self._place]

    def state(self) -> bytes:
        """Return all slices, value by value."""
        parts = [struct.pack("<bh", -1 if self._bits is None else self._bits, self._floor)]
        ordered = sorted(self._open.items())
        slices = [*self._closed, ([value for value, _ in ordered], [count for _, count in ordered])]
        for values, counts in slices:
            parts.append(struct.pack(f"<H{len(values)}d{len(values)}I", len(values), *values, *counts))
        return b"".join(parts)

    def restore(self, data: bytes, slices: int) -> None:
        """Go on from that."""
        bits, floor = struct.unpack_from("<bh", data)
        read: list[dict[float, int]] = []
        at = 3
        for _ in range(slices):
            (size,) = struct.unpack_from("<H", data, at)
            numbers = struct.unpack_from(f"<{size}d{size}I", data, at + 2)
            read.append(dict(zip(numbers[:size], numbers[size:], strict=True)))
            at += 2 + 12 * size
        for index, each in enumerate(read):
            if index:
                self.close()
            self._open = each
            for value, count in each.items():
                self._put(value, count)
        self._bits, self._floor = (None if bits < 0 else bits), floor


def _tally(counts: Mapping[float, int], bits: int, floor: int) -> dict[float, int]:
    rounded: dict[float, int] = {}
    for value, count in counts.items():
        near = _rounded(value, bits, floor)
        rounded[near] = rounded.get(near, 0) + count
    return rounded


def _rounded(value: float, bits: int, floor: int) -> float:
    """Return a number to so many significant bits; below a power of two to the step of those just below it."""
    step = max(math.frexp(value)[1], floor) - bits
    return math.ldexp(round(math.ldexp(value, -step)), step)


def _usual_power(counts: Mapping[float, int]) -> int:
    """Return the power of two above half of the values, by magnitude."""
    left = sum(counts.values()) / 2
    for value in sorted(counts, key=abs):
        left -= counts[value]
        if left <= 0:
            return math.frexp(value)[1]
    return 0
