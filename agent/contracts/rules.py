"""What watches readings and events, and derives alarms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic

import msgspec

from agent.contracts.settings import S
from agent.events import Severity, Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Event


class Transition(msgspec.Struct, frozen=True):
    """What a rule derives: its alarm is raised, cleared or changes its severity, by this value against this limit.

    Attributes:
        active: True where the alarm is raised, or goes on with another severity.
        of: The channel that it is about, such as `air.temperature`.
        value: The value that tripped it.
        limit: What the value was held against, as it is written in the configuration, such as `above 35`.
        since: When the condition began, in seconds of the monotonic clock.
        severity: That of the step, where the rule has limits by severity.
    """

    active: bool
    of: str
    value: Value
    limit: str
    since: float
    severity: Severity | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a rule says to a reading, an event or the time.

    Attributes:
        keep: The reading matters to the rule (a condition began or ended), so the log must keep it.
        transition: The alarm's change of state, if there is one.
    """

    keep: bool = False
    transition: Transition | None = None


class Rule(ABC, Generic[S]):
    """A pure state machine. It never looks at a clock, so the same input gives the same output.

    Attributes:
        message: The text of its alarms where the operator has written none; a kind's own, or that of its settings.
        deadline: When it next wants the time, in seconds of the monotonic clock; None where it does not.
        is_unsaved: Whether `state` would say something new that may be saved within a minute, where it is long within
            some; the rulebook sets it back. What must not be forgotten comes as a verdict.
    """

    message: str = "{of} is {value}, {limit}"
    deadline: float | None = None
    is_unsaved: bool = False

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def watches(self) -> Sequence[str]:
        """Return the channels whose readings it wants, such as `air.temperature`."""

    def follows(self) -> Sequence[str]:
        """Return the rules whose alarms it wants."""
        return ()

    def hears(self) -> Sequence[tuple[str, str]]:
        """Return the events other than readings and alarms that it wants, as type and source: `device.down`, `scale`."""
        return ()

    @abstractmethod
    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:
        """Take in a value of a channel that it watches, seen at a time of the monotonic clock, in seconds.

        None (the usual answer) means that nothing changed. A value of None has no usable quality.
        """

    def note(self, channel: str, value: Value, at: float) -> bool:  # noqa: ARG002
        """Take in a value without judging it, for another of the same reading is about to come to `on_reading`.

        A rule over several channels does, so that it never holds a new value against the old one of the same device.
        False (where each value counts on its own) means that it has not, and `on_reading` is to be called.
        """
        return False

    def show_latest(self, latest: Mapping[str, tuple[Value, float]], at: float) -> Verdict | None:  # noqa: ARG002
        """Take in what its channels said last, before it began to listen: of a rule that is at work at times only.

        A kind that judges how things are judges it, as if it came now. For a kind that counts what happens it is where it
        begins, and nothing that has happened. None where old values say nothing, as here.

        Args:
            latest: By channel the value, and when it was seen.
            at: The present time; all times are of the monotonic clock, in seconds.
        """
        return None

    def on_rule(self, name: str, at: float, *, active: bool) -> Verdict | None:  # noqa: ARG002
        """Take in that the alarm of a rule that it follows is active, or no longer is; of each, too, when the agent begins."""
        return None

    def on_event(self, event: Event, at: float) -> Verdict | None:  # noqa: ARG002
        """Take in an event that it hears, logged at a time of the monotonic clock, in seconds."""
        return None

    def on_local_time(self, ahead: float | None, at: float) -> None:
        """Take in how far local time is ahead of the monotonic clock: after `restore`, and whenever that changes.

        So a rule may know the time of day of any moment, and still looks at no clock.

        Args:
            ahead: The seconds since 1970-01-01 00:00 that a clock on the wall would show, less those of the monotonic
                clock. None, as in the beginning, where the machine does not know the time.
            at: Since when that is so, in seconds of the monotonic clock.
        """

    def on_time(self, now: float) -> Verdict | None:  # noqa: ARG002
        """Take in the time, at or after `deadline`, in seconds of the monotonic clock."""
        return None

    @abstractmethod
    def state(self, now: float) -> Mapping[str, Value]:
        """Return what must survive a restart, at a time of the monotonic clock. Times are ages, in seconds."""

    def learnt(self, now: float) -> Mapping[str, Value]:  # noqa: ARG002
        """Return what of `state` it should know when it begins anew after a pause; nothing, as here, for most kinds."""
        return {}

    @abstractmethod
    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Begin, before anything else: where it was, or anew.

        Args:
            state: What `state` said; empty where nothing is known. May be of another version, or of other settings.
            saved: When that was, in seconds of this run's monotonic clock; time has gone on since.
            now: The present time of the monotonic clock. Between the two nobody listened.
        """
