"""The same readings give the same alarms, whether they come one by one, many at once, or with restarts in between.

All kinds of rules at once, plain and behind gates, through the real rulebook and intake. Readings of several channels stay
whole: a rule over several channels takes the values of one reading together, so to split it is to say something else. For
rules over one channel each, it is the same.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.rulebooks import Desk, Told, loaded

from agent import registry
from agent.events import EventType, Quality, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.config import Config

START: Final = "2026-03-29T00:58:00Z"
"""In Berlin two minutes before 02:00, when it becomes 03:00."""

KINDS: Final[dict[str, list[str]]] = {
    "threshold": [
        "{of: plant.a, above: 10, clear: 5, for: 5s}",
        "{of: plant.b, above: {warning: 10, major: 20, critical: 30}, clear: 8, clear_for: 3s}",
    ],
    "rate": ["{of: plant.a, per: minute, over: 40s, above: 10, clear: 2}"],
    "window": [
        "{of: plant.a, take: mean, over: 30s, above: 10, clear: 8}",
        "{of: plant.b, take: median, over: 1m, above: 10, for: 2s}",
        "{of: plant.a, take: count, over: 20s, tumbling: true, above: 3}",
        "{of: plant.b, take: sum, over: 10s, below: 5}",
    ],
    "anomaly": ["{of: plant.a, z: 2, over: 1m, warm_up: 10s, for: 1s}"],
    "absence": ["{of: plant.a, longer_than: 20s}", "{of: [plant.a, plant.b], longer_than: 7s, clear_for: 2s}"],
    "stuck": ["{of: plant.a, for: 10s, within: 4}"],
    "flapping": ["{of: plant.part, more_than: 2, within: 30s, clear: 1}", "{of_rule: threshold-0, more_than: 1, within: 2m}"],
    "count": ["{of: plant.a > 10, at_least: 2, within: 30s}", "{of: plant.a > plant.b, each: reading, at_least: 3, within: 20s}"],
    "compare": ["{of: plant.a - plant.b, above: 10, max_age: 15s, when_stale: clear, for: 2s}", "{of: plant.a > plant.b and plant.mode == 'auto'}"],
    "sequence": [
        "{first: plant.a > 10, then: plant.b > 10, within: 30s}",
        "{first: plant.a > 10, without: plant.b > 10, within: 5s}",
        "{steps: [plant.a > 10, plant.a < 5, plant.b > 10], within: 1m, key: plant.part, hold: 3s}",
    ],
    "combine": ["{any_of: [threshold-0, compare-0], clear_for: 2s}", "{all_of: [threshold-0, threshold-1]}"],
}  # fmt: skip
"""Settings by kind: what makes time, several channels and other rules matter."""

GATES: Final = (
    "",
    ", where: \"plant.mode == 'auto'\", quality: {uncertain: absent}",
    ", only: [{between: [01:59, 02:00]}, {between: [03:01, 03:03], days: [sun]}]",
    ", where: plant.b < 20, only: {between: [03:00, 03:04]}, latch: true, repeat: 30s, quality: {bad: ignore}",
)

READINGS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 5.0, 10.0, 60.0]),  # seconds since the one before
        st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([0, 4, 8, 12, 15.5, 25, 40, None, "text"]), min_size=1),
        st.sampled_from([{}, {}, {"mode": "auto"}, {"mode": "manual"}, {"part": 1}, {"part": 2}, {"mode": None}]),
        st.sampled_from([None, None, None, {"a": Quality.BAD}, {"b": Quality.UNCERTAIN}]),
    ),
    min_size=5,
    max_size=40,
)  # fmt: skip
CUTS = st.lists(st.integers(0, 40), max_size=8)
BOUNDED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def rules(kinds: Iterable[str]) -> str:
    lines = []
    for kind in kinds:
        for index, written in enumerate(KINDS[kind]):
            for gate, beside in enumerate(GATES):
                name = f"{kind}-{index}{f'-gate-{gate}' if gate else ''}"
                lines.append(f"  {name}: {{{kind}: {written}{beside}}}\n")
    return "".join(lines)


def made(kinds: Iterable[str]) -> Config:
    with TemporaryDirectory() as folder:
        return loaded(Path(folder), rules(kinds))


@pytest.fixture(scope="module")
def site() -> Config:
    return made(KINDS)


def readings(steps: Sequence[Any]) -> list[Reading]:
    at, found = 0.0, []
    for wait, values, more, quality in steps:
        at += wait
        found.append(Reading({**values, **more}, at, quality))
    return found


def played(
    site: Config, groups: Iterable[Sequence[Reading]], *, restarts: bool = False, turns: float = 0
) -> list[Told]:
    """Return what was told, rule by rule.

    Args:
        site: The rules.
        groups: The readings that come at once.
        restarts: Whether the agent starts anew after each group.
        turns: Every how many seconds the rulebook is given the time; only at the end where 0.
    """
    it = Desk(site, START)
    last = 0.0
    for group in groups:
        if not group:
            continue
        at = group[-1].at or 0.0
        while turns and (last := last + turns) < at:
            it.until(last)
        it.clock.now = last = at
        it.take(group)
        if restarts:
            it.restart()
    it.until(last + 300.0)
    told = [each._replace(at=round(each.at, 3)) for each in it.alarms()]
    return sorted(told, key=lambda each: each.rule)


def cut(found: Sequence[Reading], places: Sequence[int]) -> list[Sequence[Reading]]:
    edges = sorted({0, len(found), *(place for place in places if place < len(found))})
    return [found[begin:end] for begin, end in pairwise(edges)]


@BOUNDED
@given(steps=READINGS, places=CUTS)
def test_one_by_one_or_many_at_once(site: Config, steps: list[Any], places: list[int]) -> None:
    found = readings(steps)
    one_by_one = played(site, [[each] for each in found], turns=0.75)
    assert played(site, cut(found, places)) == one_by_one
    assert played(site, [found]) == one_by_one


@BOUNDED
@given(steps=READINGS, places=CUTS)
def test_with_restarts_in_between(site: Config, steps: list[Any], places: list[int]) -> None:
    found = readings(steps)
    assert played(site, cut(found, places), restarts=True) == played(site, [found])


SINGLE: Final = ("threshold", "rate", "window", "anomaly", "stuck", "flapping")
"""Kinds that look at one channel each."""


@BOUNDED
@given(steps=READINGS)
def test_several_channels_in_one_reading_or_in_one_each(site: Config, steps: list[Any]) -> None:
    found = readings(steps)
    alone = [
        Reading({name: value}, each.at, each.quality) for each in found for name, value in each.values.items()
    ]
    wanted = [f"{kind}-{index}" for kind in SINGLE for index in range(len(KINDS[kind]))]

    def told(each: Sequence[Reading]) -> list[Told]:
        return [one for one in played(site, [each]) if one.rule in wanted]

    assert told(alone) == told(found)


def test_the_readings_make_rules_of_all_kinds_tell_something(site: Config) -> None:
    """Else the tests above would compare nothing with nothing."""
    story = [
        (1.0, 0, 0, 1),
        (6.0, 40, 0, 1),
        (1.0, 40, 0, 2),
        (2.0, 4, 0, 1),
        (1.0, 4, 40, 1),
        (30.0, 15.5, 8, 2),
    ] * 3
    story += [(2.0, 5 + index % 3, 0, 1) for index in range(25)]  # it stays where it is …
    story += [(2.0, 8 * index, 0, 1) for index in range(1, 10)]  # … and then it rises
    found = readings(
        [(wait, {"a": a, "b": b, "mode": "auto", "part": part}, {}, None) for wait, a, b, part in story]
    )
    raised = {
        told.rule
        for told in played(site, [found])
        if told.type == EventType.ALARM_RAISED.removeprefix("alarm.")
    }
    assert {name.partition("-")[0] for name in raised} == set(KINDS)
    assert any("gate-1" in name for name in raised)
    assert any("gate-2" in name for name in raised)
    assert any("gate-3" in name for name in raised)


def test_every_kind_is_here() -> None:
    assert set(KINDS) == set(registry.kinds("rules"))
    assert len(yaml.safe_load("rules:\n" + rules(KINDS))["rules"]) == sum(map(len, KINDS.values())) * len(
        GATES
    )
