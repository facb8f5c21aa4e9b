"""One condition after the other within a time, or one without the other."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.playing import Play, settings

from agent.rules.sequence import MOST_KEYS

THEN = "{first: door.state == on, then: motion.state == on, within: 30s"
WITHOUT = "{first: pump.state == on, without: flow.state == on, within: 30s"


def begin(written: str) -> Play:
    """Return a rule that has seen each of its channels at rest."""
    play = Play("sequence", written, -1)
    for channel in play.rule.watches():
        play.see(-1, 0, channel)
    play.kept.clear()
    return play


# --- A, then B ----------------------------------------------------------------------------------------------------


def test_one_after_the_other_within_the_time_raises_until_the_last_ceases() -> None:
    play = begin(THEN + "}")
    play.see(0, 1, "door.state")
    play.see(12.5, 1, "motion.state")
    assert play.message == "door.state == on, then motion.state == on within 30s"
    assert (play.transitions[0][1].since, play.transitions[0][1].value) == (0, 12.5)
    play.see(20, 0, "door.state")
    play.see(21, 0, "motion.state")
    assert [text.split()[:2] for text in play.said] == [["12.5", "raised"], ["21", "cleared"]]


@pytest.mark.parametrize(("at", "raised"), [(30, True), (30.5, False)])
def test_the_time_includes_its_end(at: float, raised: bool) -> None:
    play = begin(THEN + "}")
    play.see(0, 1, "door.state")
    play.see(at, 1, "motion.state")
    assert bool(play.said) is raised


def test_the_wrong_order_and_what_is_true_already_raise_nothing() -> None:
    play = begin(THEN + "}")
    play.see(0, 1, "motion.state")
    play.see(1, 1, "door.state")
    play.see(2, 1, "motion.state")
    assert play.said == []


def test_it_waits_from_the_last_time_that_the_first_came_true() -> None:
    play = begin(THEN + "}")
    for at, value in ((0, 1), (5, 0), (20, 1), (21, 0)):
        play.see(at, value, "door.state")
    play.see(45, 1, "motion.state")
    assert play.transitions[0][1].since == 20


def test_a_match_uses_up_what_led_to_it() -> None:
    play = begin(THEN + "}")
    play.see(0, 1, "door.state")
    for at, value in ((1, 1), (2, 0), (3, 1)):
        play.see(at, value, "motion.state")
    assert len(play.said) == 2


def test_what_is_true_when_it_is_first_seen_has_not_come_true() -> None:
    play = Play("sequence", THEN + "}")
    play.see(0, 1, "door.state")
    play.see(1, 0, "motion.state")
    play.see(2, 1, "motion.state")
    assert play.said == []


def test_one_reading_is_one_step() -> None:
    play = begin("{steps: [air.temperature > 10, air.temperature > 20], within: 1m}")
    play.see(0, 25, "air.temperature")
    play.see(1, 26, "air.temperature")
    assert play.said == []
    for at, value in ((2, 0), (3, 15), (4, 25)):
        play.see(at, value, "air.temperature")
    assert len(play.said) == 1


def test_more_steps_must_all_come_in_order_and_in_time() -> None:
    written = "{steps: [a.x == 1, b.x == 1, c.x == 1], within: 10s, hold: 0s}"
    for order in product("abc", repeat=3):
        play = begin(written)
        for at, name in enumerate(order):
            play.see(at, 1, f"{name}.x")
        assert bool(play.said) is (order == ("a", "b", "c"))
    play = begin(written)
    for at, name in ((0, "a"), (6, "b"), (11, "c")):
        play.see(at, 1, f"{name}.x")
    assert play.said == []


def test_an_earlier_beginning_does_not_stand_in_the_way_of_a_later_one() -> None:
    play = begin("{steps: [a.x == 1, b.x == 1, c.x == 1], within: 10s}")
    for at, name, value in (
        (0, "a", 1),
        (1, "b", 1),
        (5, "a", 0),
        (8, "a", 1),
        (9, "b", 0),
        (12, "b", 1),
        (15, "c", 1),
    ):
        play.see(at, value, f"{name}.x")
    assert play.transitions[0][1].since == 8


@pytest.mark.parametrize("nothing", [None, "text"])
def test_a_value_without_quality_or_sense_changes_nothing(nothing: str | None) -> None:
    play = begin("{first: a.x > 0, then: b.x > 0, within: 30s}")
    play.see(0, 1, "a.x")
    play.see(1, nothing, "a.x")
    play.see(2, nothing, "b.x")
    play.see(3, 1, "b.x")
    play.see(4, nothing, "b.x")
    assert len(play.said) == 1


def test_hold_clears_after_a_time_that_each_match_begins_anew() -> None:
    play = begin(THEN + ", hold: 1m}")
    for at in (0, 10):
        play.see(at, 1, "door.state")
        play.see(at + 5, 1, "motion.state")
        play.see(at + 6, 0, "motion.state")
        play.see(at + 7, 0, "door.state")
    play.restart(down_for=10)
    play.until(200)
    assert [text.split()[:2] for text in play.said] == [["5", "raised"], ["75", "cleared"]]


def test_hold_of_no_time_clears_at_once() -> None:
    play = begin(THEN + ", hold: 0s}")
    play.see(0, 1, "door.state")
    play.see(5, 1, "motion.state")
    play.until(5)
    assert [text.split()[:2] for text in play.said] == [["5", "raised"], ["5", "cleared"]]


# --- nothing in between -------------------------------------------------------------------------------------------


def test_consecutive_steps_have_no_other_change_in_between() -> None:
    play = begin("{first: door.state == on, then: motion.state > 5, within: 30s, consecutive: true}")
    play.see(0, 1, "door.state")
    play.see(1, 1, "door.state")  # the same again is no change
    play.see(2, 3, "motion.state")
    play.see(3, 7, "motion.state")
    assert play.said == []
    play.see(4, 0, "door.state")
    play.see(5, 1, "door.state")
    play.see(6, 0, "motion.state")
    play.see(7, 0, "door.state")
    play.see(8, 1, "door.state")
    play.restart()
    play.see(9, 1, "door.state")
    play.see(10, 9, "motion.state")
    assert [text.split()[:2] for text in play.said] == [["10", "raised"]]


def test_only_the_present_key_can_disturb_consecutive_steps() -> None:
    written = (
        "{first: gate.x == 1, then: gate.x == 3, within: 1h, key: reader.card, consecutive: true, hold: 1m}"
    )
    for other, raised in (("b", True), ("a", False)):
        play = begin(written)
        for card, value in (("a", 1), (other, 2), ("a", 3)):
            play.see(play.at + 1, card, "reader.card")
            play.see(play.at, value, "gate.x")
        assert bool(play.said) is raised


# --- A without B --------------------------------------------------------------------------------------------------


def test_what_does_not_come_raises_when_the_time_is_over_and_clears_when_it_comes() -> None:
    play = begin(WITHOUT + "}")
    play.see(0, 1, "pump.state")
    play.until(60)
    assert play.message == "pump.state == on without flow.state == on within 30s"
    assert (play.transitions[0][0], play.transitions[0][1].since) == (30, 0)
    play.see(70, 1, "flow.state")
    assert [text.split()[:2] for text in play.said] == [["30", "raised"], ["70", "cleared"]]


def test_what_comes_in_time_or_was_there_already_raises_nothing() -> None:
    play = begin(WITHOUT + "}")
    play.see(0, 1, "pump.state")
    play.see(29, 1, "flow.state")
    play.see(31, 0, "pump.state")
    play.see(32, 1, "pump.state")
    play.until(100)
    assert play.said == []
    assert play.rule.deadline is None


def test_the_time_runs_from_the_first_one_and_a_moment_is_enough_to_begin() -> None:
    play = begin(WITHOUT + "}")
    for at, value in ((0, 1), (1, 0), (20, 1), (21, 0)):
        play.see(at, value, "pump.state")
    play.until(100)
    assert [text.split()[:2] for text in play.said] == [["30", "raised"]]


def test_it_clears_when_the_first_ceases_after_it_has_held() -> None:
    play = begin(WITHOUT + "}")
    play.see(0, 1, "pump.state")
    play.see(40, 0, "pump.state")
    assert [text.split()[:2] for text in play.said] == [["30", "raised"], ["40", "cleared"]]


def test_the_agents_absence_does_not_count_as_waiting() -> None:
    play = begin(WITHOUT + "}")
    play.see(0, 1, "pump.state")
    play.until(10)
    play.restart(down_for=3600)
    play.until(3629)
    assert play.said == []
    play.until(3630)
    assert len(play.said) == 1


def test_for_then_the_time_goes_on_while_the_agent_is_away() -> None:
    for down_for, raised in ((25, True), (26, False)):
        play = begin(THEN + "}")
        play.see(0, 1, "door.state")
        play.restart(down_for=down_for)
        play.see(down_for + 5, 1, "motion.state")
        assert bool(play.said) is raised


# --- keys ---------------------------------------------------------------------------------------------------------


def card(play: Play, at: float, key: str, value: str) -> None:
    """Show what a card reader tells: the card, and the gate that it was held to."""
    play.until(at)
    assert play.rule.note("reader.card", key, at)
    play.see(at, value, "reader.gate")


GATES = "{first: reader.gate == 'in', then: reader.gate == 'out', key: reader.card, within: 1h, hold: 1m}"


def test_all_steps_must_have_the_same_key() -> None:
    play = begin(GATES)
    card(play, 0, "a", "in")
    card(play, 1, "b", "out")
    assert play.said == []
    card(play, 2, "c", "in")
    card(play, 3, "d", "in")
    play.restart()
    card(play, 4, "a", "out")
    assert play.message == "reader.gate == 'in', then reader.gate == 'out' (reader.card a) within 1h"
    assert play.transitions[0][1].since == 0


def test_a_condition_that_holds_on_with_another_key_has_come_true_for_that_one() -> None:
    play = begin(GATES)
    card(play, 0, "a", "in")
    card(play, 1, "b", "in")
    card(play, 2, "b", "out")
    assert play.transitions[0][1].value == "b"


def test_a_reading_that_brings_only_the_key_is_no_step() -> None:
    play = begin(GATES)
    card(play, 0, "a", "in")
    play.see(1, "b", "reader.card")
    card(play, 2, "b", "out")
    assert play.said == []


def test_without_a_known_key_nothing_begins() -> None:
    play = Play("sequence", GATES)
    for at, gate in enumerate(["none", "in", "out"]):
        play.see(at, gate, "reader.gate")
    assert play.said == []


def test_each_key_is_waited_for() -> None:
    play = begin(
        "{first: reader.gate == 'in', without: reader.gate == 'out', key: reader.card, within: 1m, hold: 5s}"
    )
    for at, name, gate in ((0, "a", "in"), (10, "b", "in"), (20, "c", "in"), (30, "b", "out")):
        card(play, at, name, gate)
    play.until(200)
    assert [(at, said.active, said.value) for at, said in play.transitions] == [
        (60, True, "a"), (65, False, "a"), (80, True, "c"), (85, False, "c"),
    ]  # fmt: skip


def test_so_many_keys_are_remembered_and_no_more() -> None:
    play = begin(GATES)
    for index in range(MOST_KEYS * 3):
        card(play, index, f"card-{index}", "in")
    assert len([name for name in play.rule.state(play.at) if name.endswith(".0")]) == MOST_KEYS
    card(play, 300, f"card-{MOST_KEYS * 2 - 1}", "out")
    assert play.said == []
    card(play, 301, f"card-{MOST_KEYS * 2}", "out")
    assert len(play.said) == 1


# --- against what it means ----------------------------------------------------------------------------------------


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0.5, 1.0, 5.0]), st.sampled_from("abc"), st.booleans()), max_size=25
    ),
    count=st.integers(2, 3),
)
def test_it_finds_what_a_search_through_all_of_history_finds(
    steps: list[tuple[float, str, bool]], count: int
) -> None:
    names = "abc"[:count]
    play = begin(f"{{steps: [{', '.join(f'{name}.x == 1' for name in names)}], within: 6s, hold: 0s}}")
    known = dict.fromkeys("abc", False)
    came: list[tuple[float, str]] = []  # since the last match
    matches: list[tuple[float, float]] = []
    at = 0.0
    for wait, name, value in steps:
        at += wait
        if name in names:
            play.see(at, int(value), f"{name}.x")
        if value and not known[name]:
            came.append((at, name))
            if name == names[-1]:
                begins = [times[0] for times in chosen(came, names) if times[-1] == at and at - times[0] <= 6]
                if begins:
                    matches.append((max(begins), at))
                    came = []
        known[name] = value
    assert [(said.since, at) for at, said in play.transitions if said.active] == matches


def chosen(came: list[tuple[float, str]], names: str) -> list[list[float]]:
    """Return all ways in which these names came in this order."""
    if not names:
        return [[]]
    return [
        [at, *rest]
        for index, (at, name) in enumerate(came)
        if name == names[0]
        for rest in chosen(came[index + 1 :], names[1:])
    ]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{within: 1s}", "not none of them"),
        ("{first: a.x, within: 1s}", "not first"),
        ("{then: a.x, within: 1s}", "not then"),
        ("{first: a.x, then: b.x, without: c.x, within: 1s}", "not first and then and without"),
        ("{first: a.x, steps: [a.x, b.x], within: 1s}", "not first and steps"),
        ("{steps: [a.x], within: 1s}", "length >= 2"),
        ("{first: a.x, then: b.x}", "missing required field `within`"),
        ("{first: a.x, then: b.x, within: 0s}", "within expects more than 0s"),
        ("{first: a.x, then: 1 > 0, within: 1s}", r"then \(1 > 0\) names no channel"),
        ("{steps: [a.x, 'on'], within: 1s}", r"steps\[1\] \(on\) names no channel"),
        ("{first: a.x, then: b.x, key: '1', within: 1s}", r"key \(1\) names no channel"),
        (
            "{first: a.x, without: b.x, within: 1s, consecutive: true}",
            "consecutive has no meaning for without",
        ),
    ],
)
def test_impossible_settings_are_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings("sequence", written)
