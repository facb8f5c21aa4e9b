"""Changes that come too often: of numbers, texts and alarms, across limits, and over restarts."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from support.playing import Play, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.events import Value

DOOR = "{of: door.state, more_than: 3, within: 10s}"


def show(play: Play, values: Sequence[Value], times: int) -> None:
    """Show values in turn, one a second."""
    for _, value in zip(range(times), cycle(values), strict=False):
        play.see(play.at + 1, value)


def test_it_is_raised_by_the_change_too_many_and_clears_when_enough_have_grown_old() -> None:
    play = Play("flapping", DOOR)
    show(play, [0, 1], 6)  # the first is no change
    assert play.said == ["5 raised door.state 4"]
    assert play.transitions[0][1].since == 2.0
    assert play.message == "door.state changed 4 times, more than 3 within 10s"
    play.until(60)
    assert play.said[1:] == ["13 cleared door.state 3"]  # of the changes at 2 to 6, those at 2 and 3 are gone


def test_clear_gives_hysteresis() -> None:
    play = Play("flapping", "{of: door.state, more_than: 3, within: 10s, clear: 1}")
    show(play, [0, 1], 6)
    play.until(60)
    assert play.said == ["5 raised door.state 4", "15 cleared door.state 1"]


def test_clear_may_be_as_many_as_more_than() -> None:
    play = Play("flapping", "{of: door.state, more_than: 3, within: 10s, clear: 3}")
    show(play, [0, 1], 6)
    play.until(60)
    assert play.said == ["5 raised door.state 4", "13 cleared door.state 3"]


def test_it_stays_active_while_the_changes_go_on_and_asks_for_the_time_seldom() -> None:
    play = Play("flapping", DOOR)
    show(play, [0, 1], 1000)
    assert play.said == ["5 raised door.state 4"]
    assert play.turns <= 1000 / 6
    play.until(2000)
    assert play.said[1:] == ["1007 cleared door.state 3"]


def test_changes_just_too_slow_are_none_too_many() -> None:
    play = Play("flapping", DOOR)
    for turn in range(100):
        play.see(turn * 3.5, turn % 2)
    assert not play.said


def test_a_change_as_old_as_the_time_no_longer_counts() -> None:
    play = Play("flapping", "{of: door.state, more_than: 1, within: 10s}")
    for at in range(0, 100, 10):
        play.see(at, at // 10 % 2)
    assert not play.said
    play.see(99.5, 0)
    assert play.said == ["99.5 raised door.state 2"]


def test_readings_without_a_change_or_without_quality_count_nothing() -> None:
    play = Play("flapping", DOOR)
    show(play, [0, None, 0, 0.0, None, 0], 100)
    assert not play.said
    assert not play.kept


def test_texts_change_too() -> None:
    play = Play("flapping", "{of: plc.mode, more_than: 2, within: 1m}")
    show(play, ["auto", "hand", 1], 4)
    assert play.said == ["4 raised plc.mode 3"]


@pytest.mark.parametrize(
    ("crosses", "values", "changes"),
    [
        ("20", [19, 20, 21, 20], 1),  # per two readings: on the limit is neither side
        ("20", [20, 21], 0),
        ("20", [19.9, 20.1], 2),
        ("[19, 21]", [18, 22], 2),
        ("[19, 21]", [18, 20.9, 19.1, 20], 0),
        ("20", [19, "text"], 0),
    ],
)
def test_crosses_counts_the_ways_past_a_limit_alone(crosses: str, values: list[Value], changes: int) -> None:
    play = Play("flapping", f"{{of: air.temperature, more_than: 9, within: 10s, crosses: {crosses}}}")
    show(play, values, 100)
    assert bool(play.said) is (changes == 2)
    play = Play("flapping", f"{{of: air.temperature, more_than: 3, within: 10s, crosses: {crosses}}}")
    show(play, values, 100)
    assert bool(play.said) is (changes > 0)


def test_its_limit_tells_what_is_crossed() -> None:
    for crosses, told in [("20", "across 20"), ("[19, 21]", "across 19 to 21")]:
        play = Play("flapping", f"{{of: air.temperature, more_than: 1, within: 10s, crosses: {crosses}}}")
        show(play, [0, 30], 3)
        assert play.transitions[0][1].limit == f"more than 1 within 10s, {told}"


def test_it_watches_the_alarm_of_another_rule() -> None:
    play = Play("flapping", "{of_rule: too-hot, more_than: 3, within: 1m}")
    assert (list(play.rule.watches()), list(play.rule.follows())) == ([], ["too-hot"])
    play.tell(0, active=False)  # the rulebook says at the start what is
    for at in range(1, 4):
        play.tell(at, active=at % 2 == 1)
    play.restart()
    play.tell(4, active=True)  # the rulebook says at the start what goes on
    assert not play.said
    play.tell(5, active=False)
    assert play.said == ["5 raised too-hot 4"]


def test_what_was_counted_grows_old_while_the_agent_is_down() -> None:
    play = Play("flapping", DOOR)
    show(play, [0, 1], 4)
    play.restart(down_for=100.0)
    show(play, [0, 1], 3)
    assert not play.said
    show(play, [1, 0], 1)
    assert play.said == ["108 raised door.state 4"]


def test_an_alarm_that_ended_while_the_agent_was_down_clears_at_the_start_and_not_in_the_past() -> None:
    play = Play("flapping", DOOR)
    show(play, [0, 1], 6)
    play.restart(down_for=100.0)
    play.until(106)
    assert play.said[1:] == ["106 cleared door.state 0"]
    assert play.transitions[1][1].since == 13.0


def test_memory_is_bounded_by_more_than() -> None:
    play = Play("flapping", "{of: door.state, more_than: 3, within: 100d}")
    show(play, [0, 1], 10_000)
    assert len(str(play.rule.state(play.at)["ages"]).split()) == 4


def test_changes_are_to_be_saved_within_a_minute() -> None:
    play = Play("flapping", DOOR)
    play.see(1, 0)
    assert play.rule.is_unsaved
    play.rule.is_unsaved = False
    play.see(2, 0)
    assert not play.rule.is_unsaved
    play.see(3, 1)
    assert play.rule.is_unsaved


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("{more_than: 3, within: 1s}", "exactly one of of and of_rule, not none"),
        ("{of: a.b, of_rule: c, more_than: 3, within: 1s}", "exactly one of of and of_rule, not both"),
        ("{of: a.b, more_than: 3, within: 0}", "within expects some time"),
        ("{of: a.b, more_than: 0, within: 1s}", "more_than"),
        ("{of: a.b, more_than: 3, within: 1s, clear: 4}", "so the alarm could never stay"),
        ("{of: a.b, more_than: 3, within: 1s, crosses: [2, 1]}", "the lower value first"),
        ("{of: a.b, more_than: 3, within: 1s, crosses: [2, 2]}", "the lower value first"),
        ("{of_rule: a, more_than: 3, within: 1s, crosses: 1}", "crosses expects a channel"),
    ],
)
def test_settings_that_make_no_sense_are_refused(written: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        settings("flapping", written)
