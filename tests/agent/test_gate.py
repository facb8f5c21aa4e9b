"""Rules that are at work at times only: gates by a condition and by the time of day, over restarts and without a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from contracts.test_rules import KINDS, STEPS, Step, variants
from contracts.test_rules import Bench as KindBench
from contracts.test_rules import new as made
from hypothesis import given
from hypothesis import strategies as st
from support.rulebooks import Desk, loaded

from agent.conditions.expressions import Expression
from agent.conditions.schedule import Span, TimeOfDay
from agent.events import EventType, Reading
from agent.gate import PATIENCE, Gated

if TYPE_CHECKING:
    from pathlib import Path

    from agent.contracts import Rule

HOUR = 3600.0
DAY = 24 * HOUR
NIGHT = 'only: {between: ["22:00", "06:00"]}'
AT_NIGHT = "judged only between 22:00 and 06:00"
EIGHT = "2026-01-05T07:00:00Z"
"""08:00 on a Monday in Berlin: 22:00 is 14 hours later."""

NewDesk = Callable[..., Desk]


@pytest.fixture
def desk(tmp_path: Path) -> NewDesk:
    def begin(rules: str, start: str = EIGHT, *, knows_time: bool = True) -> Desk:
        return Desk(loaded(tmp_path, rules), start, knows_time=knows_time)

    return begin


# --- by the time of day -------------------------------------------------------------------------------------------------


def test_a_door_that_was_open_before_22_00_raises_the_alarm_at_22_00_and_it_is_cleared_at_06_00(
    desk: NewDesk,
) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n")
    it.see(10, a=1)
    it.until(14 * HOUR - 1)
    assert it.said() == []
    it.until(30 * HOUR)
    assert it.said() == [
        f"{14 * HOUR:g} open raised plant.a 1 above 0.5",
        f"{22 * HOUR:g} open cleared plant.a 1 {AT_NIGHT}",
    ]
    assert it.alarms()[1].facts["message"] == f"plant.a: {AT_NIGHT}"
    assert it.alarms()[1].facts["duration"] == 8 * HOUR


def test_the_same_readings_raise_at_once_while_it_is_open_and_never_while_it_is_shut(desk: NewDesk) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n")
    for hour in (9, 15):
        it.see(hour * HOUR, a=1)
        it.see(hour * HOUR + 60, a=0)
    assert it.said() == [
        f"{15 * HOUR:g} open raised plant.a 1 above 0.5",
        f"{15 * HOUR + 60:g} open cleared plant.a 0 above 0.5",
    ]


def test_a_delay_begins_when_the_gate_opens_and_is_forgotten_when_it_shuts(desk: NewDesk) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5, for: 5m}}, {NIGHT}}}\n")
    it.see(10, a=1)
    it.until(15 * HOUR)
    assert it.said() == [f"{14 * HOUR + 300:g} open raised plant.a 1 above 0.5"]
    it.see(16 * HOUR, a=0)
    it.see(22 * HOUR - 60, a=1)
    it.until(30 * HOUR)
    assert len(it.said()) == 2


def test_days_are_those_on_which_the_night_begins(desk: NewDesk) -> None:
    it = desk(
        '  open: {threshold: {of: plant.a, above: 0.5}, only: {between: ["22:00", "06:00"], days: [tue]}}\n'
    )
    it.see(10, a=1)
    it.until(7 * DAY)
    assert it.said() == [
        f"{38 * HOUR:g} open raised plant.a 1 above 0.5",
        f"{46 * HOUR:g} open cleared plant.a 1 {AT_NIGHT} on tue",
    ]


@pytest.mark.parametrize(
    ("start", "between", "times"),
    [
        # At 02:00 it is 03:00, which is in the range: 02:30 does not come.
        ("2026-03-29T00:00:00Z", '["02:30", "04:00"]', [3600.0, 7200.0]),
        ("2026-03-29T00:00:00Z", '["02:15", "02:45"]', []),
        # At 03:00 it is 02:00 again: 02:30 comes twice.
        ("2026-10-24T23:00:00Z", '["02:30", "03:00"]', [5400.0, 7200.0, 9000.0, 10_800.0]),
        ("2026-10-24T23:00:00Z", '["01:00", "02:30"]', [1.0, 5400.0, 7200.0, 9000.0]),
    ],
)
@pytest.mark.parametrize("step", [600, 86_400])
def test_on_the_nights_on_which_the_clock_is_changed_the_clock_on_the_wall_counts_to_the_second(
    desk: NewDesk, start: str, between: str, times: list[float], step: int
) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, only: {{between: {between}}}}}\n", start)
    it.see(1, a=1)
    for at in range(step, 86_400, step):
        it.until(at)
    it.until(86_400)
    assert [told.at for told in it.alarms()] == times


def test_the_change_of_the_clock_is_noticed_by_a_reading_that_comes_before_the_time_does(
    desk: NewDesk,
) -> None:
    it = desk(
        '  open: {threshold: {of: plant.a, above: 0.5}, only: {between: ["03:00", "04:00"]}}\n',
        "2026-03-29T00:59:30Z",
    )
    it.see(1, a=0)
    it.clock.now = 31.0
    it.take([_reading(29.9, 1), _reading(30.0, 1), _reading(31.0, 0)])
    assert [(told.at, told.type) for told in it.alarms()] == [(30.0, "raised"), (31.0, "cleared")]


def test_a_clock_that_somebody_sets_is_noticed_within_a_minute(desk: NewDesk) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n")
    it.see(10, a=1)
    it.clock.epoch += round(15 * HOUR * 1e6)
    it.until(70)
    assert [told.type for told in it.alarms()] == ["raised"]


def test_without_the_time_it_is_open_after_a_minute_and_right_once_the_time_is_known(desk: NewDesk) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n", knows_time=False)
    it.see(10, a=1)
    it.until(PATIENCE - 1)
    assert it.said() == []
    it.until(PATIENCE)
    assert it.said() == [f"{PATIENCE:g} open raised plant.a 1 above 0.5"]
    it.clock.known = True
    it.until(300)
    it.until(320)
    assert [told.type for told in it.alarms()] == ["raised", "cleared"]


def test_a_clock_that_is_set_soon_after_the_start_leaves_no_false_alarm(desk: NewDesk) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n", knows_time=False)
    it.see(10, a=1)
    it.clock.known = True
    for at in range(20, 600, 10):
        it.until(at)
    assert it.said() == []


# --- by a condition -----------------------------------------------------------------------------------------------------

WHERE = "  hot: {threshold: {of: plant.a, above: 5}, where: \"plant.mode == 'auto'\"}\n"
REMOTE = "  hot: {threshold: {of: plant.a, above: 5}, where: other == 1}\n"


def test_a_condition_shuts_it_and_opens_it_and_says_why(desk: NewDesk) -> None:
    it = desk(WHERE)
    it.see(0, mode="manual", a=9)
    it.see(1, mode="auto")
    it.see(2, mode="manual")
    it.see(3, a=4)
    it.see(4, mode="auto")
    assert it.said() == [
        "1 hot raised plant.a 9 above 5",
        "2 hot cleared plant.a 9 judged only where plant.mode == 'auto'",
    ]


def test_what_comes_in_one_reading_with_the_condition_is_judged_by_it(desk: NewDesk) -> None:
    it = desk(WHERE)
    it.see(0, a=9, mode="manual")
    it.see(1, a=10, mode="auto")
    it.see(2, a=11, mode="manual")
    it.see(3, a=1, mode="auto")
    assert it.said() == [
        "1 hot raised plant.a 10 above 5",
        "2 hot cleared plant.a 10 judged only where plant.mode == 'auto'",
    ]


def test_a_latched_alarm_stays_until_it_is_acknowledged_when_the_gate_shuts(desk: NewDesk) -> None:
    it = desk(WHERE.replace("}\n", ", latch: true}\n"))
    it.see(0, mode="auto", a=9)
    it.see(1, mode="manual")
    assert [alarm.state for _, alarm in it.rulebook.alarms] == ["cleared-unacknowledged"]


def test_what_was_never_heard_counts_as_true_after_a_minute(desk: NewDesk) -> None:
    it = desk(REMOTE)
    it.see(10, a=9)
    it.until(PATIENCE)
    assert it.said() == [f"{PATIENCE:g} hot raised plant.a 9 above 5"]


@pytest.mark.parametrize("lost", ["down", "no value", "a text"])
@pytest.mark.parametrize("mode", [0, 1])
def test_a_condition_that_cannot_be_said_any_more_leaves_it_as_it_is_for_a_minute_then_it_is_open(
    desk: NewDesk, lost: str, mode: int
) -> None:
    it = desk(REMOTE.replace("other == 1", "other > 0"))
    it.see(0, device="other", mode=mode)
    it.see(1, a=9)
    before = it.said()
    assert len(before) == mode
    it.until(100)
    if lost == "down":
        it.lose("other")
    else:
        it.see(100, device="other", mode=None if lost == "no value" else "text")
    it.until(100 + PATIENCE - 0.001)
    assert it.said() == before
    it.until(1000)
    assert len(it.said()) == 1
    assert it.alarms()[0].at == (1 if mode else 100 + PATIENCE)


def test_a_condition_that_is_back_in_time_has_shut_it_all_the_while(desk: NewDesk) -> None:
    it = desk(REMOTE)
    it.see(0, device="other", mode=0)
    it.see(1, a=9)
    it.lose("other")
    it.see(50, device="other", mode=0)
    it.until(1000)
    assert it.said() == []


def test_what_a_device_said_that_is_down_is_not_shown_when_the_gate_opens(desk: NewDesk) -> None:
    it = desk(REMOTE)
    it.see(0, device="other", mode=0)
    it.see(1, a=9)
    it.lose("plant")
    it.see(2, device="other", mode=1)
    assert it.said() == []
    it.see(3, a=8)
    assert it.said() == ["3 hot raised plant.a 8 above 5"]


def test_both_must_be_so(desk: NewDesk) -> None:
    it = desk(f"  hot: {{threshold: {{of: plant.a, above: 5}}, where: other == 1, {NIGHT}}}\n")
    it.see(0, device="other", mode=1)
    it.see(1, a=9)
    it.see(15 * HOUR, device="other", mode=0)
    it.see(23 * HOUR, device="other", mode=1)
    assert it.said() == [
        f"{14 * HOUR:g} hot raised plant.a 9 above 5",
        f"{15 * HOUR:g} hot cleared plant.a 9 judged only where other.mode == 1",
    ]


# --- kinds --------------------------------------------------------------------------------------------------------------


def test_what_happened_while_it_was_shut_is_not_counted_but_what_happens_then_is(desk: NewDesk) -> None:
    it = desk(
        """\
  opened: {count: {of: plant.a == 1, at_least: 1, within: 10s}, where: other == 1}
  flaps: {flapping: {of: plant.a, more_than: 1, within: 10s}, where: other == 1}
  seen: {count: {of: plant.a == 1, each: reading, at_least: 1, within: 10s}, where: other == 1}
  then: {sequence: {first: plant.a == 1, then: plant.a == 0, within: 10s, hold: 0s}, where: other == 1}
"""
    )
    it.see(0, device="other", mode=0)
    for at in range(1, 6):
        it.see(at, a=at % 2)
    it.see(6, device="other", mode=1)
    assert it.said() == []
    it.see(7, a=0)  # one change; the sequence has not begun
    it.see(8, a=1)
    assert sorted(it.said()) == [
        "8 flaps raised plant.a 2 more than 1 within 10s",
        "8 opened raised plant.a == 1 1 at least 1 times within 10s",
        "8 seen raised plant.a == 1 1 at least 1 times within 10s",
    ]
    it.see(9, a=0)
    assert it.said()[3:] == ["9 then raised plant.a == 1, then plant.a == 0 1 within 10s"]


def test_levels_are_judged_as_they_are_when_it_opens(desk: NewDesk) -> None:
    it = desk(
        """\
  apart: {compare: {of: plant.a - plant.b, above: 5}, where: other == 1}
  stale: {compare: {of: plant.a - plant.b, above: 5, max_age: 10s}, where: other == 1}
  stuck: {stuck: {of: plant.a, for: 20s}, where: other == 1}
"""
    )
    it.see(0, device="other", mode=0)
    it.see(1, a=9, b=1)
    it.see(2, device="other", mode=1)
    assert it.said() == [
        "2 apart raised plant.a - plant.b 8.0 above 5",
        "2 stale raised plant.a - plant.b 8.0 above 5",
    ]
    it.see(3, device="other", mode=0)
    it.see(30, device="other", mode=1)
    assert it.said()[4:] == ["30 apart raised plant.a - plant.b 8.0 above 5"]
    it.see(40, a=9)
    it.see(49, a=9)
    assert not any("stuck" in line for line in it.said())
    it.see(50, a=9)
    assert "50 stuck raised plant.a 9 unmoved for 20s" in it.said()


def test_rules_that_are_combined_are_looked_at_when_it_opens(desk: NewDesk) -> None:
    it = desk(
        """\
  one: {threshold: {of: plant.a, above: 5}}
  two: {threshold: {of: plant.b, above: 5}}
  both: {combine: {all_of: [one, two]}, where: other == 1}
"""
    )
    it.see(0, device="other", mode=0)
    it.see(1, a=9, b=9)
    it.see(2, device="other", mode=1)
    it.see(3, device="other", mode=0)
    it.see(4, device="other", mode=1)
    it.see(5, b=0)
    assert [line for line in it.said() if "both" in line] == [
        "2 both raised one, two 2 all of",
        "3 both cleared one, two 2 judged only where other.mode == 1",
        "4 both raised one, two 2 all of",
        "5 both cleared one, two 1 all of",
    ]


def test_silence_counts_from_when_it_opens(desk: NewDesk) -> None:
    it = desk(f"  silent: {{absence: {{of: plant.a, longer_than: 2m}}, {NIGHT}}}\n")
    it.until(15 * HOUR)
    assert it.said() == [f"{14 * HOUR + 120:g} silent raised plant.a 120.0 longer than 2m"]


def test_what_is_usual_is_not_learnt_anew(desk: NewDesk) -> None:
    rule = "{of: plant.a, z: 4, over: 1h, warm_up: 1m, at_least: 1}"
    it = desk(f"  odd: {{anomaly: {rule}, where: other == 1}}\n")
    it.see(0, device="other", mode=1)
    for at in range(1, 200):
        it.see(at, a=20 + at % 3)
    it.see(200, device="other", mode=0)
    it.see(201, a=90)
    it.restart()
    it.see(202, device="other", mode=1)
    it.see(203, a=21)
    assert it.said() == []
    it.see(204, a=90)
    assert [told.type for told in it.alarms()] == ["raised"]


# --- restarts -----------------------------------------------------------------------------------------------------------


def test_over_a_restart_an_alarm_is_not_raised_twice_and_the_gate_goes_on(desk: NewDesk) -> None:
    it = desk(WHERE)
    it.see(0, mode="auto", a=9)
    it.restart(5)
    it.until(20)
    assert it.said() == ["0 hot raised plant.a 9 above 5"]
    it.see(21, mode="manual")
    it.restart(5)
    it.see(27, mode="auto")
    assert it.said()[1:] == [
        "21 hot cleared plant.a 9 judged only where plant.mode == 'auto'",
        "27 hot raised plant.a 9 above 5",
    ]


def test_an_alarm_of_the_night_is_cleared_at_the_start_where_the_agent_was_down_at_06_00(
    desk: NewDesk,
) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n")
    it.see(15 * HOUR, a=1)
    it.restart(8 * HOUR)
    it.until(23 * HOUR + 1)
    assert it.said()[1:] == [f"{23 * HOUR:g} open cleared plant.a 1 {AT_NIGHT}"]


def test_an_alarm_of_last_night_is_not_that_of_this_night(desk: NewDesk) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n")
    it.see(15 * HOUR, a=1)
    it.restart(DAY)
    it.until(39 * HOUR + 1)
    assert it.said()[1:] == [f"{39 * HOUR:g} open cleared plant.a 1 {AT_NIGHT}"]
    it.see(39 * HOUR + 2, a=1)
    assert [told.type for told in it.alarms()] == ["raised", "cleared", "raised"]


def test_a_gate_that_would_have_opened_while_the_agent_was_down_opens_at_the_start(desk: NewDesk) -> None:
    it = desk(f"  open: {{threshold: {{of: plant.a, above: 0.5}}, {NIGHT}}}\n")
    it.see(14 * HOUR - 10, a=1)
    it.restart(30)
    it.until(14 * HOUR + 30)
    assert it.said() == [f"{14 * HOUR + 20:g} open raised plant.a 1 above 0.5"]


def test_a_rule_that_is_given_a_gate_has_its_alarm_cleared_where_that_is_shut(tmp_path: Path) -> None:
    rule = "  open: {threshold: {of: plant.a, above: 0.5}"
    plain, gate = loaded(tmp_path, rule + "}\n"), loaded(tmp_path, f"{rule}, {NIGHT}}}\n")
    it = Desk(plain)
    it.see(10, a=1)
    it.restart(5, gate)
    it.until(20)
    assert it.said()[1:] == [f"15 open cleared plant.a 1 {AT_NIGHT}"]
    it.restart(5, plain)
    it.see(30, a=1)
    assert [told.type for told in it.alarms()] == ["raised", "cleared", "raised"]


def _reading(at: float, value: int) -> Reading:
    return Reading({"a": value}, at)


def gate_around(kind: str, settings: Any, *, by_time: bool) -> Rule[Any]:
    """Return a rule behind a gate, over one of its own channels or at half of all minutes."""
    rule = made(kind, settings)
    spans = [Span((TimeOfDay(minute * 60), TimeOfDay(minute * 60 + 60))) for minute in range(535, 560, 2)]
    names = [*rule.watches(), "air.temperature"]
    return Gated(rule, None if by_time else Expression.parse(f"{names[0]} > 0"), spans if by_time else ())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_time", [True, False])
@given(steps=STEPS, places=st.lists(st.integers(0, 40), max_size=5))
def test_a_restart_at_any_point_changes_nothing_behind_a_gate(
    kind: str, by_time: bool, steps: list[Step], places: list[int]
) -> None:
    for settings in variants(kind)[:4]:
        without = KindBench(gate_around(kind, settings, by_time=by_time))
        without.show(steps)
        bench = KindBench(gate_around(kind, settings, by_time=by_time))
        at, begin = 0.0, 0
        for end in sorted({*(place for place in places if place < len(steps)), len(steps)}):
            at = bench.show(steps[begin:end], at)
            begin = end
            bench.restart(gate_around(kind, settings, by_time=by_time), dict(bench.rule.state(at)), at)
        bench.turn(at)
        without.turn(at)
        assert [(said.transition.active, said.transition.limit) for said in bench.said] == [
            (said.transition.active, said.transition.limit) for said in without.said
        ]
        for one, other in zip(bench.said, without.said, strict=True):
            assert one.at == pytest.approx(other.at, abs=1e-6)
        turns = [said.transition.active for said in bench.said if said.transition.severity is None]
        assert turns == [index % 2 == 0 for index in range(len(turns))]


def test_a_device_that_is_down_is_heard_once_for_each_rule(desk: NewDesk) -> None:
    it = desk("  far: {compare: {of: plant.a - other.mode > 1}, where: plant.b > 0 and other.mode > 0}\n")
    (entry,) = it.rulebook._entries.values()
    assert entry.rule.hears() == ((EventType.DEVICE_DOWN, "plant"), (EventType.DEVICE_DOWN, "other"))
