"""The broker that the agent itself runs: its ports free before, and how it is while it runs."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from support.fake_machines import FakeMachine, case, of
from support.waiting import free_port

from agent.config import BrokerSettings
from agent.doctor import own_broker
from agent.doctor.findings import Level
from agent.doctor.running import Running

if TYPE_CHECKING:
    from pathlib import Path

    from support.sites import Site

    from agent.doctor.findings import Finding


@pytest.fixture(autouse=True)
def is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take iotcore as installed, whether it is or not."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def look(folder: Path, port: int, port_v5: int, agent: Running | None = None) -> list[Finding]:
    here = case(FakeMachine(folder), agent=agent)
    return list(own_broker.examine(BrokerSettings(port=port, port_v5=port_v5), here))


def test_ports_that_are_free_are_fine(tmp_path: Path) -> None:
    found = look(tmp_path, free_port(), free_port())
    assert [each.level for each in found] == [Level.OK] * 2


def test_a_port_that_another_program_has_is_a_fault(site: Site) -> None:
    broker = site.broker()
    (fault,) = of(look(site.folder / "fake", broker.port, free_port()), Level.FAULT)
    assert fault.what == f"port {broker.port} is taken by another program"
    assert f"sudo ss -ltnp 'sport = :{broker.port}'" in fault.do


@pytest.mark.parametrize(
    ("part", "level", "what"),
    [
        ({"health": "up"}, Level.OK, "it runs"),
        ({"health": "down", "reason": "port 1883 is taken; stop it"}, Level.FAULT, "port 1883 is taken"),
    ],
)
def test_a_running_agent_is_asked(tmp_path: Path, part: dict[str, str], level: Level, what: str) -> None:
    (found,) = look(tmp_path, 1883, 1884, Running(5, {"brokers": {"embedded": part}}))
    assert (found.level, found.what) == (level, what)


def test_a_library_that_is_missing_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (fault,) = of(look(tmp_path, free_port(), free_port()), Level.FAULT)
    assert (fault.what, fault.do) == (
        "the Python library iotcore is not installed",
        "pip install 'gatepost[broker]'",
    )
