"""No broker for most of a long time at a high rate: memory stays level, the source never waits, and all of it arrives.

GATEPOST_FAULTS_HOUR=1 makes it an hour; otherwise it is some minutes in the long form, and some seconds in the short one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from support.chances import rounds
from support.configurations import ALARM, gateway, mqtt, scale
from support.ledger import Ledger
from support.waiting import ticks

if TYPE_CHECKING:
    from support.agents import Agent
    from support.sites import Site

SECONDS: Final = 3600 if os.environ.get("GATEPOST_FAULTS_HOUR") else rounds(5, 180)
"""How long the outage lasts, from first to last."""

RATE: Final = 1000
"""Lines a second."""

LEVEL: Final = 16 * 1024**2
"""Bytes by which the agent's memory may differ between the first and the last quarter: the noise of the allocator."""

LATE: Final = 5.0
"""Seconds by which the source may be behind its own clock on a busy machine; a source that waits is behind without end."""


def resident(agent: Agent) -> int:
    """Return the bytes of memory that an agent has."""
    pages = int(Path(f"/proc/{agent.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_long_outage_at_a_high_rate(site: Site) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    configuration = gateway({"scale": scale(counting.instrument)}, {"site": mqtt(gate.port)}, rules=ALARM)
    agent = site.agent(configuration)
    agent.start_and_wait()
    counting.write(RATE)
    counting.write_heavy()
    agent.wait_delivered("site")

    gate.shut()
    began = time.monotonic()
    sizes: list[int] = []
    for tick in ticks(every=0.02, during=SECONDS):
        counting.write(RATE // 50)
        if tick % 50 == 0:
            sizes.append(resident(agent))
        if tick % 500 == 0:
            counting.write_heavy()
    behind = time.monotonic() - began - SECONDS
    written = counting.written
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == written, "everything is read")
    gate.open()

    agent.wait_delivered("site", timeout=60 + SECONDS)
    Ledger(counting).wait_balanced(subscriber, timeout=60 + SECONDS)
    assert behind < LATE
    quarter = len(sizes) // 4
    assert max(sizes[-quarter:]) - max(sizes[quarter : 2 * quarter]) < LEVEL
