"""Values that repeat themselves, noise, pauses and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.playing import Play, settings

if TYPE_CHECKING:
    from agent.events import Value

HOUR = "{of: air.temperature, for: 1h}"


def every_minute(play: Play, value: Value, minutes: int) -> None:
    for _ in range(minutes):
        play.see(play.at + 60, value)


def test_a_value_that_repeats_itself_raises_and_any_other_clears() -> None:
    play = Play("stuck", HOUR)
    every_minute(play, 20.5, 60)  # from the first minute on
    assert not play.said
    every_minute(play, 20.5, 10)
    assert play.said == ["3660 raised air.temperature 20.5"]
    assert play.transitions[0][1].since == 60.0
    assert play.message == "air.temperature stays at 20.5, unmoved for 1h"
    every_minute(play, 20.4, 1)
    assert play.said[1:] == ["4260 cleared air.temperature 20.4"]


def test_a_value_that_moves_now_and_then_is_not_stuck() -> None:
    play = Play("stuck", HOUR)
    for value in range(10):
        every_minute(play, value % 2, 59)
    assert not play.said


@pytest.mark.parametrize(
    ("values", "raised"),
    [
        ([0.8, 0.6], True),  # whose difference is a little more than 0.2 in floating point
        ([20.0, 20.1, 20.2], True),
        ([20.0, 20.21], False),
        ([19.9, 20.1, 20.3], False),  # each within 0.2 of the one before, but not all of them
    ],
)
def test_noise_within_a_band_is_no_movement(values: list[float], raised: bool) -> None:
    play = Play("stuck", "{of: air.temperature, for: 10m, within: 0.2}")
    for _ in range(10):
        for value in values:
            every_minute(play, value, 1)
    assert bool(play.said) is raised
    if raised:
        assert play.message.endswith("moved by no more than 0.2 for 10m")


def test_a_slow_drift_is_movement() -> None:
    play = Play("stuck", "{of: air.temperature, for: 1h, within: 0.5}")
    for minute in range(600):
        every_minute(play, 20 + minute * 0.01, 1)  # 0.6 in an hour
    assert not play.said


def test_without_readings_it_does_not_judge() -> None:
    play = Play("stuck", HOUR)
    play.see(0, 20)
    assert play.rule.deadline is None
    play.see(3601, 20)  # nobody knows what it was meanwhile
    assert not play.said
    play.see(3601 + 3600, 20)
    assert play.said == ["7201 raised air.temperature 20"]
    play.see(50_000, 20)
    assert len(play.said) == 1  # it still has not moved


def test_values_without_usable_quality_neither_hold_nor_move_it() -> None:
    play = Play("stuck", HOUR)
    every_minute(play, 20, 1)
    every_minute(play, None, 59)
    assert not play.said
    every_minute(play, 20, 1)
    every_minute(play, None, 300)
    assert play.said == ["3660 raised air.temperature 20"]


def test_texts_are_compared_as_they_are() -> None:
    play = Play("stuck", "{of: plc.mode, for: 2m, within: 5}")
    every_minute(play, "auto", 3)
    every_minute(play, 3, 1)
    every_minute(play, "auto", 1)
    every_minute(play, "hand", 1)
    assert play.said == ["180 raised plc.mode auto", "240 cleared plc.mode 3"]


@pytest.mark.parametrize(("down_for", "raised"), [(600.0, 3660), (7200.0, 7200 + 1800 + 60 + 3600)])
def test_a_short_restart_counts_and_after_a_long_one_the_time_begins_anew(
    down_for: float, raised: int
) -> None:
    play = Play("stuck", HOUR)
    every_minute(play, 20, 30)
    play.restart(down_for)
    every_minute(play, 20, 90)
    assert play.said == [f"{raised} raised air.temperature 20"]


def test_a_restart_is_part_of_the_time_without_readings_around_it() -> None:
    play = Play("stuck", HOUR)
    every_minute(play, 20, 30)
    play.until(play.at + 2400)
    play.restart(600)
    play.until(play.at + 900)
    every_minute(play, 20, 1)  # the first for 66 minutes
    assert not play.said


def test_an_active_alarm_stays_over_any_restart_until_the_value_moves() -> None:
    play = Play("stuck", HOUR)
    every_minute(play, 20, 70)
    play.restart(1e6)
    every_minute(play, 20, 10)
    assert len(play.said) == 1
    every_minute(play, 21, 1)
    assert len(play.said) == 2


def test_what_has_moved_is_to_be_saved_within_a_minute() -> None:
    play = Play("stuck", HOUR)
    play.see(0, None)
    before = play.rule.is_unsaved
    play.see(1, 20)
    assert (before, play.rule.is_unsaved) == (False, True)
    assert not play.kept


@pytest.mark.parametrize(
    ("written", "what"),
    [("{of: a.b, for: 0}", "for expects some time"), ("{of: a.b, for: 1h, within: -1}", "within")],
)
def test_settings_that_make_no_sense_are_refused(written: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        settings("stuck", written)
