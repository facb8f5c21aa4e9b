"""A condition with an on-delay and an off-delay (ISA-18.2): it must hold, or have ceased, that long without a break."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.events import Value


class Change(Enum):
    """What became of a switch."""

    TURNING = "it has begun to turn, or no longer does"
    TURNED = "it is active now, or no longer is"


class Switch:
    """Four states: inactive, about to be active, active, about to be inactive.

    Attributes:
        active: Whether it is.
        since: When the condition of the present state began, in seconds of the monotonic clock.
        deadline: When it turns unless the condition changes; None where nothing is about to.
    """

    __slots__ = ("_turning_since", "active", "deadline", "off_delay", "on_delay", "since")

    def __init__(self, on_delay: float = 0.0, off_delay: float = 0.0) -> None:
        self.on_delay = on_delay
        self.off_delay = off_delay
        self.active = False
        self.since = 0.0
        self.deadline: float | None = None
        self._turning_since: float | None = None  # since when the condition has asked for the other state

    def feed(self, wanted: bool, at: float) -> Change | None:
        """Take in whether the condition holds at a time; None (the usual answer) where nothing changes."""
        if wanted is self.active:
            if self._turning_since is None:
                return None
            self._turning_since = self.deadline = None
            return Change.TURNING
        if self._turning_since is None:
            self._turning_since = at
            delay = self.off_delay if self.active else self.on_delay
            self.deadline = at + delay
            if delay:
                return Change.TURNING
        return self.on_time(at)

    def on_time(self, now: float) -> Change | None:
        """Turn, where the delay is over."""
        if self.deadline is None or self._turning_since is None or now < self.deadline:
            return None
        self.active = not self.active
        self.since = self._turning_since
        self._turning_since = self.deadline = None
        return Change.TURNED

    def end(self, at: float) -> None:
        """Be inactive from a time on, without a delay."""
        self.active = False
        self.since = at
        self._turning_since = self.deadline = None

    def state(self, now: float) -> dict[str, Value]:
        """Return what must survive a restart; times are ages, in seconds."""
        turning = None if self._turning_since is None else now - self._turning_since
        return {"active": int(self.active), "since": now - self.since, "turning": turning}

    def restore(self, state: Mapping[str, Value], saved: float) -> None:
        """Go on from a state that was saved at a time of the monotonic clock, in seconds."""
        since, turning = state.get("since"), state.get("turning")
        self.active = bool(state.get("active"))
        self.since = saved - since if isinstance(since, float | int) else saved
        if isinstance(turning, float | int):
            self._turning_since = saved - turning
            self.deadline = self._turning_since + (self.off_delay if self.active else self.on_delay)
