"""The set-ups that come with gatepost: sound, as their tests say, and alive with simulated devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import yaml
from support.agents import ROOT, gatepost

from agent import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.sites import Site

FOLDER: Final = ROOT / "config" / "examples"

with_each_example = pytest.mark.parametrize("name", catalog.examples())


def test_there_are_eight_and_the_page_beside_them_tells_of_each() -> None:
    names = catalog.examples()
    assert len(names) >= 8
    page = (FOLDER / "README.md").read_text()
    assert [name for name in names if f"[{name}]({name}.yaml)" not in page] == []


@with_each_example
def test_its_rules_and_outputs_do_what_its_tests_say(name: str, tmp_path: Path) -> None:
    file = str(FOLDER / f"{name}.yaml")
    checked = gatepost("check", file, folder=tmp_path)
    assert (checked.status, checked.err) == (0, "")
    tested = gatepost("test", file, folder=tmp_path, timeout=120)
    assert (tested.status, tested.err) == (0, ""), tested.out


@with_each_example
def test_its_tests_expect_each_of_its_alarms_and_outputs(name: str) -> None:
    configuration = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    outputs = [each for each, device in configuration["devices"].items() if device["driver"] == "gpio_output"]
    tests = yaml.safe_load((FOLDER / f"{name}.tests.yaml").read_text())["tests"]
    expected = {each for test in tests.values() for each in _expected(test)}
    assert [each for each in (*configuration["rules"], *outputs) if each not in expected] == []


@with_each_example
def test_one_of_its_tests_is_an_ordinary_day_one_an_outage_and_one_a_restart(name: str) -> None:
    tests = yaml.safe_load((FOLDER / f"{name}.tests.yaml").read_text())["tests"].values()
    devices = set(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["devices"])
    deeds = [verb for test in tests for done in test.get("do", {}).values() for verb in done]
    assert "restart" in deeds
    assert [test for test in tests if not test.get("expect")], "one in which nothing happens"
    is_bus = any(not device_is_contact for device_is_contact in _contacts(name))
    assert not is_bus or [test for test in tests if devices.intersection(_lost(test))]


def _expected(test: dict[str, dict[str, dict[str, object]]]) -> Iterator[str]:
    for happening in test.get("expect", {}).values():
        yield from happening
