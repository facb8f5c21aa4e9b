"""Windows: held against a naive recomputation, and what a person would expect of them."""

from __future__ import annotations

import math
import random
import statistics
import string
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.conditions.aggregates import DIFFERENT, Ranks
from agent.quantities import Duration
from agent.rules import window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.contracts import Transition, Verdict
    from agent.events import Value

TEMPERATURE = "air.temperature"


class Said(NamedTuple):
    at: float
    transition: Transition


def rule(**said: Any) -> window.Rule:
    """Return a rule as it begins at 0, of what is said; it never raises where no limit is said."""
    if not {"above", "below", "inside", "outside"} & said.keys():
        said["above"] = 1e300
    for name in ("over", "for_", "clear_for"):
        if name in said:
            said[name] = Duration(said[name])
    made = window.Rule(window.Settings(of=TEMPERATURE, **said))
    made.restore({}, 0.0, 0.0)
    return made


class Feed:
    """Shows time and values to a rule, as the rulebook does."""

    def __init__(self, shown: window.Rule) -> None:
        self.rule = shown
        self.said: list[Said] = []

    def _note(self, verdict: Verdict | None, at: float) -> None:
        if verdict is not None and verdict.transition is not None:
            self.said.append(Said(at, verdict.transition))

    def turn(self, to: float) -> None:
        while self.rule.deadline is not None and self.rule.deadline <= to:
            due = self.rule.deadline
            self._note(self.rule.on_time(due), due)

    def see(self, at: float, value: Value) -> None:
        self.turn(at)
        self._note(self.rule.on_reading(TEMPERATURE, value, at), at)

    def restart(self, saved: float, now: float) -> None:
        kept = msgspec.json.decode(msgspec.json.encode(dict(self.rule.state(saved))))
        self.rule = window.Rule(self.rule.settings)
        self.rule.restore(kept, saved, now)

    @property
    def changes(self) -> list[tuple[float, bool]]:
        return [(said.at, said.transition.active) for said in self.said]


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low + (high - low) * (rank - math.floor(rank))


NAIVE: dict[str, tuple[dict[str, Any], Callable[[Sequence[float]], float]]] = {
    "mean": ({}, lambda values: math.fsum(values) / len(values)),
    "min": ({}, min),
    "max": ({}, max),
    "sum": ({}, math.fsum),
    "count": ({}, len),
    "stddev": ({}, statistics.stdev),
    "median": ({}, statistics.median),
    "percentile": ({"percentile": 83.0}, lambda values: percentile(values, 83.0)),
}

READINGS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([0.0, 0.1, 1.0, 5.0, 60.0, 61.0, 200.0]), st.floats(0.0, 3.0)),
        st.one_of(st.sampled_from([0.0, 20.5, -3.0]), st.floats(-1e6, 1e6)),
    ),
    min_size=1,
    max_size=120,
)


@pytest.mark.parametrize("take", NAIVE)
@given(readings=READINGS, restarts=st.sets(st.integers(0, 119), max_size=3))
def test_it_is_what_reckoning_anew_from_all_its_readings_gives(
    take: str, readings: list[tuple[float, float]], restarts: set[int]
) -> None:
    said, naive = NAIVE[take]
    feed = Feed(rule(take=take, over=60, **said))
    width = 60 / (window.SLICES_OF_RANKS if take in {"median", "percentile"} else window.SLICES)
    seen: list[tuple[float, float, float]] = []  # when its slice began, when, what
    at = 0.0
    for index, (wait, value) in enumerate(readings):
        at += wait
        begin = at if not seen or at >= seen[-1][0] + width else seen[-1][0]
        seen.append((begin, at, value))
        feed.see(at, value)
        inside = [what for begun, _, what in seen if begun + 60 > at]
        assert {what for _, when, what in seen if at - when < 60 - width} <= set(inside)
        assert all(at - when < 60 for begun, when, _ in seen if begun + 60 > at)
        found = feed.rule.value()
        if take == "stddev" and len(inside) < 2:
            assert found is None
        else:
            size = max(map(abs, inside))
            assert found == pytest.approx(naive(inside), rel=1e-9, abs=1e-9 * size + 1e-100)
        if index in restarts:
            feed.restart(at, at)
            assert feed.rule.value() == found  # to the last digit
    feed.turn(at + 61)
    assert feed.rule.deadline is None
    assert feed.rule.value() in {None, 0.0}  # empty


@given(waits=st.lists(st.floats(1.0, 30.0), min_size=1, max_size=80))
def test_it_is_exact_where_readings_are_rarer_than_slices(waits: list[float]) -> None:
    feed = Feed(rule(take="sum", over=60))
    seen: list[tuple[float, float]] = []
    at = 0.0
    for index, wait in enumerate(waits):
        at += wait
        feed.see(at, float(index))
        seen.append((at, float(index)))
        assert feed.rule.value() == sum(value for when, value in seen if when + 60 > at)


def test_a_sum_does_not_drift_when_large_values_have_come_and_gone() -> None:
    feed = Feed(rule(take="sum", over=10))
    feed.see(0, 1e16)
    feed.see(1, 0.1)
    feed.see(2, 0.2)
    feed.turn(10.5)
    assert feed.rule.value() == 0.1 + 0.2


def test_a_deviation_of_large_values_is_not_lost_in_their_squares() -> None:
    feed = Feed(rule(take="stddev", over=60))
    values = [1e9 + wobble for wobble in (4.0, 7.0, 13.0, 16.0) * 5]
    for index, value in enumerate(values):
        feed.see(index * 0.7, value)
    assert feed.rule.value() == pytest.approx(statistics.stdev(values), rel=1e-6)


@pytest.mark.parametrize("percent", [1.0, 50.0, 95.0])
@pytest.mark.parametrize("middle", [0.0, 20.0, 1013.0])
def test_a_percentile_of_many_readings_is_near_and_its_slices_stay_small(
    percent: float, middle: float
) -> None:
    chance = random.Random(1)
    feed = Feed(rule(take="percentile", percentile=percent, over=3000))
    values = []
    for index in range(29_000):
        values.append(middle + chance.gauss(0, 1))
        feed.see(index * 0.1, values[-1])
    found = feed.rule.value()
    assert found == pytest.approx(percentile(values, percent), abs=0.1)  # of a range of 6.5 or so
    ranks = feed.rule._slices
    assert isinstance(ranks, Ranks)
    assert all(len(values) <= DIFFERENT for values, _ in ranks._closed)
    assert sum(ranks._seen.values()) == ranks.count == len(values)


def test_values_over_hundreds_of_powers_of_ten_do_not_break_it() -> None:
    chance = random.Random(1)
    feed = Feed(rule(take="median", over=100))
    for index in range(5000):
        feed.see(index * 0.1, chance.choice([-1, 1]) * 10 ** chance.uniform(-140, 140))
    ranks = feed.rule._slices
    assert isinstance(ranks, Ranks)
    assert len(ranks._values) <= DIFFERENT * (window.SLICES_OF_RANKS + 1)
    feed.turn(1000)
    assert (ranks.count, ranks._values, ranks._seen) == (0, [], {})


def test_a_sum_clears_by_itself_when_readings_cease_and_then_wants_no_time() -> None:
    feed = Feed(rule(take="sum", over=60, above=10))
    feed.see(0, 6)
    feed.see(5, 6)
    feed.turn(1000)
    assert feed.changes == [(5, True), (60, False)]
    assert feed.said[1].transition.value == 6.0
    assert feed.rule.deadline is None


def test_a_mean_stays_as_it_is_when_readings_cease() -> None:
    feed = Feed(rule(take="mean", over=60, above=10))
    feed.see(0, 30)
    feed.see(5, 6)
    feed.turn(1000)
    assert feed.changes == [(0, True), (60, False)]  # the 30 has left, the 6 has not
    feed.see(1000, 30)
    feed.turn(2000)
    assert feed.changes[2:] == [(1000, True)]


def test_a_count_below_a_limit_is_not_judged_before_it_has_listened_for_the_whole_time() -> None:
    feed = Feed(rule(take="count", over=60, below=3))
    feed.see(1, 0)
    feed.turn(59)
    assert feed.changes == []
    feed.turn(200)
    assert feed.changes == [(60, True)]
    assert feed.said[0].transition.value == 1.0
    for at in (200, 210, 220):
        feed.see(at, 0)
    assert feed.changes[1:] == [(220, False)]


def test_a_count_below_a_limit_is_raised_where_there_never_was_a_reading() -> None:
    feed = Feed(rule(take="count", over=60, below=1))
    feed.turn(1000)
    assert feed.changes == [(60, True)]
    assert feed.rule.deadline is None


@pytest.mark.parametrize(
    ("take", "limits", "raised"),
    [
        ("max", {"below": 20}, 60),
        ("max", {"outside": (20, 40)}, 60),
        ("max", {"above": 5}, 0),
        ("min", {"above": 5}, 60),
        ("min", {"inside": (5, 15)}, 60),
        ("min", {"below": 20}, 0),
    ],
)
def test_an_extreme_is_held_at_once_only_against_what_more_readings_cannot_undo(
    take: str, limits: dict[str, Any], raised: float
) -> None:
    feed = Feed(rule(take=take, over=60, **limits))
    for at in range(0, 100, 10):
        feed.see(at, 10)
    assert feed.changes == [(raised, True)]


def test_it_waits_for_as_many_readings_as_are_wanted() -> None:
    feed = Feed(rule(take="mean", over=60, above=10, at_least=3))
    feed.see(0, 30)
    feed.see(1, 30)
    assert feed.changes == []
    feed.see(2, 30)
    assert feed.changes == [(2, True)]


def test_tumbling_windows_are_judged_at_their_end_only_and_follow_each_other() -> None:
    feed = Feed(rule(take="sum", over=60, above=10, tumbling=True))
    feed.see(10, 100)
    feed.see(70, 1)
    feed.see(119, 1)
    feed.see(125, 11)
    feed.turn(180)
    assert feed.changes == [(60, True), (120, False), (180, True)]
    assert [said.transition.value for said in feed.said] == [100.0, 2.0, 11.0]


def test_an_empty_tumbling_window_is_judged_once_and_the_next_begins_with_a_reading() -> None:
    feed = Feed(rule(take="count", over=60, below=2, tumbling=True))
    feed.turn(1000)
    assert feed.changes == [(60, True)]
    assert feed.rule.deadline is None
    feed.restart(1000, 1000)
    assert feed.rule.deadline is None
    feed.see(1010, 5)
    feed.see(1011, 5)
    feed.turn(1100)
    assert feed.changes[1:] == [(1070, False)]


def test_what_is_in_the_window_ages_while_the_agent_is_away() -> None:
    feed = Feed(rule(take="sum", over=60, above=10))
    feed.see(0, 6)
    feed.see(30, 6)
    feed.restart(40, 75)
    assert feed.rule.value() == 6.0
    feed.turn(75)  # the first has left meanwhile, and that is seen at once
    assert feed.changes == [(30, True), (75, False)]


def test_an_absence_longer_than_the_window_leaves_nothing_of_it() -> None:
    feed = Feed(rule(take="sum", over=60, above=10))
    feed.see(0, 11)
    feed.restart(1, 100_000)
    feed.turn(100_000)
    assert feed.changes == [(0, True), (100_000, False)]
    assert feed.rule.deadline is None


def test_an_alarm_of_too_few_readings_is_not_judged_by_an_absence() -> None:
    feed = Feed(rule(take="count", over=60, below=3))
    for at in range(0, 100, 10):
        feed.see(at, 0)
    feed.restart(95, 150)
    feed.see(151, 0)
    feed.turn(209)
    assert feed.changes == []
    feed.turn(210)
    assert feed.changes == [(210, True)]


def test_a_tumbling_window_that_ended_in_an_absence_is_not_judged() -> None:
    feed = Feed(rule(take="sum", over=60, below=10, tumbling=True))
    feed.see(5, 1)
    feed.restart(6, 100)
    feed.see(101, 50)
    feed.turn(160)
    assert feed.changes == []
    feed.restart(170, 180)  # one that goes on is: the 0 of the time from 160 to 220
    feed.turn(220)
    assert feed.changes == [(220, True)]


@pytest.mark.parametrize("take", NAIVE)
@pytest.mark.parametrize("damage", ["", ":", "totals:", "ranks:Vm00", "spread:~~~~", 7, None, "totals:\x00é"])
def test_a_damaged_window_is_an_empty_one(take: str, damage: Value) -> None:
    shown = rule(take=take, over=60, **NAIVE[take][0])
    shown.restore({"window": damage}, 0.0, 0.0)
    assert shown.value() in {None, 0.0}


@pytest.mark.parametrize("take", NAIVE)
def test_the_window_of_another_aggregate_is_an_empty_one_or_serves(take: str) -> None:
    for other in NAIVE:
        feed = Feed(rule(take=other, over=60, **NAIVE[other][0]))
        for at in range(5):
            feed.see(at, 2)
        shown = rule(take=take, over=60, **NAIVE[take][0])
        shown.restore({**shown.state(0), "window": feed.rule.state(5)["window"]}, 5.0, 5.0)
        assert shown.value() in {None, 0.0, NAIVE[take][1]([2.0] * 5)}


def test_text_missing_values_and_what_is_no_number_are_not_in_it() -> None:
    feed = Feed(rule(take="count", over=60, above=1))
    for value in (None, "text", math.nan, math.inf, -math.inf, 10**400):
        feed.see(1, value)
    assert (feed.rule.value(), feed.rule.is_unsaved) == (0.0, False)
    feed.see(2, True)
    assert (feed.rule.value(), feed.rule.is_unsaved) == (1.0, True)


def test_its_text_says_what_it_takes_and_over_which_time() -> None:
    made = rule(take="percentile", percentile=95, over=600)
    fields = {name for _, name, _, _ in string.Formatter().parse(made.message) if name}
    assert fields == {"of", "value", "limit"}
    text = made.message.format(of=TEMPERATURE, value=25.123456789, limit="above 25")
    assert text == "air.temperature: 95th percentile over 10m is 25.1235, above 25"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"take": "mean", "over": 0.5}, "over expects 1s or longer, not 500ms"),
        ({"take": "percentile", "over": 60}, "expects to be told which"),
        ({"take": "mean", "over": 60, "percentile": 5}, "percentile expects take: percentile"),
        ({"take": "count", "over": 60, "at_least": 5}, "at_least cannot be said of take: count"),
        ({"take": "stddev", "over": 60, "at_least": 1}, "at_least expects 2 or more"),
        ({"take": "mean", "over": 60, "above": 1, "below": 2}, "exactly one of above, below"),
    ],
)
def test_impossible_settings_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule(**said)
