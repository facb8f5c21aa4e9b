"""The courier: order, pacing, acknowledgements, and what a lost connection means for the cursor."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.couriers import Bench, FarSide, running, until

from agent import eventlog
from agent.clock import VirtualClock
from agent.complaints import STUCK
from agent.courier import BATCH, Courier, Settings
from agent.errors import Disconnected
from agent.eventlog import EventLog
from agent.eventlog.writer import GROUP
from agent.events import EventType, Lane
from agent.quantities import Duration
from agent.supervisor import Backoff, Health, Part, keep_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

IN_ORDER = Settings()


@asynccontextmanager
async def bench(path: Path, far: FarSide, settings: Settings = IN_ORDER) -> AsyncIterator[Bench]:
    log = EventLog(path / "events.db", eventlog.Settings(), VirtualClock())
    await log.open(["site"], "1.0")
    try:
        yield Bench(log, far, settings)
    finally:
        await log.close()


async def test_events_arrive_in_order_and_the_cursor_follows(tmp_path: Path) -> None:
    async with bench(tmp_path, FarSide()) as it, running(it):
        events = it.append(500)
        await until(lambda: len(it.far.acknowledged) == 500)
        await it.courier.drained()
        assert it.far.acknowledged == events
        assert it.consumer.cursor(Lane.READINGS) == events[-1].seq
        assert it.courier.delivered == 500
        assert it.part.health is Health.UP


async def test_never_more_than_the_window_is_in_flight(tmp_path: Path) -> None:
    async with bench(tmp_path, FarSide(window=7)) as it:
        it.append(100)
        async with running(it):
            await until(lambda: len(it.far.acknowledged) == 100)
        assert it.far.most_in_flight == 7


async def test_an_alarm_overtakes_a_backlog(tmp_path: Path) -> None:
    async with bench(tmp_path, FarSide()) as it:
        it.far.automatic = False
        it.append(1000)
        alarm = it.log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1})
        async with running(it):
            await until(lambda: len(it.far.sent) > 1)
            assert it.far.sent[0] == alarm


async def test_a_backlog_is_read_from_the_file_then_from_memory_without_gap_or_repeat(tmp_path: Path) -> None:
    async with bench(tmp_path, FarSide()) as it:
        events = it.append(3 * GROUP)
        await it.log.writer.commit()
        assert it.log.reader.peek(Lane.READINGS, 0, 1) is None  # memory is bounded
        async with running(it):
            events += it.append(100)
            await until(lambda: len(it.far.acknowledged) == len(events))
        assert it.far.acknowledged == events


async def test_the_cursor_never_passes_what_is_not_acknowledged(tmp_path: Path) -> None:
    async with bench(tmp_path, FarSide()) as it:
        it.far.automatic = False
        events = it.append(2 * BATCH)
        async with running(it):
            await until(lambda: len(it.far.open) == 2)
            it.far.acknowledge(1)  # the second batch first
            await asyncio.sleep(0)
            assert it.consumer.cursor(Lane.READINGS) == 0
            it.far.acknowledge()
            await until(lambda: it.consumer.cursor(Lane.READINGS) == events[-1].seq)


async def test_after_a_lost_connection_the_next_begins_with_the_first_unacknowledged_event(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, FarSide()) as it:
        it.far.automatic = False
        events = it.append(3 * BATCH)
        async with running(it) as task:
            await until(lambda: len(it.far.open) == 2)
            it.far.acknowledge()
            await until(lambda: it.consumer.cursor(Lane.READINGS) > 0)
            it.far.lose()
            with pytest.raises(Disconnected, match="gone"):
                await task
        assert it.far.closed == 1
        it.far.automatic = True
        it.far.sent.clear()
        async with running(it):
            await until(lambda: len(it.far.acknowledged) == len(events))
        assert it.far.sent == events[BATCH:]
        assert it.far.acknowledged == events


async def test_what_the_far_side_refuses_for_good_is_set_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path, FarSide()) as it:
        events = it.append(10)
        it.far.refused = {events[4].seq}
        with caplog.at_level(logging.ERROR):
            async with running(it):
                await until(lambda: it.courier.rejected == 1)
                await it.courier.drained()
        assert it.far.acknowledged == [event for event in events if event is not events[4]]
        assert it.courier.delivered == 9
        assert (
            f"event {events[4].id} (reading of air) was refused and is set aside: quota exceeded"
            in caplog.text
        )


async def lost(it: Bench, task: asyncio.Task[None]) -> None:
    it.far.lose()
    with pytest.raises(Disconnected, match="gone"):
        await task


async def test_the_event_with_which_connections_are_lost_is_named_and_none_behind_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path, FarSide()) as it:
        (poison,) = it.append(1)
    async with bench(tmp_path, FarSide()) as it:  # in a stretch of its own, for it is of an earlier run
        it.far.automatic = False
        (innocent,) = it.append(1)
        for number in range(STUCK):
            assert "was on its way" not in caplog.text, number
            async with running(it) as task:
                await until(lambda: len(it.far.open) == 2)
                await lost(it, task)
    assert f"event {poison.id} (reading of air) was on its way" in caplog.text
    assert f"event {innocent.id} " not in caplog.text


async def test_what_went_wrong_without_a_connection_does_not_end_the_next_one(tmp_path: Path) -> None:
    async with bench(tmp_path, FarSide()) as it:
        async with running(it) as task:
            events = it.append(1)
            await until(lambda: len(it.far.acknowledged) == 1)
            await lost(it, task)
        it.log._memory.rewinds += 1  # the file was found again
        it.courier.start_replay(0, 0, None)
        await until(lambda: it.courier._error is not None)
        async with running(it) as task:
            events += it.append(1)
            await until(lambda: task.done() or len(it.far.acknowledged) == 2)
            await it.courier.drained()
            assert not task.done()
        assert it.far.acknowledged == events


async def test_what_goes_from_the_file_while_it_is_carried_leaves_no_gap_before_the_cursor(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, FarSide()) as it:
        old = it.append(2000)
    async with bench(tmp_path, FarSide()) as it:
        it.far.automatic = False
        new = it.append(3 * GROUP)
        await it.log.writer.commit()
        async with running(it):
            await until(lambda: len(it.far.open) == 2)
            first, last = old[1500].seq, new[GROUP].seq
            await it.log._file.retain(
                lambda db: db.execute("DELETE FROM events WHERE seq BETWEEN ? AND ?", (first, last))
            )
            it.far.automatic = True
            while it.far.open:
                it.far.acknowledge()
            await until(lambda: it.far.acknowledged[-1] == new[-1])
            await it.courier.drained()
            assert it.consumer.undelivered(Lane.READINGS) == [(new[-1].seq, None)]
        assert it.far.acknowledged == [*old[:1500], *new[GROUP + 1 :]]


async def test_two_couriers_go_each_at_its_own_pace(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db", eventlog.Settings(), VirtualClock())
    await log.open(["quick", "stuck"], "1.0")
    quick, stuck = FarSide(), FarSide()
    stuck.automatic = False
    tasks = []
    for name, far in (("quick", quick), ("stuck", stuck)):
        part = Part("forwarder", name, VirtualClock(), lambda *_: None)
        tasks.append(asyncio.create_task(Courier(log.consumer(name), far, list, IN_ORDER).run(part)))
    for number in range(1000):
        log.append(EventType.READING, "air", {"t": number})
    await until(lambda: len(quick.acknowledged) == 1000)
    assert (await log.consumer("quick").waiting(), await log.consumer("stuck").waiting()) == (0, 1000)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await log.close()


# --- the supervisor -----------------------------------------------------------------------------------------------------


async def test_a_part_that_fails_is_said_once_and_tried_again_until_it_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes: list[Health] = []
    part = Part("device", "scale", VirtualClock(), lambda part, _: changes.append(part.health))
    tries = 0

    async def run() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise Disconnected("cannot open /dev/ttyUSB0: no such file")
        part.up()
        await asyncio.Event().wait()

    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(keep_running(part, run, Backoff(min=Duration(0.1), max=Duration(0.1))))
        await until(lambda: part.health is Health.UP)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert changes == [Health.DOWN, Health.UP]
    said = [record.message for record in caplog.records]
    assert said == [
        "device scale is down: cannot open /dev/ttyUSB0: no such file; trying again",
        "device scale is up again after 0 s",
    ]


async def test_a_bug_in_a_part_is_loud_and_stops_only_that_part(caplog: pytest.LogCaptureFixture) -> None:
    part = Part("device", "scale", VirtualClock(), lambda *_: None)
    tries = 0

    async def run() -> None:
        nonlocal tries
        tries += 1
        raise KeyError("oops")

    task = asyncio.create_task(keep_running(part, run, Backoff(min=Duration(0.1), max=Duration(0.1))))
    await until(lambda: tries > 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert part.reason == "KeyError: 'oops'"
    assert "device scale has failed on a bug in gatepost" in caplog.text


async def test_waits_grow_to_the_limit_and_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 12:
            raise asyncio.CancelledError

    part = Part("device", "scale", VirtualClock(), lambda *_: None)

    async def run() -> None:
        raise Disconnected("gone")

    monkeypatch.setattr("agent.supervisor.asyncio.sleep", note)
    with pytest.raises(asyncio.CancelledError):
        await keep_running(part, run, Backoff(min=Duration(1), max=Duration(30)))
    limits = [min(30.0, 2.0**number) for number in range(12)]
    assert all(limit / 10 <= wait <= limit for wait, limit in zip(waits, limits, strict=True))
    assert len(set(waits)) == len(waits)
