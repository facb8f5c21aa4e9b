"""Rates of change: right on ramps, robust to noise and spikes, silent where nothing can be said."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.quantities import Duration
from agent.rules import rate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.contracts import Transition

TEMPERATURE = "air.temperature"


def rule(**said: Any) -> rate.Rule:
    said["over"] = Duration(said.get("over", 300))
    made = rate.Rule(rate.Settings(of=TEMPERATURE, **said))
    made.restore({}, 0.0, 0.0)
    return made


def feed(shown: rate.Rule, readings: Iterable[tuple[float, Any]]) -> list[tuple[float, Transition]]:
    """Return what a rule without delays says to readings, and when."""
    said = []
    for at, value in readings:
        verdict = shown.on_reading(TEMPERATURE, value, at)
        if verdict is not None and verdict.transition is not None:
            said.append((at, verdict.transition))
    return said


@pytest.mark.parametrize(("per", "factor"), [("second", 1), ("minute", 60), ("hour", 3600)])
@given(slope=st.floats(-100, 100), every=st.sampled_from([0.1, 1.0, 7.0, 30.0, 100.0]))
def test_the_slope_of_a_ramp_is_its_slope_in_the_unit_that_is_wanted(
    per: str, factor: float, slope: float, every: float
) -> None:
    ramp = [(index * every, 20 + slope * index * every) for index in range(int(400 / every))]
    said = feed(rule(per=per, outside=(-1e-300, 1e-300)), ramp)
    if said:
        assert said[0][1].value == pytest.approx(slope * factor, rel=1e-6, abs=1e-9)
    else:
        assert abs(slope) < 1e-9


def test_it_is_silent_until_it_has_seen_half_of_the_time() -> None:
    said = feed(rule(per="second", above=1), [(at, 2 * at) for at in range(300)])
    assert [at for at, _ in said] == [150]


def test_two_readings_are_too_few() -> None:
    shown = rule(per="second", above=1)
    assert feed(shown, [(0, 0), (200, 1000)]) == []
    assert len(feed(shown, [(250, 1250)])) == 1


def test_noise_on_a_level_channel_is_no_rate() -> None:
    chance = random.Random(1)
    noise = [(index * 0.1, chance.gauss(20, 1)) for index in range(36_000)]
    assert feed(rule(per="minute", outside=(-0.5, 0.5)), noise) == []


def test_spikes_do_no_harm() -> None:
    chance = random.Random(1)
    ramp = [
        (float(at), 1000.0 if chance.random() < 0.02 else 20 + at / 60 + chance.gauss(0, 0.05))
        for at in range(3600)
    ]
    assert feed(rule(per="minute", outside=(0.5, 1.5)), ramp) == []
    assert len(feed(rule(per="minute", inside=(0.5, 1.5)), ramp)) == 1


def test_a_rate_clears_when_the_channel_is_level_again() -> None:
    ramp = [(at, min(at, 600) / 30) for at in range(1200)]
    said = feed(rule(per="minute", above=1, clear=0.5), ramp)
    assert [change.active for _, change in said] == [True, False]
    assert 600 < said[1][0] < 900


def test_after_a_silence_it_begins_anew_and_the_alarm_stays_meanwhile() -> None:
    shown = rule(per="second", above=1)
    assert len(feed(shown, [(at, 2 * at) for at in range(300)])) == 1
    said = feed(shown, [(at, 5.0) for at in range(10_000, 10_300)])
    assert [(at, change.active) for at, change in said] == [(10_150, False)]


def test_over_an_absence_of_the_agent_what_it_has_seen_ages() -> None:
    shown = rule(per="second", above=1)
    ramp = [(at, 2 * at) for at in range(140)]
    assert feed(shown, ramp) == []
    kept = msgspec.json.decode(msgspec.json.encode(dict(shown.state(140.0))))
    short, long = rule(per="second", above=1), rule(per="second", above=1)
    short.restore(kept, 140.0, 200.0)
    long.restore(kept, 140.0, 900.0)
    assert [at for at, _ in feed(short, [(200, 400)])] == [200]
    assert feed(long, [(900, 1800)]) == []


def test_it_wants_no_time_of_its_own_and_says_when_it_has_something_to_save() -> None:
    shown = rule(per="second", above=1)
    feed(shown, [(0, None), (1, "text"), (2, float("nan"))])
    assert (shown.is_unsaved, shown.deadline) == (False, None)
    feed(shown, [(3, 1.0)])
    assert (shown.is_unsaved, shown.deadline) == (True, None)


def test_its_text_says_the_unit() -> None:
    text = rule(per="hour", above=2).message.format(of=TEMPERATURE, value=2.5, limit="above 2")
    assert text == "air.temperature changes by 2.5 per hour, above 2"


def test_a_time_too_short_for_a_slope_is_refused() -> None:
    with pytest.raises(ValueError, match="over expects 1s or longer"):
        rule(per="second", above=1, over=0.5)
