"""A rule that is at work at times only: `where:` something is so, and `only:` at some times of day.

A wrapper around a rule of any kind, and a pure state machine like it. While the gate is shut the rule sees nothing. When it
shuts, an alarm that is active is cleared, with a limit that says why. When it opens the rule begins anew, with what it has
learnt (`Rule.learnt`), and is shown what its channels said last (`Rule.show_latest`): a door that has been open since the
afternoon raises its alarm at 22:00, and is not counted as one that was opened then.

Where it cannot be said whether it is open (a value is missing, its device is down, the machine does not know the time), it
stays as it was for a minute, and then is open: an alarm too many is better than one that is missing. Values that have no
usable quality are missing.

All of it survives a restart. Where the gate would have shut while the agent was away, the alarm is cleared at the start.
What channels said before an absence of more than a minute is forgotten. Memory: the latest value of each channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent import contracts
from agent.conditions.ages import moment
from agent.conditions.schedule import Schedule, Span
from agent.contracts import Transition, Verdict
from agent.events import EventType, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.conditions.expressions import Expression
    from agent.contracts import Rule
    from agent.events import Event, Value

PATIENCE: Final = 60.0
"""Seconds for which a gate stays as it is while it cannot be said whether it is open."""

AWAY: Final = 60.0
"""Seconds without the agent after which values say nothing of the present."""

_KEEP: Final = Verdict(keep=True)
_UNKNOWN: Final = (None, 0.0)
_KEPT: Final = "gate kept "
_SHUT: Final = "{of}: {limit}"
"""The text of an alarm that the gate clears."""


def gated(rule: Rule[Any], where: Expression | None, only: Span | Sequence[Span] | None) -> Rule[Any]:
    """Return a rule behind a gate, where there is one."""
    if where is None and only is None:
        return rule
    spans = () if only is None else (only,) if isinstance(only, Span) else tuple(only)
    return Gated(rule, where, spans)


class Gated(contracts.Rule[contracts.Settings]):
    """The gate, the rule behind it, and what it would have to know if it began now."""

    def __init__(self, rule: Rule[Any], where: Expression | None, only: Sequence[Span]) -> None:
        super().__init__(rule.settings)
        self.message = rule.message
        self._rule = rule
        self._rule_watches = frozenset(rule.watches())
        self._rule_hears = frozenset(rule.hears())
        self._where = where
        self._places = frozenset(() if where is None else where.names)
        self._schedule = Schedule(only) if only else None
        self._truth: bool | None = None  # what `where` comes to; None where that cannot be said
        self._ahead: float | None = None
        self._is_open = False
        self._unsure_since: float | None = None
        # From when to when nobody listened, until it was looked at.
        self._away: tuple[float, float] | None = None
        self._look_at: float | None = None
        self._learnt: Mapping[str, Value] = {}
        self._alarm: Transition | None = None  # the last one of an alarm that is active
        self._latest: dict[str, tuple[Value, float]] = {}
        self._others: dict[str, bool] = {}  # whether the rules that it follows are active
        self._reading: list[tuple[str, Value]] = []  # what has come of the present reading
        self._has_news = False  # for the next save

    @property
    def is_unsaved(self) -> bool:
        """Whether there is something new, here or behind the gate; doubt grows older by itself."""
        is_unsure = self._unsure_since is not None
        return self._has_news or is_unsure or (self._is_open and self._rule.is_unsaved)

    @is_unsaved.setter
    def is_unsaved(self, value: bool) -> None:
        self._has_news = value
        self._rule.is_unsaved = value

    # --- what it wants ------------------------------------------------------------------------------------------------

    def watches(self) -> Sequence[str]:
        """Return the channels of the gate, then those of the rule."""
        names = () if self._where is None else self._where.names
        return tuple(dict.fromkeys([*names, *self._rule.watches()]))

    def follows(self) -> Sequence[str]:
        """Return the rules that the rule follows."""
        return self._rule.follows()

    def hears(self) -> Sequence[tuple[str, str]]:
        """Return what the rule hears, and that devices of channels are down."""
        devices = [(EventType.DEVICE_DOWN, name.partition(".")[0]) for name in self.watches()]
        return tuple(dict.fromkeys([*self._rule.hears(), *devices]))

    # --- what it is shown ---------------------------------------------------------------------------------------------

    def note(self, channel: str, value: Value, at: float) -> bool:  # noqa: ARG002
        """Wait for the rest of the reading: it may shut the gate."""
        self._reading.append((channel, value))
        return True

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:
        """Look at the gate where a reading may turn it, and show the reading to the rule where it is open."""
        reading = [*self._reading, (channel, value)]
        self._reading.clear()
        latest, known = self._latest, None
        if any(name in self._places and latest.get(name, _UNKNOWN)[0] != each for name, each in reading):
            new = {name for name, _ in reading}  # the rule is about to see them as a reading
            known = {name: seen for name, seen in latest.items() if name not in new}
        for name, each in reading:
            latest[name] = (each, at)
        self._has_news = True
        verdict = None if known is None else self._look(at, known)
        if self._is_open:
            shown = [each for each in reading if each[0] in self._rule_watches]
            for index, (name, each) in enumerate(shown, 1):
                if index < len(shown) and self._rule.note(name, each, at):
                    continue
                verdict = _both(verdict, self._noted(self._rule.on_reading(name, each, at)))
        self._aim()
        return verdict

    def on_rule(self, name: str, at: float, *, active: bool) -> Verdict | None:
        """Take in what another rule is."""
        self._has_news |= self._others.get(name) is not active
        self._others[name] = active
        verdict = self._noted(self._rule.on_rule(name, at, active=active)) if self._is_open else None
        self._aim()
        return verdict

    def on_event(self, event: Event, at: float) -> Verdict | None:
        """Forget what a device said that is down, and show the rule what it hears where the gate is open."""
        verdict = None
        if event.type == EventType.DEVICE_DOWN:
            for name in self._latest:
                if name.startswith(f"{event.source}."):
                    self._latest[name] = (None, at)
            self._has_news = True
            verdict = self._look(at, self._latest)
        if self._is_open and (event.type, event.source) in self._rule_hears:
            verdict = _both(verdict, self._noted(self._rule.on_event(event, at)))
        self._aim()
        return verdict

    def on_local_time(self, ahead: float | None, at: float) -> None:
        """Look at the gate at once, and let the rule know."""
        self._ahead = ahead
        if self._is_open:
            self._rule.on_local_time(ahead, at)
        self._look_at = at
        self._aim()

    def on_time(self, now: float) -> Verdict | None:
        """Look at the gate, or give the time to the rule."""
        verdict = None
        if self._look_at is not None and self._look_at <= now:
            verdict = self._look(now, self._latest)
        elif self._is_open:
            verdict = self._noted(self._rule.on_time(now))
        self._aim()
        return verdict

    # --- the gate -----------------------------------------------------------------------------------------------------

    def _look(self, at: float, latest: Mapping[str, tuple[Value, float]]) -> Verdict | None:
        """Open or shut it, where it is time for that.

        Args:
            at: The present time.
            latest: What the rule is to know when it begins.
        """
        if self._where is not None:
            said = self._where.evaluate({name: value for name, (value, _) in self._latest.items()})
            self._truth = None if said is None or isinstance(said, str) else bool(said)
        was_shut = self._was_shut() and self._is_open
        should_be_open = self._should_be_open(at)
        verdict = None
        if self._is_open and (was_shut or not should_be_open):
            verdict = self._shut(at)
        elif should_be_open and not self._is_open:
            verdict = self._open(at, latest)
        self._look_at = at if self._is_open is not should_be_open else self._next_look(at)
        return verdict

    def _should_be_open(self, at: float) -> bool:
        by_place = True if self._where is None else self._truth
        by_time: bool | None = True
        if self._schedule is not None:
            by_time = None if self._ahead is None else self._schedule.is_open(self._local(at))
        if by_place is False or by_time is False:
            self._unsure_since = None
            return False
        if by_place and by_time:
            self._unsure_since = None
            return True
        if self._unsure_since is None:
            self._unsure_since = at
        return self._is_open or at >= self._unsure_since + PATIENCE

    def _was_shut(self) -> bool:
        """Whether the time of day has shut it while nobody listened."""
        if self._away is None or self._schedule is None or self._ahead is None:
            return False
        (begin, end), self._away = self._away, None
        return not self._schedule.is_open_throughout(self._local(begin), self._local(end))

    def _next_look(self, at: float) -> float | None:
        times = []
        if self._schedule is not None and self._ahead is not None:
            local = self._local(at)
            times.append(at + self._schedule.next_edge(local) - local)
        if self._unsure_since is not None and not self._is_open:
            times.append(self._unsure_since + PATIENCE)
        return min(times, default=None)

    def _local(self, at: float) -> float:
        """Return what the wall clock shows, to the millisecond: what is finer is of floating-point numbers."""
        return round(at + (self._ahead or 0.0), 3)

    def _open(self, at: float, latest: Mapping[str, tuple[Value, float]]) -> Verdict:
        self._is_open = True
        rule = self._rule
        rule.restore(self._learnt, at, at)
        rule.on_local_time(self._ahead, at)
        verdict: Verdict = _KEEP
        for name in rule.follows():
            if name in self._others:
                said = rule.on_rule(name, at, active=self._others[name])
                verdict = _both(verdict, self._noted(said)) or verdict
        known = {name: latest[name] for name in rule.watches() if name in latest}
        if known:
            verdict = _both(verdict, self._noted(rule.show_latest(known, at))) or verdict
        return verdict

    def _shut(self, at: float) -> Verdict:
        self._learnt = dict(self._rule.learnt(at))
        self._is_open = False
        self._rule = type(self._rule)(self._rule.settings)
        alarm, self._alarm = self._alarm, None
        if alarm is None:
            return _KEEP
        self.message = _SHUT
        limit = f"judged only {self._why()}"
        return Verdict(
            keep=True, transition=Transition(False, alarm.of, alarm.value, limit, at, alarm.severity)
        )

    def _why(self) -> str:
        """Return what it is that is not so."""
        if self._where is not None and self._truth is False:
            return f"where {self._where}"
        return str(self._schedule)

    def _noted(self, verdict: Verdict | None) -> Verdict | None:
        """Note what the rule says of its alarm."""
        if verdict is not None and verdict.transition is not None:
            self._alarm = verdict.transition if verdict.transition.active else None
            self.message = self._rule.message
        return verdict

    def _aim(self) -> None:
        rule = self._rule.deadline if self._is_open else None
        look = self._look_at
        self.deadline = rule if look is None else look if rule is None else min(rule, look)

    # --- restarts -----------------------------------------------------------------------------------------------------

    def state(self, now: float) -> Mapping[str, Value]:
        """Return whether it is open, what it knows, and the state of the rule behind it."""
        saved: dict[str, Value] = dict(self._rule.state(now)) if self._is_open else {}
        unsure = None if self._unsure_since is None else now - self._unsure_since
        saved |= {"gate": int(self._is_open), "gate unsure": unsure}
        if self._alarm is not None:
            severity = None if self._alarm.severity is None else self._alarm.severity.value
            saved |= {"gate of": self._alarm.of, "gate value": self._alarm.value, "gate severity": severity}
        for name, (value, seen) in self._latest.items():
            saved |= {f"gate is {name}": value, f"gate age {name}": now - seen}
        saved |= {f"gate rule {name}": int(active) for name, active in self._others.items()}
        if not self._is_open:
            saved |= {f"{_KEPT}{name}": value for name, value in self._learnt.items()}
        return saved

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; a rule that had no gate before was at work, and its alarm may be active."""
        had_gate = "gate" in state
        self._is_open = bool(state["gate"]) if had_gate else bool(state)
        unsure = moment(state, "gate unsure", now)
        self._unsure_since = unsure
        self._away = (saved, now) if state else None
        of, severity = state.get("gate of" if had_gate else "alarm_of"), state.get("gate severity")
        is_active = had_gate or str(state.get("alarm", "")).startswith("active")  # as the rulebook saves it
        if is_active and isinstance(of, str):
            value = state.get("gate value" if had_gate else "alarm_value")
            step = Severity(str(severity)) if severity in set(Severity) else None
            self._alarm = Transition(True, of, value, "", saved, step)
        if now - saved <= AWAY:
            for name in self.watches():
                if (seen := moment(state, f"gate age {name}", saved)) is not None:
                    self._latest[name] = (state.get(f"gate is {name}"), seen)
        self._others = {
            name: bool(state[f"gate rule {name}"]) for name in self.follows() if f"gate rule {name}" in state
        }
        self._learnt = {
            name.removeprefix(_KEPT): value for name, value in state.items() if name.startswith(_KEPT)
        }
        if self._is_open:
            self._rule.restore(state, saved, now)
        self._look_at = now
        self._aim()


def _both(one: Verdict | None, other: Verdict | None) -> Verdict | None:
    """Return what two verdicts say of one moment."""
    if one is None or other is None:
        return other if one is None else one
    return Verdict(one.keep or other.keep, other.transition or one.transition)
