"""What a channel said over the last ten minutes, or the last day, at a cost that does not grow with the time.

A window is made of slices. A slice begins with a reading and takes in all that follow for a fixed share of the window;
the readings themselves are not kept, only what the slice comes to: see `agent.conditions.aggregates`. A slice leaves as a
whole, when its first reading is as old as the window is long. So nothing in the window is older than that, and readings
leave at most one slice early. Where readings are rarer than slices, each is a slice of its own, and the window is exact.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.conditions.aggregates import Aggregate
    from agent.events import Value

LARGEST: Final = 1e150
"""What is larger is no measurement, and its square would not be a number any more."""

_UNREADABLE: Final = (ValueError, TypeError, struct.error, zlib.error)
_LONGEST: Final = 1_000_000
"""Bytes of an unpacked state, at most."""


def usable(value: Value) -> float | None:
    """Return a value as a number that can be reckoned with; None for text, what is missing, and what is not finite."""
    if value is None or isinstance(value, str):
        return None
    return float(value) if -LARGEST < value < LARGEST else None


def pack(data: bytes) -> str:
    """Return bytes as a text that a rule's state can hold, compressed."""
    return base64.b85encode(zlib.compress(data, 6)).decode("ascii")


def unpack(text: Value) -> bytes:
    """Return what `pack` was given; nothing where it cannot be read."""
    try:
        inflate = zlib.decompressobj()
        return inflate.decompress(base64.b85decode(text), _LONGEST)  # type: ignore[arg-type]  # may be anything
    except _UNREADABLE:
        return b""


class Window:
    """The slices of a window in time; what is in them is the aggregate's.

    Attributes:
        begins: When each slice began, the oldest first, in seconds of the monotonic clock; not more than `slices`.
        closes: From when on a reading begins another slice; `open` must be called then, before it is added.
        deadline: When the oldest slice leaves; None where the window is empty.
        width: The length of a slice, in seconds.
    """

    __slots__ = ("_aggregate", "_over", "begins", "closes", "deadline", "width")

    def __init__(self, over: float, slices: int, aggregate: Aggregate) -> None:
        self._over = over
        self._aggregate = aggregate
        self.width = over / slices
        self.begins: deque[float] = deque()
        self.closes = -math.inf
        self.deadline: float | None = None

    def open(self, at: float) -> None:
        """Begin a slice, with a reading of that time."""
        if self.begins:
            self._aggregate.close()
        else:
            self.deadline = at + self._over
        self.begins.append(at)
        self.closes = at + self.width

    def expire(self, now: float) -> bool:
        """Let go of the slices that are too old; return whether there were any."""
        gone = 0
        while self.begins and self.begins[0] + self._over <= now:
            self.begins.popleft()
            gone += 1
        if gone:
            self._aggregate.drop(gone)
            self._settle()
        return gone > 0

    def clear(self) -> None:
        """Let go of everything."""
        self._aggregate.drop(len(self.begins))
        self.begins.clear()
        self._settle()

    def _settle(self) -> None:
        self.closes = self.begins[-1] + self.width if self.begins else -math.inf
        self.deadline = self.begins[0] + self._over if self.begins else None

    def state(self, now: float) -> str:
        """Return what is in the window as a text; times in it are ages."""
        count = len(self.begins)
        ages = struct.pack(f"<H{count}d", count, *(now - begin for begin in self.begins))
        return f"{self._aggregate.name}:{pack(ages + self._aggregate.state())}"

    def restore(self, text: Value, saved: float) -> None:
        """Go on from what `state` said at a time of the monotonic clock; empty where that is of another kind, or damaged."""
        self.clear()
        name, _, packed = text.partition(":") if isinstance(text, str) else ("", "", "")
        data = unpack(packed) if name == self._aggregate.name else b""
        try:
            (count,) = struct.unpack_from("<H", data)
            ages = struct.unpack_from(f"<{count}d", data, 2)
            if count:
                self._aggregate.restore(data[2 + 8 * count :], count)
        except _UNREADABLE:
            return
        self.begins.extend(saved - age for age in ages)
        self._settle()
