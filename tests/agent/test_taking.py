"""Taking a log's file in whatever state it is: damaged, in use, not there yet, found late, removed; it always starts."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.boots import unset
from support.logs import DEFAULTS, crash, in_file, kept, opened, read, undelivered, until_in_file

from agent.clock import NO_EARLIER, VirtualClock
from agent.eventlog import EventLog, EventStore, ForeignFile, LogInUse, NewerLog, opening
from agent.eventlog.group import Group
from agent.eventlog.identity import SKIPPED
from agent.events import Event, EventType, Lane

if TYPE_CHECKING:
    from pathlib import Path


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


def cut(*_: object) -> None:
    raise OSError("the power is gone")


async def test_a_power_cut_while_a_file_is_made_anew_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        events = [read(log, number) for number in range(100)]
    with path.open("r+b") as file:
        file.write(b"\0" * 16)

    for step in ("_set_aside", "_finish"):
        monkeypatch.setattr(opening, step, cut)
        with pytest.raises(OSError, match="power"):
            opening._replace(path, "header", 0)
        monkeypatch.undo()
    async with opened(path) as log:
        assert await log.reader.fetch(Lane.READINGS, 0, 1000) == events


async def test_a_file_whose_making_anew_was_interrupted_is_told_and_its_numbers_do_not_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        events = [read(log, number) for number in range(100)]

    monkeypatch.setattr(opening, "_finish", cut)
    with pytest.raises(OSError, match="power"):
        opening._replace(path, "a damaged page", 0)
    monkeypatch.undo()
    async with opened(path) as log:
        (told,) = await log.reader.fetch(Lane.URGENT, 0, 10)
        assert told.values["reason"] == "making it anew was interrupted"
        assert told.type == EventType.LOG_RECOVERED
        assert ".damaged-" in str(told.values["set_aside"])
        assert told.seq >= events[-1].seq + SKIPPED, "the damaged one may have had events beyond these"
        assert not log.was_clean


@pytest.mark.parametrize("newest", [200_000_000, 1_800_000_000_000_000])
async def test_where_the_runs_are_lost_and_the_clock_is_not_set_numbers_begin_beyond_all_that_is_known(
    tmp_path: Path, newest: int
) -> None:
    path, clock = tmp_path / "events.db", unset()
    clock.now = 30
    store = EventStore(path)
    store.open_writer()
    old = Event(1, newest, EventType.READING, "air", clock.wall(), {"t": 1})
    cursors = {("a", lane): newest for lane in Lane}
    store.write(Group([old], cursors, {}, {}, {}))  # of a run that is not in the file
    store.close()
    with path.open("r+b") as file:
        file.write(b"\0" * 16)
    async with opened(path, clock=clock) as log:
        alarm = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1})
        assert log.reader.first >= max(NO_EARLIER, newest + 1), "no counter has come so far"
        (told, found) = await log.reader.fetch(Lane.URGENT, log.consumer("a").cursor(Lane.URGENT), 10)
        assert (told.type, found) == (EventType.LOG_RECOVERED, alarm)


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


def refuse_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a method of the file fail the first time it is called."""
    whole = getattr(EventStore, name)

    def refuse(*_: object) -> None:
        monkeypatch.setattr(EventStore, name, whole)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(EventStore, name, refuse)


def runs(path: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT run, first_seq FROM runs ORDER BY first_seq").fetchall()


async def test_a_file_that_is_taken_but_cannot_be_begun_is_begun_at_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.eventlog.writer.RETRY", 0.01)
    path = tmp_path / "events.db"
    async with opened(path) as log:
        old = [read(log, number) for number in range(3)]
    refuse_once(monkeypatch, "begin_run")
    async with opened(path) as log, kept(log):
        assert log.writer.fault == "database or disk is full"
        event = read(log, 3)
        assert await until_in_file(path, 4) == [*old, event]
        assert runs(path) == [(1, 1), (log.run, log.reader.first)]
        assert await undelivered(log, "a", 10) == old


async def test_a_file_that_is_found_late_and_cannot_be_begun_at_once_has_its_backlog_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.eventlog.writer.RETRY", 0.01)
    path = tmp_path / "state" / "events.db"
    async with opened(path) as log:
        old = [read(log, number) for number in range(3)]
    path.parent.rename(tmp_path / "away")
    path.parent.write_text("")
    async with opened(path) as log, kept(log):
        event = read(log, 3)
        log.consumer("a").acknowledge(Lane.READINGS, log.reader.first - 1, event.seq)
        refuse_once(monkeypatch, "begin_run")
        path.parent.unlink()
        (tmp_path / "away").rename(path.parent)
        assert await until_in_file(path, 4) == [*old, event]
        assert log.consumer("a").rewinds == 1
        assert runs(path) == [(1, 1), (log.run, log.reader.first)]
    async with opened(path) as log:
        assert await undelivered(log, "a", 10) == [*old, event], "nothing was passed over in the file either"


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


async def test_a_file_that_is_begun_anew_is_read_by_its_own_numbers_of_streams(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log, kept(log):

        async def written(*sources: str) -> list[Event]:
            events = [read(log, 1, source) for source in sources]
            log.consumer("a").acknowledge(Lane.READINGS, 0, events[-1].seq)
            await log.writer.commit()
            assert log.reader.base(Lane.READINGS) == events[-1].seq, "they are only in the file"
            return await log.reader.fetch(Lane.READINGS, events[0].seq - 1, 10)

        assert [event.source for event in await written("boiler", "door")] == ["boiler", "door"]
        for file in tmp_path.iterdir():
            file.unlink()
        read(log, 1, "door")  # now the first stream
        alarm = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1})
        async with asyncio.timeout(10):
            while not log.reader.peek(Lane.URGENT, alarm.seq, 1) or log.writer.fault:
                await asyncio.sleep(0.01)
        assert [event.source for event in await written("door", "boiler")] == ["door", "boiler"]


# --- damage that is found later ---


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


@pytest.mark.parametrize("how", ["removed", "an older copy"])
async def test_ids_do_not_come_again_after_a_file_that_was_removed_or_restored(
    tmp_path: Path, how: str
) -> None:
    path, clock = tmp_path / "events.db", VirtualClock()
    ids: list[str] = []
    older = b""
    for _ in range(3):
        async with opened(path, clock=clock) as log:
            ids += [read(log, number).id for number in range(3)]
            clock.now += 60
        if how == "removed":
            path.unlink()
        else:
            older = older or path.read_bytes()
            path.write_bytes(older)
    assert len(set(ids)) == 9


async def test_where_there_is_no_room_for_a_new_file_the_damaged_one_is_left_until_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        read(log, 1)
    damaged = b"\0" * 4096 + path.read_bytes()[4096:]
    path.write_bytes(damaged)
    full = os.statvfs_result((4096, 4096, 1000, 1, 1, 10, 10, 10, 0, 255))
    with monkeypatch.context() as disk:
        disk.setattr(os, "statvfs", lambda _: full)
        with pytest.raises(OSError, match="making it anew needs"):
            opening.take(path, NO_EARLIER, None)
    assert path.read_bytes() == damaged
    assert not list(tmp_path.glob("*.salvag*"))
    async with opened(path):
        pass
    assert EventType.LOG_RECOVERED in {event.type for event in in_file(path)}
