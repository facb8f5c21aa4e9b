"""Anomalies: found where they are, learnt from only a little, and by the hour of the day."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.quantities import Duration
from agent.rules import anomaly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TEMPERATURE = "air.temperature"
HOUR, DAY = 3600.0, 86_400.0


def rule(**said: Any) -> anomaly.Rule:
    for name in ("over", "warm_up", "for_", "clear_for"):
        if name in said:
            said[name] = Duration(said[name])
    made = anomaly.Rule(anomaly.Settings(of=TEMPERATURE, **said))
    made.restore({}, 0.0, 0.0)
    return made


def feed(shown: anomaly.Rule, readings: Iterable[tuple[float, Any]]) -> list[tuple[float, bool]]:
    """Return when it raises (True) and clears (False)."""
    said = []
    for at, value in readings:
        while shown.deadline is not None and shown.deadline <= at:
            due = shown.deadline
            verdict = shown.on_time(due)
            if verdict is not None and verdict.transition is not None:
                said.append((due, verdict.transition.active))
        verdict = shown.on_reading(TEMPERATURE, value, at)
        if verdict is not None and verdict.transition is not None:
            said.append((at, verdict.transition.active))
    return said


def noise(
    begin: float,
    end: float,
    mean: Callable[[float], float] = lambda _: 20.0,
    every: float = 10.0,
    seed: int = 1,
) -> Iterator[tuple[float, float]]:
    """Yield readings with a standard deviation of 1."""
    chance = random.Random(seed)
    at = begin
    while at < end:
        # Not beyond 3, for which a day has no room.
        yield at, mean(at) + max(-3.0, min(chance.gauss(0, 1), 3.0))
        at += every


def baseline(shown: anomaly.Rule) -> tuple[float, float]:
    """Return the mean and the standard deviation that it has learnt."""
    (learnt,) = shown._baselines
    return learnt.mean, learnt.deviation * anomaly.NORMAL


def test_it_learns_mean_and_deviation_and_finds_what_is_far_from_it() -> None:
    shown = rule()
    assert feed(shown, noise(0, DAY)) == []
    mean, deviation = baseline(shown)
    assert mean == pytest.approx(20, abs=0.1)
    assert deviation == pytest.approx(1, abs=0.05)
    assert feed(shown, [(DAY, 25.0), (DAY + 10, 23.5), (DAY + 20, 22.5), (DAY + 30, 15.0)]) == [
        (DAY, True),
        (DAY + 20, False),  # within three quarters of z
        (DAY + 30, True),
    ]


def test_it_is_silent_while_it_warms_up() -> None:
    shown = rule(warm_up=HOUR)
    assert feed(shown, [*noise(0, HOUR - 20), (HOUR - 10, 100.0)]) == []
    assert feed(shown, [(HOUR + 60, 100.0)]) == [(HOUR + 60, True)]


def test_it_takes_twenty_readings_to_begin_however_short_the_warm_up() -> None:
    shown = rule(warm_up=0)
    assert feed(shown, [(at, 1000.0 * (at % 2)) for at in range(20)]) == []
    assert feed(shown, [(20, 1e6)]) == [(20, True)]


def test_an_anomaly_of_an_hour_hardly_teaches_itself() -> None:
    shown = rule(over=DAY)
    feed(shown, noise(0, 2 * DAY))
    said = feed(shown, noise(2 * DAY, 2 * DAY + HOUR, lambda _: 40.0))
    assert [active for _, active in said] == [True]
    mean, deviation = baseline(shown)
    assert mean == pytest.approx(20, abs=0.3)
    assert deviation == pytest.approx(1, abs=0.2)
    assert [active for _, active in feed(shown, noise(2 * DAY + HOUR, 3 * DAY))] == [False]


def test_a_level_that_stays_becomes_usual() -> None:
    shown = rule(over=DAY)
    feed(shown, noise(0, 2 * DAY))
    said = feed(shown, noise(2 * DAY, 5 * DAY, lambda _: 40.0))
    assert [active for _, active in said] == [True, False]
    assert said[1][0] < 3.5 * DAY


def test_uneven_sampling_does_not_distort_what_is_usual() -> None:
    """Half of the time at 20 with two readings a minute, half at 30 with a reading a second: the mean is 25."""
    shown = rule()
    at = 0.0
    for index in range(2880):
        every, value = ((30.0, 20.0), (1.0, 30.0))[index % 2]
        for _ in range(int(30 / every)):
            at += every
            shown.on_reading(TEMPERATURE, value, at)
    assert baseline(shown)[0] == pytest.approx(25, abs=0.2)


def test_a_pause_does_not_make_one_reading_all_that_is_usual() -> None:
    shown = rule(over=DAY)
    feed(shown, noise(0, 2 * DAY))
    shown.on_reading(TEMPERATURE, 1000.0, 30 * DAY)
    assert baseline(shown)[0] == pytest.approx(20, abs=0.5)


def test_of_a_channel_that_never_changes_any_change_is_an_anomaly_unless_it_is_small() -> None:
    flat = [(at * 60.0, 20.0) for at in range(100)]
    assert feed(rule(), [*flat, (6000, 20.1)]) == [(6000, True)]
    assert feed(rule(at_least=0.5), [*flat, (6000, 20.4)]) == []
    assert feed(rule(at_least=0.5), [*flat, (6000, 20.6)]) == [(6000, True)]


def test_a_channel_that_begins_to_move_after_standing_still_is_learnt() -> None:
    shown = rule(over=HOUR, warm_up=60)
    feed(shown, [(at * 10.0, 20.0) for at in range(1000)])
    feed(shown, noise(10_000, 10_000 + 5 * HOUR))
    assert baseline(shown)[1] == pytest.approx(1, abs=0.2)


def test_only_one_side_may_be_wanted() -> None:
    for side, high, low in (("above", True, False), ("below", False, True)):
        shown = rule(side=side)
        feed(shown, noise(0, DAY))
        assert bool(feed(shown, [(DAY, 30.0), (DAY + 1, 20.0)])) is high
        assert bool(feed(shown, [(DAY + 2, 10.0), (DAY + 3, 20.0)])) is low


def test_it_may_have_to_last_and_the_alarm_says_what_was_usual() -> None:
    shown = rule(for_=60, clear_for=30)
    feed(shown, noise(0, DAY))
    verdicts = [shown.on_reading(TEMPERATURE, 30.0, DAY), shown.on_time(DAY + 60)]
    assert [verdict is not None and verdict.transition is not None for verdict in verdicts] == [False, True]
    assert verdicts[1] is not None
    raised = verdicts[1].transition
    assert raised is not None
    assert (raised.value, raised.since) == (30.0, DAY)
    usual, _, far = raised.limit.partition(" ± ")
    assert float(usual) == pytest.approx(20, abs=0.1)
    assert float(far) == pytest.approx(4, abs=0.2)
    assert shown.message.format(of=raised.of, value=raised.value, limit=raised.limit).startswith(
        "air.temperature is 30, usual is "
    )


def by_day(at: float) -> float:
    """Return what is usual at a time: 30 from 8 to 18 o'clock, 10 at night; the clock is 5 hours ahead."""
    return 30.0 if 8 <= (at / HOUR + 5) % 24 < 18 else 10.0


def test_by_the_hour_of_the_day_what_is_usual_at_noon_is_an_anomaly_at_night() -> None:
    plain, seasonal = rule(), rule(seasonal="hour")
    seasonal.on_local_time(5 * HOUR, 0.0)
    begin = 10 * DAY
    for shown in (plain, seasonal):
        feed(shown, noise(0, begin, by_day, every=60.0))
    midnight = begin + 19 * HOUR
    assert feed(seasonal, noise(begin, midnight, by_day, every=60.0)) == []
    assert feed(plain, [(midnight, 30.0)]) == []
    assert feed(seasonal, [(midnight, 30.0)]) == [(midnight, True)]


def test_by_the_hour_it_neither_judges_nor_learns_before_the_time_is_known() -> None:
    shown = rule(seasonal="hour", warm_up=0)
    assert feed(shown, [*noise(0, DAY), (DAY, 1000.0)]) == []
    assert [learnt.count for learnt in shown._baselines] == 24 * [0.0]
    shown.on_local_time(0.0, 0.0)
    feed(shown, noise(DAY, DAY + 1800))
    assert [learnt.count > 0 for learnt in shown._baselines] == [True] + 23 * [False]


def test_a_restart_and_an_absence_keep_what_it_has_learnt() -> None:
    shown = rule(seasonal="hour")
    shown.on_local_time(0.0, 0.0)
    feed(shown, noise(0, 6 * DAY, every=60.0))
    kept = msgspec.json.decode(msgspec.json.encode(dict(shown.state(6 * DAY))))
    other = rule(seasonal="hour")
    other.restore(kept, 6 * DAY, 100 * DAY)
    other.on_local_time(0.0, 0.0)
    assert [(one.mean, one.count) for one in other._baselines] == [
        (one.mean, one.count) for one in shown._baselines
    ]
    assert feed(other, noise(100 * DAY, 101 * DAY, every=60.0)) == []
    assert feed(other, [(101 * DAY, 40.0)]) == [(101 * DAY, True)]


def test_what_was_learnt_without_seasons_is_nothing_by_the_hour() -> None:
    shown = rule()
    feed(shown, noise(0, DAY))
    other = rule(seasonal="hour")
    other.restore(shown.state(DAY), DAY, DAY)
    assert [learnt.count for learnt in other._baselines] == 24 * [0.0]


def test_text_missing_values_and_what_is_no_number_teach_nothing() -> None:
    shown = rule()
    assert feed(shown, [(0, None), (1, "text"), (2, math.nan), (3, math.inf)]) == []
    assert not shown.is_unsaved
    assert baseline(shown) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"z": 3.0, "clear": 3.5}, "is beyond z"),
        ({"over": 0}, "over expects longer than 0s"),
    ],
)
def test_impossible_settings_are_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule(**said)
