"""The set-ups that come with gatepost: sound, as their tests say, and alive with simulated devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from support.agents import ROOT, gatepost

from agent import catalog, config

if TYPE_CHECKING:
    from pathlib import Path

    from support.sites import Site

FOLDER: Final = ROOT / "config" / "examples"

NAMES: Final = catalog.examples()
PAIRS: Final = [NAMES[index : index + 2] for index in range(0, len(NAMES), 2)]

with_each_example = pytest.mark.parametrize("name", NAMES)


def written(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((FOLDER / f"{name}.tests.yaml").read_text())["tests"].values())


def test_there_are_eight_and_the_page_beside_them_tells_of_each() -> None:
    assert len(NAMES) >= 8
    page = (FOLDER / "README.md").read_text()
    assert [name for name in NAMES if f"[{name}]({name}.yaml)" not in page] == []


@with_each_example
def test_its_rules_and_outputs_do_what_its_tests_say(name: str, tmp_path: Path) -> None:
    tested = gatepost("test", str(FOLDER / f"{name}.yaml"), folder=tmp_path, timeout=120)
    assert (tested.status, tested.err) == (0, ""), tested.out


@with_each_example
def test_each_of_its_alarms_and_outputs_is_expected_in_a_test(name: str) -> None:
    made = config.load(FOLDER / f"{name}.yaml")
    outputs = [each for each, device in made.devices.items() if device.driver == "gpio_output"]
    happenings = [what for test in written(name) for what in test.get("expect", {}).values()]
    expected = {each for happening in happenings for each in happening}
    alarms = [each for each, rule in made.rules.items() if rule.outcome.alarm]
    assert [each for each in (*alarms, *outputs) if each not in expected] == []


@with_each_example
def test_it_is_tested_with_an_ordinary_day_an_outage_and_a_restart(name: str) -> None:
    made = config.load(FOLDER / f"{name}.yaml")
    tests = written(name)
    assert [test for test in tests if "expect" not in test], "one in which nothing happens"
    deeds = [deed for test in tests for deed in test.get("do", {}).values()]
    assert [deed for deed in deeds if "restart" in deed]
    if any(device.driver == "serial_lines" for device in made.devices.values()):
        lost = {each for test in tests for each in test.get("given", {})} & made.devices.keys()
        assert [each for each in lost if f"{each}-silent" in made.rules]


@pytest.mark.parametrize("names", PAIRS, ids=" and ".join)
def test_it_runs_and_every_device_brings_readings(names: list[str], site: Site) -> None:
    variables = {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(site.broker().port)}
    agents = {}
    for name in names:
        text = (FOLDER / f"{name}.yaml").read_text()
        agents[name] = site.agent(text, "--simulate", "--seed", "1", name=name, **variables)
        agents[name].start()
    for name, agent in agents.items():
        made = config.load(FOLDER / f"{name}.yaml")
        agent.wait_status(
            lambda said: all(
                each["readings"] and each["health"] == "up" for each in said["devices"].values()
            ),
            f"{name}: a reading of each device",
        )
        for forwarder in made.forward:
            agent.wait_delivered(forwarder)
        assert agent.stop() == 0
        assert agent.lines("error") == []
        seen = {event.source for event in agent.committed() if event.type == "reading"}
        assert [each for each in made.devices if each not in seen] == []
