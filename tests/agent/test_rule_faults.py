"""A wrong rule is found before it is at work: impossible hysteresis of every kind, circles, names that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from contracts.test_rules import KINDS
from support.rulebooks import loaded

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

IMPOSSIBLE = {
    "threshold": [
        ("{of: plant.a, above: 5, clear: 6}", "clear (6) is beyond above (5), so the alarm could never stay, expected 5 or lower"),
        ("{of: plant.a, below: 5, clear: 4}", "clear (4) is beyond below (5), so the alarm could never stay, expected 5 or higher"),
        ("{of: plant.a, inside: [1, 5], clear: [2, 6]}", "clear [2, 6] expects to enclose inside"),
        ("{of: plant.a, outside: [1, 5], clear: [0, 4]}", "clear [0, 4] expects to lie within outside"),
        ("{of: plant.a, above: {warning: 5, major: 8}, clear: 6}", "clear (6) is beyond above (5), so the alarm could never stay, expected 5 or lower"),
        ("{of: plant.a, above: {warning: 8, major: 5}}", "above expects a higher value for each worse severity, not warning 8, major 5"),
    ],
    "rate": [("{of: plant.a, per: minute, over: 5m, below: -2, clear: -3}", "clear (-3) is beyond below (-2), so the alarm could never stay, expected -2 or higher")],
    "window": [
        ("{of: plant.a, over: 5m, take: mean, above: 2, clear: 3}", "clear (3) is beyond above (2), so the alarm could never stay, expected 2 or lower"),
        ("{of: plant.a, over: 5m, take: count, above: 2, clear: -1}", "clear (-1) is below 0, which count never is, so the alarm could never clear"),
        ("{of: plant.a, over: 5m, take: stddev, above: 2, clear: -0.1}", "clear (-0.1) is below 0, which stddev never is, so the alarm could never clear"),
    ],
    "compare": [("{of: plant.a - plant.b, above: 2, clear: 3}", "clear (3) is beyond above (2), so the alarm could never stay, expected 2 or lower")],
    "anomaly": [("{of: plant.a, z: 3, clear: 4}", "clear (4) is beyond z (3), so the alarm could never stay")],
    "flapping": [("{of: plant.a, more_than: 3, within: 1m, clear: 4}", "clear (4) is beyond more_than (3), so the alarm could never stay")],
}  # fmt: skip
"""What is said of hysteresis that cannot be, by kind."""

WITHOUT = {"absence", "combine", "count", "sequence", "stuck"}
"""Kinds that have no hysteresis."""


def faults(folder: Path, rules: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, rules)
    return [fault.partition(": ")[2] for fault in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("kind", "settings", "fault"),
    [(kind, settings, fault) for kind, cases in IMPOSSIBLE.items() for settings, fault in cases],
)
def test_impossible_hysteresis_is_a_fault(tmp_path: Path, kind: str, settings: str, fault: str) -> None:
    assert faults(tmp_path, f"  odd:\n    {kind}: {settings}\n") == [f"rules.odd.{kind}: {fault}"]


def test_every_kind_has_been_thought_of() -> None:
    assert {*IMPOSSIBLE, *WITHOUT} == set(KINDS)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            "  a: {threshold: {of: plant.a, above: 1}, suppressed_by: [c]}\n",
            ["rules.a.suppressed_by[0]: unknown rule 'c', expected a"],
        ),
        (
            "  a: {threshold: {of: plant.a, above: 1}, suppressed_by: [a]}\n",
            ["rules.a.suppressed_by[0]: rules suppress each other in a circle: a → a"],
        ),
        (
            """\
  a: {threshold: {of: plant.a, above: 1}, suppressed_by: [b]}
  b: {threshold: {of: plant.a, above: 2}, suppressed_by: [c]}
  c: {threshold: {of: plant.a, above: 3}, suppressed_by: [a]}
""",
            ["rules.a.suppressed_by[0]: rules suppress each other in a circle: a → b → c → a"],
        ),
    ],
)
def test_rules_that_cannot_suppress_each_other_are_a_fault(
    tmp_path: Path, rules: str, said: list[str]
) -> None:
    assert faults(tmp_path, rules) == said


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("plant.mode == auto", "unknown device 'auto', expected one of plant, other (if it is a text, write it in quotes: 'auto')"),
        ("plnt == on", "unknown device 'plnt', did you mean 'plant'?"),
        ("plant == on", "'plant' has 4 channels, expected one of plant.a, plant.b, plant.mode, plant.part"),
        ("plant.a < plant.c", "unknown channel 'plant.c', did you mean 'plant.b'?"),
        ("auto > 5", "unknown device 'auto', expected one of plant, other"),
    ],
)  # fmt: skip
def test_names_in_a_condition_of_a_gate_are_looked_up(tmp_path: Path, where: str, fault: str) -> None:
    said = faults(tmp_path, f"  a: {{threshold: {{of: plant.a, above: 1}}, where: {where}}}\n")
    assert [each.partition(": ")[::2] for each in said] == [("rules.a.where", fault)]


def test_the_same_tips_are_given_in_the_settings_of_a_kind(tmp_path: Path) -> None:
    (said,) = faults(tmp_path, "  a: {compare: {of: plant.mode == auto}}\n")
    assert said.endswith("(if it is a text, write it in quotes: 'auto')")


@pytest.mark.parametrize(
    "of", ["2nd-floor.air > 5", "2nd-floor > 5", "22.air > 5", "5 < 1wire.t", "3-phase.l1 > 5"]
)
def test_a_device_that_begins_with_a_digit_cannot_be_named_in_an_expression_and_that_is_said(
    tmp_path: Path, of: str
) -> None:
    device = next(each for each in ("2nd-floor", "22", "1wire", "3-phase") if each in of)
    tip = f"  {device}: {{driver: serial_lines, port: /dev/ttyUSB9, parse: json}}\n"
    path = tmp_path / "conf.d"
    path.mkdir()
    (path / "more.yaml").write_text(f"devices:\n{tip}")
    said = faults(tmp_path, f"  a: {{compare: {{of: {of}}}}}\n")
    assert all(repr(device) in each and "rename" in each for each in said)
    assert said
