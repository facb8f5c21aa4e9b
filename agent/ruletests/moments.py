"""Times in a test: how long after its start (`15m`, `1d 2h`), or a time of the local clock (`22:00`, `Tue 06:30`)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from agent.conditions.schedule import DAYS
from agent.quantities import Duration

if TYPE_CHECKING:
    from datetime import tzinfo

MONDAY: Final = datetime(2026, 1, 5)  # noqa: DTZ001 -- local, wherever that is
"""When tests begin that do not say: a Monday, in winter."""

EXPECTED: Final = "a time after the start such as 15m or 1d 2h, or a local time such as 22:00 or Tue 06:30"

_OF_DAY: Final = re.compile(r"(?:(?P<day>[A-Za-z]{3,9})\s+)?(?P<h>\d{1,2}):(?P<m>\d{2})(?::(?P<s>\d{2}))?")
_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


class Moments:
    """The times of one test.

    Attributes:
        start: The local time at its start.
        epoch: The same, in microseconds since 1970-01-01 UTC.
    """

    def __init__(self, start: datetime = MONDAY, zone: tzinfo | None = None) -> None:
        self.start = start
        self._zone = zone
        self.epoch = self._micros(start)

    def _micros(self, local: datetime) -> int:
        whole = local.replace(tzinfo=self._zone).timestamp()
        return round(whole * 1e6)

    def parse(self, text: str) -> float:
        """Return how many seconds after the start a time is.

        Raises:
            ValueError: It is no time, or before the start; the text says what was expected.
        """
        text = text.strip()
        if text == "0":
            return 0.0
        try:
            return float(Duration.parse(text))
        except ValueError:
            local = self._local(text)
        if local is None:
            raise ValueError(f"{text!r} is no time, expected {EXPECTED}")
        seconds = (self._micros(local) - self.epoch) / 1e6
        if seconds < 0:
            raise ValueError(f"{text!r} is before the start, {self.start:%Y-%m-%d %H:%M}")
        return seconds

    def span(self, text: str) -> tuple[float, float]:
        """Return the first and the last second of `15m` (the same twice) or `15m..20m`.

        Raises:
            ValueError: It is neither.
        """
        first, dots, last = text.partition("..")
        begin = self.parse(first)
        end = self.parse(last) if dots else begin
        if end < begin:
            raise ValueError(f"{text!r} ends before it begins")
        return begin, end

    def _local(self, text: str) -> datetime | None:
        """Return the first such time at or after the start, None where it is no time of the clock."""
        try:
            return local_time(text)
        except ValueError:
            pass
        match = _OF_DAY.fullmatch(text)
        if match is None:
            return None
        day = (match["day"] or "")[:3].lower()
        if day and day not in DAYS:
            return None
        hour, minute, second = int(match["h"]), int(match["m"]), int(match["s"] or 0)
        if hour > 23 or minute > 59 or second > 59:
            return None
        found = self.start.replace(hour=hour, minute=minute, second=second, microsecond=0)
        while found < self.start or (day and found.weekday() != DAYS.index(day)):
            found += timedelta(days=1)
        return found


def local_time(text: str) -> datetime:
    """Read a local time such as `2026-01-05 08:00`.

    Raises:
        ValueError: It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or not datetime(1971, 1, 1) <= found <= datetime(2199, 1, 1):  # noqa: DTZ001
        raise ValueError(f"{text!r} is no local time, expected one such as 2026-01-05 08:00")
    return found


def said(seconds: float) -> str:
    """Return a time as people write it: `1d 2h`, `15m`, `1m 30.5s`, `500ms`."""
    millis = round(abs(seconds) * 1000)
    if 0 < millis < 1000:
        return f"{'-' if seconds < 0 else ''}{millis}ms"
    parts = []
    for unit, size in _UNITS:
        whole, rest = divmod(millis, size)
        if unit == "s" and rest:
            parts.append(f"{millis / 1000:.3f}".rstrip("0") + "s")
        elif whole:
            parts.append(f"{whole}{unit}")
        millis = rest
    return ("-" if seconds < 0 and parts else "") + (" ".join(parts) or "0s")
