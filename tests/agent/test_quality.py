"""Values that their device does not vouch for: what each rule makes of them, and that none goes by in silence."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import pytest
from support.boards import Relays, written
from support.rulebooks import Desk, loaded

from agent import console
from agent.events import Quality, Reading
from agent.outputs.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


BAD = {"a": Quality.BAD}
UNCERTAIN = {"a": Quality.UNCERTAIN}


def desk(
    folder: Path, quality: str = "", rules: str = "  hot: {threshold: {of: plant.a, above: 5}QUALITY}\n"
) -> Desk:
    return Desk(loaded(folder, rules.replace("QUALITY", f", quality: {{{quality}}}" if quality else "")))


def test_a_number_of_bad_quality_is_never_used(tmp_path: Path) -> None:
    for quality in ("", "bad: absent", "bad: ignore"):
        it = desk(tmp_path, quality)
        it.see(0, quality=BAD, a=9)
        it.see(1, quality={"b": Quality.BAD}, a=8, b=1)
        it.see(2, quality=BAD, a=1)
        assert it.said() == ["1 hot raised plant.a 8 above 5"]


@pytest.mark.parametrize(
    ("quality", "raised"),
    [("", True), ("uncertain: use", True), ("uncertain: absent", False), ("uncertain: ignore", False)],
)
def test_an_uncertain_number_is_used_unless_the_rule_says_otherwise(
    tmp_path: Path, quality: str, raised: bool
) -> None:
    it = desk(tmp_path, quality)
    it.see(0, quality=UNCERTAIN, a=9)
    assert bool(it.said()) is raised


def test_absent_is_a_missing_value_and_ignored_is_none_at_all(tmp_path: Path) -> None:
    rules = """\
  apart: {compare: {of: plant.a - plant.b, above: 5, when_stale: clear}QUALITY}
  heard: {absence: {of: plant.a, longer_than: 10s, bad_counts: true}QUALITY}
"""
    it = desk(tmp_path, "bad: absent", rules)
    it.see(0, a=9, b=1)
    it.see(1, quality=BAD, a=9, b=1)
    it.see(9, quality=BAD, a=9, b=1)
    it.until(18)
    assert it.said() == [
        "0 apart raised plant.a - plant.b 8.0 above 5",
        "1 apart cleared plant.a - plant.b 8.0 above 5",
    ]
    it = desk(tmp_path, "bad: ignore", rules)
    it.see(0, a=9, b=1)
    it.see(9, quality=BAD, a=-9, b=1)
    it.until(18)
    assert it.said() == [
        "0 apart raised plant.a - plant.b 8.0 above 5",
        "10 heard raised plant.a 10.0 longer than 10s",
    ]


def test_each_rule_sees_the_same_reading_in_its_own_way(tmp_path: Path) -> None:
    it = desk(
        tmp_path,
        rules="""\
  one: {threshold: {of: plant.a, above: 5}, quality: {uncertain: ignore}}
  two: {threshold: {of: plant.a, above: 5}}
  three: {threshold: {of: plant.b, above: 5}, quality: {bad: ignore}}
""",
    )
    it.see(0, quality={"a": Quality.UNCERTAIN, "b": Quality.BAD}, a=9, b=9)
    assert [told.rule for told in it.alarms()] == ["two"]
    assert {rule: doubts.told() for rule, doubts in it.rulebook.doubtful} == {
        "one": {"uncertain": 1, "uncertain_values": "ignore"},
        "two": {"uncertain": 1, "uncertain_values": "use"},
        "three": {"bad": 1, "bad_values": "ignore"},
    }


def test_a_condition_of_a_gate_is_not_judged_by_a_bad_value(tmp_path: Path) -> None:
    it = desk(tmp_path, rules="  hot: {threshold: {of: plant.a, above: 5}, where: other == 1}\n")
    it.see(0, device="other", quality={"mode": Quality.BAD}, mode=1)
    it.see(1, a=9)
    assert it.said() == []


def test_an_interlock_of_an_output_is_not_judged_by_a_bad_value(tmp_path: Path) -> None:
    it = desk(tmp_path)
    board = it._intakes["plant"]._board
    relay = Relays({"state": 0})
    board.add("pump", written(Settings, '{unless: "plant.a < 5"}'), relay.safe(), relay.checked)

    def holds() -> object:
        return (board.status("pump") or {})["state"].get("interlocked")

    it.see(0, quality=BAD, a=9, b=1)
    assert holds() == "plant.a has no usable value"
    it.see(1, quality=UNCERTAIN, a=9, b=1)
    assert holds() is None
    it.see(2, quality={"b": Quality.BAD}, a=4, b=1)
    assert holds() == "plant.a < 5"


def test_it_is_counted_and_one_line_is_logged_when_it_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = desk(tmp_path)
    it.see(0, a=1)
    assert it.rulebook.doubtful == []
    with caplog.at_level(logging.WARNING):
        for at in range(1, 100):
            it.see(at, quality=BAD, a=9)
        it.see(100, quality=UNCERTAIN, a=9)
    assert [record.getMessage() for record in caplog.records] == [
        "rule hot: plant.a is of bad quality: it counts as missing",
        "rule hot: plant.a is of uncertain quality: it is used",
    ]
    ((rule, doubts),) = it.rulebook.doubtful
    assert (rule, doubts.told(), doubts.last) == (
        "hot", {"bad": 99, "uncertain": 1, "bad_values": "absent", "uncertain_values": "use"}, 100,
    )  # fmt: skip
    it.see(2000, a=1)
    it.see(5000, quality=BAD, a=9)
    assert len(caplog.records) == 3


def test_a_reading_whose_quality_names_only_good_channels_is_as_any_other(tmp_path: Path) -> None:
    it = desk(tmp_path)
    it.clock.now = 1.0
    it.take([Reading({"a": 9}, 1.0, {"a": Quality.GOOD})])
    assert it.said() == ["1 hot raised plant.a 9 above 5"]
    assert it.rulebook.doubtful == []


def test_the_alarms_of_a_running_agent_say_what_its_rules_were_shown(tmp_path: Path) -> None:
    it = desk(tmp_path)
    for at in range(3):
        it.see(at, quality=BAD, a=9)
    ((rule, doubts),) = it.rulebook.doubtful
    said = {"alarms": [], "out_of_service": [], "doubtful": [{"rule": rule, **doubts.told(), "last": 62.0}]}
    lines = list(console.alarm_lines(said, console.Style(io.StringIO())))
    assert lines == ["no alarm is active", "  hot: 3 values of bad quality (absent), the last 1m2s ago"]
