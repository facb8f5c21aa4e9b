"""The reporter: which readings are worth an event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events import Quality, Reading
from agent.quantities import Change, Duration
from agent.reporter import Reporter, Settings


def kept(
    settings: Settings, values: list[tuple[float, float]], *, polled: bool = True
) -> list[tuple[float, float]]:
    """Return which of some (time, value) are kept."""
    reporter = Reporter(settings, polled=polled)
    return [(at, value) for at, value in values if reporter.keep(Reading({"t": value}), at)]


def test_without_settings_every_reading_is_kept_as_it_is() -> None:
    reading = Reading({"t": 1.0, "h": 2})
    assert Reporter(Settings(), polled=True).keep(reading, 0) is reading.values


@pytest.mark.parametrize(
    ("change", "values", "expected"),
    [
        ("any", [1, 1, 2, 2, 1], [1, 2, 1]),
        (0.5, [1, 1.4, 1.5, 1.9, 2.0, 1.6, 1.5], [1, 1.5, 2.0, 1.5]),
        ("10%", [100, 109, 110, 120, 121, 100], [100, 110, 121, 100]),
        ("10%", [0, 0, 0.001], [0, 0.001]),
        (0.5, [1, 1.1, 1.2, 1.3, 1.4, 1.5], [1, 1.5]),  # a slow drift is not missed
    ],
)
def test_a_change_is_measured_from_what_was_last_kept(
    change: float | str, values: list[float], expected: list[float]
) -> None:
    found = kept(
        Settings(change=Change.parse(change)), [(float(at), value) for at, value in enumerate(values)]
    )
    assert [value for _, value in found] == expected


def test_channels_have_changes_of_their_own_and_those_not_named_keep_any() -> None:
    reporter = Reporter(Settings(change={"t": Change(1.0)}), polled=True)
    assert reporter.keep(Reading({"t": 20.0, "h": 50}), 0) == {"t": 20.0, "h": 50}
    assert reporter.keep(Reading({"t": 20.5, "h": 50}), 1) == {}
    assert reporter.keep(Reading({"t": 20.6, "h": 51}), 2) == {"h": 51}
    assert reporter.keep(Reading({"t": 21.0, "h": 52}), 3) == {"t": 21.0, "h": 52}


def test_text_and_missing_values_change_when_they_differ() -> None:
    reporter = Reporter(Settings(change=Change(10.0)), polled=True)
    looks = [
        Reading({"s": "on"}),
        Reading({"s": "on"}),
        Reading({"s": "off"}),
        Reading({"s": None}),
        Reading({"s": 1}),
    ]
    assert [bool(reporter.keep(look, 0)) for look in looks] == [True, False, True, True, True]


def test_a_change_of_quality_is_a_change() -> None:
    reporter = Reporter(Settings(change=Change(10.0)), polled=True)
    looks = [Reading({"t": 1.0}), Reading({"t": 1.0}, quality={"t": Quality.UNCERTAIN}), Reading({"t": 1.0})]
    assert [bool(reporter.keep(look, 0)) for look in looks] == [True, True, True]


def test_at_least_keeps_a_heartbeat_of_an_unchanged_value() -> None:
    settings = Settings(change=Change(0.0), at_least=Duration(10))
    assert kept(settings, [(float(at), 1) for at in range(0, 31, 2)]) == [(0, 1), (10, 1), (20, 1), (30, 1)]


def test_at_least_says_the_last_value_of_an_event_driven_device_again() -> None:
    reporter = Reporter(Settings(change=Change(0.0), at_least=Duration(60)), polled=False)
    assert reporter.keep(Reading({"state": 1}), 5) == {"state": 1}
    assert reporter.deadline == 65
    assert reporter.on_time(64) is None
    assert reporter.on_time(65) == Reading({"state": 1}, 65)
    assert reporter.deadline == 125


def test_at_most_limits_the_rate_and_the_last_value_still_comes() -> None:
    reporter = Reporter(Settings(at_most=Duration(10)), polled=False)
    assert reporter.keep(Reading({"t": 1}), 0) == {"t": 1}
    assert reporter.keep(Reading({"t": 2}), 1) == {}
    assert reporter.keep(Reading({"t": 3}), 2) == {}
    assert reporter.deadline == 10
    assert reporter.on_time(10) == Reading({"t": 3}, 10)
    assert reporter.on_time(20) is None


def test_at_most_forgets_what_went_back_to_what_was_kept() -> None:
    reporter = Reporter(Settings(change=Change(0.5), at_most=Duration(10)), polled=True)
    reporter.keep(Reading({"t": 1.0}), 0)
    reporter.keep(Reading({"t": 5.0}), 1)
    assert reporter.keep(Reading({"t": 1.1}), 2) == {}
    assert reporter.deadline is None


def test_the_reading_that_trips_a_rule_is_kept_whole() -> None:
    reporter = Reporter(Settings(change=Change(100.0), at_most=Duration(3600)), polled=True)
    reporter.keep(Reading({"t": 1.0, "h": 2.0}), 0)
    assert reporter.keep(Reading({"t": 1.1, "h": 2.1}), 1, force=True) == {"t": 1.1, "h": 2.1}


def test_at_least_shorter_than_at_most_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at_least \(1s\) is shorter than at_most \(10s\)"):
        Settings(at_least=Duration(1), at_most=Duration(10))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0.001, 1e3))
def test_what_is_kept_is_never_further_from_the_truth_than_the_deadband(
    values: list[float], band: float
) -> None:
    reporter = Reporter(Settings(change=Change(band)), polled=True)
    known = None
    for at, value in enumerate(values):
        known = reporter.keep(Reading({"t": value}), float(at)).get("t", known)
        assert isinstance(known, float)
        assert abs(known - value) < band or known == value
