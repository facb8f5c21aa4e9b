"""A disk that refuses, fills up or stands still: sensing goes on in memory, within bounds, and what was lost is said."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.logs import DEFAULTS, in_file, kept, opened, read, until_in_file

from agent.clock import Clock
from agent.eventlog import EventLog
from agent.events import EventType

if TYPE_CHECKING:
    from pathlib import Path


def fill(log: EventLog) -> None:
    while not log.writer.is_full:
        read(log, 1)


async def test_producers_wait_for_the_disk_in_a_flood_but_not_for_a_broken_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "events.db") as log:
        fill(log)
        waiting = asyncio.create_task(log.writer.room())
        await log.writer.commit()
        await asyncio.wait_for(waiting, 5)
        fill(log)
        log.writer.on_fault("disk I/O error")
        await asyncio.wait_for(log.writer.room(), 5)


async def test_while_the_disk_refuses_memory_is_bounded_and_then_all_that_is_left_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    monkeypatch.setattr("agent.eventlog.writer.TAIL_LIMIT", 100)
    async with opened(path) as log:
        assert log._file._store is not None
        whole = log._file._store.write

        def refuse(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(log._file._store, "write", refuse)
        alarm = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 36})
        for number in range(300):
            read(log, number)
        with pytest.raises(sqlite3.OperationalError) as caught:
            await log.writer.commit()
        log.writer.on_fault(str(caught.value))
        assert "disk is full" in str(log.writer.fault)
        monkeypatch.setattr(log._file._store, "write", whole)
        await log.writer.commit()
        assert log.writer.fault != "database or disk is full"
    found = in_file(path)
    readings = [event for event in found if event.type == EventType.READING]
    assert found[0] == alarm
    assert [event.values["temperature"] for event in readings] == list(range(log.losses.dropped, 300))
    assert log.losses.dropped == 201


async def test_a_disk_that_stands_still_is_a_fault_and_then_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    going_on = threading.Event()
    log = EventLog(path, DEFAULTS, Clock())
    await log.open(["a"], "1.0")
    monkeypatch.setattr("agent.eventlog.writer.STALLED", 0.05)
    monkeypatch.setattr("agent.eventlog.log.WATCH_EVERY", 0.025)
    assert log._file._store is not None
    whole = log._file._store.write

    def stall(*arguments: Any) -> None:
        going_on.wait(10)
        whole(*arguments)

    monkeypatch.setattr(log._file._store, "write", stall)
    async with kept(log):
        event = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 36})
        async with asyncio.timeout(10):
            while log.writer.fault is None:
                await asyncio.sleep(0.005)
        going_on.set()
        assert await until_in_file(path, 1) == [event]
    await log.close()
