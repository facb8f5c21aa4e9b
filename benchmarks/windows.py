"""What a reading costs in a window of a minute, an hour and a day at 10 readings a second, and what such a window takes.

The rule `window` by itself, fed as the rulebook feeds it: the time first, where the rule wants it, then the reading. Each
window is filled before anything is measured. The readings are a daily swing of 5 with noise of 0.5, in full double precision,
so that hardly two of them are alike: the worst for a median.
"""

from __future__ import annotations

import math
import random
import time
import tracemalloc
from array import array
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Final

from agent.quantities import Duration
from agent.rules import window
from benchmarks._harness import progress
from benchmarks._results import Row, percentile, row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RATE: Final = 10
LENGTHS: Final = {"1 minute": 60, "1 hour": 3600, "1 day": 86_400}
COUNT: Final = 100_000
"""Readings of one run."""
AIM: Final = 1.5
"""Of the cost in a window of a minute: it must not grow with the window."""


def _rule(take: str, seconds: int) -> window.Rule:
    rule = window.Rule(window.Settings(of="air.temperature", take=take, over=Duration(seconds), above=1e9))  # type: ignore[arg-type]
    rule.restore({}, 0.0, 0.0)
    return rule


def _signal() -> Iterator[tuple[float, float]]:
    """Yield times and values, for ever."""
    chance = random.Random(1)
    at = 0.0
    while True:
        yield at, 20 + 5 * math.sin(at * 2 * math.pi / 86_400) + chance.gauss(0, 0.5)
        at += 1 / RATE


def _feed(rule: window.Rule, readings: Iterable[tuple[float, float]]) -> None:
    for at, value in readings:
        while rule.deadline is not None and rule.deadline <= at:
            rule.on_time(rule.deadline)
        rule.on_reading("air.temperature", value, at)


def _cost(take: str, seconds: int, repeats: int) -> list[float]:
    """Return the microseconds for each reading, of several runs."""
    rule, signal = _rule(take, seconds), _signal()
    _feed(rule, islice(signal, seconds * RATE))
    runs = []
    for _ in range(repeats):
        readings = list(islice(signal, COUNT))
        began = time.perf_counter()
        _feed(rule, readings)
        runs.append((time.perf_counter() - began) / COUNT * 1e6)
    return runs


def _size(take: str, seconds: int) -> tuple[float, int]:
    """Return the bytes of memory of a full window, and of its saved state."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    rule = _rule(take, seconds)
    _feed(rule, islice(_signal(), seconds * RATE))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before, len(str(rule.state(float(seconds))["window"]))


def _error(seconds: int) -> float:
    """Return how far the median of a full window is off, in percent of the range between its percentiles 5 and 95."""
    rule = _rule("median", seconds)
    values = array("d")
    for at, value in islice(_signal(), seconds * RATE - 1):
        values.append(value)
        rule.on_reading("air.temperature", value, at)
    spread = percentile(values, 0.95) - percentile(values, 0.05)
    found = rule.value()
    return math.inf if found is None else abs(found - median(values)) / spread * 100


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    repeats = 2 if quick else 5
    rows = []
    for take in ("mean", "median"):
        costs: dict[str, Row] = {}
        for length, seconds in LENGTHS.items():
            progress(f"windows: {take} over {length}")
            name = f"windows: {take} over {length}"
            costs[length] = row(f"{name}, a reading", _cost(take, seconds, repeats), "µs")
            memory, state = _size(take, seconds)
            note = f"{seconds * RATE:,} readings; saved as {state:,} bytes"
            rows += [costs[length], Row(f"{name}, memory", memory / 1000, "kB", note=note)]
            if take == "median":
                rows.append(Row(f"{name}, error", _error(seconds), "%", note="of the range from 5 to 95 %"))
        ratio = costs["1 day"].value / costs["1 minute"].value
        rows.append(Row(f"windows: {take}, a reading in a day / in a minute", ratio, "", AIM))
    return rows
