"""The bench and the running agent make the same of the same readings: what the one did is what the other is expected to do."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from support.waiting import ticks

from agent import cli
from agent.events import ALARMS, EventType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.sites import Site

    from agent.events import Event

# An output takes a moment to be set, so no rule goes by how long it is. A busy machine gives the time late, so none combines others.
RULES: Final = {
    "heavy": {
        "threshold": {
            "of": "scale.weight",
            "above": {"warning": 30, "critical": 60},
            "clear": 20,
            "for": "173ms",
        },
        "then": {"set": {"fan": "on"}},
    },
    "silent": {"absence": {"of": "scale.weight", "longer_than": "600ms"}, "latch": True},
    "often": {"count": {"of": "scale.weight > 50", "at_least": 3, "within": "1.03s"}, "severity": "major"},
    "mean": {"window": {"of": "scale.weight", "take": "mean", "over": "1s", "above": 45}},
    "fan-often": {
        "count": {"of": "fan.state > 0.5", "at_least": 3, "within": "1m"},
        "then": {"set": {"lamp": {"pulse": "117ms"}}},
    },
}
SLACK: Final = 0.5
"""Seconds: how much later than in the bench a busy machine may do something."""


@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_agent_did_is_what_its_test_says(
    seed: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrument = site.instrument()
    devices = {
        "scale": {
            "driver": "serial_lines", "port": str(instrument.port), "parse": {"csv": ["weight"]},
            "units": {"weight": "kg"}, "simulate": False,
        },
        "fan": {"driver": "gpio_output", "pin": 17},
        "lamp": {"driver": "gpio_output", "pin": 27},
    }  # fmt: skip
    agent = site.agent({"gateway": "g", "devices": devices, "rules": RULES}, "--simulate")
    chance = random.Random(seed)
    for _ in range(2):  # the second run goes on where the first one ended
        agent.start_and_wait()
        agent.wait_status(is_silent, "the scale is silent")  # so that no line comes just as it is about to be
        level = 20.0
        for tick in ticks(every=0.05, during=2.5):
            level = min(max(level + chance.uniform(-25, 25), 0.0), 90.0)
            if not 20 <= tick < 36 and chance.random() < 0.8:  # and silent for a while
                instrument.write(f"{level:.1f}")
        agent.stop()
    events = agent.committed()
    test = {"tests": {"the same": written(events)}}
    path = Path(agent.path.parent / "same.yaml")
    path.write_text(yaml.safe_dump(test))
    monkeypatch.chdir(agent.path.parent)

    assert sum(event.type == EventType.ALARM_RAISED for event in events) >= 5
    assert cli.main(["test", str(agent.path), str(path)]) == 0
    assert cli.main(["test", str(agent.path), "--replay", str(agent.log)]) == 0


def is_silent(status: dict[str, Any]) -> bool:
    return any(
        alarm["rule"] == "silent" and alarm["state"].startswith("active") for alarm in status["alarms"]
    )


def written(events: Sequence[Event]) -> dict[str, Any]:
    """Return what a log says as a test."""
    epoch = next(event.time for event in events if event.type == EventType.AGENT_STARTED)

    end = (events[-1].time - epoch) / 1e6

    def at(event: Event) -> str:
        return f"{(event.time - epoch) / 1e6:.6f}s"

    def about(event: Event) -> str:
        seconds = (event.time - epoch) / 1e6
        return f"{max(seconds - SLACK, 0):.6f}s..{min(seconds + SLACK, end):.6f}s"

    expected: dict[str, list[dict[str, Any]]] = {}
    shown: dict[str, Any] = {"fan": 0, "lamp": 0}
    given: dict[str, list[Any]] = {}
    stopped = [event for event in events if event.type == EventType.AGENT_STOPPED]
    started = [event for event in events if event.type == EventType.AGENT_STARTED]
    away = (started[1].time - stopped[0].time) / 1e6
    for event in events:
        if event.type == EventType.READING and event.source == "scale":
            given.setdefault(at(event), []).append(event.values["weight"])
        elif event.type in ALARMS:
            told = {"of", "limit", "severity", "message"}
            if event.source != "silent":  # its value is seconds, and begins a moment after the agent
                told.add("value")
            facts = {name: event.values[name] for name in sorted(told)}
            change = {event.source: {event.type.removeprefix("alarm."): facts}}
            expected.setdefault(about(event), []).append(change)
        elif event.type == EventType.COMMAND_DONE and event.values["value"] != shown[event.source]:
            shown[event.source] = event.values["value"]
            fact = {shown[event.source]: {"cause": event.values["cause"]}}
            expected.setdefault(about(event), []).append({event.source: fact})
    return {
        "given": {"scale": given},
        "do": {at(stopped[0]): {"restart": f"{away:.6f}s"}},
        "expect": expected,
        "until": at(events[-1]),
    }
