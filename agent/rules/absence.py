"""Raises an alarm when a channel has had no usable value for too long: at the start, too.

Time counts from when the agent began to listen. While the agent is down nobody listens, so that time does not count; what
was silent before goes on where it was, and an alarm that is active stays so until a reading comes. A reading of bad quality
says nothing, unless `bad_counts` is set; text is a value like any other.

Of several channels each must be heard: the alarm names the one that fell silent first, and clears when all of them are
back. (Where they may stand in for each other, a rule for each can be combined.) The value is the seconds of silence.

A reading costs one look at a table, whatever the time: the deadline stays as it is, and is moved on when it comes. Memory is
a time for each channel. For devices that say something now and then only, such as doors, a silence means nothing.

Sample::

    rules:
      air-silent:
        absence: {of: air.temperature, longer_than: 2m}
        severity: major
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent import contracts
from agent.conditions.ages import moment
from agent.conditions.switch import Change, Switch
from agent.contracts import Transition, Verdict
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Value

_KEEP: Final = Verdict(keep=True)


class Settings(contracts.Settings, frozen=True):
    """What may be written under `absence:`.

    Attributes:
        of: The channel that must be heard, such as `scale.weight`, or a list of several.
        longer_than: Raise when there was no usable value for that long.
        bad_counts: Whether a reading of bad quality is one, so that only a device that says nothing at all is silent.
        clear_for: Clear only after that long without another silence; at once where it is not said.
    """

    of: str | tuple[str, ...]
    longer_than: Duration
    bad_counts: bool = False
    clear_for: Duration = Duration(0)

    def __post_init__(self) -> None:
        if not self.of:
            raise ValueError("of expects a channel, or several")
        if not self.longer_than:
            raise ValueError("longer_than expects some time, such as 2m")


class Rule(contracts.Rule[Settings]):
    """When each channel was last heard, and which of them are silent."""

    message = "{of} has said nothing for {limit}"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        channels = (settings.of,) if isinstance(settings.of, str) else settings.of
        self._heard = dict.fromkeys(channels, 0.0)
        self._silent: set[str] = set()
        self._switch = Switch(off_delay=settings.clear_for)
        self._limit = f"longer than {settings.longer_than}"
        self._back = ("", 0.0)  # the last channel that came back, and how long it was silent

    @property
    def is_unsaved(self) -> bool:
        """Whether a silence may be growing that the saved state does not know of."""
        return len(self._silent) < len(self._heard)

    @is_unsaved.setter
    def is_unsaved(self, value: bool) -> None:
        """Take no notice: a moment after a state was saved it is old."""

    def watches(self) -> Sequence[str]:
        """Return the channels."""
        return tuple(self._heard)

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:
        """Note that a channel was heard; clear where it is the last that was silent."""
        if value is None and not self.settings.bad_counts:
            return None
        if channel not in self._silent:
            self._heard[channel] = at
            return None
        self._back = (channel, round(at - self._heard[channel], 3))
        self._heard[channel] = at
        self._silent.remove(channel)
        change = None if self._silent else self._switch.feed(False, at)
        self._schedule()
        return self._cleared() if change is Change.TURNED else _KEEP

    def on_time(self, now: float) -> Verdict | None:
        """Raise where a channel has been silent for so long, clear where all have been back for so long."""
        fallen = [channel for channel in self._heard if self._is_overdue(channel, now)]
        self._silent.update(fallen)
        change = self._switch.feed(True, now) if fallen else self._switch.on_time(now)
        self._schedule()
        if change is not Change.TURNED:
            return _KEEP if fallen else None
        if not fallen:
            return self._cleared()
        since = self._heard[fallen[0]]
        transition = Transition(True, fallen[0], round(now - since, 3), self._limit, since)
        return Verdict(keep=True, transition=transition)

    def _is_overdue(self, channel: str, now: float) -> bool:
        return channel not in self._silent and self._heard[channel] + self.settings.longer_than <= now

    def _cleared(self) -> Verdict:
        channel, silence = self._back
        return Verdict(
            keep=True, transition=Transition(False, channel, silence, self._limit, self._switch.since)
        )

    def _schedule(self) -> None:
        times = [
            heard + self.settings.longer_than
            for channel, heard in self._heard.items()
            if channel not in self._silent
        ]
        if self._switch.deadline is not None:
            times.append(self._switch.deadline)
        self.deadline = min(times, default=None)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return whether it is active, and for how long each channel has not been heard."""
        saved: dict[str, Value] = {**self._switch.state(now), "back": self._back[0], "silence": self._back[1]}
        for channel, heard in self._heard.items():
            saved[f"{'silent' if channel in self._silent else 'heard'} {channel}"] = now - heard
        return saved

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:  # noqa: ARG002
        """Go on from a saved state, as if no time had passed: nobody listened meanwhile."""
        self._switch.restore(state, now)
        for channel in self._heard:
            silent = moment(state, f"silent {channel}", now) if self._switch.active else None
            if silent is not None:
                self._silent.add(channel)
            heard = moment(state, f"heard {channel}", now) if silent is None else silent
            self._heard[channel] = now if heard is None else heard
        if self._switch.active and self._switch.deadline is None and not self._silent:
            self._silent.update(self._heard)  # by other settings; any of them will do, once it is heard
        back, silence = state.get("back"), state.get("silence")
        channel = back if isinstance(back, str) and back else next(iter(self._heard))
        self._back = (channel, silence if isinstance(silence, float | int) else 0.0)
        self._schedule()
