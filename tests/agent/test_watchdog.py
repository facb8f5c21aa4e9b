"""Who is stuck, judged from what parts say of themselves; and what they say in each of their states."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.couriers import Bench, FarSide, running, until

from agent import eventlog, watchdog
from agent.clock import Clock, VirtualClock
from agent.courier import Settings
from agent.errors import Disconnected
from agent.eventlog import EventLog
from agent.eventlog.writer import STALLED
from agent.events import Lane
from agent.quantities import Duration
from agent.supervisor import Backoff, Part, keep_running
from agent.watchdog import LOOK_EVERY, PATIENCE, Judge, Watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest


class Bank:
    """A judge that looks as time passes, and what each part says."""

    def __init__(self) -> None:
        self.clock = VirtualClock(1000.0)
        self.dues: dict[str, float | None] = {}
        self.watchdog = Watchdog(self.clock, self.dues.items)

    def look_for(self, seconds: float, dues: Mapping[str, float | None] | None = None) -> list[str]:
        """Look every `LOOK_EVERY`, and return who is stuck in the end."""
        self.dues.update(dues or {})
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += LOOK_EVERY
            self.watchdog.look()
        return self.watchdog.stuck


def test_a_part_that_lets_its_time_pass_is_stuck_after_a_while_and_not_before() -> None:
    bank = Bank()
    assert bank.look_for(PATIENCE, {"a": 1000.0}) == []
    assert bank.look_for(LOOK_EVERY) == ["a"]


def test_a_part_that_waits_for_others_or_for_its_own_time_is_not_stuck() -> None:
    assert Bank().look_for(86_400, {"driver": None, "rules": 1e9, "idle": float("inf")}) == []


def test_a_part_that_moves_late_but_moves_is_not_stuck() -> None:
    bank = Bank()
    for _ in range(100):
        assert bank.look_for(LOOK_EVERY * 2, {"a": bank.clock.now - 5}) == []


def test_a_machine_that_stood_still_has_no_part_that_is_stuck() -> None:
    judge = Judge()
    assert judge.look(0, [("a", -0.1)]) == []
    assert judge.look(3600, [("a", -0.1)]) == []  # all are as late, and the loop gets to them only now
    assert judge.look(3615, [("a", 3620)]) == []


def test_a_part_that_is_gone_is_forgotten() -> None:
    bank = Bank()
    bank.look_for(PATIENCE, {"a": 1000.0})
    del bank.dues["a"]
    bank.look_for(LOOK_EVERY)
    assert bank.look_for(PATIENCE, {"a": 1000.0}) == []


def test_what_is_stuck_is_said_once_and_what_goes_on_too(caplog: pytest.LogCaptureFixture) -> None:
    bank = Bank()
    bank.look_for(600, {"the courier to site": 1000.0})
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "the courier to site has stood still" in caplog.text
    bank.look_for(600, {"the courier to site": None})
    assert caplog.messages[1:] == ["the courier to site goes on"]
    assert bank.watchdog.stuck == []


# --- what parts say ---------------------------------------------------------------------------------------------------


async def courier_bench(path: Path, settings: Settings | None = None, window: int = 2) -> Bench:
    log = EventLog(path / "events.db", eventlog.Settings(), VirtualClock())
    await log.open(["site"], "1.0")
    return Bench(log, FarSide(window), settings or Settings())


async def test_a_courier_waits_for_its_far_side_as_long_as_that_takes(tmp_path: Path) -> None:
    it = await courier_bench(tmp_path)
    assert it.courier.due is None
    async with running(it):
        it.far.automatic = False
        it.append(10)
        await until(lambda: len(it.far.sent) == 2)
        assert it.courier.due is None
        while len(it.far.acknowledged) < 10:
            await until(lambda: it.far.open != [])
            it.far.acknowledge()
        await until(lambda: it.courier.delivered == 10)
        assert it.courier.due is None, "there is nothing to send"
    await it.log.close()


async def test_a_courier_that_does_not_send_what_it_could_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await courier_bench(tmp_path)
    async with running(it):
        it.append(1)
        await until(lambda: it.courier.delivered == 1)
        monkeypatch.setattr(it.courier, "_send", lambda: None)
        it.append(1)
        await asyncio.sleep(0)
        due = it.courier.due
        assert due is not None
        assert due < Clock().monotonic()
        assert it.courier.due == due
    await it.log.close()


async def test_a_courier_whose_disk_stands_still_waits_for_it_with_all_that_comes_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await courier_bench(tmp_path)
    it.append(3)
    await it.log.close()
    it = await courier_bench(tmp_path)  # what the last run has left is in the file only
    asked = asyncio.Event()

    async def stand_still(*_: object) -> None:
        asked.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(it.log.reader, "fetch", stand_still)
    async with running(it):
        await asked.wait()
        it.append(3)
        await asyncio.sleep(0)
        assert it.far.sent == []
        assert it.courier.due is None
    await it.log.close()


async def test_a_courier_that_is_held_back_by_its_rate_says_until_when(tmp_path: Path) -> None:
    it = await courier_bench(tmp_path, Settings(rate=0.01), window=100)
    it.append(3)
    await it.log.writer.commit()
    it.courier._historical_upto = dict.fromkeys(Lane, 3)
    async with running(it):
        await until(lambda: it.courier.delivered == 1)
        due = it.courier.due
        assert due is not None
        assert due > Clock().monotonic() + 10
    await it.log.close()


async def test_a_part_that_rests_says_until_when_and_one_that_is_tried_says_nothing() -> None:
    part = Part("device", "air", Clock(), lambda *_: None)
    tried = asyncio.Event()
    gone = asyncio.Event()

    async def run() -> None:
        assert part.retry_at is None
        tried.set()
        await gone.wait()
        raise Disconnected("gone")

    task = asyncio.create_task(keep_running(part, run, Backoff(min=Duration(60), max=Duration(60))))
    await tried.wait()
    gone.set()
    await until(lambda: part.retry_at is not None)
    assert part.retry_at is not None
    assert part.retry_at > Clock().monotonic()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_writer_of_a_log_whose_disk_refuses_waits_for_it(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db", eventlog.Settings(), Clock())
    await log.open([], "1.0")
    keeping = asyncio.create_task(log.keep())
    await until(lambda: log.writer.due is not None)
    log.writer.on_fault("the disk is full")
    assert log.writer.due is None
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await log.close()


def test_the_patience_is_longer_than_the_disk_has_to_answer() -> None:
    assert watchdog.PATIENCE > STALLED * 2
