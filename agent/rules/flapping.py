"""Raises an alarm while a value changes too often: a relay that chatters, a loose contact, a controller that hunts.

A number, a switch or a text changes when it is another than before; the first one seen is no change. With `crosses` only
a number's way past a limit counts, or past both of two: then noise between them does not. With `of_rule` it is another rule's
alarm that is raised and cleared too often. A reading of bad quality says nothing, and neither does text beside `crosses`.

It is raised by the change that makes more than `more_than` of them within the time, and clears when no more than `clear` are
left in it. What has been counted grows old while the agent is down, so an alarm may clear at its start; a crash may forget
the changes of the last minute, never an alarm. The value is the changes within the time, as far as they matter.

A reading costs a comparison; memory is the times of the last `more_than` changes and one more, 1001 at most.

Sample::

    rules:
      fan-chatters:
        flapping: {of: fan.state, more_than: 10, within: 1m, clear: 2}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from agent import contracts
from agent.conditions.bursts import MOST, Burst, BurstRule, Occurrences
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.contracts import Verdict
    from agent.events import Value


class Settings(contracts.Settings, frozen=True):
    """What may be written under `flapping:`.

    Attributes:
        of: The channel to watch, such as `door.state`.
        of_rule: The rule whose alarm to watch, in place of a channel.
        more_than: Raise when it changes more often than that.
        within: The time within which changes are counted.
        clear: Clear when no more changes than that are left within the time; without it, `more_than`.
        crosses: Count only when the value goes past this limit; or past both of two, from below the lower to above the upper
            and back.
    """

    more_than: Occurrences
    within: Duration
    of: str | None = None
    of_rule: str | None = None
    clear: Annotated[int, msgspec.Meta(ge=0, le=MOST)] | None = None
    crosses: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if bool(self.of) is bool(self.of_rule):
            raise ValueError(f"expected exactly one of of and of_rule, not {'both' if self.of else 'none'}")
        if not self.within:
            raise ValueError("within expects some time, such as 1m")
        if self.clear is not None and self.clear > self.more_than:
            raise ValueError(
                f"clear ({self.clear}) is beyond more_than ({self.more_than}), so the alarm could never stay"
            )
        if self.of_rule and self.crosses is not None:
            raise ValueError("crosses expects a channel in of, for an alarm has no number")
        if isinstance(self.crosses, tuple) and self.crosses[0] >= self.crosses[1]:
            raise ValueError(
                f"crosses expects the lower value first, not [{self.crosses[0]:g}, {self.crosses[1]:g}]"
            )


class Rule(BurstRule[Settings]):
    """The last value, and when it changed."""

    message = "{of} changed {value} times, {limit}"

    def __init__(self, settings: Settings) -> None:
        clear = settings.more_than if settings.clear is None else settings.clear
        burst = Burst(settings.more_than + 1, settings.within, clear + 1)
        limit, crosses = f"more than {settings.more_than} within {settings.within}", settings.crosses
        if isinstance(crosses, tuple):
            limit += f", across {crosses[0]:g} to {crosses[1]:g}"
        elif crosses is not None:
            limit += f", across {crosses:g}"
        super().__init__(settings, burst, settings.of or settings.of_rule or "", limit)
        self._band = (crosses, crosses) if isinstance(crosses, float | int) else crosses
        self._last: Value = None

    def watches(self) -> Sequence[str]:
        """Return the one channel, where it is one."""
        return (self.settings.of,) if self.settings.of else ()

    def follows(self) -> Sequence[str]:
        """Return the one rule, where it is one."""
        return (self.settings.of_rule,) if self.settings.of_rule else ()

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Count a value that is another than before, or on the other side of the limit."""
        if self._band is not None:
            if value is None or isinstance(value, str):
                return None
            low, high = self._band
            if low <= value <= high:
                return None
            value = int(value > high)
        if value is None or value == self._last:
            return None
        return self._change(value, at)

    def show_latest(self, latest: Mapping[str, tuple[Value, float]], at: float) -> Verdict | None:
        """Know what the next value is to be held against; the first one is no change."""
        return (
            None
            if self.settings.of is None
            else self.on_reading(self.settings.of, latest[self.settings.of][0], at)
        )

    def on_rule(self, name: str, at: float, *, active: bool) -> Verdict | None:  # noqa: ARG002
        """Count an alarm that is raised or cleared; what is told first, when the rule begins, is how it is and no change."""
        if self._last is None:
            self._last = int(active)
            self.is_unsaved = True
            return None
        return None if active is bool(self._last) else self._change(int(active), at)

    def _change(self, value: Value, at: float) -> Verdict | None:
        before, self._last = self._last, value
        self.is_unsaved = True
        if before is None:
            return None
        return self.occurred(at)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return what was counted, and the last value."""
        return {**super().state(now), "last": self._last}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; what was counted grows old meanwhile."""
        super().restore(state, saved, now)
        self._last = state.get("last")
