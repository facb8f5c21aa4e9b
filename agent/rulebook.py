"""Feeds rules, logs what they derive, keeps their state across restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.events import EventType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.clock import Clock
    from agent.commander import Commander
    from agent.contracts import Rule, RuleOutcome, Transition
    from agent.eventlog import EventLog
    from agent.events import Value

logger = logging.getLogger(__name__)

DEFAULT_MESSAGE: Final = "{of} is {value}, {limit}"
_PREFIX: Final = "rule:"
_ABSENT: Final = object()


class Alarm(msgspec.Struct, frozen=True):
    """An alarm that is active.

    Attributes:
        rule: The rule's name.
        severity: As the configuration says.
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
        self._changed = asyncio.Event()

    def add(self, name: str, rule: Rule[Any], outcome: RuleOutcome) -> None:
        """Take a rule to work, before any reading."""
        entry = self._entries[name] = _Entry(name, rule, outcome)
        for full in rule.watches():
            device, _, channel = full.partition(".")
            self._watching.setdefault(device, []).append((entry, channel, full))

    def restore(self) -> None:
        """Go on where the last run ended: active alarms stay active, and their outputs are set again."""
        for part in list(self._log.saved_parts()):
            name = part.removeprefix(_PREFIX)
            state = self._log.state(part)
            if name == part or state is None:
                continue
            raised = state.get("raised")
            was_active = isinstance(raised, int)
            entry = self._entries.get(name)
            if entry is None:
                if was_active:
                    facts: dict[str, Value] = {
                        "message": str(state.get("message", "")),
                        "reason": "the rule was removed",
                    }
                    self._log.append(EventType.ALARM_CLEARED, name, facts)
                self._log.put_state(part, None)
                continue
            now = self._clock.monotonic()
            entry.rule.restore(state, now - self._slept(state))
            if was_active:
                message = str(state.get("message", ""))
                entry.alarm = Alarm(name, entry.outcome.severity.value, message, int(_number(raised)))
                self._react(entry, active=True)
        self._changed.set()

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
        return outcome

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
        self._log.put_state(_PREFIX + entry.name, {**entry.rule.state(now), **saved})
        self._changed.set()

    def _record(self, entry: _Entry, transition: Transition, at: float) -> None:
        severity = entry.outcome.severity.value
        value = transition.value
        known = {
            "rule": entry.name,
            "severity": severity,
            "of": transition.of,
            "value": value,
            "limit": transition.limit,
        }
        try:
            message = (entry.outcome.message or DEFAULT_MESSAGE).format(**known)
        except ValueError:  # a number's format for a value that is none: an alarm is not lost over its text
            message = DEFAULT_MESSAGE.format(**known)
        facts: dict[str, Value] = {
            "severity": severity, "of": transition.of, "value": value, "limit": transition.limit, "message": message,
        }  # fmt: skip
        time = self._clock.wall_at(at)
        if transition.active:
            entry.alarm = Alarm(entry.name, severity, message, time)
            self._log.append(EventType.ALARM_RAISED, entry.name, facts, time)
        else:
            raised = entry.alarm.raised if entry.alarm else time
            entry.alarm = None
            facts["duration"] = max(0.0, round((time - raised) / 1e6, 3))
            self._log.append(EventType.ALARM_CLEARED, entry.name, facts, time)
        self._note(entry)  # in the transaction of the event
        self._react(entry, active=transition.active)

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
            deadlines = [e.rule.deadline for e in self._entries.values() if e.rule.deadline is not None]
            now = self._clock.monotonic()
            self._changed.clear()
            if not deadlines:
                await self._changed.wait()
            elif (wait := min(deadlines) - now) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
            else:
                self.on_time(now)

    def on_time(self, now: float) -> None:
        """Give the time, of the monotonic clock in seconds, to the rules whose deadline has come."""
        for entry in self._entries.values():
            self._on_deadline(entry, now)

    def _on_deadline(self, entry: _Entry, now: float) -> None:
        deadline = entry.rule.deadline
        if deadline is None or deadline > now:
            return
        verdict = entry.rule.on_time(deadline)
        if verdict is not None and verdict.transition is not None:
            self._record(entry, verdict.transition, deadline)


def _number(value: Value) -> float | int:
    return value if isinstance(value, float | int) else 0
