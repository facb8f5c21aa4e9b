"""What an agent says of itself, on a clock that is turned by hand."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest
from support.couriers import FarSide
from support.desks import Front

from agent import console, eventlog, meter, status
from agent.clock import VirtualClock
from agent.courier import Courier
from agent.courier import Settings as Carried
from agent.eventlog import EventLog
from agent.events import EventType
from agent.status import SETTLED, Status
from agent.supervisor import Part
from agent.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Bench:
    """An agent's parts, without the agent."""

    def __init__(self, log: EventLog, clock: VirtualClock) -> None:
        self.log = log
        self.clock = clock
        self.front = Front(log, clock)
        self.part = Part("forwarder", "site", clock, lambda *_: None)
        self.watchdog = Watchdog(clock, list)
        couriers = {"site": Courier(log.consumer("site"), FarSide(), list, Carried())}
        about = {"gateway": "g", "version": "1.0", "simulated": False}
        rulebook, desk = self.front.rulebook, self.front.desk
        self.status = Status(
            about, clock, log, [self.part], {}, couriers, rulebook, rulebook._board, desk, self.watchdog
        )


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = VirtualClock(1000.0)
    log = EventLog(tmp_path / "events.db", eventlog.Settings(), clock)
    await log.open(["site"], "1.0")
    yield Bench(log, clock)
    await log.close()


async def sample(bench: Bench) -> None:
    """Let it look at what rises, once."""
    task = asyncio.create_task(bench.status.keep())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_says_since_when_a_part_is_as_it_is(bench: Bench) -> None:
    bench.part.down("no such broker")
    bench.clock.now += 90
    said = (await bench.status.tell())["forwarders"]["site"]
    assert (said["health"], said["for"], said["reason"]) == ("down", 90.0, "no such broker")
    assert said["since"] == "2026-01-01T00:16:40.000000Z"


async def test_it_says_for_how_long_the_oldest_undelivered_event_has_waited_in_memory_and_in_the_file(
    bench: Bench,
) -> None:
    assert (await bench.status.tell())["forwarders"]["site"]["oldest"] is None
    bench.log.append(EventType.READING, "air", {"t": 1})
    bench.clock.now += 60
    bench.log.append(EventType.ALARM_RAISED, "hot", {"severity": "major", "message": "hot"})
    for _ in range(2):
        said = (await bench.status.tell())["forwarders"]["site"]
        assert (said["waiting"], said["oldest"]) == (2, 60.0)
        await bench.log.writer.commit()


async def test_a_disk_that_stands_still_does_not_keep_the_status_from_coming(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(status, "PATIENCE", 0.01)
    monkeypatch.setattr(bench.log.reader, "count", never)
    said = (await bench.status.tell())["forwarders"]["site"]
    assert (said["waiting"], said["oldest"]) == (None, None)


async def test_rates_are_those_of_the_last_minute(bench: Bench) -> None:
    assert (await bench.status.tell())["rates"] == {"readings": None, "events": None, "over": 0.0}
    await sample(bench)
    for _ in range(20):
        bench.log.append(EventType.READING, "air", {"t": 1})
    bench.clock.now += 10
    assert (await bench.status.tell())["rates"] == {"readings": 0.0, "events": 2.0, "over": 10.0}


async def test_what_is_written_a_day_is_said_once_it_has_settled_with_what_that_means(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 1_000_000
    monkeypatch.setattr(meter, "bytes_written", lambda: written)
    await sample(bench)
    bench.clock.now += SETTLED - 1
    assert (await bench.status.tell())["disk"]["per_day"] is None
    bench.clock.now += 1
    written += 6_000
    said = (await bench.status.tell())["disk"]
    assert (said["written"], said["over"]) == (1_006_000, SETTLED)
    assert said["per_day"] == 864_000
    assert said["years"] == pytest.approx(said["size"] * 50 / 864_000 / 365.25, rel=0.01)


async def test_a_polled_device_that_does_not_answer_is_told_of(bench: Bench) -> None:
    intake = bench.front.desk._intakes["air"]
    bench.status._intakes = {"air": intake}
    bench.status._parts = [bench.part, Part("device", "air", bench.clock, lambda *_: None)]
    intake.asked_at = bench.clock.now
    bench.clock.now += status.UNANSWERED - 1
    assert "unanswered" not in (await bench.status.tell())["devices"]["air"]
    bench.clock.now += 3600
    said = await bench.status.tell()
    assert said["devices"]["air"]["unanswered"] == pytest.approx(3609)
    lines = list(console.status_lines(said, console.Style(io.StringIO())))
    assert any("(has not answered for 1h9s)" in line for line in lines), lines


async def test_what_is_stuck_is_said(bench: Bench) -> None:
    bench.watchdog.stuck = ["the courier to site"]
    assert (await bench.status.tell())["stuck"] == ["the courier to site"]
