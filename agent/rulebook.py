"""Feeds rules, logs what they derive, keeps their state across restarts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from agent.agenda import Agenda
from agent.alarms import ImpossibleError, State, filled
from agent.entries import Entry, slept
from agent.events import EventType
from agent.localtime import LocalTime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.alarms import Alarm, Notice
    from agent.clock import Clock
    from agent.conditions.quality import Doubts
    from agent.contracts import Rule, Transition, Verdict
    from agent.entries import Watched
    from agent.eventlog.journal import Journal
    from agent.events import Event, Quality, Value
    from agent.outcome import RuleOutcome
    from agent.outputs.board import Board

logger = logging.getLogger(__name__)

SAVE_EVERY: Final = 60.0
"""Seconds between saves of what rules may forget that much of, such as what is in a window."""

SAVE_RATE: Final = 64.0
"""Characters a second that such saves of one rule come to at most: long states are saved less often, for an SD card wears."""

_PREFIX: Final = "rule:"
_ABSENT: Final = object()


Outcome = list[tuple[Entry, "Transition"]]
"""What the rules make of one reading: the log must keep it, and these alarms change."""


class Rulebook:
    """All rules of the gateway. Rules see every reading; the log keeps what they derive.

    Attributes:
        out_of_service: The names of the rules that do not work, as the configuration says.
        is_lazy: Whether states are only saved by `save`: for who knows that it will end by itself, and must be fast.
    """

    def __init__(self, log: Journal, clock: Clock, board: Board) -> None:
        self._log = log
        self._clock = clock
        self._boot = clock.boot()
        self._board = board
        board.on_began = lambda name: self._note(self._entries[name])
        self.out_of_service: list[str] = []
        self.is_lazy = False
        self._entries: dict[str, Entry] = {}
        self._watching: dict[str, list[Watched]] = {}  # by device
        self._followers: dict[str, list[Entry]] = {}
        self._suppressing: dict[str, list[Entry]] = {}
        self._hearing: dict[tuple[str, str], list[Entry]] = {}
        self._agenda: Agenda[Entry] = Agenda()
        self._save_at = 0.0
        self._local = LocalTime(clock)
        self._changed = asyncio.Event()

    def add(self, name: str, rule: Rule[Any], outcome: RuleOutcome) -> None:
        """Take a rule to work, before any reading, unless it is out of service."""
        if not outcome.in_service:
            self.out_of_service.append(name)
            return
        entry = self._entries[name] = Entry(name, rule, outcome)
        if outcome.then is not None:
            self._board.add_rule(name, outcome.then)
        for device, each in entry.watched():
            self._watching.setdefault(device, []).append(each)
        for other in entry.rule.follows():
            self._followers.setdefault(other, []).append(entry)
        for other in outcome.suppressed_by:
            self._suppressing.setdefault(other, []).append(entry)
        for heard in entry.rule.hears():
            self._hearing.setdefault(heard, []).append(entry)

    def restore(self) -> None:
        """Begin where the last run ended: active alarms stay active, and their outputs are set again."""
        now = self._clock.monotonic()
        self._save_at = now + SAVE_EVERY
        for part in list(self._log.saved_parts()):
            name = part.removeprefix(_PREFIX)
            if name != part and name not in self._entries:
                reason = "is out of service" if name in self.out_of_service else "was removed"
                self._end(name, self._log.state(part) or {}, reason)
        acting: list[tuple[Entry, Mapping[str, Value], float]] = []
        for entry in self._entries.values():
            state: Mapping[str, Value] = self._log.state(_PREFIX + entry.name) or {}
            if state and (reason := entry.differs(state)):  # what was told is no longer true
                self._end(entry.name, state, reason)
                state = {}
            saved = now - slept(state, self._clock, self._boot) if state else now
            entry.rule.restore(state, saved, now)
            entry.alarm.restore(state, saved)
            self._queue_deadline(entry)
            if not entry.alarm.is_over:
                acting.append((entry, state, saved))
        # In the order in which they were raised: of two on one output the later one has its way.
        for entry, state, saved in sorted(acting, key=lambda each: each[0].alarm.raised):
            entry.acts_as = entry.alarm.severity
            self._board.restore(entry.name, entry.alarm.severity, state, saved)
        self._tell_local_time(now)
        # Also of those that are not active: another configuration may have ended them.
        for entry in self._entries.values():
            self._tell_others(entry, now)
            self._suppress(entry, now)

    def _end(self, name: str, state: Mapping[str, Value], reason: str) -> None:
        """Forget what a rule was at, which is no longer at work, or another now."""
        if state.get("alarm") not in {None, State.INACTIVE.value} and not state.get("quiet"):
            facts: dict[str, Value] = {
                "message": str(state.get("message", "")),
                "reason": f"the rule {reason}",
                "state": State.INACTIVE.value,
            }
            self._log.append(EventType.ALARM_CLEARED, name, facts)
        self._log.put_state(_PREFIX + name, None)

    @property
    def alarms(self) -> list[tuple[str, Alarm]]:
        """The alarms that are not over, or shelved, by the names of their rules, oldest first."""
        shown = [
            (entry.name, entry.alarm)
            for entry in self._entries.values()
            if entry.outcome.alarm and (not entry.alarm.is_over or entry.alarm.shelved_until is not None)
        ]
        return sorted(shown, key=lambda pair: pair[1].raised)

    @property
    def doubtful(self) -> list[tuple[str, Doubts]]:
        """What the rules were shown of less than good quality, by their names; those that were shown none are left out."""
        return [(entry.name, entry.doubts) for entry in self._entries.values() if entry.doubts.counts]

    @property
    def names(self) -> Collection[str]:
        """The names of the rules at work."""
        return self._entries.keys()

    # --- what people ask for ------------------------------------------------------------------------------------------

    def acknowledge(self, name: str, by: str, comment: str = "") -> None:
        """Note that somebody has taken notice of an alarm.

        Raises:
            ImpossibleError: There is no such rule, or nothing to acknowledge.
        """
        entry = self._entry(name)
        self._log_notices(entry, entry.alarm.acknowledge(by, comment), self._clock.monotonic())

    def shelve(self, name: str, seconds: float | None, by: str, comment: str = "") -> None:
        """Keep an alarm quiet for a time, or for as long as may be.

        Raises:
            ImpossibleError: There is no such rule, or it may not be shelved for so long.
        """
        entry, now = self._entry(name), self._clock.monotonic()
        seconds = entry.outcome.max_shelved if seconds is None else seconds
        self._log_notices(entry, entry.alarm.shelve(seconds, by, now, comment), now)

    def unshelve(self, name: str, by: str) -> None:
        """Let an alarm be heard again.

        Raises:
            ImpossibleError: There is no such rule, or it is not shelved.
        """
        entry = self._entry(name)
        self._log_notices(entry, entry.alarm.unshelve(by), self._clock.monotonic())

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise ImpossibleError(f"there is no rule {name!r}")
        return self._entries[name]

    # --- the hot path ---------------------------------------------------------------------------------------------

    def on_reading(
        self,
        device: str,
        values: Mapping[str, Value],
        at: float,
        quality: Mapping[str, Quality] | None = None,
    ) -> Outcome | None:
        """Show a reading to the rules that watch its device; None (the usual answer) where nothing changes.

        The caller logs the reading and then gives the outcome to `record`, so that the log has cause before effect.

        Args:
            device: The device's name.
            values: By channel.
            at: When they were seen, in seconds of the monotonic clock.
            quality: The channels whose quality is not good; None where all are.
        """
        watching = self._watching.get(device)
        if watching is None:
            return None
        if at >= self._local.turn_at or at >= self._agenda.head:
            self._run_due(at)  # what fell due before this reading comes before it, of all rules and in order
        if quality is not None:
            return self._on_doubtful(device, values, at, quality)
        return self._show(watching, values, at)

    def _on_doubtful(
        self, device: str, values: Mapping[str, Value], at: float, quality: Mapping[str, Quality]
    ) -> Outcome | None:
        """Show each rule of a reading what it is to see of it."""
        outcome: Outcome | None = None
        for entry, group in itertools.groupby(self._watching[device], key=itemgetter(0)):
            watching = list(group)
            sifted = entry.sift(device, [channel for _, channel, _, _ in watching], values, quality, at)
            found = self._show(watching, sifted, at)
            outcome = found if outcome is None else [*outcome, *(found or ())]
        return outcome

    def _show(self, watching: Sequence[Watched], values: Mapping[str, Value], at: float) -> Outcome | None:
        outcome: Outcome | None = None
        for entry, channel, full, later in watching:
            value = values.get(channel, _ABSENT)
            if value is _ABSENT:
                continue
            rule = entry.rule
            if later and not later.isdisjoint(values) and rule.note(full, value, at):  # type: ignore[arg-type]
                continue
            verdict = rule.on_reading(full, value, at)  # type: ignore[arg-type]  # it is not _ABSENT
            if verdict is not None:
                outcome = [] if outcome is None else outcome
                if verdict.transition is not None:
                    outcome.append((entry, verdict.transition))
                self._note(entry)
            elif rule.deadline is not None and not (entry.queued and entry.queued[-1] <= rule.deadline):
                self._queue_deadline(entry)
        return outcome

    def on_event(self, event: Event) -> None:
        """Show an event that is neither a reading nor an alarm to the rules that hear it."""
        at = self._clock.monotonic()
        self._run_due(at)
        for entry in self._hearing.get((event.type, event.source), ()):
            self._take(entry, entry.rule.on_event(event, at), at)

    def record(self, outcome: Outcome, at: float) -> None:
        """Log the alarms that a reading changed, and do what they ask for."""
        for entry, transition in outcome:
            self._record(entry, transition, at)

    def _note(self, entry: Entry) -> None:
        """Save a rule's state, and look at its deadline."""
        if not self.is_lazy:
            self._save(entry)
        self._queue_deadline(entry)

    def _save(self, entry: Entry) -> None:
        now = self._clock.monotonic()
        saved: dict[str, Value] = {"saved": self._clock.wall(), "boot": self._boot, "at": now}
        state = {**entry.rule.state(now), **entry.saved(now), **self._board.state(entry.name, now)}
        self._log.put_state(_PREFIX + entry.name, state | saved)
        entry.rule.is_unsaved = False
        length = sum(len(value) for value in state.values() if isinstance(value, str))
        if length > SAVE_EVERY * SAVE_RATE:
            entry.save_at = now + length / SAVE_RATE

    def _take(self, entry: Entry, verdict: Verdict | None, at: float) -> None:
        """Do what a rule says of itself, without a reading."""
        if verdict is None:
            self._queue_deadline(entry)
        elif verdict.transition is None:
            self._note(entry)
        else:
            self._record(entry, verdict.transition, at)

    def _record(self, entry: Entry, transition: Transition, at: float) -> None:
        severity = (transition.severity or entry.outcome.severity).value
        value = transition.value
        known = {
            "rule": entry.name,
            "severity": severity,
            "of": transition.of,
            "value": value,
            "limit": transition.limit,
        }
        message = filled((entry.outcome.message, entry.rule.message), known)
        was_active = entry.alarm.active
        notices = entry.alarm.turn(transition, message, at, self._clock.wall_at(at))
        self._log_notices(entry, notices, at)
        if entry.alarm.active is not was_active:
            self._tell_others(entry, at)

    def _log_notices(self, entry: Entry, notices: Iterable[Notice], at: float) -> None:
        """Log what there is to say of an alarm, with its state in the same transaction, and set what depends on it."""
        time = self._clock.wall_at(at)
        for notice in notices:
            self._log.append(notice.type, entry.name, notice.facts, time)
        self._note(entry)
        self._react(entry)

    def _tell_others(self, entry: Entry, at: float) -> None:
        """Tell those that follow a rule, or are suppressed by it; the configuration has refused circles."""
        for follower in self._followers.get(entry.name, ()):
            self._on_deadline(follower, at)
            self._take(follower, follower.rule.on_rule(entry.name, at, active=entry.alarm.active), at)
        for other in self._suppressing.get(entry.name, ()):
            self._suppress(other, at)

    def _suppress(self, entry: Entry, at: float) -> None:
        """Keep an alarm quiet while one of those is active that suppress it."""
        suppressing = (self._entries.get(name) for name in entry.outcome.suppressed_by)
        suppressed = any(each is not None and each.alarm.active for each in suppressing)
        if notices := entry.alarm.suppress(suppressed=suppressed):
            self._log_notices(entry, notices, at)

    def _react(self, entry: Entry) -> None:
        """Let outputs follow an alarm, as long as it is not over."""
        wanted = None if entry.alarm.is_over else entry.alarm.severity
        if wanted is entry.acts_as:
            return
        entry.acts_as = wanted
        if wanted is None:
            self._board.release(entry.name)
        else:
            self._board.act(entry.name, wanted)

    # --- time -----------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When it next wants the time, in seconds of the monotonic clock."""
        return min(self._save_at, self._local.look_at, self._local.turn_at, self._agenda.head)

    async def keep_time(self) -> None:
        """Give rules the time when they want it, until cancelled."""
        while True:
            wait = self.deadline - self._clock.monotonic()
            self._changed.clear()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
            else:
                self.on_time(self._clock.monotonic())
                await asyncio.sleep(0)  # what is always due must not starve the others

    def on_time(self, now: float) -> None:
        """Give the time, of the monotonic clock in seconds, to the rules whose deadline has come, in order."""
        if min(self._local.look_at, self._save_at) <= now < self._local.turn_at:
            self._tell_local_time(now)
        self._run_due(now)
        if now >= self._save_at:
            self._save_at = now + SAVE_EVERY
            for entry in self._entries.values():
                if entry.rule.is_unsaved and now >= entry.save_at and not self.is_lazy:
                    self._note(entry)

    def _run_due(self, upto: float) -> None:
        """Do what has fallen due up to a time, in order."""
        while (turn := self._local.turn_at) <= upto or self._agenda.head <= upto:
            if turn <= self._agenda.head:
                self._tell_local_time(turn)
                continue
            queued, entry = self._agenda.pop()
            self._on_deadline(entry, queued)
            self._queue_deadline(entry)

    def _tell_local_time(self, at: float) -> None:
        """Tell the rules what local time is from a moment on, where that has changed.

        It is looked at whenever summer time begins or ends and once a minute, more often until the clock is set: somebody may.
        """
        if self._local.look(at):
            for entry in self._entries.values():
                entry.rule.on_local_time(self._local.ahead, at)
                self._queue_deadline(entry)

    def save(self) -> None:
        """Save what all rules know, to be called before the end: a state that says since when nobody listens is right to the second."""
        for entry in self._entries.values():
            self._save(entry)

    def _on_deadline(self, entry: Entry, now: float) -> None:
        while (deadline := entry.deadline) is not None and deadline <= now:
            if entry.rule.deadline == deadline:
                self._take(entry, entry.rule.on_time(deadline), deadline)
            else:
                self._log_notices(entry, entry.alarm.on_time(deadline), deadline)

    def _queue_deadline(self, entry: Entry) -> None:
        """See to it that a rule is looked at by its deadline."""
        if self._agenda.put(entry):
            self._changed.set()
