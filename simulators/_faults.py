"""How devices that are not there misbehave, each fault seeded, so a run can be repeated exactly."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

import msgspec

from agent import contracts
from agent.quantities import Duration, Quantity
from simulators._signals import key, uniform


class Share(Quantity, float):
    """A part of the whole: `1%` or `0.01`."""

    expected = "a share such as 1% or 0.01"
    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^\d+(\.\d+)?\s*%$"},
        ],
        "description": "a share: 1% or 0.01",
    }

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read a share."""
        share = raw
        if isinstance(raw, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", raw.strip())):
            share = float(match[1]) / 100
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"{raw!r} is not a share")
        return cls(share)

    def __str__(self) -> str:
        return f"{self * 100:g}%"


class Outage(contracts.Settings, frozen=True):
    """Something that comes over and over, for a while.

    Attributes:
        every: From one beginning to the next; the first is as long after the start.
        for_: How long it lasts.
    """

    every: Duration
    for_: Duration = msgspec.field(name="for")

    def __post_init__(self) -> None:
        """Refuse one that would never end."""
        if not 0 < self.for_ < self.every:
            raise ValueError("for must be more than 0 and less than every")

    def on(self, time: float) -> bool:
        """Tell whether it is on, at a time in seconds since the simulation began."""
        return time >= self.every and time % self.every < self.for_


class Spikes(contracts.Settings, frozen=True):
    """Values far from the truth, one at a time.

    Attributes:
        share: The share of values that are hit.
        by: How far from the truth they are.
    """

    share: Share = Share(0.01)
    by: float = 100


class ValueFaults(contracts.Settings, frozen=True):
    """How an instrument's values go wrong.

    Attributes:
        spikes: Values far from the truth, one at a time.
        stuck: Values that stop moving for a while.
    """

    spikes: Spikes | None = None
    stuck: Outage | None = None

    def time_seen(self, time: float) -> float:
        """Return the time whose value is shown: while stuck, that at which it got stuck."""
        return time - time % self.stuck.every if self.stuck and self.stuck.on(time) else time

    def value(self, clean: float, seed: int, index: int) -> float:
        """Return the value of one look, hit by a spike or not."""
        hit = self.spikes is not None and happens(self.spikes.share, seed, "spikes", index)
        return clean + self.spikes.by if self.spikes is not None and hit else clean


def happens(share: float, seed: int, what: str, index: int) -> bool:
    """Tell whether what befalls a share of all cases befalls this one."""
    return share > 0 and uniform(key(seed, what), index) < share


def garble(line: bytes, seed: int, index: int) -> bytes:
    """Return a line as a bad cable makes it: some of its bytes changed, its end left where it is."""
    seed = key(seed, "garble") + index
    garbled = bytearray(line)
    garbled[int(uniform(seed, -1) * len(line))] = 0xFF  # at least one, and never part of any UTF-8 text
    for place in range(len(line)):
        if uniform(seed, 2 * place) < 0.2:
            garbled[place] = 0x80 | int(uniform(seed, 2 * place + 1) * 0x80)
    return bytes(garbled)
