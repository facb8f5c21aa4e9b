"""Occurrences within a time: of expressions, of readings and of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.boards import no_outputs
from support.playing import Play, settings

from agent import eventlog
from agent.clock import VirtualClock
from agent.conditions.expressions import Expression
from agent.eventlog import EventLog
from agent.events import EventType
from agent.outcome import RuleOutcome
from agent.rulebook import Rulebook
from agent.rules import count

if TYPE_CHECKING:
    from pathlib import Path

DOOR = "{of: door.state == on, at_least: 3, within: 10s}"


def test_it_counts_how_often_the_expression_becomes_true() -> None:
    play = Play("count", DOOR)
    for at, value in enumerate([0, 1, 1, 1, 0, 1, 0, 1]):
        play.see(at, value)
    assert play.said == ["7 raised door.state == on 3"]
    assert play.transitions[0][1].since == 1.0
    assert play.message == "door.state == on: 3 times, at least 3 times within 10s"
    assert play.rule.on_time(10.9) is None  # too early
    play.until(60)
    assert play.said[1:] == ["11 cleared door.state == on 2"]


def test_an_alarm_goes_on_while_as_many_are_within_the_time() -> None:
    play = Play("count", DOOR)
    for at in range(1000):
        play.see(at, at % 2)
    play.until(2000)
    assert play.said == ["5 raised door.state == on 3", "1005 cleared door.state == on 2"]


def test_what_is_true_when_it_is_first_seen_has_not_become_true() -> None:
    play = Play("count", "{of: door.state == on, at_least: 1, within: 10s}")
    play.see(0, 1)
    play.see(1, 0)
    assert not play.said
    play.see(2, 1)
    assert play.said == ["2 raised door.state == on 1"]


def test_what_has_no_usable_value_is_neither_true_nor_false() -> None:
    play = Play("count", "{of: air.temperature > 20, at_least: 1, within: 10s}")
    for at, value in enumerate([30, None, 30, "text", 30]):
        play.see(at, value)
    assert not play.said
    for at, value in enumerate([10, None, 30], start=5):
        play.see(at, value)
    assert play.said == ["7 raised air.temperature > 20 1"]


def test_each_reading_for_which_it_is_true_may_count() -> None:
    play = Play("count", "{of: air.temperature > 20, at_least: 3, within: 10s, each: reading}")
    for at, value in enumerate([30, 10, 30, None, 30]):
        play.see(at, value)
    assert play.said == ["4 raised air.temperature > 20 3"]
    play.until(10)
    assert play.said[1:] == ["10 cleared air.temperature > 20 2"]


def test_of_several_channels_each_reading_of_the_last_one_named_counts() -> None:
    play = Play("count", "{of: a.x > 0 and a.y > 0, at_least: 3, within: 10s, each: reading}")
    for at in range(3):
        play.see(at, 1, "a.x")
        play.see(at, 1, "a.y")
    assert play.said == ["2 raised a.x > 0 and a.y > 0 3"]


def test_an_expression_over_several_channels_waits_for_all_of_them_and_for_the_rest_of_a_reading() -> None:
    play = Play("count", "{of: a.x - b.y > 5, at_least: 1, within: 10s}")
    play.see(0, 10, "a.x")
    play.see(1, 9, "b.y")
    assert isinstance(play.rule, count.Rule)
    assert play.rule.note("a.x", 20, 2.0)
    play.see(2, 19, "b.y")
    assert not play.said
    play.see(3, 13, "b.y")
    assert play.said == ["3 raised a.x - b.y > 5 1"]


def test_the_values_of_several_channels_survive_a_restart() -> None:
    play = Play("count", "{of: a.x - b.y > 5, at_least: 1, within: 10s}")
    play.see(0, 10, "a.x")
    play.see(1, 9, "b.y")
    assert play.rule.is_unsaved
    play.restart(down_for=60.0)
    play.see(70, 15, "a.x")
    assert play.said == ["70 raised a.x - b.y > 5 1"]


def test_the_value_of_a_single_channel_is_not_worth_saving_but_whether_it_was_true_is() -> None:
    play = Play("count", "{of: air.temperature > 20, at_least: 1, within: 10s}")
    play.see(0, 10)
    first = play.rule.is_unsaved
    play.rule.is_unsaved = False
    play.see(1, 11)
    assert (first, play.rule.is_unsaved) == (True, False)


def test_after_a_restart_the_same_reading_counts_as_before() -> None:
    play = Play("count", "{of: air.temperature > 20, at_least: 2, within: 10s, each: reading}")
    play.see(0, 30)
    play.restart(down_for=1.0)
    play.see(2, 30)
    assert play.said == ["2 raised air.temperature > 20 2"]


def test_what_became_true_while_the_agent_was_down_counts_once() -> None:
    play = Play("count", DOOR)
    play.see(0, 0)
    play.see(1, 1)
    play.see(2, 0)
    play.restart(down_for=1.0)
    play.see(4, 1)
    play.restart(down_for=1.0)
    play.see(6, 1)
    assert not play.said
    play.see(7, 0)
    play.see(8, 1)
    assert play.said == ["8 raised door.state == on 3"]


def test_what_was_counted_grows_old_while_the_agent_is_down() -> None:
    play = Play("count", DOOR)
    for at in range(6):
        play.see(at, at % 2)
    assert len(play.said) == 1
    play.restart(down_for=20.0)
    play.until(25)
    assert play.said[1:] == ["25 cleared door.state == on 0"]


def test_an_occurrence_is_saved_and_its_reading_kept() -> None:
    play = Play("count", DOOR)
    for at, value in enumerate([0, 0, 1, 1, 0, 0]):
        play.see(at, value)
    assert play.kept == [2, 4]


def test_the_same_value_again_is_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play("count", DOOR)
    play.see(0, 0)
    monkeypatch.setattr(Expression, "evaluate", lambda *_: pytest.fail("it was evaluated"))
    for at in range(1, 10):
        play.see(at, 0)


def test_it_counts_the_events_of_a_device() -> None:
    play = Play("count", "{event: device.down, of: scale, at_least: 3, within: 1h}")
    assert (list(play.rule.watches()), list(play.rule.hears())) == ([], [("device.down", "scale")])
    for at in (0, 600, 1200):
        play.hear(at, reason="gone")
        play.restart(down_for=1.0)
    assert play.said == ["1200 raised scale 3"]
    assert play.message == "scale: 3 times, device.down at least 3 times within 1h"
    assert play.kept == [0, 600, 1200]  # an event is seldom, so each is saved at once
    play.until(4000)
    assert play.said[1:] == ["3600 cleared scale 2"]


def test_an_event_that_stands_for_several_bad_readings_counts_as_many() -> None:
    play = Play("count", "{event: reading.bad, of: scale, at_least: 10, within: 10m}")
    play.hear(0, reason="noise", evidence="?", count=1)
    play.hear(60, reason="noise", evidence="?", count=8)
    assert not play.said
    play.hear(120, reason="noise", evidence="?", count=10**12)
    assert play.said == ["120 raised scale 10"]


def test_memory_is_bounded_by_at_least() -> None:
    play = Play("count", "{of: air.temperature > 20, at_least: 3, within: 100d, each: reading}")
    for at in range(10_000):
        play.see(at, 30)
    assert len(str(play.rule.state(play.at)["ages"]).split()) == 3
    assert play.rule.is_unsaved


def test_a_state_of_another_version_is_forgotten() -> None:
    play = Play("count", DOOR)
    play.rule.restore({"active": 1, "ages": "1 2 three", "was": 1}, 5.0, 10.0)
    play.until(10)
    assert play.said == ["10 cleared door.state == on 0"]


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("{of: a.b, at_least: 3, within: 0}", "within expects some time"),
        ("{of: a.b, at_least: 0, within: 1s}", "at_least"),
        ("{of: a.b, at_least: 1001, within: 1s}", "at_least"),
        ("{of: 1 > 0, at_least: 3, within: 1s}", "an expression with a channel in it"),
        ("{of: a.b > 1, event: device.up, at_least: 3, within: 1s}", "the name of a device beside event"),
        ("{of: a.b, event: device.up, at_least: 3, within: 1s}", "the name of a device beside event"),
        (
            "{of: a, event: device.up, at_least: 3, within: 1s, each: reading}",
            "events are counted one by one",
        ),
        ("{of: a, event: reading, at_least: 3, within: 1s}", "event"),
    ],
)
def test_settings_that_make_no_sense_are_refused(written: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        settings("count", written)


async def test_events_of_the_log_reach_it_and_are_not_forgotten_in_a_crash(tmp_path: Path) -> None:
    written = "{event: device.down, of: scale, at_least: 3, within: 1h}"
    for turn in range(3):
        clock = VirtualClock(turn * 60.0)
        log = EventLog(tmp_path / "events.db", eventlog.Settings(), clock)
        await log.open([], "1.0")
        rules = Rulebook(log, clock, no_outputs(log, clock))
        rules.add("often-down", count.Rule(settings("count", written)), RuleOutcome())
        rules.restore()
        rules.on_event(log.append(EventType.DEVICE_DOWN, "air", {"reason": "gone"}))
        rules.on_event(log.append(EventType.DEVICE_UP, "scale", {"down_for": 1.0}))
        rules.on_event(log.append(EventType.DEVICE_DOWN, "scale", {"reason": "gone"}))
        assert [rule for rule, _ in rules.alarms] == ["often-down"] * (turn == 2)
        await log.close()  # without rules.save()
