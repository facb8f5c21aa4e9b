"""The event log: what is kept, in which order, for whom, and what a crash may cost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agent import eventlog
from agent.clock import Clock, VirtualClock
from agent.eventlog import EventLog, EventStore, ForeignFile, LogInUse, NewerLog, opening, retention
from agent.eventlog.writer import GROUP, HISTORY
from agent.events import Event, EventType, Lane, Quality, Value
from agent.quantities import Duration, Size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

DEFAULTS = eventlog.Settings()
DAY = 86_400_000_000


@asynccontextmanager
async def opened(
    path: Path,
    consumers: Sequence[str] = ("a",),
    configured: eventlog.Settings = DEFAULTS,
    clock: VirtualClock | None = None,
) -> AsyncIterator[EventLog]:
    log = EventLog(path, configured, clock or VirtualClock())
    await log.open(consumers, "1.0")
    try:
        yield log
    finally:
        await log.close()


async def crash(log: EventLog) -> None:
    """Let go of everything as a SIGKILL does: what is only in memory is gone."""
    log._file._writing.shutdown()
    log._file._reading.shutdown()
    log._file._reader.close()
    if log._file._store is not None:
        log._file._store.close()
    if log._file._lock is not None:
        log._file._lock.close()


def read(log: EventLog, number: int, source: str = "air") -> Event:
    return log.append(EventType.READING, source, {"temperature": number})


async def undelivered(log: EventLog, consumer: str, limit: int) -> list[Event]:
    after = log.consumer(consumer).cursor(Lane.READINGS)
    return await log.reader.fetch(Lane.READINGS, after, limit)


def in_file(path: Path) -> list[Event]:
    store = EventStore(path)
    store.open_reader()
    try:
        return store.read(None, 0, None, 1_000_000)
    finally:
        store.close()


async def test_what_was_appended_is_read_in_order_before_and_after_the_commit(tmp_path: Path) -> None:
    async with opened(tmp_path / "events.db") as log:
        appended = [read(log, number) for number in range(5)]
        assert log.reader.peek(Lane.READINGS, 0, 100) == appended
        await log.writer.commit()
        assert await log.reader.fetch(Lane.READINGS, 0, 100) == appended
        assert await log.reader.history(0, 100) == appended
        assert log.reader.peek(Lane.READINGS, appended[2].seq, 100) == appended[3:]


@pytest.mark.parametrize(
    "values",
    [
        {"t": 21.5},
        {"t": 0.1 + 0.2},
        {"t": 2**63 - 1},
        {"t": -(2**63) + 1},
        {"t": 0},
        {"t": ""},
        {"t": "on"},
        {"t": "[1, 2]"},
        {"t": 1, "h": 2.5, "text": "ü\n"},
        {"t": 5e-324, "h": 1.7976931348623157e308},
        {},
    ],
)
async def test_values_come_back_from_the_file_as_they_were(tmp_path: Path, values: dict[str, Value]) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        event = log.append(EventType.READING, "air", dict(values), time=1_767_225_600_000_001)
    found = in_file(path)
    assert found == [event]
    assert [type(value) for value in found[0].values.values()] == [type(value) for value in values.values()]


async def test_a_missing_value_comes_back_with_its_quality(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        bad = {"t": Quality.BAD}
        whole = log.append(EventType.READING, "air", {"t": 20.0, "h": 40.0})
        event = log.append(EventType.READING, "air", {"t": None, "h": 41.0}, quality=bad)
        alone = log.append(EventType.READING, "air", {"t": None}, quality=bad)
    assert in_file(path) == [whole, event, alone]


async def test_a_device_that_shows_further_channels_later_keeps_the_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        looks: list[dict[str, Value]] = [{"t": 1.5}, {"t": 2, "h": 3}, {"h": 4}, {"t": 5}, {"p": 6}]
        events = [log.append(EventType.READING, "air", values) for values in looks]
    async with opened(path) as log:
        events.append(log.append(EventType.READING, "air", {"t": 7}))
    assert in_file(path) == events


async def test_ids_never_repeat_over_crashes(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    seen: list[str] = []
    for _ in range(3):
        log = EventLog(path, DEFAULTS, VirtualClock())
        await log.open(["a"], "1.0")
        seen += [read(log, number).id for number in range(3)]
        await log.writer.commit()
        seen += [read(log, number).id for number in range(3)]
        await crash(log)
    assert len(set(seen)) == len(seen)


async def test_a_crash_is_told_from_a_clean_end(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        assert log.was_clean
    log = EventLog(path, DEFAULTS, VirtualClock())
    await log.open(["a"], "1.0")
    assert log.was_clean
    await crash(log)
    async with opened(path) as log:
        assert not log.was_clean
        assert log.run == 3


async def test_a_cursor_goes_on_where_it_was_and_a_new_consumer_begins_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        events = [read(log, number) for number in range(4)]
        log.consumer("a").acknowledge(Lane.READINGS, 0, events[1].seq)
    async with opened(path, ["a", "b"]) as log:
        assert await undelivered(log, "a", 10) == events[2:]
        assert await undelivered(log, "b", 10) == []
        assert (await log.consumer("a").waiting(), await log.consumer("b").waiting()) == (2, 0)


async def test_what_is_acknowledged_while_it_is_being_written_is_saved_by_the_next_commit(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        await log.writer.commit()
        event = read(log, 1)
        committing = asyncio.create_task(log.writer.commit())
        await asyncio.sleep(0)  # it has taken what it writes
        log.consumer("a").acknowledge(Lane.READINGS, 0, event.seq)
        await committing
        await log.writer.commit()
        store = EventStore(path)
        store.open_reader()
        assert store.cursors()["a", Lane.READINGS] == event.seq
        store.close()


async def test_a_consumer_that_is_gone_no_longer_holds_events_back(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    clock = VirtualClock()
    async with opened(path, ["a", "gone"], clock=clock) as log:
        log.consumer("a").acknowledge(Lane.READINGS, 0, read(log, 1).seq)
    clock.now += 30 * 86_400
    async with opened(path, ["a"], clock=clock) as log:
        await log.retain()
    assert in_file(path) == []


async def test_lanes_are_read_apart_and_each_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path / "events.db") as log:
        readings, urgent = [], []
        for number in range(6):
            readings.append(read(log, number))
            urgent.append(log.append(EventType.DEVICE_DOWN, "air", {"reason": str(number)}))
        await log.writer.commit()
        for lane, expected in ((Lane.READINGS, readings), (Lane.URGENT, urgent)):
            assert await log.reader.fetch(lane, 0, 100) == expected
        assert await log.reader.history(0, 100) == sorted(readings + urgent, key=lambda event: event.seq)


# --- when it is written ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def kept(log: EventLog) -> AsyncIterator[None]:
    task = asyncio.create_task(log.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_in_file(path: Path, count: int) -> list[Event]:
    async with asyncio.timeout(10):
        while len(found := in_file(path)) < count:
            await asyncio.sleep(0.005)
    return found


async def test_an_urgent_event_is_committed_at_once_with_the_readings_before_it(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path, configured=eventlog.Settings(commit=Duration(3600))) as log, kept(log):
        events = [read(log, 1), log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1})]
        assert await until_in_file(path, 2) == events


async def test_an_undelivered_reading_is_committed_within_commit_and_a_delivered_one_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.db"
    clock = VirtualClock()
    async with opened(path, configured=eventlog.Settings(commit=Duration(1)), clock=clock) as log:
        await log.writer.commit()
        first = read(log, 1)
        assert log.writer.due_in() == pytest.approx(1)
        clock.now += 0.6
        assert log.writer.due_in() == pytest.approx(0.4)
        log.consumer("a").acknowledge(Lane.READINGS, 0, first.seq)
        assert log.writer.due_in() == pytest.approx(HISTORY - 0.6)
        clock.now += 5
        read(log, 2)
        assert log.writer.due_in() == pytest.approx(1)


async def test_without_any_consumer_readings_are_committed_within_commit(tmp_path: Path) -> None:
    async with opened(tmp_path / "events.db", []) as log:
        read(log, 1)
        assert log.writer.due_in() == pytest.approx(1)


async def test_a_full_group_is_committed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path, configured=eventlog.Settings(commit=Duration(3600))) as log, kept(log):
        for number in range(GROUP):
            read(log, number)
        assert len(await until_in_file(path, GROUP)) == GROUP


async def test_an_idle_log_writes_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with opened(tmp_path / "events.db", clock=clock) as log:
        await log.writer.commit()
        clock.now += 86_400
        assert log.writer.due_in() > 0


async def test_with_retain_0_what_is_delivered_never_touches_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path, configured=eventlog.Settings(retain=Duration(0))) as log:
        events = [read(log, number) for number in range(10)]
        log.consumer("a").acknowledge(Lane.READINGS, 0, events[6].seq)
        await log.writer.commit()
        assert in_file(path) == events[7:]
        assert await log.reader.fetch(Lane.READINGS, events[6].seq, 10) == events[7:]


async def test_with_commit_0_nothing_is_handed_out_before_it_is_on_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path / "events.db", configured=eventlog.Settings(commit=Duration(0))) as log:
        woken: list[int] = []
        log.reader.listen(lambda: woken.append(1))
        event = read(log, 1)
        assert (log.reader.peek(Lane.READINGS, 0, 10), woken) == ([], [])
        assert log.writer.due_in() <= 0
        await log.writer.commit()
        assert (log.reader.peek(Lane.READINGS, 0, 10), woken) == ([event], [1])


async def test_a_state_is_written_in_the_transaction_of_its_event(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        log.append(EventType.ALARM_RAISED, "too-hot", {"value": 36})
        log.put_state("rule:too-hot", {"active": 1, "value": 36.5})
        await log.writer.commit()
        log.put_state("rule:gone", {"active": 0})
        await log.writer.commit()
        log.put_state("rule:gone", None)
    async with opened(path) as log:
        assert log.state("rule:too-hot") == {"active": 1, "value": 36.5}
        assert log.state("rule:gone") is None


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


# --- bounds -------------------------------------------------------------------------------------------------------------


async def test_only_what_every_consumer_has_and_is_old_enough_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    clock = VirtualClock()
    async with opened(path, ["a", "b"], clock=clock) as log:
        old = [read(log, number) for number in range(4)]
        log.consumer("a").acknowledge(Lane.READINGS, 0, old[3].seq)
        log.consumer("b").acknowledge(Lane.READINGS, 0, old[1].seq)
        await log.writer.commit()
        clock.now += 8 * 86_400
        young = read(log, 9)
        log.consumer("a").acknowledge(Lane.READINGS, 0, young.seq)
        await log.writer.commit()
        await log.retain()
        assert in_file(path) == [*old[2:], young]


async def test_a_full_log_drops_the_oldest_readings_says_so_and_keeps_alarms(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    bound = eventlog.Settings(max_size=Size(512 * 1024))
    async with opened(path, configured=bound) as log:
        alarm = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 36})
        for number in range(30_000):
            read(log, number)
        await log.writer.commit()
        await log.retain()
        await log.writer.commit()
        assert log.losses.dropped > 0
        found = in_file(path)
        assert found[0] == alarm
        kept_readings = [event for event in found if event.type == EventType.READING]
        told = [event for event in found if event.type == EventType.LOG_DROPPED]
        assert (
            sum(int(event.values["count"] or 0) for event in told)
            == log.losses.dropped
            == 30_000 - len(kept_readings)
        )
        assert [event.values["temperature"] for event in kept_readings] == list(
            range(log.losses.dropped, 30_000)
        )
        assert (await log._file.retain(retention.usage, path)).used <= bound.max_size
    # A courier that was far behind goes on with what is left.
    async with opened(path, configured=bound) as log:
        assert (await undelivered(log, "a", 1))[0] == kept_readings[0]


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


async def test_a_damaged_page_costs_what_is_on_it_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        events = [read(log, number) for number in range(6000)]
    page = 4096
    with path.open("r+b") as file:
        file.seek(len(file.read()) // page // 2 * page)  # a leaf in the middle of the events
        file.write(b"\xff" * page)
    async with opened(path) as log, kept(log):
        with pytest.raises(sqlite3.DatabaseError, match="malformed"):
            await log.reader.fetch(Lane.READINGS, 0, 10_000)
        async with asyncio.timeout(10):  # it is made anew by itself
            while log.reader.peek(Lane.URGENT, events[-1].seq, 1) == []:
                await asyncio.sleep(0.01)
        new = read(log, 1)
        found = await log.reader.fetch(Lane.READINGS, 0, 10_000)
        missing = {event.seq for event in events} - {event.seq for event in found}
        assert 0 < len(missing) < 600
        assert [event.seq for event in found] == sorted(event.seq for event in found)
        assert set(map(str, found)) <= {*map(str, events)}, "nothing is invented or changed"
        assert await log.reader.fetch(Lane.READINGS, new.seq - 1, 10) == [new]


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE events SET value = CAST(x'5bff5d' AS TEXT) WHERE seq = 5",
        "UPDATE events SET value = '[1;2]' WHERE seq = 5",
        "UPDATE events SET value = 7 WHERE seq = 5",
        "UPDATE events SET time = 1000000000000000000 WHERE seq = 5",
        "UPDATE events SET time = -1 WHERE seq = 5",
        "UPDATE events SET time = 'soon' WHERE seq = 5",
        "UPDATE events SET time = 1.5 WHERE seq = 5",
        "UPDATE events SET recorded = 1.5 WHERE seq = 5",
        "UPDATE events SET value = x'5b312c325d' WHERE seq = 5",
        "UPDATE events SET stream = 99 WHERE seq = 5",
        "UPDATE events SET quality = '{' WHERE seq = 5",
        'UPDATE events SET quality = \'{"t":"so-so"}\' WHERE seq = 5',
    ],
)
async def test_a_row_that_makes_no_sense_costs_that_row_and_stops_nobody(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        events = [log.append(EventType.READING, "air", {"t": n, "h": n / 2}) for n in range(20)]
    with sqlite3.connect(path) as db:
        db.execute(spoil)
    db.close()
    async with opened(path) as log, kept(log):
        with pytest.raises(sqlite3.DatabaseError):
            await log.reader.fetch(Lane.READINGS, 0, 100)
        async with asyncio.timeout(10):
            while log.reader.peek(Lane.URGENT, events[-1].seq, 1) == []:
                await asyncio.sleep(0.01)
        assert await log.reader.fetch(Lane.READINGS, 0, 100) == [event for event in events if event.seq != 5]


async def test_a_table_that_is_gone_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        read(log, 1)
    with sqlite3.connect(path) as db:
        db.executescript("DROP VIEW readable; DROP TABLE cursors")
    db.close()
    async with opened(path) as log:
        (told,) = await log.reader.fetch(Lane.URGENT, 0, 10)
        assert "no such table: cursors" in str(told.values["reason"])
        assert len(await log.reader.fetch(Lane.READINGS, 0, 10)) == 1


# --- it always starts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", [b"", b"not a database at all " * 500, b"SQLite format 3\0" + b"\xff" * 5000]
)
async def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(damage)
    async with opened(path) as log:
        event = read(log, 1)
        assert not log.was_clean
    found = in_file(path)
    assert event in found
    (told,) = [each for each in found if each.type == EventType.LOG_RECOVERED]
    assert told.values["salvaged"] == 0
    (aside,) = [each for each in tmp_path.iterdir() if ".damaged-" in each.name]
    assert told.values["set_aside"] == str(aside)
    assert aside.read_bytes() == damage
    assert event.run > 10**6, "nothing is known of earlier runs, so their numbers are not used again"


@pytest.mark.parametrize("damage", ["header", "truncated", "only the -wal"])
async def test_what_a_damaged_file_still_holds_is_salvaged_and_delivered(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "events.db"
    log = EventLog(path, DEFAULTS, VirtualClock())
    await log.open(["a"], "1.0")
    alarm = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 36})
    events = [read(log, number) for number in range(3000)]
    log.consumer("a").acknowledge(Lane.READINGS, 0, events[9].seq)
    log.put_state("rule:too-hot", {"raised": 1, "saved": 2})
    await log.writer.commit()
    wal = path.with_name("events.db-wal")
    beside = wal.read_bytes()
    await crash(log)
    if damage == "header":
        with path.open("r+b") as file:
            file.write(b"\0" * 512)
    elif damage == "truncated":
        with path.open("r+b") as file:
            file.truncate(len(file.read()) - 4096)
    else:
        path.unlink()
        wal.write_bytes(beside)
    async with opened(path) as log:
        assert log.run == 2
        found = [alarm, *await log.reader.fetch(Lane.READINGS, 0, 10_000)]
        assert found[0] == alarm
        assert len(found) > 2000
        assert set(map(str, found)) <= set(map(str, [alarm, *events]))
        assert log.consumer("a").cursor(Lane.READINGS) in {0, events[9].seq}
        assert log.append(EventType.READING, "air", {"temperature": 1}).seq > events[-1].seq


async def test_a_power_cut_while_a_file_is_made_anew_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        events = [read(log, number) for number in range(100)]
    with path.open("r+b") as file:
        file.write(b"\0" * 16)

    def cut(*_: object) -> None:
        raise OSError("the power is gone")

    for step in ("_set_aside", "_finish"):
        monkeypatch.setattr(opening, step, cut)
        with pytest.raises(OSError, match="power"):
            opening._replace(path, "header", 0)
        monkeypatch.undo()
    async with opened(path) as log:
        assert await log.reader.fetch(Lane.READINGS, 0, 1000) == events


async def test_a_second_agent_on_the_same_log_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path):
        second = EventLog(path, DEFAULTS, VirtualClock())
        with pytest.raises(LogInUse, match=r"another gatepost \(process \d+\) writes to .*events\.db"):
            await second.open(["a"], "1.0")
        await crash(second)


async def test_a_newer_log_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        event = read(log, 1)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    log = EventLog(path, DEFAULTS, VirtualClock())
    with pytest.raises(NewerLog, match="newer gatepost"):
        await log.open(["a"], "1.0")
    await crash(log)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    assert in_file(path) == [event]


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = path.read_bytes()
    log = EventLog(path, DEFAULTS, VirtualClock())
    with pytest.raises(ForeignFile, match="another program"):
        await log.open(["a"], "1.0")
    await crash(log)
    assert path.read_bytes() == before


async def test_a_folder_that_cannot_be_means_running_in_memory_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "events.db"
    async with opened(path) as log, kept(log):
        assert str(tmp_path / "file") in str(log.writer.fault)
        event = read(log, 1)
        assert log.reader.peek(Lane.READINGS, log.reader.first - 1, 10) == [event]
        (tmp_path / "file").unlink()
        async with asyncio.timeout(10):
            while log.writer.fault is not None:
                await asyncio.sleep(0.01)
    assert in_file(path)[0] == event


async def test_a_file_that_another_program_has_locked_is_read_and_taken_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.eventlog.writer.STALLED", 0.5)
    path = tmp_path / "events.db"
    async with opened(path) as log:
        old = read(log, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with opened(path) as log, kept(log):
        assert log.writer.fault
        assert await log.reader.fetch(Lane.READINGS, 0, 10) == [old], "a backlog can be read all the same"
        event = read(log, 2)
        assert event.run > 10**6
        assert event.seq > old.seq
        other.execute("ROLLBACK")
        await until_in_file(path, 2)
    other.close()
    assert in_file(path) == [old, event]


async def test_a_file_that_is_found_late_has_its_backlog_delivered(tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.db"
    async with opened(path) as log:
        old = [read(log, number) for number in range(3)]
    path.parent.rename(tmp_path / "away")
    path.parent.write_text("")  # the disk is not mounted
    async with opened(path) as log, kept(log):
        event = read(log, 3)
        log.consumer("a").acknowledge(Lane.READINGS, log.reader.first - 1, event.seq)
        path.parent.unlink()
        (tmp_path / "away").rename(path.parent)
        async with asyncio.timeout(10):
            while not log.consumer("a").rewinds:
                await asyncio.sleep(0.01)
        assert await undelivered(log, "a", 10) == old
        assert await log.reader.fetch(Lane.READINGS, old[-1].seq, 10) == [event]


async def test_a_file_that_is_removed_while_it_is_open_is_noticed_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log, kept(log):
        first = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1})
        await until_in_file(path, 1)
        for file in tmp_path.iterdir():
            file.unlink()
        second = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 2})
        async with asyncio.timeout(10):
            while log.reader.peek(Lane.URGENT, second.seq, 1) in ([], None) or log.writer.fault:
                await asyncio.sleep(0.01)
    found = in_file(path)
    assert [each.type for each in found if each.seq >= second.seq] == ["alarm.raised", "log.recovered"]
    assert first.run == second.run


async def test_the_readable_view_shows_events_to_a_person(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        log.describe("air", {"temperature": "Cel"})
        log.append(EventType.READING, "air", {"temperature": 21.5}, time=1_767_225_600_123_456)
    db = sqlite3.connect(path)
    rows = db.execute("SELECT * FROM readable").fetchall()
    db.close()
    assert rows == [
        (
            "1-1",
            "2026-01-01 00:00:00.123456",
            "reading",
            "air",
            '["temperature"]',
            21.5,
            '{"temperature":"Cel"}',
            None,
        )
    ]


async def test_events_since_a_time_are_found(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        for number in range(100):
            log.append(EventType.READING, "air", {"t": number}, time=DAY + number * 1000)
    store = EventStore(path)
    store.open_reader()
    for number, expected in ((0, 0), (50, 50), (99, 99), (200, 100)):
        assert store.since(DAY + number * 1000) == expected
    assert store.last(10) == 90
    assert store.last(1000) == 0
    store.close()
