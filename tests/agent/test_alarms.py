"""The life of an alarm: what it goes through, what is told, and what a restart remembers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alarms import Alarm, ImpossibleError, Notice
from agent.contracts import Transition
from agent.events import EventType, Severity, Value
from agent.outcome import Flood, RuleOutcome
from agent.quantities import Duration

LATCHED = RuleOutcome(latch=True)
STEPPED = RuleOutcome(severity=Severity.MINOR, repeat=Duration(60))


class Bench:
    """An alarm, the time, and what was told."""

    def __init__(self, settings: RuleOutcome) -> None:
        self.settings = settings
        self.alarm = Alarm(settings)
        self.now = 0.0
        self.told: list[tuple[float, str, dict[str, Value]]] = []

    def note(self, notices: list[Notice], at: float | None = None) -> None:
        self.told += [(self.now if at is None else at, notice.type, notice.facts) for notice in notices]

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.alarm.deadline) is not None and deadline <= end:
            self.note(self.alarm.on_time(deadline), deadline)
        self.now = end

    def turn(self, active: bool, severity: Severity | None = None) -> None:
        transition = Transition(active, "air.temperature", 36.0, "above 35", self.now, severity)
        message = "it is hot" if active else "it is fine"
        self.note(self.alarm.turn(transition, message, self.now, round(self.now * 1e6)))

    def restart(self) -> None:
        saved = msgspec.json.decode(msgspec.json.encode(self.alarm.saved(self.now)))
        self.alarm = Alarm(self.settings)
        self.alarm.restore(saved, self.now)

    @property
    def types(self) -> list[str]:
        return [kind.removeprefix("alarm.") for _, kind, _ in self.told]


def test_an_alarm_is_raised_and_cleared() -> None:
    it = Bench(RuleOutcome())
    it.turn(True)
    assert it.alarm.state == "active-unacknowledged"
    it.wait(12.5)
    it.turn(False)
    assert it.alarm.is_over
    assert it.told == [
        (0.0, EventType.ALARM_RAISED, {
            "severity": "warning", "of": "air.temperature", "value": 36.0, "limit": "above 35", "message": "it is hot",
            "state": "active-unacknowledged",
        }),
        (12.5, EventType.ALARM_CLEARED, {
            "severity": "warning", "of": "air.temperature", "value": 36.0, "limit": "above 35", "message": "it is fine",
            "state": "inactive", "duration": 12.5,
        }),
    ]  # fmt: skip


def test_a_latched_alarm_stays_until_it_is_acknowledged() -> None:
    it = Bench(LATCHED)
    it.turn(True)
    it.turn(False)
    assert it.alarm.state == "cleared-unacknowledged"
    it.note(it.alarm.acknowledge("anna", "filter changed"))
    assert it.alarm.is_over
    assert it.types == ["raised", "cleared", "acknowledged"]
    facts = it.told[-1][2]
    assert (facts["by"], facts["comment"], facts["state"]) == ("anna", "filter changed", "inactive")


def test_one_that_is_acknowledged_while_active_is_over_when_it_clears() -> None:
    it = Bench(LATCHED)
    it.turn(True)
    it.note(it.alarm.acknowledge("anna"))
    assert it.alarm.state == "active-acknowledged"
    it.turn(False)
    assert it.alarm.is_over


def test_there_must_be_something_to_acknowledge() -> None:
    it = Bench(RuleOutcome())
    with pytest.raises(ImpossibleError, match="nothing to acknowledge: it is inactive"):
        it.alarm.acknowledge("anna")


def test_a_worse_severity_wants_to_be_acknowledged_again_and_a_milder_one_does_not() -> None:
    it = Bench(STEPPED)
    it.turn(True, Severity.WARNING)
    it.note(it.alarm.acknowledge("anna"))
    it.turn(True, Severity.CRITICAL)
    assert it.alarm.state == "active-unacknowledged"
    it.note(it.alarm.acknowledge("anna"))
    it.turn(True, Severity.WARNING)
    assert it.alarm.state == "active-acknowledged"
    changes = [facts for _, kind, facts in it.told if kind == EventType.ALARM_CHANGED]
    assert [(facts["before"], facts["severity"]) for facts in changes] == [
        ("warning", "critical"),
        ("critical", "warning"),
    ]


def test_it_is_repeated_until_it_is_acknowledged() -> None:
    it = Bench(STEPPED)
    it.turn(True)
    it.wait(150)
    assert [at for at, kind, _ in it.told if kind == EventType.ALARM_REPEATED] == [60.0, 120.0]
    it.note(it.alarm.acknowledge("anna"))
    it.wait(1000)
    assert it.types == ["raised", "repeated", "repeated", "acknowledged"]


def test_a_latched_one_is_repeated_also_when_its_condition_has_ceased() -> None:
    it = Bench(RuleOutcome(latch=True, repeat=Duration(60)))
    it.turn(True)
    it.wait(30)
    it.turn(False)
    it.wait(100)
    assert it.types == ["raised", "cleared", "repeated", "repeated"]
    it.note(it.alarm.acknowledge("anna"))
    it.wait(300)
    assert it.types[4:] == ["acknowledged"]


def test_a_latched_one_keeps_its_severity_until_it_is_acknowledged() -> None:
    it = Bench(RuleOutcome(latch=True))
    it.turn(True, Severity.CRITICAL)
    it.turn(False, Severity.MINOR)  # the limit that it has cleared at
    assert (it.alarm.state, it.alarm.severity) == ("cleared-unacknowledged", Severity.CRITICAL)


def test_of_a_rule_that_only_reacts_nothing_is_told() -> None:
    it = Bench(RuleOutcome(alarm=False))
    it.turn(True)
    assert it.alarm.state == "active-acknowledged"
    with pytest.raises(ImpossibleError, match="only reacts"):
        it.alarm.acknowledge("anna")
    with pytest.raises(ImpossibleError, match="only reacts"):
        it.alarm.shelve(60, "anna", 0.0)
    it.turn(False)
    assert it.alarm.state == "inactive"
    assert it.types == []


@pytest.mark.parametrize("told", [{"latch": True}, {"repeat": Duration(60)}, {"message": "it is on"}])
def test_what_is_about_an_alarm_cannot_be_said_of_a_rule_that_only_reacts(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is about an alarm, which `alarm: false` leaves out"):
        RuleOutcome(alarm=False, **told)


def test_one_that_becomes_milder_after_it_was_acknowledged_is_not_repeated() -> None:
    it = Bench(STEPPED)
    it.turn(True, Severity.CRITICAL)
    it.note(it.alarm.acknowledge("anna"))
    it.turn(True, Severity.MINOR)
    it.wait(300)
    assert it.alarm.state == "active-acknowledged"
    assert it.types == ["raised", "acknowledged", "changed"]


def test_a_shelved_alarm_is_logged_as_such_not_repeated_and_comes_back_by_itself() -> None:
    it = Bench(STEPPED)
    it.turn(True)
    it.note(it.alarm.shelve(100, "anna", it.now, "the sensor is being moved"))
    it.wait(90)
    assert it.types == ["raised", "shelved"]
    assert it.told[-1][2]["shelved"] == 1
    assert it.told[-1][2]["for"] == 100
    it.wait(31)
    assert it.types == ["raised", "shelved", "unshelved", "repeated"]
    assert it.told[-2][2]["by"] == "time"
    with pytest.raises(ImpossibleError, match="it is not shelved"):
        it.alarm.unshelve("anna")


@pytest.mark.parametrize("seconds", [0.0, -1.0, 8 * 3600 + 1.0])
def test_an_alarm_is_not_shelved_for_ever(seconds: float) -> None:
    with pytest.raises(ImpossibleError, match="8h at most"):
        Bench(RuleOutcome()).alarm.shelve(seconds, "anna", 0.0)


@pytest.mark.parametrize(("left", "until"), [(60.0, 60.0), (-1e308, 0.0), (1e308, 8 * 3600.0)])
def test_a_damaged_state_shelves_nothing_for_ever(left: float, until: float) -> None:
    alarm = Alarm(RuleOutcome())
    alarm.restore({"shelved_for": left}, 0.0)
    assert alarm.shelved_until == until


def test_a_suppressed_alarm_says_so() -> None:
    it = Bench(STEPPED)
    it.note(it.alarm.suppress(suppressed=True))
    it.turn(True)
    it.wait(100)
    it.note(it.alarm.suppress(suppressed=False))
    assert it.types == ["raised", "unsuppressed"]
    assert it.told[0][2]["suppressed"] == 1
    assert "suppressed" not in it.told[1][2]


def test_what_comes_and_goes_too_often_is_told_in_sum() -> None:
    it = Bench(RuleOutcome(flood=Flood(more_than=4, within=Duration(60))))
    for _ in range(50):
        it.turn(True)
        it.wait(1)
        it.turn(False)
        it.wait(1)
    it.wait(600)
    assert it.types == ["raised", "cleared", "raised", "cleared", "flooded", "flooded"]
    counts = [facts["count"] for _, kind, facts in it.told if kind == EventType.ALARM_FLOODED]
    assert sum(int(count or 0) for count in counts) == 96
    assert it.told[-1][2]["state"] == "inactive"
    it.turn(True)
    assert it.types[-1] == "raised", "it is told one by one again"


def test_a_flood_that_a_restart_cuts_off_is_told_after_it() -> None:
    it = Bench(RuleOutcome(flood=Flood(more_than=1, within=Duration(60))))
    it.turn(True)
    it.turn(False)
    assert it.types == ["raised"], "the receiver believes that it is active"
    it.restart()
    it.wait(0)
    assert it.types == ["raised", "flooded"]
    assert it.told[-1][2]["state"] == "inactive"


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 30.0, 100.0]),
        st.sampled_from(["raise", "worse", "clear", "acknowledge", "shelve", "unshelve", "restart"]),
    ),
    max_size=30,
)


def play(settings: RuleOutcome, steps: list[tuple[float, str]], *, restarts: bool) -> list[Any]:
    it = Bench(settings)
    for seconds, step in steps:
        it.wait(seconds)
        match step:
            case "raise" if not it.alarm.active:
                it.turn(True)
            case "worse" if it.alarm.active and it.alarm.severity is not Severity.CRITICAL:
                it.turn(True, Severity.CRITICAL)
            case "clear" if it.alarm.active:
                it.turn(False)
            case "acknowledge" if not it.alarm.acknowledged:
                it.note(it.alarm.acknowledge("anna"))
            case "shelve":
                it.note(it.alarm.shelve(50, "anna", it.now))
            case "unshelve" if it.alarm.shelved_until is not None:
                it.note(it.alarm.unshelve("anna"))
            case "restart" if restarts:
                it.restart()
    it.wait(1000)
    return [(pytest.approx(at), kind, facts) for at, kind, facts in it.told]


@given(
    steps=STEPS,
    settings=st.sampled_from([RuleOutcome(), LATCHED, STEPPED, RuleOutcome(latch=True, repeat=Duration(20))]),
)
def test_a_restart_at_any_point_tells_nothing_twice_and_forgets_nothing(
    steps: list[tuple[float, str]], settings: RuleOutcome
) -> None:
    settings = msgspec.structs.replace(settings, flood=Flood(more_than=1000))
    assert play(settings, steps, restarts=True) == play(settings, steps, restarts=False)
