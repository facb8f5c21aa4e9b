"""Wall time and monotonic time, and the virtual clock that tests turn by hand."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

NO_EARLIER: Final = 1_767_225_600_000_000
"""2026-01-01 UTC in microseconds: there was no gatepost before, so a clock that says so is not set."""

DAY: Final = 86_400
"""Seconds from one midnight to the next, where no summer time begins or ends."""

TIME_ERROR: Final = 5
"""What adjtimex(2) returns while the clock is not synchronized."""


class Clock:
    """The machine's clocks.

    Durations, delays and rules go by `monotonic`, which never jumps. `wall` is only for people: it may be wrong
    until the network has set it, and may jump.

    Attributes:
        zone: Where local time is told; None for the machine's own time zone.
    """

    zone: ZoneInfo | None = None

    def monotonic(self) -> float:
        """Return seconds since an unknown moment; never goes back."""
        return time.monotonic()

    def wall(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    def wall_at(self, at: float) -> int:
        """Return the wall time, in microseconds, of a moment of the monotonic clock, in seconds."""
        return self.wall() - round((self.monotonic() - at) * 1e6)

    def offset(self) -> int:
        """Return how far the wall clock is ahead of the monotonic clock, in microseconds."""
        return self.wall() - round(self.monotonic() * 1e6)

    def local_offset(self, at: float) -> float:
        """Return how far local time is ahead of the monotonic clock at a moment of it, in seconds.

        Local time is what a clock on the wall shows, in seconds since it would have shown 1970-01-01 00:00.
        """
        wall = self.wall_at(at)
        return wall / 1e6 + self._ahead_of_utc(wall // 1_000_000) - at

    def local_turn(self, at: float) -> float:
        """Return when summer time begins or ends next after a moment of the monotonic clock, or a day later if not by then."""
        wall = self.wall_at(at)
        before = wall // 1_000_000
        after = before + DAY
        offset = self._ahead_of_utc(before)
        if self._ahead_of_utc(after) == offset:
            return at + DAY
        while after - before > 1:
            middle = (before + after) // 2
            if self._ahead_of_utc(middle) == offset:
                before = middle
            else:
                after = middle
        return at + max(after - wall / 1e6, 0.001)  # a slewed clock may be short of it by a hair

    def _ahead_of_utc(self, wall: int) -> float:
        """Return how far local time is ahead of UTC at a wall time; both in seconds."""
        if self.zone is None:
            return time.localtime(wall).tm_gmtoff
        offset = datetime.fromtimestamp(wall, self.zone).utcoffset()
        return 0.0 if offset is None else offset.total_seconds()

    def boot(self) -> str:
        """Return what tells this boot from others; the monotonic clock is one for each."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def is_set(self) -> bool:
        """Whether somebody has told the wall clock the time."""
        return self.wall() > NO_EARLIER and (has_battery() or is_synchronized())


def has_battery() -> bool:
    """Whether the machine knew the time when it was switched on.

    Boards that are described by a device tree, such as a Raspberry Pi, do so only where the kernel has set the clock from
    an RTC (Documentation/ABI/testing/rtc-cdev, `hctosys`).
    """
    if not Path("/proc/device-tree").exists():
        return True
    for file in Path("/sys/class/rtc").glob("rtc*/hctosys"):
        with contextlib.suppress(OSError):
            if file.read_text(encoding="ascii").strip() == "1":
                return True
    return False


def is_synchronized() -> bool:
    """Whether an NTP client has set the clock since the machine was switched on."""
    if Path("/run/systemd/timesync/synchronized").exists():  # systemd-timesyncd(8)
        return True
    import ctypes  # noqa: PLC0415 -- a megabyte, for boards without a battery only

    # adjtimex(2) with no mode only reads, and returns TIME_ERROR while the clock is not synchronized.
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    return bool(0 <= state < TIME_ERROR)


class VirtualClock(Clock):
    """A clock that stands still until it is turned, so that a day passes in milliseconds.

    Attributes:
        now: The monotonic time, in seconds.
        epoch: The wall time at `now` 0, in microseconds since 1970-01-01 UTC; change it, and the wall clock jumps.
        known: Whether the wall clock counts as set.
    """

    def __init__(self, now: float = 0.0, epoch: int = 1_767_225_600_000_000) -> None:
        self.now = now
        self.epoch = epoch
        self.known = True

    def monotonic(self) -> float:
        """Return the time that it was turned to."""
        return self.now

    def wall(self) -> int:
        """Return the wall time that belongs to `now`."""
        return self.epoch + round(self.now * 1e6)

    def boot(self) -> str:
        """Return a boot of its own."""
        return "virtual"

    def is_set(self) -> bool:
        """Whether the test says so."""
        return self.known


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
