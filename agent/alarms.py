"""The life of an alarm, after ISA-18.2 and in the words of OPC UA Part 9: a pure state machine.

A rule says when its condition is active; what becomes of the alarm is told here: raised, changed in severity, cleared,
acknowledged, shelved for a time, suppressed by others. Where it is latched, a cleared alarm stays until somebody has
acknowledged it. Each change is a notice, which the rulebook logs in one transaction with the state; nothing is told twice
over a restart. An alarm that comes and goes too often may be told in sum, so that it drowns nothing else.
"""

from __future__ import annotations

import contextlib
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import GatepostError
from agent.events import EventType, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.contracts import Transition
    from agent.events import Value
    from agent.outcome import RuleOutcome


class State(StrEnum):
    """The states of an alarm that is neither shelved nor suppressed (ISA-18.2, 5.6)."""

    INACTIVE = "inactive"
    UNACKNOWLEDGED = "active-unacknowledged"
    ACKNOWLEDGED = "active-acknowledged"
    CLEARED = "cleared-unacknowledged"


class ImpossibleError(GatepostError):
    """What was asked of an alarm makes no sense in its present state."""


class Notice(NamedTuple):
    """Something to be logged of an alarm.

    Attributes:
        type: One of the names in `EventType`.
        facts: What the event says.
    """

    type: str
    facts: dict[str, Value]


class Alarm:
    """One rule's alarm. Times are of the monotonic clock, in seconds, but for `raised`.

    Attributes:
        active: Whether the condition is.
        acknowledged: Whether there is nothing to acknowledge.
        severity: Present, or last.
        message: The text when it was last raised or changed.
        raised: When it was raised, in microseconds since 1970-01-01 UTC.
        suppressed: Whether another alarm keeps it quiet.
        shelved_until: Until when somebody keeps it quiet; None where nobody does.
        deadline: When it next wants the time; None where it does not.
    """

    def __init__(self, settings: RuleOutcome) -> None:
        self.settings = settings
        self.active = False
        self.acknowledged = True
        self.severity = settings.severity
        self.message = ""
        self.raised = 0
        self.suppressed = False
        self.shelved_until: float | None = None
        self.deadline: float | None = None
        self._facts: dict[str, Value] = {}  # of, value and limit
        self._repeat_at: float | None = None
        most = settings.flood.more_than if settings.flood is not None else 0
        self._turns: deque[float] = deque(maxlen=most)  # when it was last told that it turned
        self._flood_until: float | None = None
        self._untold = 0

    @property
    def state(self) -> State:
        """Which of the four states it is in."""
        if self.active:
            return State.ACKNOWLEDGED if self.acknowledged else State.UNACKNOWLEDGED
        return State.INACTIVE if self.acknowledged else State.CLEARED

    @property
    def is_over(self) -> bool:
        """Whether it is neither active nor waits to be acknowledged."""
        return self.state is State.INACTIVE

    # --- what the rule says ---------------------------------------------------------------------------------------

    def turn(self, transition: Transition, message: str, at: float, wall: int) -> list[Notice]:
        """Take in a transition of the rule.

        Args:
            transition: What the rule says.
            message: The text for it.
            at: When.
            wall: The same, in microseconds since 1970-01-01 UTC.
        """
        before, was_active = self.severity, self.active
        self.active = transition.active
        if transition.active:
            self.severity = transition.severity or self.settings.severity
        self._facts = {"of": transition.of, "value": transition.value, "limit": transition.limit}
        if not self.active:
            if not self.settings.latch:
                self.acknowledged = True
            facts = self._about(message=message, duration=max(0.0, round((wall - self.raised) / 1e6, 3)))
            self._set_deadline(repeat_at=None if self.acknowledged else self._repeat_at)
            told = self._told(EventType.ALARM_CLEARED, facts, at)
            self._forget()
            return told
        if self.settings.alarm and (not was_active or _rank(self.severity) > _rank(before)):
            self.acknowledged = False  # what has become worse is to be looked at again
        self.message = message
        if not was_active:
            self.raised = wall
            kind, facts = EventType.ALARM_RAISED, self._about()
        else:
            kind, facts = EventType.ALARM_CHANGED, self._about(before=before.value)
        every = None if self.acknowledged else self.settings.repeat
        self._set_deadline(repeat_at=None if every is None else at + every)
        return self._told(kind, facts, at)

    def suppress(self, *, suppressed: bool) -> list[Notice]:
        """Take in whether another alarm keeps it quiet."""
        if suppressed is self.suppressed:
            return []
        self.suppressed = suppressed
        kind = EventType.ALARM_SUPPRESSED if suppressed else EventType.ALARM_UNSUPPRESSED
        return [] if self.is_over else [Notice(kind, self._about())]

    # --- what people ask for --------------------------------------------------------------------------------------

    def acknowledge(self, by: str, comment: str = "") -> list[Notice]:
        """Note that somebody has taken notice.

        Raises:
            ImpossibleError: There is nothing to acknowledge, or never will be.
        """
        if not self.settings.alarm:
            raise ImpossibleError("it raises no alarm, and only reacts")
        if self.acknowledged:
            raise ImpossibleError(f"there is nothing to acknowledge: it is {self.state}")
        self.acknowledged = True
        self._set_deadline(repeat_at=None)
        notice = Notice(EventType.ALARM_ACKNOWLEDGED, self._about(by=by, comment=comment))
        self._forget()
        return [notice]

    def shelve(self, seconds: float, by: str, at: float, comment: str = "") -> list[Notice]:
        """Keep it quiet for a time, in seconds.

        Raises:
            ImpossibleError: That is too long, or no time at all.
        """
        if not self.settings.alarm:
            raise ImpossibleError("it raises no alarm, and only reacts")
        if not 0 < seconds <= self.settings.max_shelved:
            raise ImpossibleError(f"it may be shelved for {self.settings.max_shelved} at most (max_shelved)")
        self.shelved_until = at + seconds
        self._set_deadline(repeat_at=self._repeat_at)
        facts = self._about(by=by, comment=comment, **{"for": round(seconds, 3)})
        return [Notice(EventType.ALARM_SHELVED, facts)]

    def unshelve(self, by: str) -> list[Notice]:
        """Let it be heard again.

        Raises:
            ImpossibleError: It is not shelved.
        """
        if self.shelved_until is None:
            raise ImpossibleError("it is not shelved")
        self.shelved_until = None
        self._set_deadline(repeat_at=self._repeat_at)
        return [Notice(EventType.ALARM_UNSHELVED, self._about(by=by))]

    # --- time -----------------------------------------------------------------------------------------------------

    def on_time(self, now: float) -> list[Notice]:
        """Take in the time, at or after `deadline`."""
        notices: list[Notice] = []
        if self.shelved_until is not None and now >= self.shelved_until:
            self.shelved_until = None
            notices.append(Notice(EventType.ALARM_UNSHELVED, self._about(by="time")))
        if self._flood_until is not None and now >= self._flood_until:
            notices += self._end_of_flood(now)
        repeat_at, every = self._repeat_at, self.settings.repeat
        if repeat_at is not None and every is not None and now >= repeat_at:
            repeat_at = now + every
            if not self.suppressed and self.shelved_until is None and self._flood_until is None:
                notices.append(Notice(EventType.ALARM_REPEATED, self._about()))
        self._set_deadline(repeat_at=repeat_at)
        return notices

    def _set_deadline(self, *, repeat_at: float | None) -> None:
        self._repeat_at = repeat_at
        times = (self.shelved_until, self._flood_until, repeat_at)
        self.deadline = min((time for time in times if time is not None), default=None)

    # --- floods ---------------------------------------------------------------------------------------------------

    def _told(self, kind: str, facts: dict[str, Value], at: float) -> list[Notice]:
        """Return what is said of a turn: nothing but the count where it turns too often."""
        flood = self.settings.flood
        if not self.settings.alarm:
            return []
        if flood is None:
            return [Notice(kind, facts)]
        is_full = len(self._turns) == flood.more_than and at - self._turns[0] < flood.within
        if self._flood_until is None and is_full:
            self._flood_until = at + flood.within
            self._set_deadline(repeat_at=self._repeat_at)
        if self._flood_until is not None:
            self._untold += 1
            return []
        self._turns.append(at)
        return [Notice(kind, facts)]

    def _end_of_flood(self, now: float) -> list[Notice]:
        """Say how often it turned, and go on counting while it is too often."""
        flood, untold = self.settings.flood, self._untold
        self._untold, self._flood_until = 0, None
        if untold == 0 or flood is None:
            return []
        if untold > flood.more_than:
            self._flood_until = now + flood.within
        notice = Notice(EventType.ALARM_FLOODED, self._about(count=untold, within=float(flood.within)))
        self._forget()
        return [notice]

    def _forget(self) -> None:
        """Forget what it was about, where it is over and all is told: what comes next is not about that."""
        if self.is_over and not self._untold:
            self._facts, self.message, self.severity = {}, "", self.settings.severity

    # --- what it says, and what it remembers ----------------------------------------------------------------------

    def _about(self, **more: Value) -> dict[str, Value]:
        facts: dict[str, Value] = {
            "severity": self.severity.value, **self._facts, "message": self.message, "state": self.state.value,
        }  # fmt: skip
        if self.shelved_until is not None:
            facts["shelved"] = 1
        if self.suppressed:
            facts["suppressed"] = 1
        return facts | {name: value for name, value in more.items() if value != ""}

    def saved(self, now: float) -> dict[str, Value]:
        """Return what must survive a restart, at a time of the monotonic clock; times are ages, in seconds."""
        saved: dict[str, Value] = {} if self.settings.alarm else {"quiet": 1}
        if not self.is_over or self._untold:
            saved |= {f"alarm_{name}": value for name, value in self._facts.items()}
            saved |= {
                "alarm": self.state.value, "raised": self.raised, "message": self.message, "severity": self.severity.value,
            }  # fmt: skip
            if self.suppressed:
                saved["suppressed"] = 1
            if self._repeat_at is not None:
                saved["repeat_in"] = self._repeat_at - now
        if self._untold:
            saved["untold"] = self._untold
        if self.shelved_until is not None:
            saved["shelved_for"] = self.shelved_until - now
        return saved

    def restore(self, state: Mapping[str, Value], saved: float) -> None:
        """Go on from what `saved` said at a time of this run's monotonic clock, in seconds."""
        kept = state.get("alarm")
        if kept in set(State):
            now = State(str(kept))
            self.active = now in {State.UNACKNOWLEDGED, State.ACKNOWLEDGED}
            self.acknowledged = now in {State.ACKNOWLEDGED, State.INACTIVE}
            self.raised = int(_number(state.get("raised")))
            self.message = str(state.get("message", ""))
            self.suppressed = bool(state.get("suppressed"))  # so that it is not told once more
            if state.get("severity") in set(Severity):
                self.severity = Severity(str(state["severity"]))
            names = ("of", "value", "limit")
            self._facts = {name: state[f"alarm_{name}"] for name in names if f"alarm_{name}" in state}
        if "shelved_for" in state:
            left = _number(state["shelved_for"])
            self.shelved_until = saved + max(0.0, min(left, self.settings.max_shelved))
        untold = int(_number(state.get("untold")))
        if untold and self.settings.flood is not None:
            self._untold, self._flood_until = untold, saved  # to be told now
        repeat_at = (
            saved + _number(state["repeat_in"]) if "repeat_in" in state and self.settings.repeat else None
        )
        self._set_deadline(repeat_at=repeat_at)


class _Figure(float):
    """A number that is told without the noise of its last digits: 8.06, not 8.059999999999999."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec or (".6g" if abs(self) < 1e6 else ".10g"))


def filled(templates: Iterable[str | None], known: Mapping[str, Value]) -> str:
    """Return the first text that can be filled in: an alarm is not lost over its text.

    A number's format may be given no number.
    """
    value = known.get("value")
    known = {**known, "value": _Figure(value)} if isinstance(value, float) else known
    for template in templates:
        if template is not None:
            with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
                return template.format(**known)
    return "{of} is {value}, {limit}".format(**known)


def _rank(severity: Severity) -> int:
    return list(Severity).index(severity)


def _number(value: Value) -> float | int:
    return value if isinstance(value, float | int) else 0
