"""Wall time and monotonic time, and the virtual clock that tests turn by hand."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


class Clock:
    """The machine's clocks.

    Durations, delays and rules go by `monotonic`, which never jumps. `wall` is only for people: it may be wrong
    until the network has set it, and may jump.
    """

    def monotonic(self) -> float:
        """Return seconds since an unknown moment; never goes back."""
        return time.monotonic()

    def wall(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    def wall_at(self, at: float) -> int:
        """Return the wall time, in microseconds, of a moment of the monotonic clock, in seconds."""
        return self.wall() - round((self.monotonic() - at) * 1e6)


class VirtualClock(Clock):
    """A clock that stands still until it is turned, so that a day passes in milliseconds.

    Attributes:
        now: The monotonic time, in seconds.
        epoch: The wall time at `now` 0, in microseconds since 1970-01-01 UTC.
    """

    def __init__(self, now: float = 0.0, epoch: int = 1_767_225_600_000_000) -> None:
        self.now = now
        self.epoch = epoch

    def monotonic(self) -> float:
        """Return the time that it was turned to."""
        return self.now

    def wall(self) -> int:
        """Return the wall time that belongs to `now`."""
        return self.epoch + round(self.now * 1e6)


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def iso(wall: int) -> str:
    """Return a wall time, in microseconds, as RFC 3339 in UTC: `2026-11-23T10:15:00.123456Z`."""
    seconds, micros = divmod(wall, 1_000_000)
    return f"{_iso_second(seconds)}.{micros:06d}Z"


def from_iso(text: str) -> int:
    """Return the wall time, in microseconds, that RFC 3339 text says.

    Raises:
        ValueError: It is not such a text.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1_000_000 + moment.microsecond
