"""A disk that refuses, fills up or stands still: sensing goes on in memory, within bounds, and what was lost is said."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.logs import DEFAULTS, in_file, kept, opened, read, until_in_file
from support.waiting import eventually

from agent.clock import Clock
from agent.eventlog import EventLog, EventStore, writer
from agent.eventlog.pending import MARKS, Ages
from agent.events import Event, EventType, Lane

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


async def refused(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one commit refused, as a full disk does."""
    assert log._file._store is not None

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(log._file._store, "write", refuse)
        with pytest.raises(sqlite3.OperationalError) as caught:
            await log.writer.commit()
    log.writer.on_fault(str(caught.value))


def alarms(log: EventLog, count: int) -> list[Event]:
    return [log.append(EventType.ALARM_RAISED, "too-hot", {"value": number}) for number in range(count)]


async def test_while_the_disk_refuses_memory_is_bounded_and_then_all_that_is_left_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    monkeypatch.setattr("agent.eventlog.writer.TAIL_LIMIT", 100)
    async with opened(path) as log:
        (alarm,) = alarms(log, 1)
        for number in range(300):
            read(log, number)
        await refused(log, monkeypatch)
        assert "disk is full" in str(log.writer.fault)
        await log.writer.commit()
        assert log.writer.fault is None
    found = in_file(path)
    readings = [event for event in found if event.type == EventType.READING]
    assert found[0] == alarm
    assert [event.values["temperature"] for event in readings] == list(range(log.losses.dropped, 300))
    assert log.losses.dropped == 201


async def test_while_the_disk_refuses_what_is_delivered_goes_first_then_readings_then_the_oldest_alarms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    monkeypatch.setattr("agent.eventlog.writer.TAIL_LIMIT", 100)
    async with opened(path) as log:
        delivered = alarms(log, 50)
        log.consumer("a").acknowledge(Lane.URGENT, 0, delivered[-1].seq)
        expected = [*alarms(log, 40), *(read(log, number) for number in range(40))]
        await refused(log, monkeypatch)
        assert log._memory.pending.events == expected
        assert log.losses.dropped == 0, "nobody misses what is delivered"
        expected += alarms(log, 30)
        await refused(log, monkeypatch)
        log.losses.tell(at_once=True)
        assert log.losses.dropped == 10
        expected = [*expected[:40], *expected[50:], *log._memory.pending.events[-1:]]
        assert log._memory.pending.events == expected, "alarms stay as long as there are readings"
        expected += alarms(log, 200)
        await refused(log, monkeypatch)
        assert log._memory.pending.events[:100] == expected[-100:]
        await log.writer.commit()
        assert in_file(path)[:100] == expected[-100:]
        assert log.losses.dropped == 301 - 100 + 10


async def test_while_the_disk_refuses_no_more_rejections_are_kept_than_a_file_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    monkeypatch.setattr("agent.eventlog.retention.REJECTED", 10)
    async with opened(path) as log:
        events = [read(log, number) for number in range(50)]
        for event in events:
            log.consumer("a").reject(event, "too large")
        await refused(log, monkeypatch)
        await log.writer.commit()
    store = EventStore(path)
    store.open_reader()
    assert [each.event for each in store.rejected()] == events[-10:]
    store.close()


async def test_while_the_disk_refuses_no_producer_waits_however_much_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.eventlog.writer.TAIL_LIMIT", 100)
    async with opened(tmp_path / "events.db") as log:
        await refused(log, monkeypatch)
        alarms(log, writer.ROOM + 1000)
        await asyncio.wait_for(log.writer.room(), 5)


def test_of_the_times_at_which_events_were_appended_a_few_are_remembered_and_the_oldest_go() -> None:
    ages = Ages(span=0.5)
    for seq in range(3 * MARKS):
        ages.note(seq, seq)
    assert ages.of(0) == 2 * MARKS, "the oldest that is still known"
    assert ages.of(3 * MARKS - 1) == 3 * MARKS - 1


async def test_a_state_folder_that_is_gone_is_a_fault_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.db"
    async with opened(path) as log:
        event = read(log, 1)
        await log.writer.commit()
        shutil.rmtree(path.parent)
        await log.retain()
        assert "state" in str(log.writer.fault)
        async with kept(log):
            await eventually(lambda: log.writer.fault is None, "it is made anew")
    assert in_file(path)[0] == event


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
