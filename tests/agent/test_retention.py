"""What goes from the log's file: by age, by size, by what is free of the disk; and that each loss is said."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from support import logs
from support.boots import NOW, BootClock, unset
from support.logs import DEFAULTS, in_file

from agent import eventlog
from agent.clock import VirtualClock
from agent.eventlog import EventLog, EventStore, retaining, retention
from agent.events import Event, EventType, Lane
from agent.quantities import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.eventlog.settings import DropPolicy

DAY = 86_400
KB = 1024


def opened(
    path: Path,
    configured: eventlog.Settings = DEFAULTS,
    clock: VirtualClock | None = None,
    consumers: Sequence[str] = ("a",),
) -> AbstractAsyncContextManager[EventLog]:
    return logs.opened(path, consumers, configured, clock)


def read(log: EventLog, number: int, source: str = "air") -> Event:
    return log.append(EventType.READING, source, {"t": number})


def alarm(log: EventLog) -> Event:
    return log.append(EventType.ALARM_RAISED, "too-hot", {"value": 36})


def told(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.type == EventType.LOG_DROPPED]


def readings(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.type == EventType.READING]


async def used(log: EventLog) -> retention.Usage:
    return await log._file.retain(retention.usage, log.path)


async def firsts(log: EventLog, table: str) -> list[int]:
    """Return where the runs, or the stretches of the clock, begin."""
    rows = await log._file.retain(
        lambda db: db.execute(f"SELECT first_seq FROM {table} ORDER BY 1").fetchall()
    )
    return [first for (first,) in rows]


# --- by age -------------------------------------------------------------------------------------------------------


async def test_what_nobody_fetched_goes_when_it_is_older_than_max_age_and_is_counted(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, eventlog.Settings(max_age=Duration(3 * DAY)), clock, ["a", "b"]) as log:
        old = [read(log, 1), alarm(log), read(log, 2), read(log, 3)]
        log.consumer("a").acknowledge(Lane.READINGS, 0, old[3].seq)
        log.consumer("b").acknowledge(Lane.READINGS, 0, old[0].seq)
        await log.writer.commit()
        clock.now += 2 * DAY
        young = [read(log, 4), alarm(log)]
        await log.writer.commit()
        await log.retain()
        assert in_file(path) == [*old, *young], "nothing is too old yet"
        clock.now += 1.5 * DAY
        await log.retain()
        await log.writer.commit()
        found = in_file(path)
        (said,) = told(found)
        assert found == [old[0], *young, said], "the first is delivered, so `retain` holds for it"
        assert said.values == {"from": old[1].seq, "to": old[3].seq, "count": 3, "reason": "older than 3d"}
        assert log.losses.dropped == 3


async def test_what_is_too_old_is_found_behind_many_that_are_delivered(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, eventlog.Settings(max_age=Duration(3 * DAY)), clock) as log:
        first = alarm(log)
        delivered = [read(log, number) for number in range(retention.CHUNK + 1)]
        log.consumer("a").acknowledge(Lane.READINGS, 0, delivered[-1].seq)
        last = alarm(log)
        await log.writer.commit()
        clock.now += 4 * DAY
        await log.retain()
        await log.writer.commit()
        found = in_file(path)
        (said,) = told(found)
        assert found == [*delivered, said]
        assert said.values == {"from": first.seq, "to": last.seq, "count": 2, "reason": "older than 3d"}


async def test_numbers_of_what_was_delivered_ahead_and_dropped_do_not_come_again_after_a_crash(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    left = tmp_path / "left.db"
    async with opened(path, eventlog.Settings(max_age=Duration(3 * DAY)), clock) as log:
        events = [read(log, number) for number in range(5)]
        log.consumer("a").acknowledge(Lane.READINGS, events[1].seq, events[4].seq)
        await log.writer.commit()
        clock.now += 4 * DAY
        await log.retain()
        assert in_file(path) == []
        for suffix in ("", "-wal"):  # as a kill leaves them
            shutil.copy(f"{path}{suffix}", f"{left}{suffix}")
    async with opened(left, clock=clock) as log:
        for number in range(5):
            read(log, number)
        assert await log.consumer("a").waiting() == 5


async def test_what_was_dropped_within_a_minute_of_the_last_report_is_told_before_a_clean_end(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, eventlog.Settings(max_age=Duration(3 * DAY)), clock) as log:
        for number in range(2):
            log.append(EventType.READING, "air", {"t": number}, time=clock.wall() - 4 * DAY * 1_000_000)
            await log.writer.commit()
            await log.retain()
    assert [event.values["count"] for event in told(in_file(path))] == [1, 1]


async def test_a_reading_that_is_kept_off_a_full_file_is_counted_once_though_commits_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    bound = eventlog.Settings(max_size=Size(64 * KB), min_free=Size(0), when_full="newest")
    async with opened(tmp_path / "events.db", bound) as log:
        for _ in range(40):
            log.append(EventType.READING, "air", {"text": "x" * 2500})
        await log.writer.commit()  # now it is too full
        read(log, 1)
        after = alarm(log).seq
        with monkeypatch.context() as trouble:
            trouble.setattr(log._file._store, "write", refuse)
            for _ in range(2):
                with pytest.raises(sqlite3.OperationalError):
                    await log.writer.commit()
                log.writer.on_fault("disk I/O error")
        await log.writer.commit()
        assert [event.values["count"] for event in log.reader.peek(Lane.URGENT, after, 10) or ()] == [1]


async def test_without_max_age_what_nobody_fetched_waits_for_ever(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, clock=clock) as log:
        waiting = [read(log, 1), alarm(log)]
        await log.writer.commit()
        clock.now += 3650 * DAY
        await log.retain()
        assert in_file(path) == waiting


async def test_after_a_jump_of_the_clock_nothing_goes_by_age_for_an_hour(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, eventlog.Settings(max_age=Duration(10 * DAY)), clock) as log:
        delivered, waiting = alarm(log), read(log, 1)
        log.consumer("a").acknowledge(Lane.URGENT, 0, delivered.seq)
        await log.writer.commit()
        clock.epoch += 3650 * DAY * 1_000_000
        log.look_at_clock()
        await log.writer.commit()
        clock.now += retaining.AFTER_JUMP - 1
        await log.retain()
        assert in_file(path)[:2] == [delivered, waiting]
        clock.now += 1
        await log.retain()
        assert [event.type for event in in_file(path)] == [EventType.CLOCK_JUMPED]


async def test_while_the_clock_is_not_set_nothing_goes_by_age(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, clock=clock) as log:
        event = read(log, 1)
        log.consumer("a").acknowledge(Lane.READINGS, 0, event.seq)
        await log.writer.commit()
    later = VirtualClock(now=30 * DAY)
    later.known = False
    async with opened(path, clock=later) as log:
        await log.retain()
        assert in_file(path) == [event]
        later.known = True
        await log.retain()
        assert in_file(path) == []


@pytest.mark.parametrize("retain", [0, 7 * DAY])
async def test_rejected_events_stay_readable_when_the_others_have_gone(tmp_path: Path, retain: float) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, eventlog.Settings(retain=Duration(retain)), clock) as log:
        events = [read(log, number) for number in range(10)]
        log.consumer("a").reject(events[4], "too large")
        log.consumer("a").acknowledge(Lane.READINGS, 0, events[-1].seq)
        await log.writer.commit()
        clock.now += 20 * DAY
        await log.retain()
        assert in_file(path) == [events[4]]
        store = EventStore(path)
        store.open_reader()
        assert [(each.event, each.consumer, each.reason) for each in store.rejected()] == [
            (events[4], "a", "too large")
        ]
        store.close()
        clock.now += 11 * DAY  # now it is older than REJECTED_FOR
        await log.retain()
        await log.retain()  # what is forgotten goes with the next look
        assert in_file(path) == []


async def test_events_of_a_boot_that_never_knew_the_time_are_not_taken_for_old(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", unset()
    bound = eventlog.Settings(retain=Duration(DAY), max_age=Duration(DAY))
    async with opened(path, bound, clock) as log:
        delivered, waiting = alarm(log), read(log, 1)
        log.consumer("a").acknowledge(Lane.URGENT, 0, delivered.seq)
    clock.switch_on()
    clock.set()
    async with opened(path, bound, clock) as log:
        clock.now += retaining.AFTER_JUMP
        for _ in range(2):
            await log.retain()
            assert [event.seq for event in in_file(path)] == [delivered.seq, waiting.seq]
            await log.writer.commit()  # the clock of this boot too
        clock.now += DAY  # by now they are, whenever they happened
        await log.retain()
        assert in_file(path) == []


async def test_after_a_new_boot_nothing_goes_by_age_for_an_hour(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", BootClock(epoch=NOW)
    async with opened(path, eventlog.Settings(max_age=Duration(10 * DAY)), clock) as log:
        delivered, waiting = alarm(log), read(log, 1)
        log.consumer("a").acknowledge(Lane.URGENT, 0, delivered.seq)
    clock.switch_on()
    clock.set(NOW + 3650 * DAY * 1_000_000)  # as an RTC may say until the network has told the time
    async with opened(path, eventlog.Settings(max_age=Duration(10 * DAY)), clock) as log:
        clock.now += retaining.AFTER_JUMP - 1
        await log.retain()
        assert in_file(path) == [delivered, waiting]
        clock.now += 1
        await log.retain()
        assert in_file(path) == []


async def test_what_was_rejected_while_the_clock_was_not_set_is_not_forgotten_by_age(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", unset()
    async with opened(path, eventlog.Settings(retain=Duration(0)), clock) as log:
        event = read(log, 1)
        log.consumer("a").reject(event, "too large")
        log.consumer("a").acknowledge(Lane.READINGS, 0, event.seq)
        clock.set()
        log.look_at_clock()
        await log.writer.commit()
        clock.now += retaining.AFTER_JUMP
        await log.retain()
        await log.retain()  # what is forgotten goes with the next look
        assert [found.seq for found in readings(in_file(path))] == [event.seq]


# --- by size ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["oldest", "newest", "thin"])
async def test_a_full_file_keeps_its_bound_its_alarms_and_counts_each_reading_that_goes(
    tmp_path: Path, policy: DropPolicy
) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    bound = eventlog.Settings(max_size=Size(512 * KB), when_full=policy)
    async with opened(path, bound, clock) as log:
        alarms, appended = [], []
        for _ in range(15):
            alarms.append(alarm(log))
            appended += [read(log, number) for number in range(2000)]
            await log.writer.commit()
            await log.retain()
            clock.now += 61  # what went is told once a minute
        log.losses.tell(at_once=True)
        await log.writer.commit()
        assert (await used(log)).used <= bound.max_size
        found = in_file(path)
        assert [event for event in found if event.type == EventType.ALARM_RAISED] == alarms
        left = [event.seq for event in readings(found)]
        gone = {event.seq for event in appended} - set(left)
        assert len(gone) > 1000
        assert len(left) > 4000
        assert (
            sum(int(event.values["count"] or 0) for event in told(found)) == log.losses.dropped == len(gone)
        )
        spans = [(int(e.values["from"] or 0), int(e.values["to"] or 0)) for e in told(found)]
        assert all(any(first <= seq <= last for first, last in spans) for seq in gone)
        assert (min(first for first, _ in spans), max(last for _, last in spans)) == (min(gone), max(gone))
    seqs = [event.seq for event in appended]
    if policy == "oldest":
        assert left == seqs[-len(left) :]
    elif policy == "newest":
        assert left[:4000] == seqs[:4000]
    else:
        assert max(second - first for first, second in itertools.pairwise(left)) < 100
        assert (left[0] < 100, left[-1] > seqs[-1] - 100) == (True, True), "of all times something is left"


async def test_thinning_leaves_a_slow_device_its_share(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    bound = eventlog.Settings(max_size=Size(512 * KB), when_full="thin")
    async with opened(path, bound) as log:
        slow = []
        for number in range(30_000):
            read(log, number)
            if number % 3000 == 0:
                slow.append(read(log, number, "tank"))
        await log.writer.commit()
        await log.retain()
        left = in_file(path)
        assert len([event for event in left if event.source == "air"]) < 20_000
        assert len([event for event in left if event.source == "tank"]) >= len(slow) / 4


async def test_thinning_stops_when_there_is_room_and_changes_nothing_of_what_stays(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    bound = eventlog.Settings(max_size=Size(512 * KB), when_full="thin")
    async with opened(path, bound) as log:
        appended = []
        while (await used(log)).used <= bound.max_size:
            appended += [read(log, number, f"dev{number % 3}") for number in range(500)]
            await log.writer.commit()
        assert len(appended) > 10_000
        await log.retain()
        left = in_file(path)
        assert (await used(log)).used <= bound.max_size
        assert 0 < len(appended) - len(left) <= retention.CHUNK // 2, "one chunk is enough"
        assert set(map(str, left)) <= set(map(str, appended))


async def test_delivered_history_goes_before_anything_that_still_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path, eventlog.Settings(max_size=Size(512 * KB))) as log:
        delivered = [read(log, number) for number in range(20_000)]
        log.consumer("a").acknowledge(Lane.READINGS, 0, delivered[-1].seq)
        waiting = [read(log, number) for number in range(10_000)]
        await log.writer.commit()
        await log.retain()
        assert (await used(log)).used <= 512 * KB
        found = in_file(path)
        assert found[-len(waiting) :] == waiting
        assert len(found) < 30_000
        assert log.losses.dropped == 0


async def test_alarms_go_only_when_no_reading_is_left(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path, eventlog.Settings(max_size=Size(256 * KB))) as log:
        for number in range(3000):
            read(log, number)
        alarms = [alarm(log) for _ in range(20_000)]
        await log.writer.commit()
        await log.retain()
        await log.writer.commit()
        found = in_file(path)
        assert (await used(log)).used <= 256 * KB
        assert readings(found) == []
        left = [event for event in found if event.type == EventType.ALARM_RAISED]
        assert left == alarms[-len(left) :]
        assert sum(int(event.values["count"] or 0) for event in told(found)) == 23_000 - len(left)


async def test_while_the_disk_is_nearly_full_the_file_does_not_grow_and_says_why_readings_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    real = os.statvfs(tmp_path)
    free = 0

    def statvfs(_: object) -> os.statvfs_result:
        fields = list(real)
        fields[1], fields[4] = 4096, free // 4096  # f_frsize, f_bavail
        return os.statvfs_result(fields)

    async with opened(path) as log:
        monkeypatch.setattr("agent.eventlog.retention.os.statvfs", statvfs)
        free = DEFAULTS.min_free
        events = [read(log, number) for number in range(60_000)]
        await log.writer.commit()
        await log.retain()
        full = await used(log)
        assert log.losses.dropped == 0
        assert full.size > retention.RESERVE, "or the bound would be the reserve"
        free = DEFAULTS.min_free - 4096
        for number in range(20_000):
            read(log, number)
            if number % 2000 == 0:
                await log.writer.commit()
                await log.retain()
        log.losses.tell(at_once=True)
        await log.writer.commit()
        assert (await used(log)).size <= full.size + retention.RESERVE
        found = in_file(path)
        assert log.losses.dropped > 0
        assert {event.values["reason"] for event in told(found)} == {"less than 64MiB of the disk is free"}
        assert readings(found)[0].seq > events[0].seq
        dropped = log.losses.dropped
        free = DEFAULTS.min_free
        await log.retain()
        assert log.losses.dropped == dropped, "with room on the disk it may grow again"


async def test_after_a_large_backlog_the_file_shrinks(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, clock=clock) as log:
        events = [log.append(EventType.READING, "air", {"text": "x" * 100_000}) for _ in range(200)]
        await log.writer.commit()
        large = (await used(log)).size
        assert large > retention.GIVE_BACK
        log.consumer("a").acknowledge(Lane.READINGS, 0, events[-1].seq)
        await log.writer.commit()
        clock.now += 8 * DAY
        await log.retain()
        assert path.stat().st_size < large // 4
        event = read(log, 1)
        await log.writer.commit()
    assert in_file(path) == [event]


async def test_a_kill_after_the_file_has_shrunk_is_not_taken_for_a_loss(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    async with opened(path, clock=clock) as log:
        events = [log.append(EventType.READING, "air", {"text": "x" * 100_000}) for _ in range(200)]
        log.consumer("a").acknowledge(Lane.READINGS, 0, events[-1].seq)
        await log.writer.commit()
        large = path.stat().st_size
        clock.now += 8 * DAY
        await log.retain()
        assert path.stat().st_size < large // 4
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("events.db", "events.db-wal"):
            shutil.copy(tmp_path / name, copy)
    async with opened(copy / "events.db") as log:
        assert not log.was_clean
        assert in_file(copy / "events.db") == []
        assert log.reader.last == events[-1].seq, "nothing is told"


async def test_runs_and_clocks_of_which_nothing_is_left_are_forgotten_and_ids_stay(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    last: list[Event] = []
    for _ in range(5):
        async with opened(path, clock=clock) as log:
            last.append(read(log, 1))
            log.consumer("a").acknowledge(Lane.READINGS, 0, last[-1].seq)
        clock.now += 3 * DAY
    async with opened(path, clock=clock) as log:
        await log.writer.commit()
        await log.retain()
        found = in_file(path)
        assert found == last[-2:], "the older ones have gone, and these are of the runs that they were of"
        for table in ("runs", "clocks"):
            assert await firsts(log, table) == [last[-2].seq, last[-1].seq, log.reader.first]


async def test_what_was_refused_a_moment_ago_stays_with_its_run(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    configured = eventlog.Settings(retain=Duration(0))
    async with opened(path, configured=configured) as log:
        event = read(log, 1)
    async with opened(path, configured=configured) as log:
        consumer = log.consumer("a")
        consumer.reject(event, "too large")
        consumer.acknowledge(Lane.READINGS, 0, event.seq)
        await log.retain()
        await log.writer.commit()
    store = EventStore(path)
    store.open_reader()
    assert [(each.event.id, each.reason) for each in store.rejected()] == [(event.id, "too large")]
    store.close()


@pytest.mark.parametrize("when", ["running", "stopped"])
async def test_a_clock_that_jumps_and_a_restart_in_the_same_boot_drop_nothing(
    tmp_path: Path, when: str
) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    configured = eventlog.Settings(max_age=Duration(30 * DAY))
    async with opened(path, configured, clock) as log:
        waiting = [read(log, number) for number in range(5)]
        if when == "running":
            clock.epoch += 3650 * DAY * 1_000_000
            log.look_at_clock()
    if when == "stopped":
        clock.epoch += 3650 * DAY * 1_000_000
    async with opened(path, configured, clock) as log:
        await log.retain()
        await log.writer.commit()
        assert in_file(path)[:5] == waiting


async def test_what_live_events_have_overtaken_goes_after_what_was_delivered(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    bound = eventlog.Settings(max_size=Size(256 * KB), min_free=Size(0))
    async with opened(path, bound) as log:

        def large() -> Event:
            return log.append(EventType.READING, "air", {"text": "x" * 2500})

        backlog = [large() for _ in range(20)]
        live = [large() for _ in range(100)]
        log.consumer("a").acknowledge(Lane.READINGS, live[0].seq - 1, live[-1].seq)
        await log.writer.commit()
        await log.retain()
        assert in_file(path)[:20] == backlog
        assert told(in_file(path)) == []
