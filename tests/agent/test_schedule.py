"""Times of day and days of the week, and a wall clock whose hours are skipped or come twice."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import config
from agent.clock import DAY, VirtualClock, from_iso
from agent.conditions.schedule import DAYS, Schedule, Span, TimeOfDay
from agent.config import zones
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BERLIN = ZoneInfo("Europe/Berlin")


def spans(*written: dict[str, Any]) -> list[Span]:
    def read(wanted: Any, raw: Any) -> Any:
        return wanted.parse(raw)

    return [msgspec.convert(each, Span, dec_hook=read) for each in written]


def local(text: str) -> float:
    """Return what a wall clock shows, in seconds since it would have shown 1970-01-01 00:00."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("2026-01-05 21:59:59", False),
        ("2026-01-05 22:00:00", True),
        ("2026-01-06 00:00:00", True),
        ("2026-01-06 05:59:59", True),
        ("2026-01-06 06:00:00", False),
    ],
)
def test_a_range_holds_its_beginning_but_not_its_end_and_may_go_over_midnight(
    text: str, is_open: bool
) -> None:
    assert Schedule(spans({"between": ["22:00", "06:00"]})).is_open(local(text)) is is_open


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("2026-01-09 23:00", True),  # a Friday
        ("2026-01-10 05:00", True),  # the Friday's night
        ("2026-01-10 23:00", False),
        ("2026-01-09 05:00", False),  # the Thursday's
        ("2026-01-13 05:00", False),
        ("2026-01-11 22:00", True),
        ("2026-01-12 01:00", True),
    ],
)
def test_a_range_over_midnight_belongs_to_the_day_it_begins(text: str, is_open: bool) -> None:
    assert (
        Schedule(spans({"between": ["22:00", "6:00"], "days": ["fri", "sun"]})).is_open(local(text))
        is is_open
    )


def test_days_alone_are_whole_days_and_of_several_spans_one_is_enough() -> None:
    schedule = Schedule(spans({"days": ["sat", "sun"]}, {"between": ["12:00", "13:00"], "days": ["wed"]}))
    assert str(schedule) == "on sat, sun or between 12:00 and 13:00 on wed"
    opened = [schedule.is_open(local(f"2026-01-{day:02} 12:30")) for day in range(5, 12)]
    assert opened == [False, False, True, False, False, True, True]
    assert not schedule.is_open(local("2026-01-07 11:00"))


@given(
    begin=st.integers(0, 1439),
    end=st.integers(0, 1440),
    days=st.none() | st.lists(st.sampled_from(DAYS), min_size=1, unique=True),
    start=st.integers(0, 20_000 * DAY),
)
def test_between_two_edges_nothing_changes(begin: int, end: int, days: list[Any] | None, start: int) -> None:
    if begin == end:
        return
    span = Span((TimeOfDay(begin * 60), TimeOfDay(end * 60)), None if days is None else tuple(days))
    schedule = Schedule([span])
    edges = [float(start)]
    while edges[-1] < start + 8 * DAY:
        edges.append(schedule.next_edge(edges[-1]))
    for here, there in pairwise(edges):
        assert here < there <= here + DAY
        assert (
            schedule.is_open(here) is schedule.is_open((here + there) / 2) is schedule.is_open(there - 0.001)
        )
    throughout = all(schedule.is_open(each) for each in edges)
    assert schedule.is_open_throughout(edges[0], edges[-1]) is throughout


def test_what_is_open_throughout_an_absence_of_years_is_found_at_once() -> None:
    assert Schedule(spans({"between": ["00:00", "24:00"]})).is_open_throughout(0, 1e12)
    assert not Schedule(spans({"between": ["00:00", "23:59"]})).is_open_throughout(0, 1e12)


@pytest.mark.parametrize("text", ["24:01", "7", "12:60", "noon", "-1:00", "", "12:00:00"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time of day"):
        TimeOfDay.parse(text)


@pytest.mark.parametrize(
    ("zone", "what"),
    [
        ("Europe", "unknown time zone 'Europe', did you mean 'Europe/"),
        (
            "../../etc/passwd",
            "unknown time zone '../../etc/passwd', expected one such as Europe/Berlin or UTC",
        ),
        ('""', "unknown time zone '', expected one such as Europe/Berlin or UTC"),
        ("[UTC]", "found a list, expected a text"),
    ],
)
def test_what_is_no_time_zone_is_a_fault(tmp_path: Path, zone: str, what: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(f"time_zone: {zone}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path, {})
    (fault,) = caught.value.faults
    assert fault.what.startswith(what)


def test_without_any_time_zones_installed_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zones, "available_timezones", set)
    path = tmp_path / "site.yaml"
    path.write_text("time_zone: Nowhere/Land\n")
    with pytest.raises(ConfigError, match="install the package tzdata"):
        config.load(path, {})


def test_a_time_zone_of_the_configuration_counts_whatever_that_of_the_machine_is(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("time_zone: Asia/Kathmandu\n")
    site = config.load(path, {})
    made = VirtualClock(5.0)
    made.zone = site.zone
    assert made.local_offset(5.0) == made.epoch / 1e6 + 5.75 * 3600
    path.write_text("gateway: here\n")
    assert config.load(path, {}).zone is None


# --- the wall clock -------------------------------------------------------------------------------------------------


def clock(text: str) -> VirtualClock:
    made = VirtualClock(1000.0, from_iso(text) - 1000_000_000)
    made.zone = BERLIN
    return made


@pytest.mark.parametrize(
    ("text", "turn"),
    [
        ("2026-03-28T13:00:00Z", "2026-03-29T01:00:00Z"),
        ("2026-03-29T00:59:59.999999Z", "2026-03-29T01:00:00Z"),
        ("2026-10-24T01:00:00.5Z", "2026-10-25T01:00:00Z"),
    ],
)
def test_the_moment_at_which_summer_time_begins_or_ends_is_known_a_day_before(text: str, turn: str) -> None:
    made = clock(text)
    at = made.local_turn(1000.0)
    assert made.wall_at(at) == pytest.approx(from_iso(turn), abs=1000)  # in microseconds
    assert made.local_offset(at) - made.local_offset(at - 0.01) == pytest.approx(
        3600 * (1 if "-03-" in turn else -1)
    )


def test_where_nothing_changes_within_a_day_it_is_to_be_looked_at_after_that_day() -> None:
    made = clock("2026-06-01T00:00:00Z")
    assert made.local_turn(1000.0) == 1000.0 + DAY
    assert made.local_offset(1000.0) + 1000.0 == local("2026-06-01 02:00")


def test_an_hour_that_comes_twice_is_open_twice_and_one_that_is_skipped_never() -> None:
    schedule = Schedule(spans({"between": ["02:15", "02:45"]}))

    def minutes(text: str) -> int:
        made = clock(text)
        times = [1000.0 + 60 * minute for minute in range(24 * 60)]
        return sum(schedule.is_open(round(at + made.local_offset(at), 3)) for at in times)

    assert minutes("2026-10-24T22:00:00Z") == 60
    assert minutes("2026-03-28T23:00:00Z") == 0
    assert minutes("2026-06-01T00:00:00Z") == 30
