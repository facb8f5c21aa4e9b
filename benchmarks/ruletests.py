"""How long `gatepost test` plays a week of one sensor, with a reading a minute and one every 10 s, to one rule and to seven.

The bench alone, in one process: reading the files and comparing are not in it, and take no longer with more readings.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import config
from agent.ruletests import document, playing
from agent.ruletests.names import Names
from benchmarks._harness import progress
from benchmarks._results import Row, row

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICES: Final = """
devices:
  air: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [temperature, humidity]}}
  siren: {driver: gpio_output, pin: 27}
rules:
"""
ONE: Final = (
    "warm: {threshold: {of: air.temperature, above: 8, clear: 6, for: 5m}, then: {set: {siren: on}}}",
)
SEVEN: Final = (
    *ONE,
    "silent: {absence: {of: air.temperature, longer_than: 15m}}",
    "mean: {window: {of: air.temperature, take: mean, over: 1h, above: 7}}",
    "fast: {rate: {of: air.temperature, per: hour, over: 10m, above: 10}}",
    "stuck: {stuck: {of: air.humidity, for: 1h}}",
    "odd: {anomaly: {of: air.humidity, z: 4, over: 1d, warm_up: 1h, for: 1m}}",
    'damp: {compare: {of: "air.temperature > 5 and air.humidity > 60", for: 10m}}',
)
TEST: Final = """
tests:
  a week:
    until: 7d
    given:
      air.temperature: {every: EVERY, ramp: {0s: 4, 1d: 5, 2d: 3, 4d: 9, 4d 1h: 4, 7d: 4}}
      air.humidity: {noise: 1, 0s: 50}
"""
AIM: Final = 1.0
"""Seconds for a week with a reading a minute."""


def _week(rules: Sequence[str], every: str, repeats: int) -> list[float]:
    """Return the seconds of several runs."""
    with tempfile.TemporaryDirectory() as folder:
        site, tests = Path(folder, "site.yaml"), Path(folder, "site.tests.yaml")
        site.write_text(DEVICES + "".join(f"  {rule}\n" for rule in rules), encoding="utf-8")
        tests.write_text(TEST.replace("EVERY", every), encoding="utf-8")
        configuration = config.load(site)
        names = Names(configuration)
        (case,) = document.load(tests, names)
    runs = []
    for _ in range(repeats):
        began = time.perf_counter()
        playing.play(configuration, names, case)
        runs.append(time.perf_counter() - began)
    return runs


def measure(*, quick: bool = False) -> list[Row]:
    """Return the rows of both intervals and both numbers of rules."""
    rows: list[Row] = []
    for said, rules in (("1 rule", ONE), ("7 rules", SEVEN)):
        for every, aim in (("1m", AIM), ("10s", None)):
            progress(f"ruletests: {said}, a reading every {every}")
            runs = _week(rules, every, 1 if quick else 5)
            rows.append(row(f"ruletests: a week, every {every}, {said}", runs, "s", aim))
    return rows
