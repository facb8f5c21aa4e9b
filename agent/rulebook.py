"""Feeds rules, logs what they derive, keeps their state across restarts."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.events import EventType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.clock import Clock
    from agent.commander import Commander
    from agent.contracts import Rule, RuleOutcome, Transition, Verdict
    from agent.eventlog import EventLog
    from agent.events import Event, Value

logger = logging.getLogger(__name__)

SAVE_EVERY: Final = 60.0
"""Seconds between saves of what rules may forget that much of, such as what is in a window."""

_PREFIX: Final = "rule:"
_ABSENT: Final = object()


class Alarm(msgspec.Struct, frozen=True):
    """An alarm that is active.

    Attributes:
        rule: The rule's name.
        severity: As the configuration says, or the step that it has reached.
        message: The text of the alarm when it was raised.
        raised: When, in microseconds since 1970-01-01 UTC.
    """

    rule: str
    severity: str
    message: str
    raised: int


class _Entry:
    """One rule at work."""

    def __init__(self, name: str, rule: Rule[Any], outcome: RuleOutcome) -> None:
        self.name = name
        self.rule = rule
        self.outcome = outcome
        self.alarm: Alarm | None = None
        self.queued: float | None = None  # the deadline that it is in the queue with


Outcome = list[tuple[_Entry, "Transition"]]
"""What the rules make of one reading: the log must keep it, and these alarms change."""


class Rulebook:
    """All rules of the gateway. Rules see every reading; the log keeps what they derive."""

    def __init__(self, log: EventLog, clock: Clock, commander: Commander) -> None:
        self._log = log
        self._clock = clock
        self._boot = clock.boot()
        self._commander = commander
        self._entries: dict[str, _Entry] = {}
        self._watching: dict[
            str, list[tuple[_Entry, str, str]]
        ] = {}  # by device: rule, channel, device.channel
        self._followers: dict[str, list[_Entry]] = {}
        self._hearing: dict[tuple[str, str], list[_Entry]] = {}
        self._queue: list[tuple[float, int, _Entry]] = []  # by deadline; what is no longer `queued` is stale
        self._tie = itertools.count()
        self._save_at = 0.0
        self._changed = asyncio.Event()

    def add(self, name: str, rule: Rule[Any], outcome: RuleOutcome) -> None:
        """Take a rule to work, before any reading."""
        entry = self._entries[name] = _Entry(name, rule, outcome)
        for full in rule.watches():
            device, _, channel = full.partition(".")
            self._watching.setdefault(device, []).append((entry, channel, full))
        for other in rule.follows():
            self._followers.setdefault(other, []).append(entry)
        for heard in rule.hears():
            self._hearing.setdefault(heard, []).append(entry)

    def restore(self) -> None:
        """Begin where the last run ended: active alarms stay active, and their outputs are set again."""
        now = self._clock.monotonic()
        self._save_at = now + SAVE_EVERY
        for part in list(self._log.saved_parts()):
            name = part.removeprefix(_PREFIX)
            if name != part and name not in self._entries:
                self._end(name, self._log.state(part) or {})
        for entry in self._entries.values():
            state = self._log.state(_PREFIX + entry.name) or {}
            entry.rule.restore(state, now - self._slept(state) if state else now, now)
            self._queue_deadline(entry)
            if isinstance(raised := state.get("raised"), int):
                severity = str(state.get("severity", entry.outcome.severity.value))
                entry.alarm = Alarm(entry.name, severity, str(state.get("message", "")), raised)
                self._react(entry, active=True)
        for entry in [each for each in self._entries.values() if each.alarm]:
            self._tell_followers(entry, now)

    def _end(self, name: str, state: Mapping[str, Value]) -> None:
        """Forget a rule that is no longer configured."""
        if isinstance(state.get("raised"), int):
            facts: dict[str, Value] = {
                "message": str(state.get("message", "")),
                "reason": "the rule was removed",
            }
            self._log.append(EventType.ALARM_CLEARED, name, facts)
        self._log.put_state(_PREFIX + name, None)

    def _slept(self, state: Mapping[str, Value]) -> float:
        """Return the seconds since a state was saved: by the monotonic clock within one boot, for the other may jump."""
        if self._boot and state.get("boot") == self._boot:
            return max(0.0, self._clock.monotonic() - _number(state.get("at")))
        return max(0.0, (self._clock.wall() - _number(state.get("saved"))) / 1e6)

    @property
    def alarms(self) -> list[Alarm]:
        """The active alarms, oldest first."""
        return sorted((e.alarm for e in self._entries.values() if e.alarm), key=lambda alarm: alarm.raised)

    # --- the hot path ---------------------------------------------------------------------------------------------

    def on_reading(self, device: str, values: Mapping[str, Value], at: float) -> Outcome | None:
        """Show a reading to the rules that watch its device; None (the usual answer) where nothing changes.

        The caller logs the reading and then gives the outcome to `record`, so that the log has cause before effect.
        """
        watching = self._watching.get(device)
        if watching is None:
            return None
        outcome: Outcome | None = None
        for entry, channel, full in watching:
            value = values.get(channel, _ABSENT)
            if value is _ABSENT:
                continue
            rule = entry.rule
            if rule.deadline is not None and rule.deadline <= at:
                self._on_deadline(entry, at)  # what fell due before this reading comes before it
            verdict = rule.on_reading(full, value, at)  # type: ignore[arg-type]  # it is not _ABSENT
            if verdict is not None:
                outcome = [] if outcome is None else outcome
                if verdict.transition is not None:
                    outcome.append((entry, verdict.transition))
                self._note(entry)
            elif rule.deadline != entry.queued:
                self._queue_deadline(entry)
        return outcome

    def on_event(self, event: Event) -> None:
        """Show an event that is neither a reading nor an alarm to the rules that hear it."""
        at = self._clock.monotonic()
        for entry in self._hearing.get((event.type, event.source), ()):
            self._on_deadline(entry, at)
            self._take(entry, entry.rule.on_event(event, at), at)

    def record(self, outcome: Outcome, at: float) -> None:
        """Log the alarms that a reading changed, and do what they ask for."""
        for entry, transition in outcome:
            self._record(entry, transition, at)

    def _note(self, entry: _Entry) -> None:
        """Save a rule's state, and look at its deadline."""
        now = self._clock.monotonic()
        saved: dict[str, Value] = {"saved": self._clock.wall(), "boot": self._boot, "at": now}
        if entry.alarm is not None:
            saved |= {"raised": entry.alarm.raised, "message": entry.alarm.message}
            saved["severity"] = entry.alarm.severity
        self._log.put_state(_PREFIX + entry.name, {**entry.rule.state(now), **saved})
        entry.rule.is_unsaved = False
        self._queue_deadline(entry)

    def _take(self, entry: _Entry, verdict: Verdict | None, at: float) -> None:
        """Do what a rule says of itself, without a reading."""
        if verdict is None:
            self._queue_deadline(entry)
        elif verdict.transition is None:
            self._note(entry)
        else:
            self._record(entry, verdict.transition, at)

    def _record(self, entry: _Entry, transition: Transition, at: float) -> None:
        severity = (transition.severity or entry.outcome.severity).value
        value = transition.value
        known = {
            "rule": entry.name,
            "severity": severity,
            "of": transition.of,
            "value": value,
            "limit": transition.limit,
        }
        try:
            message = (entry.outcome.message or entry.rule.message).format(**known)
        except ValueError:  # a number's format for a value that is none: an alarm is not lost over its text
            message = entry.rule.message.format(**known)
        facts: dict[str, Value] = {
            "severity": severity, "of": transition.of, "value": value, "limit": transition.limit, "message": message,
        }  # fmt: skip
        time = self._clock.wall_at(at)
        before = entry.alarm
        entry.alarm = (
            Alarm(entry.name, severity, message, before.raised if before else time)
            if transition.active
            else None
        )
        if entry.alarm is None:
            facts["duration"] = max(0.0, round((time - before.raised) / 1e6, 3)) if before else 0.0
            self._log.append(EventType.ALARM_CLEARED, entry.name, facts, time)
        elif before is None:
            self._log.append(EventType.ALARM_RAISED, entry.name, facts, time)
        else:
            self._log.append(EventType.ALARM_CHANGED, entry.name, {**facts, "before": before.severity}, time)
        self._note(entry)  # in the transaction of the event
        if (before is None) is not (entry.alarm is None):
            self._react(entry, active=transition.active)
            self._tell_followers(entry, at)

    def _tell_followers(self, entry: _Entry, at: float) -> None:
        """Tell those that follow a rule; the configuration has seen to it that none follows itself in a circle."""
        for follower in self._followers.get(entry.name, ()):
            self._on_deadline(follower, at)
            self._take(follower, follower.rule.on_rule(entry.name, at, active=entry.alarm is not None), at)

    def _react(self, entry: _Entry, *, active: bool) -> None:
        then = entry.outcome.then
        if then is None or (not active and then.otherwise is None):
            return
        for target, value in then.set.items():
            self._commander.set(target, value if active else then.otherwise, entry.name)

    # --- time -----------------------------------------------------------------------------------------------------

    async def keep_time(self) -> None:
        """Give rules the time when they want it, until cancelled."""
        while True:
            due = min(self._save_at, self._queue[0][0]) if self._queue else self._save_at
            wait = due - self._clock.monotonic()
            self._changed.clear()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
            else:
                self.on_time(self._clock.monotonic())

    def on_time(self, now: float) -> None:
        """Give the time, of the monotonic clock in seconds, to the rules whose deadline has come, in order."""
        while self._queue and self._queue[0][0] <= now:
            deadline, _, entry = heapq.heappop(self._queue)
            if deadline == entry.queued:
                entry.queued = None
                self._on_deadline(entry, now)
                self._queue_deadline(entry)
        if now >= self._save_at:
            self._save_at = now + SAVE_EVERY
            self.save()

    def save(self) -> None:
        """Save what rules would forget in a crash; to be called before the end too."""
        for entry in self._entries.values():
            if entry.rule.is_unsaved:
                self._note(entry)

    def _on_deadline(self, entry: _Entry, now: float) -> None:
        while (deadline := entry.rule.deadline) is not None and deadline <= now:
            self._take(entry, entry.rule.on_time(deadline), deadline)

    def _queue_deadline(self, entry: _Entry) -> None:
        deadline = entry.rule.deadline
        if deadline == entry.queued:
            return
        entry.queued = deadline
        if deadline is not None:
            heapq.heappush(self._queue, (deadline, next(self._tie), entry))
            if self._queue[0][2] is entry:
                self._changed.set()


def _number(value: Value) -> float | int:
    return value if isinstance(value, float | int) else 0
