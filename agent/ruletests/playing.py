"""Plays a test: all that it does to the gateway, in order, and what comes of it."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from agent.alarms import ImpossibleError
from agent.ruletests import courses
from agent.ruletests.bench import Bench, CircleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Config
    from agent.ruletests.model import Case, Deed, Found, Happening, Trace, Turn
    from agent.ruletests.names import Names


class Run:
    """What one test came to.

    Attributes:
        case: The test.
        happenings: What happened, in order.
        found: What its checks found.
        refused: The deeds that could not be done, with the reason.
        failure: Why it could not be played to its end; "" where it was.
        trace: Each reading, where they were asked for: time, device, values.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.happenings: list[Happening] = []
        self.found: list[Found] = []
        self.refused: list[tuple[Deed, str]] = []
        self.failure = ""
        self.trace: Trace = []


_Input = tuple[float, int, int, Any]
"""Time, order within that time, which one it is of those, and what it is."""


def _inputs(case: Case, names: Names) -> Iterator[_Input]:
    """Yield all that a test does to the gateway, in order: at one time starts, devices, readings, people, and then looks."""
    starts = [deed.back_at for deed in case.deeds if deed.back_at is not None]
    streams: list[Iterator[_Input]] = [
        ((at, 0, index, None) for index, at in enumerate([0.0, *starts])),
        ((turn.at, 1, index, turn) for index, turn in enumerate(case.turns)),
        ((deed.at, 3, index, deed) for index, deed in enumerate(case.deeds)),
        ((check.at, 4, index, check) for index, check in enumerate(case.checks)),
    ]
    for index, course in enumerate(courses.devices(case, names)):
        streams.append(_spoken(course, index, case.until))
    return heapq.merge(*streams)


def _spoken(course: courses.DeviceCourse, index: int, until: float) -> Iterator[_Input]:
    device = course.device
    for at, values in course.readings(until):
        yield at, 2, index, (device, values)


def play(config: Config, names: Names, case: Case, *, with_trace: bool = False) -> Run:
    """Play a test."""
    run = Run(case)
    may_crash = any(deed.verb == "crash" for deed in case.deeds)
    bench = Bench(config, names, case.epoch, run.happenings.append, may_crash=may_crash)
    try:
        for at, order, _, what in _inputs(case, names):
            bench.advance(at)
            match order:
                case 0:
                    bench.start()
                case 1:
                    turn: Turn = what
                    bench.turn(turn.device, turn.what)
                case 2:
                    if bench.show(*what) and with_trace:
                        run.trace.append((at, *what))
                case 3:
                    try:
                        bench.do(what)
                    except ImpossibleError as error:
                        run.refused.append((what, str(error)))
                case _:
                    run.found.append(bench.look(what))
        bench.advance(case.until)
        bench.end()
    except CircleError as error:
        run.failure = str(error)
    return run
