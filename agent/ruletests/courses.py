"""Makes readings of what a test gives: when each device speaks, and what it then says of all its channels.

A device speaks at each time at which something is written for one of its channels, so that what is written is seen when it
is written. A polled one, or one with `every:` in the test, goes on from there at that interval, with the values held.
"""

from __future__ import annotations

import random
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from agent.ruletests.model import SILENT, Silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.events import Value
    from agent.ruletests.model import Case, Course
    from agent.ruletests.names import Names

_LAST: Final = 1_000_000
_EPSILON: Final = 1e-9
"""Seconds by which two times may differ and be the same, for what sums of fractions come to."""


class DeviceCourse:
    """One device over the time of a test."""

    def __init__(self, device: str, courses: Sequence[Course], names: Names, back: Iterable[float]) -> None:
        """Store what its channels say, and when it begins again: after it was down, or the agent away."""
        self.device = device
        self._channels = [_ChannelCourse(course) for course in courses]
        every = [course.every for course in courses if course.every is not None]
        self._every = names.every.get(device, min(every, default=None))
        marks = {at for course in courses for at, _ in course.points}
        if self._every is not None or device in names.stateful:
            marks |= set(back)
        self._marks = sorted(marks)
        # How many values are written for a time, of the channel with the most.
        self._times: Counter[float] = Counter()
        for course in courses:
            self._times |= Counter(at for at, _ in course.points)
        self._is_steady = not any(course.ramp or course.noise for course in courses)

    def readings(self, until: float) -> Iterator[tuple[float, dict[str, Value]]]:
        """Yield each reading with its time, up to the end of the test."""
        every = self._every
        for begin, end in pairwise([*self._marks, until + 1.0]):
            for turn in range(self._times[begin] - 1):
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
        for channel in self._channels:
            value = channel.says(at, turn)
            if not isinstance(value, Silent):
                values[channel.name] = value
        return values


class _ChannelCourse:
    """One channel over the time of a test."""

    def __init__(self, course: Course) -> None:
        self.name = course.channel.partition(".")[2]
        self._course = course
        self._times = [at for at, _ in course.points]
        # The same strays in every run.
        self._chance = random.Random(zlib.crc32(course.channel.encode()))  # noqa: S311

    def says(self, at: float, turn: int) -> Value | Silent:
        """Return what it says at a time; where several values are written for it, that one of them, at most the last."""
        value = self._held(at, turn)
        noise = self._course.noise
        if noise and isinstance(value, int | float):
            return _rounded(value + self._chance.uniform(-noise, noise))
        return value

    def _held(self, at: float, turn: int) -> Value | Silent:
        """Return what it holds; silent before anything is written."""
        times, points = self._times, self._course.points
        after = bisect_right(times, at + _EPSILON)
        if after == 0:
            return SILENT
        if turn != _LAST and times[after - 1] == at:
            return points[min(bisect_left(times, at) + turn, after - 1)][1]
        begin, now = points[after - 1]
        if self._course.ramp and after < len(points):
            end, then = points[after]
            if isinstance(now, int | float) and isinstance(then, int | float):
                return _rounded(now + (then - now) * (at - begin) / (end - begin))
        return now


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def devices(case: Case, names: Names) -> list[DeviceCourse]:
    """Return the courses of all devices that a test gives values of."""
    returns = {deed.back_at for deed in case.deeds if deed.back_at is not None}
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
