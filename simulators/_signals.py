"""Signals of devices that are not there, as a person writes them in one line.

Every signal is a pure function of the seed and the time, so a run can be repeated exactly, and a value does not
depend on how often anyone looked.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Final

from agent import contracts
from agent.quantities import Duration

Waveform = Callable[[float], float]
"""The value at a time, in seconds since the simulation began."""

_WORD: Final = 2**64 - 1


class Sine(contracts.Settings, frozen=True):
    """Up and down, smoothly.

    Attributes:
        low: The lowest value.
        high: The highest value.
        period: How long one cycle takes.
    """

    low: float
    high: float
    period: Duration = Duration(60)


class Ramp(contracts.Settings, frozen=True):
    """A straight line, over and over.

    Attributes:
        start: The first value.
        stop: The last value, after which it begins again.
        period: How long it takes.
    """

    start: float
    stop: float
    period: Duration = Duration(60)


class Square(contracts.Settings, frozen=True):
    """High for a while, then low, over and over.

    Attributes:
        low: The low value.
        high: The high value.
        period: How long one cycle takes.
        high_for: How long of it the value is high; half of it where it is not said.
    """

    low: float = 0
    high: float = 1
    period: Duration = Duration(20)
    high_for: Duration | None = None

    def __post_init__(self) -> None:
        """Refuse a square that has no edges."""
        if not 0 < self.on_for() < self.period:
            raise ValueError("high_for must be more than 0 and less than period")

    def on_for(self) -> float:
        """Return how long the value is high, in seconds."""
        return self.period / 2 if self.high_for is None else float(self.high_for)


class RandomWalk(contracts.Settings, frozen=True):
    """Wanders about, without a pattern.

    Attributes:
        around: The value about which it wanders.
        within: How far from there it may go.
        period: How long it takes to go somewhere else.
    """

    around: float = 20
    within: float = 2
    period: Duration = Duration(30)


class Signal(contracts.Settings, frozen=True):
    """What a channel does over time: exactly one shape, and what disturbs it.

    Attributes:
        constant: One value.
        sine: Up and down, smoothly.
        ramp: A straight line, over and over.
        square: High for a while, then low, over and over.
        random_walk: Wanders about, without a pattern.
        steps: The value from each time on, such as [[0s, 20], [15s, 36]]; the last one stays.
        noise: The standard deviation of the noise on it.
        drift: How much is added with each hour.
        decimals: How many decimals the instrument shows.
    """

    constant: float | None = None
    sine: Sine | None = None
    ramp: Ramp | None = None
    square: Square | None = None
    random_walk: RandomWalk | None = None
    steps: list[tuple[Duration, float]] | None = None
    noise: float = 0
    drift: float = 0
    decimals: int = 2

    def __post_init__(self) -> None:
        """Refuse none or several shapes."""
        said = [shape for shape in _SHAPES if getattr(self, shape) is not None]
        if len(said) != 1:
            raise ValueError(f"a signal needs exactly one of {', '.join(_SHAPES)}")
        for period in (getattr(getattr(self, shape), "period", 1) for shape in said):
            if period <= 0:
                raise ValueError("period must be more than 0")
        if self.steps is not None and (not self.steps or self.steps != sorted(self.steps)):
            raise ValueError("steps needs at least one step, such as [[0s, 20]], and all in order of time")


_SHAPES: Final = ("constant", "sine", "ramp", "square", "random_walk", "steps")

_USUAL: Final = {
    "temperature": Signal(sine=Sine(low=18, high=26), noise=0.05),
    "humidity": Signal(sine=Sine(low=40, high=60, period=Duration(90)), noise=0.2),
    "pressure": Signal(random_walk=RandomWalk(around=1013, within=5, period=Duration(120))),
    "weight": Signal(random_walk=RandomWalk(around=12.5, within=0.5), noise=0.01),
    "distance": Signal(random_walk=RandomWalk(around=1.5, within=0.5)),
    "voltage": Signal(random_walk=RandomWalk(around=230, within=3), noise=0.1),
    "battery": Signal(ramp=Ramp(start=12.8, stop=11.6, period=Duration(600))),
    "current": Signal(sine=Sine(low=1, high=6, period=Duration(45)), noise=0.02),
    "power": Signal(sine=Sine(low=200, high=1400, period=Duration(45)), noise=5),
    "level": Signal(ramp=Ramp(start=90, stop=20, period=Duration(120)), noise=0.1),
    "flow": Signal(square=Square(high=4.5, period=Duration(30)), noise=0.05),
    "co2": Signal(sine=Sine(low=420, high=1100, period=Duration(120)), noise=5, decimals=0),
    "count": Signal(ramp=Ramp(start=0, stop=3600, period=Duration(3600)), decimals=0),
}
"""What a channel of such a name usually does; matched anywhere in its name."""


def usual(channel: str) -> Signal:
    """Return what a channel of this name usually does."""
    name = channel.lower()
    return next((signal for word, signal in _USUAL.items() if word in name), Signal(random_walk=RandomWalk()))


def waveform(signal: Signal | float, seed: int, channel: str = "") -> Waveform:
    """Return the function that gives a signal's value at a time, in seconds since the simulation began."""
    if not isinstance(signal, Signal):
        signal = Signal(constant=signal, decimals=6)
    seed = key(seed, channel)
    shape = _shape(signal, seed)

    def value(time: float) -> float:
        clean = shape(time) + signal.drift * time / 3600
        disturbed = clean + signal.noise * gauss(seed, round(time * 1e6)) if signal.noise else clean
        return round(disturbed, signal.decimals)

    return value


def _shape(signal: Signal, seed: int) -> Waveform:
    if signal.sine is not None:
        sine, middle = signal.sine, (signal.sine.low + signal.sine.high) / 2
        return lambda time: middle + (sine.high - middle) * math.sin(2 * math.pi * time / sine.period)
    if signal.ramp is not None:
        ramp = signal.ramp
        return lambda time: ramp.start + (ramp.stop - ramp.start) * (time % ramp.period) / ramp.period
    if signal.square is not None:
        square = signal.square
        return lambda time: square.high if time % square.period < square.on_for() else square.low
    if signal.random_walk is not None:
        walk = signal.random_walk
        return lambda time: walk.around + walk.within * _wander(seed, time / walk.period)
    if signal.steps is not None:
        steps = signal.steps
        return lambda time: next((value for at, value in reversed(steps) if at <= time), steps[0][1])
    constant = signal.constant or 0.0
    return lambda _time: constant


def _wander(seed: int, place: float) -> float:
    """Return a smooth random curve between -1 and 1: random points, joined."""
    left = math.floor(place)
    share = place - left
    share = share * share * (3 - 2 * share)  # level at each point, so that the joints do not show
    return (1 - share) * (2 * uniform(seed, left) - 1) + share * (2 * uniform(seed, left + 1) - 1)


# --- randomness that can be repeated --------------------------------------------------------------------------------


def key(seed: int, name: str) -> int:
    """Return a seed of its own for what has a name."""
    return seed << 32 ^ zlib.crc32(name.encode())


def uniform(seed: int, index: int) -> float:
    """Return the random number, from 0 to below 1, that belongs to an index (SplitMix64)."""
    word = (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & _WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return (word ^ word >> 31) / 2**64


def gauss(seed: int, index: int) -> float:
    """Return the random number of the standard normal distribution that belongs to an index (Box-Muller)."""
    radius = math.sqrt(-2 * math.log(1 - uniform(seed, 2 * index)))
    return radius * math.cos(2 * math.pi * uniform(seed, 2 * index + 1))
