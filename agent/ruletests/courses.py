"""Makes readings of what a test gives: when each device speaks, and what it then says of all its channels.

A device speaks at each time at which something is written for one of its channels, so that what is written is seen when it
is written. A polled one, or one with `every:` in the test, goes on from there at that interval, with the values held.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from agent.ruletests.model import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.events import Value
    from agent.ruletests.model import Case, Course, Silent
    from agent.ruletests.names import Names

_LAST: Final = 1_000_000
_EPSILON: Final = 1e-9
"""Seconds by which two times may differ and be the same, for what sums of fractions come to."""


class DeviceCourse:
    """One device over the time of a test."""

    def __init__(self, device: str, courses: Sequence[Course], names: Names, back: Iterable[float]) -> None:
        """Store what its channels say, and when it begins again: after it was down, or the agent away."""
        self.device = device
        self._courses = [(course.channel.partition(".")[2], course) for course in courses]
        every = [course.every for course in courses if course.every is not None]
        self._every = names.every.get(device, min(every, default=None))
        marks = {at for course in courses for at, _ in course.points}
        if self._every is not None or device in names.stateful:
            marks |= set(back)
        self._marks = sorted(marks)
        counts = (Counter(at for at, _ in course.points) for course in courses)
        self._times = {at: count for counted in counts for at, count in counted.items() if count > 1}
        self._is_steady = not any(course.ramp or course.noise for course in courses)
        self._chances = {
            course.channel: random.Random(zlib.crc32(course.channel.encode()))  # noqa: S311 -- the same every day
            for course in courses
            if course.noise
        }

    def readings(self, until: float) -> Iterator[tuple[float, dict[str, Value]]]:
        """Yield each reading with its time, up to the end of the test."""
        every = self._every
        for begin, end in pairwise([*self._marks, until + 1.0]):
            for turn in range(self._times.get(begin, 1) - 1):
                yield begin, self._values(begin, turn)
            values = self._values(begin)
            at, count = begin, 0
            while at <= until and (not count or at < end - _EPSILON):
                if values:
                    yield at, values
                if every is None:
                    break
                count += 1
                at = begin + count * every
                if not self._is_steady:
                    values = self._values(at)

    def _values(self, at: float, turn: int = _LAST) -> dict[str, Value]:
        """Return what all channels hold at a time; where several values are written for it, that one of them."""
        values: dict[str, Value] = {}
        for channel, course in self._courses:
            value = _held(course, at, turn)
            if value is SILENT:
                continue
            if course.noise and isinstance(value, int | float):
                strayed = value + self._chances[course.channel].uniform(-course.noise, course.noise)
                value = float(f"{strayed:.9g}")
            values[channel] = value  # type: ignore[assignment]  # it is not SILENT
        return values


def _held(course: Course, at: float, turn: int) -> Value | Silent:
    """Return what a channel holds at a time; silent before anything is written."""
    now: Value | Silent = SILENT
    begin = 0.0
    for when, value in course.points:
        if when == at:
            turn -= 1
            if turn < -1:
                break
        if when > at + _EPSILON:
            is_between = course.ramp and isinstance(now, int | float) and isinstance(value, int | float)
            if is_between:
                gone = (at - begin) / (when - begin)
                return float(f"{now + (value - now) * gone:.9g}")  # type: ignore[operator]  # both are numbers
            break
        now, begin = value, when
    return now


def devices(case: Case, names: Names) -> list[DeviceCourse]:
    """Return the courses of all devices that a test gives values of."""
    returns = {
        deed.at + deed.value for deed in case.deeds if isinstance(deed.value, float) and not deed.target
    }
    by_device: dict[str, list[Course]] = {}
    for course in case.courses:
        by_device.setdefault(course.channel.partition(".")[0], []).append(course)
    return [
        DeviceCourse(
            device,
            courses,
            names,
            returns | {turn.at for turn in case.turns if turn.device == device and turn.what == "up"},
        )
        for device, courses in by_device.items()
    ]
