"""Signals: pure functions of the seed and the time."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest

from agent.quantities import Duration
from simulators._signals import Ramp, RandomWalk, Signal, Sine, Square, gauss, uniform, usual, waveform

MINUTE = Duration(60)


@pytest.mark.parametrize(
    ("signal", "values"),
    [
        (3, {0: 3, 100: 3}),
        (0.123456, {0: 0.123456}),
        (Signal(constant=3), {0: 3, 100: 3}),
        (Signal(sine=Sine(low=10, high=20, period=MINUTE)), {0: 15, 15: 20, 30: 15, 45: 10, 60: 15}),
        (Signal(ramp=Ramp(start=0, stop=60, period=MINUTE)), {0: 0, 30: 30, 59: 59, 60: 0}),
        (Signal(square=Square(low=1, high=2, period=MINUTE, high_for=Duration(15))), {0: 2, 14: 2, 15: 1, 60: 2}),
        (Signal(square=Square(period=MINUTE)), {0: 1, 29: 1, 30: 0}),
        (Signal(steps=[(Duration(5), 1), (Duration(10), 2)]), {0: 1, 5: 1, 9: 1, 10: 2, 1000: 2}),
        (Signal(constant=10, drift=3600), {0: 10, 10: 20}),
        (Signal(constant=1.26, decimals=1), {0: 1.3}),
    ],
)  # fmt: skip
def test_a_signal_has_its_shape(signal: Signal | float, values: dict[float, float]) -> None:
    wave = waveform(signal, seed=1)
    assert {time: wave(time) for time in values} == pytest.approx(values)


def test_a_random_walk_moves_but_not_too_far() -> None:
    walk = Signal(random_walk=RandomWalk(around=100, within=5, period=Duration(10)))
    wave = waveform(walk, seed=1)
    values = [wave(time) for time in range(1000)]
    assert 95 <= min(values) < 97
    assert 103 < max(values) <= 105
    assert max(abs(after - before) for before, after in itertools.pairwise(values)) < 2


def test_noise_has_the_deviation_that_is_asked_for() -> None:
    wave = waveform(Signal(constant=100, noise=2, decimals=6), seed=1)
    values = [wave(time / 10) for time in range(5000)]
    assert statistics.mean(values) == pytest.approx(100, abs=0.2)
    assert statistics.stdev(values) == pytest.approx(2, abs=0.2)


def test_the_same_seed_gives_the_same_values_in_any_order() -> None:
    signal = Signal(random_walk=RandomWalk(), noise=1)
    first, again, other = waveform(signal, 1, "a"), waveform(signal, 1, "a"), waveform(signal, 2, "a")
    times = [0.5 * step for step in range(100)]
    values = [first(time) for time in times]
    assert values == [again(time) for time in reversed(times)][::-1]
    assert values != [other(time) for time in times]
    assert values != [waveform(signal, 1, "b")(time) for time in times]


def test_random_numbers_are_spread_evenly() -> None:
    numbers = [uniform(seed, index) for seed in range(10) for index in range(1000)]
    assert all(0 <= number < 1 for number in numbers)
    for tenth in range(10):
        assert 900 < sum(tenth <= 10 * number < tenth + 1 for number in numbers) < 1100
    assert statistics.mean(gauss(3, index) for index in range(10_000)) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("outdoor_temperature", 15, 30), ("Humidity", 30, 70), ("anything", 18, 22)]
)
def test_a_channel_without_a_signal_does_what_its_name_says(name: str, low: float, high: float) -> None:
    wave = waveform(usual(name), seed=1, channel=name)
    assert all(low <= wave(time) <= high for time in range(500))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "exactly one of"),
        ({"constant": 1, "sine": Sine(low=1, high=2)}, "exactly one of"),
        ({"steps": []}, "at least one step"),
        ({"steps": [(Duration(5), 1), (Duration(0), 2)]}, "in order of time"),
        ({"sine": Sine(low=1, high=2, period=Duration(0))}, "period must be more than 0"),
    ],
)
def test_a_signal_that_cannot_be_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Signal(**fields)


def test_a_square_without_edges_is_refused() -> None:
    with pytest.raises(ValueError, match="less than period"):
        Square(period=MINUTE, high_for=MINUTE)
