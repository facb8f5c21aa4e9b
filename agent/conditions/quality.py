"""What a rule makes of values that their device does not vouch for; never silently, so each is counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from agent import contracts
from agent.events import Quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.events import Value

QUIET: Final = 3600.0
"""Seconds without a doubtful value of a channel after which the next one is said anew."""

_DONE: Final = {"use": "it is used", "absent": "it counts as missing", "ignore": "it is ignored"}


class QualitySettings(contracts.Settings, frozen=True):
    """What may be written under `quality:` of a rule.

    Attributes:
        uncertain: A value of uncertain quality is used (use), counts as missing (absent), or is as if never read (ignore).
        bad: The same of a value of bad quality, which is never used.
    """

    uncertain: Literal["use", "absent", "ignore"] = "use"
    bad: Literal["absent", "ignore"] = "absent"


def without_bad(values: Mapping[str, Value], quality: Mapping[str, Quality]) -> dict[str, Value]:
    """Return values with None in place of those of bad quality, for who must not use them."""
    return {name: None if quality.get(name) is Quality.BAD else value for name, value in values.items()}


class Doubt(NamedTuple):
    """A channel whose values are not good any more, and what becomes of them."""

    channel: str
    quality: Quality
    done: str


class Doubts:
    """The values of less than good quality that one rule was shown.

    Attributes:
        counts: How many there were since the start, by quality.
        last: When the last one came, in seconds of the monotonic clock.
    """

    def __init__(self, settings: QualitySettings) -> None:
        self.counts: dict[Quality, int] = {}
        self.last = 0.0
        self._deeds: dict[Quality, str] = {Quality.UNCERTAIN: settings.uncertain, Quality.BAD: settings.bad}
        self._seen: dict[tuple[str, Quality], float] = {}  # when, by channel and quality

    def sift(
        self, values: Mapping[str, Value], quality: Mapping[str, Quality], channels: Iterable[str], at: float
    ) -> tuple[dict[str, Value], list[Doubt]]:
        """Return the values as the rule is to see them, and what is worth a line in the log.

        Args:
            values: By channel of one device.
            quality: The channels whose quality is not good.
            channels: Those that the rule watches.
            at: When they were seen, in seconds of the monotonic clock.
        """
        sifted, doubts = dict(values), []
        for channel in channels:
            grade = quality.get(channel, Quality.GOOD)
            if grade is Quality.GOOD or channel not in values:
                continue
            self.counts[grade] = self.counts.get(grade, 0) + 1
            self.last = at
            deed = self._deeds[grade]
            if at - self._seen.get((channel, grade), -math.inf) >= QUIET:
                doubts.append(Doubt(channel, grade, _DONE[deed]))
            self._seen[channel, grade] = at
            if deed == "ignore":
                del sifted[channel]
            elif deed == "absent":
                sifted[channel] = None
        return sifted, doubts

    def told(self) -> dict[str, str | int]:
        """Return the counts, and what became of the values."""
        return {grade.value: count for grade, count in self.counts.items()} | {
            f"{grade.value}_values": self._deeds[grade] for grade in self.counts
        }
