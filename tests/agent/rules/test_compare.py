"""Expressions over the latest values of several channels, their ages, and what becomes of alarms while one is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.boards import no_outputs
from support.playing import Play, settings

from agent import eventlog
from agent.clock import VirtualClock
from agent.eventlog import EventLog
from agent.events import Event, EventType, Value
from agent.outcome import RuleOutcome
from agent.rulebook import Rulebook
from agent.rules import compare

if TYPE_CHECKING:
    from pathlib import Path

APART = "{of: air.temperature - outside.temperature, above: 15, clear: 12"


def show(play: Play, at: float, air: Value = None, outside: Value = None) -> None:
    """Show readings of two devices at one time."""
    if air is not None:
        play.see(at, air, "air.temperature")
    if outside is not None:
        play.see(at, outside, "outside.temperature")


def test_a_number_is_held_against_limits_with_hysteresis() -> None:
    play = Play("compare", APART + "}")
    show(play, 0, 20, 5)
    show(play, 1, 20.1)
    assert play.message == "air.temperature - outside.temperature is 15.1, above 15"
    show(play, 2, 18)
    assert len(play.said) == 1
    show(play, 3, None, 6)
    assert play.said == [
        "1 raised air.temperature - outside.temperature 15.1",
        "3 cleared air.temperature - outside.temperature 12",
    ]


def test_what_a_person_sees_of_a_number_has_six_digits() -> None:
    play = Play("compare", "{of: air.temperature - outside.temperature, above: 20.4}")
    show(play, 0, 25.5, 5.09)  # 20.41 for a person, 20.410000000000000142 for a computer
    assert play.transitions[0][1].value == 20.41


def test_a_condition_needs_no_limits_and_reads_well() -> None:
    play = Play("compare", "{of: air.temperature - outside.temperature > 15, for: 10s}")
    show(play, 0, 30, 5)
    play.until(20)
    assert play.message == "air.temperature - outside.temperature > 15 is true, expected false"
    show(play, 21, 10)
    assert [(at, said.active, said.value, said.since) for at, said in play.transitions] == [
        (10, True, "true", 0),
        (21, False, "false", 21),
    ]


def test_nothing_can_be_said_before_each_channel_has_a_value() -> None:
    play = Play("compare", APART + "}")
    show(play, 0, 100)
    assert play.said == []
    show(play, 1, None, 5)
    assert len(play.said) == 1


def test_steps_of_severity_work_on_an_expression() -> None:
    play = Play("compare", "{of: air.temperature - outside.temperature, above: {warning: 10, critical: 20}}")
    for at, air in enumerate([15, 25, 15, 5]):
        show(play, at, air, 0 if at == 0 else None)
    assert [(said.active, said.severity) for _, said in play.transitions] == [
        (True, "warning"), (True, "critical"), (True, "warning"), (False, "warning"),
    ]  # fmt: skip


@pytest.mark.parametrize("nothing", [None, "text"])
def test_a_missing_value_resets_delays_and_keeps_an_active_alarm(nothing: Value) -> None:
    play = Play("compare", APART + ", for: 10s, clear_for: 10s}")
    show(play, 0, 30, 5)
    play.see(5, nothing, "air.temperature")
    show(play, 6, 30)
    play.until(15)
    assert play.said == []
    play.until(16)
    assert play.said[0].startswith("16 raised")
    show(play, 20, 10)
    play.see(25, nothing, "air.temperature")
    play.until(40)
    show(play, 41, 10)
    play.until(60)
    assert [text.partition(" air")[0] for text in play.said] == ["16 raised", "51 cleared"]


def test_a_division_by_zero_says_nothing() -> None:
    play = Play("compare", "{of: air.temperature / outside.temperature > 2, for: 10s}")
    show(play, 0, 30, 5)
    show(play, 5, None, 0)
    play.until(20)
    assert play.said == []
    show(play, 20, None, 5)
    play.until(30)
    assert len(play.said) == 1


def test_a_value_that_is_too_old_is_missing() -> None:
    play = Play("compare", APART + ", max_age: 1m, for: 50s}")
    show(play, 0, 30, 5)
    show(play, 30, 10)
    show(play, 40, 30)
    play.until(89)
    assert play.said == []  # outside is of 0 and was too old at 60
    show(play, 90, 30, 5)
    show(play, 120, 30, 5)
    play.until(300)
    assert play.said == ["140 raised air.temperature - outside.temperature 25"]


def test_an_alarm_stays_without_news_or_clears_where_that_is_wanted() -> None:
    for when_stale, said in (
        ("keep", []),
        ("clear", ["70 cleared air.temperature - outside.temperature 25"]),
    ):
        play = Play("compare", APART + f", max_age: 1m, clear_for: 1h, when_stale: {when_stale}}}")
        show(play, 0, 30, 5)
        show(play, 10, None, 5)
        show(play, 10, 30)
        play.until(1000)
        assert play.said[1:] == said
        show(play, 1000, 0, 0)
        show(play, 1001, 30, 0)
        assert play.rule.deadline is None or when_stale == "clear"


def test_fresh_values_of_the_same_size_keep_an_alarm_from_going_stale() -> None:
    play = Play("compare", APART + ", max_age: 1m, when_stale: clear}")
    for at in range(0, 3600, 30):
        show(play, at, 30, 5)
    assert len(play.said) == 1
    assert play.turns < 120  # it looks again only when the oldest value that it knew of would be too old


def test_without_a_maximum_age_a_door_may_stay_shut_for_a_week() -> None:
    play = Play("compare", "{of: air.temperature > 20 and door.state == off}")
    play.see(0, 0, "door.state")
    play.see(7 * 86_400, 25, "air.temperature")
    assert len(play.said) == 1


def test_the_values_of_a_device_that_is_down_are_missing() -> None:
    play = Play("compare", "{of: air.temperature > 20 and door.state == off, for: 10s, when_stale: clear}")
    play.see(0, 0, "door.state")
    play.see(0, 25, "air.temperature")
    assert play.rule.hears() == [(EventType.DEVICE_DOWN, "air"), (EventType.DEVICE_DOWN, "door")]
    play.until(5)
    play.rule.on_event(Event(1, 1, EventType.DEVICE_DOWN, "door", 0, {}), 5)
    play.until(30)
    assert play.said == []
    play.see(30, 0, "door.state")
    play.until(45)
    assert len(play.said) == 1
    play.hear(50)
    assert [text.split()[:2] for text in play.said] == [["40", "raised"], ["50", "cleared"]]


def test_values_survive_a_restart_with_their_ages() -> None:
    play = Play("compare", APART + ", max_age: 1m}")
    show(play, 0, None, 5)
    play.until(30)
    play.restart(down_for=20)
    show(play, 55, 30)
    assert len(play.said) == 1

    play = Play("compare", APART + ", max_age: 1m}")
    show(play, 0, None, 5)
    play.until(30)
    play.restart(down_for=40)
    show(play, 71, 30)
    assert play.said == []


def test_delays_go_on_over_an_absence_as_long_as_values_are_not_too_old() -> None:
    play = Play("compare", APART + ", max_age: 1m, for: 50s}")
    show(play, 0, 30, 5)
    play.restart(down_for=55)
    play.until(56)
    assert play.said == ["50 raised air.temperature - outside.temperature 25"]

    play = Play("compare", APART + ", max_age: 1m, for: 90s}")
    show(play, 0, 30, 5)
    play.restart(down_for=200)
    play.until(300)
    assert play.said == []


def test_after_a_long_absence_values_without_a_maximum_age_are_waited_for() -> None:
    play = Play("compare", APART + ", for: 10s, when_stale: clear}")
    show(play, 0, 30, 5)
    play.restart(down_for=61)
    show(play, 62, 30)
    play.until(100)
    assert play.said == []
    show(play, 100, None, 5)
    play.until(110)
    assert len(play.said) == 1
    play.restart(down_for=3600)
    play.until(play.at + 1)
    assert len(play.said) == 2
    assert not play.transitions[-1][1].active


def test_other_settings_after_a_restart_do_not_disturb_it() -> None:
    play = Play("compare", APART + ", for: 10s}")
    show(play, 0, 30, 5)
    play.restart(written="{of: air.temperature - other.temperature, above: 15, for: 10s}")
    play.until(60)
    assert play.said == []
    play.see(60, 0, "other.temperature")
    play.until(70)
    assert len(play.said) == 1


def test_readings_that_bring_nothing_new_are_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play("compare", APART + ", max_age: 1h}")
    show(play, 0, 20, 5)

    def refuse(*_: object) -> None:
        raise AssertionError("it was worked out")

    monkeypatch.setattr(compare.Rule, "_number", refuse)
    for at in range(1, 100):
        show(play, at, 20, 5)
    assert play.kept == []


async def test_values_of_one_reading_are_taken_in_together(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = EventLog(tmp_path / "events.db", eventlog.Settings(), clock)
    await log.open([], "1.0")
    rules = Rulebook(log, clock, no_outputs(log, clock))
    loss = compare.Rule(settings("compare", "{of: meter.in - meter.out, above: 15}"))
    rules.add("loss", loss, RuleOutcome())
    rules.restore()
    try:
        for at, (come, gone) in enumerate([(100, 99), (200, 199), (0, 0)]):
            assert rules.on_reading("meter", {"out": gone, "in": come, "other": 1}, float(at)) is None
        outcome = rules.on_reading("meter", {"in": 16}, 5.0)
        assert outcome is not None
        assert len(outcome) == 1
    finally:
        await log.close()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{of: 1 > 2}", "names no channel"),
        ("{of: a.x - b.x}", "is a number, expected one of above"),
        ("{of: -a.x}", "is a number"),
        ("{of: 'max(a.x, b.x)'}", "is a number"),
        ("{of: a.x > 1, above: 5}", "is true or false, expected no limits"),
        ("{of: not a.x, below: 5}", "is true or false"),
        ("{of: a.x > 1 and b.x, below: 5}", "is true or false"),
        ("{of: a.x > 1, clear: 5}", "clear expects one of above"),
        ("{of: a.x - b.x, above: 5, clear: 6}", "could never stay"),
        ("{of: a.x - b.x, above: 5, below: 6}", "exactly one of"),
        ("{of: a.x > 1, max_age: 0}", "max_age expects more than 0s"),
    ],
)
def test_impossible_settings_are_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings("compare", written)
