"""Times of day and days of the week, as a clock on the wall shows them.

Hours that do not exist when summer time begins are skipped, and those that come twice when it ends come twice here too: it
is what the clock shows that counts. A range over midnight belongs to the day on which it begins.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from agent import contracts
from agent.clock import DAY
from agent.quantities import Quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FIRST_DAY: Final = DAYS.index("thu")  # 1970-01-01
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})")

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class TimeOfDay(Quantity, int):
    """A time of day, in seconds since midnight: `06:00`, `22:30`, and `24:00` for the end of the day."""

    expected = "a time of day from 00:00 to 24:00, such as 22:30"
    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^\d{1,2}:\d{2}$",
        "description": "a time of day: 06:00, 22:30",
    }

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read a time of day."""
        match = _TIME.fullmatch(raw.strip()) if isinstance(raw, str) else None
        seconds = int(match[1]) * 3600 + int(match[2]) * 60 if match else DAY + 1
        if match is None or int(match[2]) > 59 or seconds > DAY:
            raise ValueError(f"{raw!r} is not a time of day")
        return cls(seconds)

    def __str__(self) -> str:
        return f"{int(self) // 3600:02}:{int(self) % 3600 // 60:02}"


class Span(contracts.Settings, frozen=True):
    """Hours of the day, days of the week, or both.

    Attributes:
        between: From the first time of day to the second, which is not in it; over midnight where that is the earlier one.
        days: The days of the week (mon, tue, wed, thu, fri, sat, sun) on which it begins; every day where it is not said.
    """

    between: tuple[TimeOfDay, TimeOfDay] | None = None
    days: tuple[Day, ...] | None = None

    def __post_init__(self) -> None:
        if self.between is None and not self.days:
            raise ValueError("expected between, such as [22:00, 06:00], or days, such as [sat, sun], or both")
        if self.days is not None and len(set(self.days)) < max(len(self.days), 1):
            raise ValueError("days expects each day once, and one at least")
        if self.between is not None and self.between[0] in {self.between[1], DAY}:
            raise ValueError(
                f"between expects two different times of a day, not {self.between[0]} and {self.between[1]}"
            )

    def holds(self, day: int, second: float) -> bool:
        """Whether a time of day is in it, on a day of the week from 0 (Monday) to 6."""
        begin, end = self.between or (0, DAY)
        if begin < end:
            return begin <= second < end and self._begins_on(day)
        return (second >= begin and self._begins_on(day)) or (second < end and self._begins_on((day - 1) % 7))

    def _begins_on(self, day: int) -> bool:
        return self.days is None or DAYS[day] in self.days

    def __str__(self) -> str:
        between = "" if self.between is None else f"between {self.between[0]} and {self.between[1]}"
        days = "" if self.days is None else f"on {', '.join(self.days)}"
        return " ".join(part for part in (between, days) if part)


class Schedule:
    """Several spans: it is open while one of them is. Times are local, in seconds since 1970-01-01 00:00 of the wall clock."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = tuple(spans)
        self._edges = sorted({DAY, *(int(edge) for span in spans for edge in span.between or () if edge)})

    def is_open(self, local: float) -> bool:
        """Whether a time is in one of the spans."""
        day, second = divmod(local, DAY)
        return any(span.holds((int(day) + _FIRST_DAY) % 7, second) for span in self._spans)

    def next_edge(self, local: float) -> float:
        """Return the next time at which it may open or shut, a midnight at the latest."""
        day, second = divmod(local, DAY)
        return day * DAY + self._edges[bisect_right(self._edges, second)]

    def is_open_throughout(self, begin: float, end: float) -> bool:
        """Whether it is never shut between two times; weeks are alike, so only the last eight days are looked at."""
        at = max(begin, end - 8 * DAY)
        while at <= end:
            if not self.is_open(at):
                return False
            at = self.next_edge(at)
        return True

    def __str__(self) -> str:
        return " or ".join(map(str, self._spans))
