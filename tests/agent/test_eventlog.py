"""The event log: what is kept, in which order, for whom, and what a crash may cost."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest
from support.logs import DEFAULTS, crash, in_file, kept, opened, read, undelivered, until_in_file

from agent import eventlog
from agent.clock import VirtualClock
from agent.eventlog import EventLog, EventStore, retention
from agent.eventlog.writer import GROUP, HISTORY
from agent.events import EventType, Lane, Quality, Value
from agent.quantities import Duration, Size

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400_000_000


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


def test_the_last_run_is_told_by_where_it_begins_for_one_without_the_file_has_any_number(
    tmp_path: Path,
) -> None:
    store = EventStore(tmp_path / "events.db")
    store.open_writer()
    store.begin_run(900_000_000, 1000, 0, "1.0")
    store.end_run(900_000_000, 0)
    store.begin_run(5_000_000, 2000, 0, "1.0")
    assert store.newest() == (900_000_000, 1999, False)
    store.end_run(5_000_000, 0)
    assert store.newest() == (900_000_000, 1999, True)
    store.close()


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


# --- how it is looked at ------------------------------------------------------------------------------------------------


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
