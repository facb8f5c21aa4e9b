"""One rule at work, as the rulebook keeps it: the rule, its alarm, and what it was shown of doubtful quality."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agent.alarms import Alarm
from agent.conditions.quality import Doubts
from agent.gate import gated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.clock import Clock
    from agent.contracts import Rule
    from agent.events import Quality, Severity, Value
    from agent.outcome import RuleOutcome

logger = logging.getLogger(__name__)


class Entry:
    """One rule at work.

    Attributes:
        name: Its name.
        kind: The kind of rule that it is of.
        rule: The rule, behind its gate where it has one.
        outcome: What is said of it beside its kind.
        alarm: Its alarm.
        doubts: The values of less than good quality that it was shown.
        save_at: Before then its state is not saved, unless it must not be forgotten.
        acts_as: The severity of the alarm that its outputs are set for; None where they are not.
        queued: The times that it is in the agenda with, the next one last.
    """

    def __init__(self, name: str, rule: Rule[Any], outcome: RuleOutcome) -> None:
        self.name = name
        self.kind = type(rule).__module__.rpartition(".")[2]
        self.rule = gated(rule, outcome.where, outcome.only)
        self.outcome = outcome
        self.alarm = Alarm(outcome)
        self.doubts = Doubts(outcome.quality)
        self.save_at = 0.0
        self.acts_as: Severity | None = None
        self.queued: list[float] = []

    @property
    def deadline(self) -> float | None:
        """When the rule or its alarm next wants the time."""
        times = [each.deadline for each in (self.rule, self.alarm) if each.deadline is not None]
        return min(times, default=None)

    def saved(self, now: float) -> dict[str, Value]:
        """Return what must survive a restart beside the state of the rule, at a time of the monotonic clock."""
        return {"kind": self.kind, **self.alarm.saved(now)}

    def differs(self, state: Mapping[str, Value]) -> str:
        """Return how the rule differs from that of its name which has saved a state, so that it cannot go on; "" where it can."""
        if bool(state.get("quiet")) is self.outcome.alarm:
            return "raises no alarm any more"  # of the opposite nothing is told
        return "" if state.get("kind", self.kind) == self.kind else "is of another kind now"

    def watched(self) -> list[tuple[str, Watched]]:
        """Return what it watches, by device, in the order in which the rule wants it."""
        later: dict[str, frozenset[str]] = {}
        watched: list[tuple[str, Watched]] = []
        for full in reversed(self.rule.watches()):
            device, _, channel = full.partition(".")
            watched.append((device, (self, channel, full, later.get(device, frozenset()))))
            later[device] = later.get(device, frozenset()) | {channel}
        return watched[::-1]

    def sift(
        self,
        device: str,
        channels: Iterable[str],
        values: Mapping[str, Value],
        quality: Mapping[str, Quality],
        at: float,
    ) -> Mapping[str, Value]:
        """Return the values of a reading as the rule is to see them, and say where it begins to be of doubtful quality."""
        sifted, doubts = self.doubts.sift(values, quality, channels, at)
        for doubt in doubts:
            what = f"{device}.{doubt.channel} is of {doubt.quality} quality"
            logger.warning("rule %s: %s: %s", self.name, what, doubt.done)
        return sifted


Watched = tuple[Entry, str, str, frozenset[str]]
"""A rule, a channel of a device that it watches, the same as `device.channel`, and the device's others that come after it."""


def slept(state: Mapping[str, Value], clock: Clock, boot: str) -> float:
    """Return the seconds since a state was saved: by the monotonic clock within one boot, for the other may jump."""
    if boot and state.get("boot") == boot:
        return max(0.0, clock.monotonic() - _number(state.get("at")))
    return max(0.0, (clock.wall() - _number(state.get("saved"))) / 1e6)


def _number(value: Value) -> float | int:
    return value if isinstance(value, float | int) else 0
