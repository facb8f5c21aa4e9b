"""Which readings are worth an event: change, heartbeat, rate limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent import contracts
from agent.events import Reading
from agent.quantities import Change, Duration

if TYPE_CHECKING:
    from agent.events import Quality, Value

_ANY = Change(0.0)


class Settings(contracts.Settings, frozen=True):
    """What may be written under a device's `report:`. Without it, every reading is kept.

    Attributes:
        change: Keep a channel when it moved by that much since it was last kept; for all channels or by channel.
        at_least: Keep a channel at least that often, changed or not: a heartbeat.
        at_most: Keep a channel at most that often.
    """

    change: Change | dict[str, Change] | None = None
    at_least: Duration | None = None
    at_most: Duration | None = None

    def __post_init__(self) -> None:
        if self.at_least is not None and self.at_most is not None and self.at_least < self.at_most:
            raise ValueError(f"at_least ({self.at_least}) is shorter than at_most ({self.at_most})")


class _Kept(NamedTuple):
    """What was last kept of a channel, and when, in seconds of the monotonic clock."""

    value: Value
    quality: Quality | None
    at: float


class Reporter:
    """Decides for one device, purely: the same readings at the same times give the same answers.

    Attributes:
        deadline: When it next wants the time, in seconds of the monotonic clock; None where it does not.
    """

    def __init__(self, settings: Settings, *, polled: bool) -> None:
        self.deadline: float | None = None
        self._every = settings == Settings()
        self._change = settings.change
        self._at_least = settings.at_least
        self._at_most = settings.at_most or 0.0
        # A polled device brings a fresh reading for its heartbeat; of the others the last value is said again.
        self._repeats = settings.at_least is not None and not polled
        self._kept: dict[str, _Kept] = {}
        self._held_back: dict[str, _Kept] = {}

    def keep(self, reading: Reading, at: float, *, force: bool = False) -> dict[str, Value]:
        """Return the values of a reading that are worth an event; none at all where it is empty.

        Args:
            reading: What the driver saw.
            at: When, in seconds of the monotonic clock.
            force: It is kept whole, for a rule was tripped by it, or somebody has asked for it.
        """
        if self._every:
            return reading.values
        values: dict[str, Value] = {}
        for channel, value in reading.values.items():
            now = _Kept(value, reading.quality.get(channel) if reading.quality else None, at)
            last = self._kept.get(channel)
            if force or last is None:
                self._keep(channel, now, values)
                continue
            changed = self._has_changed(channel, now, last)
            due = self._at_least is not None and at - last.at >= self._at_least
            if changed and at - last.at < self._at_most:
                self._held_back[channel] = now
            elif changed or due:
                self._keep(channel, now, values)
            else:
                self._held_back.pop(channel, None)  # it went back to what was kept
        self._set_deadline()
        return values

    def on_time(self, now: float) -> Reading | None:
        """Return what is due at a time of the monotonic clock, in seconds, without a new reading."""
        values: dict[str, Value] = {}
        quality: dict[str, Quality] = {}
        for channel, last in list(self._kept.items()):
            held_back = self._held_back.get(channel)
            if held_back is not None and now - last.at >= self._at_most:
                self._keep(channel, held_back._replace(at=now), values)
            elif self._repeats and self._at_least is not None and now - last.at >= self._at_least:
                self._keep(channel, (held_back or last)._replace(at=now), values)
            if channel in values and (kept := self._kept[channel]).quality is not None:
                quality[channel] = kept.quality
        self._set_deadline()
        return Reading(values, now, quality or None) if values else None

    def _keep(self, channel: str, now: _Kept, values: dict[str, Value]) -> None:
        values[channel] = now.value
        self._kept[channel] = now
        self._held_back.pop(channel, None)

    def _has_changed(self, channel: str, now: _Kept, last: _Kept) -> bool:
        if now.quality != last.quality:
            return True
        change = self._change.get(channel, _ANY) if isinstance(self._change, dict) else self._change
        if change is None:
            return True
        if (
            isinstance(now.value, str)
            or isinstance(last.value, str)
            or now.value is None
            or last.value is None
        ):
            return now.value != last.value
        moved = abs(now.value - last.value)
        return moved > 0 and moved >= (change.amount * abs(last.value) if change.relative else change.amount)

    def _set_deadline(self) -> None:
        due = [self._kept[channel].at + self._at_most for channel in self._held_back]
        if self._repeats and self._at_least is not None:
            due += [kept.at + self._at_least for kept in self._kept.values()]
        self.deadline = min(due, default=None)
