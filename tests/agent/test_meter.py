"""Rates of counters, and what is written to disks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent import meter
from agent.meter import Trend

if TYPE_CHECKING:
    from pathlib import Path


def test_a_rate_is_that_of_the_last_while() -> None:
    trend = Trend(60, 6)
    for second in range(3600):
        trend.note(second, 0 if second < 3000 else (second - 3000) * 2)
    rate = trend.rate(3600, 1200)
    assert rate is not None
    assert rate.per_second == pytest.approx(2)
    assert 50 <= rate.over <= 71


def test_a_rate_begins_with_the_second_look() -> None:
    trend = Trend(60, 6)
    assert trend.rate(0, 5) is None
    trend.note(0, 5)
    assert trend.rate(0, 5) is None
    assert trend.rate(2, 6) == (0.5, 2)


def test_few_samples_are_kept_however_often_it_is_noted() -> None:
    trend = Trend(86_400, 96)
    for tenth in range(100_000):
        trend.note(tenth, tenth)
    assert len(trend._samples) <= 98


def test_a_counter_that_begins_anew_has_not_risen() -> None:
    trend = Trend(60, 6)
    trend.note(0, 1000)
    assert trend.rate(10, 3) == (0, 10)


def test_what_is_written_to_a_disk_is_counted(tmp_path: Path) -> None:
    before = meter.bytes_written()
    if before is None:
        pytest.skip("this kernel does not count")
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * 1_000_000)
        file.flush()
        os.fsync(file.fileno())
    after = meter.bytes_written()
    assert after is not None
    if after == before:
        pytest.skip("the temporary folder is in memory")
    assert after - before >= 1_000_000


def test_how_long_a_card_lasts() -> None:
    assert meter.years(0, 32_000_000_000) is None
    size = 32_000_000_000
    assert meter.years(size * meter.CELL_WRITES / meter.AMPLIFICATION / 365.25, size) == pytest.approx(1)
