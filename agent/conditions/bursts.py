"""So many occurrences within a time: what `count` and `flapping` have in common.

Only the times of the last `at_least` occurrences are kept, about 32 bytes each: they alone tell whether there were as many,
and when fewer are left. An occurrence costs the same however many there are, and however long the time is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec

from agent import contracts
from agent.contracts import Settings, Transition, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.events import Value

MOST: Final = 1000
"""Occurrences that can be asked for."""

Occurrences = Annotated[int, msgspec.Meta(ge=1, le=MOST)]


class Burst:
    """Begins with the occurrence that makes `at_least` within a time, ends when fewer than `at_rest` are left in it.

    Attributes:
        active: Whether it goes on.
        since: When the first of the occurrences that began it was, or when it ended, in seconds of the monotonic clock;
            of the last time in this run.
        deadline: When it may end, in seconds of the monotonic clock; None where it does not go on.
    """

    __slots__ = ("_at_least", "_at_rest", "_times", "_within", "active", "deadline", "since")

    def __init__(self, at_least: int, within: float, at_rest: int | None = None) -> None:
        """Store the limits; `at_rest` gives hysteresis and is `at_least` where it is not said."""
        self.active = False
        self.since = 0.0
        self.deadline: float | None = None
        self._at_least = at_least
        self._at_rest = at_least if at_rest is None else at_rest
        self._within = within
        self._times: deque[float] = deque(maxlen=at_least)

    def add(self, at: float, times: int) -> bool:
        """Take in that it occurred at a time, so many times at once; return whether a burst begins."""
        for _ in range(min(times, self._at_least)):
            self._times.append(at)
        if self.active or len(self._times) < self._at_least or self._times[0] + self._within <= at:
            return False  # while it goes on, the deadline stays as it is: when it comes, it is moved on
        self.active = True
        self.since = self._times[0]
        self.deadline = self._end(at)
        return True

    def on_time(self, now: float) -> bool:
        """Return whether the burst ends, at or after the deadline."""
        if self.deadline is None or now < self.deadline:
            return False
        end = self._end(now)
        if end > now:
            self.deadline = end
            return False
        self.active = False
        self.since = end
        self.deadline = None
        return True

    def count(self, now: float) -> int:
        """Return the occurrences within the time, `at_least` at most."""
        return sum(time + self._within > now for time in self._times)

    def _end(self, now: float) -> float:
        """Return when fewer than `at_rest` will be left, if none comes."""
        if len(self._times) < self._at_rest:
            return now
        return self._times[-self._at_rest] + self._within

    def state(self, now: float) -> dict[str, Value]:
        """Return what must survive a restart; times are ages, in seconds, to the millisecond."""
        ages = " ".join(f"{now - time:.3f}" for time in self._times)
        return {"active": int(self.active), "ages": ages}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state. The occurrences grow old meanwhile; a burst ends at the present time, not in the past."""
        try:
            self._times.extend(saved - float(age) for age in str(state.get("ages", "")).split())
        except ValueError:  # of another version
            self._times.clear()
        self.active = bool(state.get("active"))
        self.deadline = max(self._end(now), now) if self.active else None


S = TypeVar("S", bound=Settings)


class BurstRule(contracts.Rule[S]):
    """Raises an alarm while there is a burst of what its subclass counts."""

    def __init__(self, settings: S, burst: Burst, of: str, limit: str) -> None:
        """Store the burst to look for, and what the alarm is about."""
        super().__init__(settings)
        self._burst = burst
        self._of = of
        self._limit = limit

    def occurred(self, at: float, times: int = 1) -> Verdict | None:
        """Count it; None (the usual answer) where that changes nothing."""
        self.is_unsaved = True
        return self._verdict(at) if self._burst.add(at, times) else None

    def on_time(self, now: float) -> Verdict | None:
        """Clear, where there are few enough left."""
        if self._burst.on_time(now):
            return self._verdict(now)
        self.deadline = self._burst.deadline
        return None

    def _verdict(self, at: float) -> Verdict:
        burst = self._burst
        self.deadline = burst.deadline
        transition = Transition(burst.active, self._of, burst.count(at), self._limit, burst.since)
        return Verdict(keep=True, transition=transition)

    def state(self, now: float) -> Mapping[str, Value]:
        """Return whether it is active, and how long ago the last occurrences were."""
        return self._burst.state(now)

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; what was counted grows old meanwhile."""
        self._burst.restore(state, saved, now)
        self.deadline = self._burst.deadline
