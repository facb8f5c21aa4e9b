"""Times from before the clock was set: marked, then right wherever they are read; and clocks that jump or creep."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.boots import NOW, BootClock, unset
from support.logs import in_file, kept
from support.waiting import eventually

from agent import eventlog
from agent.contracts import Gateway
from agent.encodings import cloudevents
from agent.encodings import json as plain_json
from agent.eventlog import EventLog, EventStore
from agent.eventlog.writer import GROUP
from agent.events import Delivery, Event, EventType, Lane, Quality

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.clock import VirtualClock
    from agent.contracts import Encoding


@asynccontextmanager
async def opened(path: Path, clock: VirtualClock) -> AsyncIterator[EventLog]:
    log = EventLog(path, eventlog.Settings(), clock)
    await log.open(["a"], "1.0")
    try:
        yield log
    finally:
        await log.close()


def read(log: EventLog, clock: VirtualClock) -> tuple[Event, float]:
    """Log a reading and return it with the moment of the monotonic clock, after which some time passes."""
    at = clock.now
    event = log.append(EventType.READING, "air", {"t": at})
    clock.now += 10
    return event, at


async def all_of(log: EventLog) -> list[Event]:
    found: list[Event] = []
    while more := await log.reader.history(found[-1].seq if found else 0, 1000):
        found += more
    return found


def readings(events: list[Event]) -> list[Event]:
    return [event for event in events if event.type == EventType.READING]


def of_type(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.type == kind]


def stretches(path: Path) -> list[int]:
    """Return where the stretches that a file knows begin."""
    with closing(sqlite3.connect(path)) as db:
        return [first for (first,) in db.execute("SELECT first_seq FROM clocks ORDER BY 1")]


async def test_once_the_clock_is_set_all_events_of_the_boot_have_the_time_at_which_they_happened(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "events.db", unset()
    async with opened(path, clock) as log:  # an earlier run of the same boot
        earlier = [read(log, clock) for _ in range(3)]
        assert all(event.clock_unset and event.time == round(at * 1e6) for event, at in earlier)
    assert all(event.clock_unset for event in in_file(path))
    async with opened(path, clock) as log:
        written = [read(log, clock) for _ in range(GROUP + 500)]
        await log.writer.commit()
        assert log.reader.peek(Lane.READINGS, 0, 1) is None, "some are only in the file"
        in_memory = [read(log, clock) for _ in range(3)]
        clock.set()
        log.look_at_clock()
        after = [read(log, clock) for _ in range(3)]
        moments = [*earlier, *written, *in_memory, *after]
        expected = [(event.seq, NOW + round(at * 1e6), False) for event, at in moments]

        def told(events: list[Event]) -> list[tuple[int, int, bool]]:
            return [(event.seq, event.time, event.clock_unset) for event in readings(events)]

        tail = log.reader.peek(Lane.READINGS, written[-1][0].seq, 100)
        assert tail is not None
        assert told(tail) == expected[-6:]
        assert told(await all_of(log)) == expected
        assert told(await log.reader.fetch(Lane.READINGS, 0, 100)) == expected[:100]
        (said,) = of_type(await log.reader.fetch(Lane.URGENT, 0, 10), EventType.CLOCK_SET)
        assert said.values == {"by": NOW / 1e6}
        assert said.time == NOW + round(after[0][1] * 1e6)
        await log.writer.commit()
        assert told(in_file(path)) == expected, "another program reads the same"
    clock.now += 3600
    async with opened(path, clock) as log:
        assert told(await all_of(log)) == expected
        log.look_at_clock()
        assert len(of_type(await all_of(log), EventType.CLOCK_SET)) == 1


async def test_a_restart_finds_the_clock_set_and_corrects_what_the_run_before_it_had_logged(
    tmp_path: Path,
) -> None:
    path, clock = tmp_path / "events.db", unset()
    async with opened(path, clock) as log:
        event, at = read(log, clock)
    clock.set()
    async with opened(path, clock) as log:
        (found,) = await log.reader.fetch(Lane.READINGS, 0, 10)
        assert (found.id, found.time, found.clock_unset) == (event.id, NOW + round(at * 1e6), False)
    assert in_file(path)[0] == found
    db = EventStore(path)
    db.open_reader()
    assert db.db.execute("SELECT utc FROM readable").fetchone()[0].startswith("2026-05-28 20:26:40")
    db.close()


@pytest.mark.parametrize("is_set_before", [True, False])
async def test_a_file_that_is_found_late_has_right_times_too(tmp_path: Path, is_set_before: bool) -> None:
    path, clock = tmp_path / "state" / "events.db", unset()
    async with opened(path, clock) as log:
        moments = [read(log, clock)]
        if is_set_before:
            clock.set()
            log.look_at_clock()
    clock.set()
    path.parent.rename(tmp_path / "away")
    path.parent.write_text("")  # the disk is not mounted
    async with opened(path, clock) as log, kept(log):
        moments.append(read(log, clock))
        path.parent.unlink()
        (tmp_path / "away").rename(path.parent)
        await eventually(lambda: log.consumer("a").rewinds == 1, "the file is found")
        found = await log.reader.fetch(Lane.READINGS, 0, 1) + await log.reader.fetch(Lane.READINGS, 1, 1)
        expected = [(event.id, NOW + round(at * 1e6), False) for event, at in moments]
        assert [(event.id, event.time, event.clock_unset) for event in found] == expected
    found = readings(in_file(path))
    assert [(event.id, event.time, event.clock_unset) for event in found] == expected
    assert stretches(path) == [1, *([2] if is_set_before else []), log.reader.first]


async def test_a_file_that_is_made_anew_in_the_midst_of_a_run_says_what_the_clock_was(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", unset()
    async with opened(path, clock) as log, kept(log):
        read(log, clock)
        await log.writer.commit()
        clock.epoch += 777_000_000_000  # another time, and still not the right one
        log.look_at_clock()
        read(log, clock)
        await log.writer.commit()
        for file in tmp_path.iterdir():
            file.unlink()
        alarm = log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1})
        await eventually(lambda: log.reader.peek(Lane.URGENT, alarm.seq, 1), "it is made anew")
    assert stretches(path) == [1, 2]
    assert all(event.clock_unset for event in in_file(path))


async def test_a_boot_that_never_knew_the_time_stays_marked_when_a_later_one_does(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", unset()
    async with opened(path, clock) as log:
        dark, _ = read(log, clock)
    clock.switch_on()
    async with opened(path, clock) as log:
        event, at = read(log, clock)
        clock.set()
        log.look_at_clock()
        found = readings(await all_of(log))
        assert [(each.id, each.time, each.clock_unset) for each in found] == [
            (dark.id, dark.time, True),
            (event.id, NOW + round(at * 1e6), False),
        ]


async def test_a_late_reading_is_corrected_in_both_of_its_times(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", unset()
    clock.now = 100
    async with opened(path, clock) as log:
        log.append(EventType.READING, "air", {"t": 1}, time=clock.wall_at(40))
        clock.set()
        log.look_at_clock()
    (found,) = readings(in_file(path))
    assert (found.time, found.recorded) == (NOW + 40_000_000, NOW + 100_000_000)


async def test_a_later_jump_is_said_and_changes_no_times(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", BootClock(epoch=NOW)
    async with opened(path, clock) as log:
        before, _ = read(log, clock)
        clock.epoch -= 3_600_000_000
        log.look_at_clock()
        after, at = read(log, clock)
        log.look_at_clock()
        found = await log.reader.history(0, 10)
        assert readings(found) == [before, after]
        assert before.time == NOW
        assert after.time == NOW - 3_600_000_000 + round(at * 1e6)
        (said,) = [event for event in found if event.type != EventType.READING]
        assert (said.type, said.values) == (EventType.CLOCK_JUMPED, {"by": -3600.0})
    assert readings(in_file(path)) == [before, after]


async def test_a_clock_that_is_slewed_does_nothing(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", BootClock(epoch=NOW)
    async with opened(path, clock) as log:
        events = []
        for _ in range(5000):
            clock.epoch += 1250  # 500 ppm of the 2.5 s between looks, over hours: 6 s in all
            clock.now += 2.5
            log.look_at_clock()
        events.append(read(log, clock)[0])
        assert await log.reader.history(0, 10) == events
    assert in_file(path) == events


async def test_a_clock_that_jumps_before_it_is_set_is_corrected_for_each_stretch(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", unset()
    async with opened(path, clock) as log:
        first = read(log, clock)
        clock.epoch += 777_000_000_000  # such as fake-hwclock: another time, and still not the right one
        log.look_at_clock()
        second = read(log, clock)
        clock.set()
        log.look_at_clock()
    found = readings(in_file(path))
    assert [event.time for event in found] == [NOW + round(at * 1e6) for _, at in (first, second)]


async def test_the_clock_is_looked_at_while_the_log_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "events.db", unset()
    async with opened(path, clock) as log:
        monkeypatch.setattr("agent.eventlog.log.WATCH_EVERY", 0.05)
        keeping = asyncio.create_task(log.keep())
        read(log, clock)
        clock.set()
        async with asyncio.timeout(10):
            while not of_type(in_file(path), EventType.CLOCK_SET):
                await asyncio.sleep(0.005)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_events_are_found_by_the_time_at_which_they_happened(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", BootClock(epoch=NOW - 86_400_000_000)
    async with opened(path, clock) as log:  # yesterday
        for _ in range(5):
            read(log, clock)
    clock.switch_on()
    async with opened(path, clock) as log:  # today, from 1970 on
        today = [read(log, clock) for _ in range(50)]
        clock.set()
        log.look_at_clock()
        later = [read(log, clock) for _ in range(5)]
    store = EventStore(path)
    store.open_reader()
    try:
        for event, at in [*today, *later]:
            found = store.read(Lane.READINGS, store.since(NOW + round(at * 1e6)), None, 1)
            assert [each.id for each in found] == [event.id]
        assert store.since(0) == 0
        assert store.read(Lane.READINGS, store.since(NOW + 10**12), None, 1) == []
    finally:
        store.close()


async def test_events_whose_time_was_never_known_are_found_with_what_followed_them(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.db", BootClock(epoch=NOW - 86_400_000_000)
    async with opened(path, clock) as log:
        yesterday = [read(log, clock)[0] for _ in range(5)]
    clock.switch_on()
    async with opened(path, clock) as log:
        dark = [read(log, clock)[0] for _ in range(40)]
    clock.switch_on()
    clock.set()
    async with opened(path, clock) as log:
        today = [read(log, clock)[0] for _ in range(5)]
    clock.switch_on()
    async with opened(path, clock) as log:
        newest = read(log, clock)[0]
    store = EventStore(path)
    store.open_reader()
    try:
        for event in yesterday:
            assert store.since(event.time) == event.seq - 1
        assert store.since(today[0].time) == dark[0].seq - 1
        for event in today[1:]:
            assert store.since(event.time) == event.seq - 1
        assert store.since(NOW + 10**12) == newest.seq - 1, "it may have happened since"
    finally:
        store.close()


# --- how it is told -----------------------------------------------------------------------------------------------

GATEWAY = Gateway("g", "1.0", 3)
ENCODINGS: dict[str, Encoding[Any]] = {
    "json": plain_json.Encoding(plain_json.Settings(), GATEWAY),
    "structured": cloudevents.Encoding(cloudevents.Settings(mode="structured"), GATEWAY),
    "binary": cloudevents.Encoding(cloudevents.Settings(mode="binary"), GATEWAY),
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("kind", [EventType.READING, EventType.ALARM_RAISED])
@pytest.mark.parametrize("delivery", Delivery)
def test_what_is_special_about_an_event_is_told_and_read_back(
    name: str, kind: str, delivery: Delivery
) -> None:
    encoding = ENCODINGS[name]
    quality = {"value": Quality.UNCERTAIN} if kind == EventType.READING else None
    plain = Event(3, 7, kind, "air", NOW, {"value": 1.5}, quality)
    special = Event(3, 7, kind, "air", NOW, {"value": 1.5}, quality, NOW + 5_000_000, clock_unset=True)

    def said(event: Event) -> dict[str, Any]:
        message = encoding.encode(event, delivery)
        assert encoding.decode(message) == event
        told = message.attributes or msgspec.json.decode(message.payload, type=dict[str, Any])
        return {key: told[key] for key in ("delivery", "clock", "recorded", "recordedtime") if key in told}

    expected = {} if delivery is Delivery.LIVE else {"delivery": delivery.value}
    assert said(plain) == expected
    recorded = "recorded" if name == "json" else "recordedtime"
    assert said(special) == {**expected, "clock": "unset", recorded: "2026-05-28T20:26:45.000000Z"}
