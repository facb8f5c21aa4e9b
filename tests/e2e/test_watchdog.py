"""When systemd's watchdog is fed, and when it is not: gatepost as a process, with a part that hangs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import stuck
from support.configurations import gateway, mqtt
from support.systemd import ServiceManager
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.agents import Agent
    from support.sites import Site

LIMIT = 0.5
"""Seconds within which the watchdog wants to be fed; it is fed twice as often."""

PULSE = {"driver": "heartbeat", "every": "100ms"}


@pytest.fixture
def manager(site: Site) -> Iterator[ServiceManager]:
    with ServiceManager(site.folder, LIMIT) as manager:
        yield manager


def agent_with(site: Site, manager: ServiceManager, what: str, configuration: dict[str, object]) -> Agent:
    agent = site.agent(configuration, **manager.environment)
    agent.program = [sys.executable, str(Path(stuck.__file__)), what]
    return agent


def test_it_is_fed_while_all_goes_well_and_not_before_it_is_ready(
    site: Site, manager: ServiceManager
) -> None:
    broker = site.broker()
    agent = agent_with(site, manager, "nothing", gateway({"pulse": PULSE}, {"site": mqtt(broker.port)}))
    agent.start_and_wait()
    manager.wait_fed(10)
    said = [line for _, line in manager.heard]
    assert said.index("READY=1") < said.index("WATCHDOG=1")
    assert agent.stop() == 0
    assert agent.said() == ""


def test_a_driver_that_never_returns_costs_its_device_only_and_not_the_end(
    site: Site, manager: ServiceManager
) -> None:
    devices = {"machine": {"driver": "system", "every": "100ms"}, "pulse": PULSE}
    agent = agent_with(site, manager, "driver", gateway(devices))
    agent.start_and_wait()
    agent.wait_status(lambda said: said["devices"]["machine"]["readings"] == 2, "the last readings")
    manager.wait_fed(10)  # more than the patience of a second
    before = agent.wait_status(lambda _: True, "it answers")["devices"]
    agent.wait_status(
        lambda said: said["devices"]["pulse"]["readings"] > before["pulse"]["readings"] + 5,
        "the other device goes on",
    )
    assert before["machine"]["readings"] == 2

    assert agent.stop() == 0

    assert agent.lines("drivers.system has not closed its device")
    assert agent.committed()[-1].type == "agent.stopped"


def test_a_broker_that_stands_still_is_no_reason_to_begin_anew(site: Site, manager: ServiceManager) -> None:
    broker = site.broker()
    agent = agent_with(site, manager, "nothing", gateway({"pulse": PULSE}, {"site": mqtt(broker.port)}))
    agent.start_and_wait()
    agent.wait_status(lambda said: said["forwarders"]["site"]["delivered"] > 5, "events arrive")
    broker.freeze()
    agent.wait_status(lambda said: said["forwarders"]["site"]["waiting"] > 5, "events wait")
    manager.wait_fed(10)


def test_a_blocked_event_loop_starves_the_watchdog_whose_signal_tells_where(
    site: Site, manager: ServiceManager
) -> None:
    agent = agent_with(site, manager, "loop", gateway({"pulse": PULSE}))
    agent.start()
    until(lambda: manager.said("READY=1"), "it is ready")
    manager.wait_hungry(2)
    assert agent.stop(signal.SIGABRT) == -signal.SIGABRT  # what systemd does then
    assert "in blocking" in agent.said()


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("courier", "the courier to site"),
        ("rules", "the rules' time"),
        ("writer", "the writer of the log"),
    ],
)
def test_a_part_that_is_stuck_starves_the_watchdog_and_is_named(
    site: Site, manager: ServiceManager, what: str, name: str
) -> None:
    broker = site.broker()
    agent = agent_with(site, manager, what, gateway({"pulse": PULSE}, {"site": mqtt(broker.port)}))
    agent.start()
    agent.wait_said(f"{name} has stood still")
    manager.wait_hungry(2)
    assert manager.said(f"STATUS={name}")
    assert agent.status() is not None, "the event loop is not blocked"
