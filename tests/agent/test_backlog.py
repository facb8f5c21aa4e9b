"""What waited for a connection: told as historical, behind what happens now, paced, joined; and what is sent once more."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.couriers import Bench, FarSide, running, until

from agent import courier as courier_module
from agent import eventlog
from agent.clock import VirtualClock
from agent.courier import BATCH, JOINED, Settings
from agent.errors import Disconnected, GatepostError
from agent.eventlog import EventLog, EventStore
from agent.eventlog.writer import GROUP
from agent.events import Delivery, Event, EventType, Lane
from agent.quantities import Duration
from agent.supervisor import Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LIVE_FIRST = Settings(backlog="live_first")
IN_ORDER = Settings()
DEFAULTS = eventlog.Settings()
WRITTEN_FIRST = eventlog.Settings(commit=Duration(0))


@asynccontextmanager
async def opened(
    path: Path,
    settings: Settings = IN_ORDER,
    window: int = 100,
    configured: eventlog.Settings = DEFAULTS,
) -> AsyncIterator[Bench]:
    """Begin a run, with a new far side."""
    log = EventLog(path / "events.db", configured, VirtualClock())
    await log.open(["site"], "1.0")
    try:
        yield Bench(log, FarSide(window), settings)
    finally:
        await log.close()


def alarm(it: Bench) -> Event:
    return it.log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1})


def sent_as(it: Bench, delivery: Delivery) -> list[Event]:
    return [event for event, how in zip(it.far.sent, it.far.deliveries, strict=True) if how is delivery]


async def drained(it: Bench) -> None:
    async with asyncio.timeout(10):
        await it.courier.drained()


async def delivered(it: Bench, count: int) -> None:
    await until(lambda: len(it.far.acknowledged) >= count)
    await drained(it)


async def lost(it: Bench, task: asyncio.Task[None]) -> None:
    it.far.lose()
    with pytest.raises(Disconnected, match="gone"):
        await task


# --- what is historical -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [IN_ORDER, LIVE_FIRST])
async def test_what_an_earlier_run_left_is_historical_and_what_this_one_logs_is_live(
    tmp_path: Path, settings: Settings
) -> None:
    async with opened(tmp_path) as it:
        old = [*it.append(10), alarm(it)]
    async with opened(tmp_path, settings) as it:
        before = [*it.append(3), alarm(it)]  # not connected yet, but not for long
        async with running(it):
            await delivered(it, 15)
            after = [*it.append(3), alarm(it)]
            await delivered(it, 19)
        by_seq = sorted(sent_as(it, Delivery.HISTORICAL), key=lambda event: event.seq)
        assert by_seq == old
        assert sorted(sent_as(it, Delivery.LIVE), key=lambda event: event.seq) == [*before, *after]
        assert len(it.far.sent) == len({event.id for event in it.far.sent})


async def test_what_happens_in_a_short_gap_is_live_and_in_a_long_one_historical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as it:
        async with running(it) as task:
            it.append(5)
            await delivered(it, 5)
            await lost(it, task)
        short = it.append(5)
        async with running(it) as task:
            await delivered(it, 10)
            await lost(it, task)
        assert sent_as(it, Delivery.HISTORICAL) == []
        assert it.far.sent[-5:] == short
        monkeypatch.setattr(courier_module, "GRACE", 0.0)
        long = [*it.append(5), alarm(it)]
        async with running(it):
            await delivered(it, 16)
            new = it.append(5)
            await delivered(it, 21)
        assert sorted(sent_as(it, Delivery.HISTORICAL), key=lambda event: event.seq) == long
        assert sent_as(it, Delivery.LIVE)[-5:] == new


async def test_what_is_not_written_yet_when_a_connection_is_made_is_delivered_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "GRACE", 0.0)
    async with opened(tmp_path, configured=WRITTEN_FIRST) as it:
        events = [*it.append(2), alarm(it)]
        async with running(it):
            await until(lambda: it.part.health is Health.UP)
            await asyncio.sleep(0)
            assert it.far.sent == []
            await it.log.writer.commit()
            await delivered(it, 3)
        assert sorted(it.far.sent, key=lambda event: event.seq) == events


@pytest.mark.parametrize("end", ["an alarm", "what has overtaken"])
async def test_a_paced_backlog_that_ends_before_the_file_does_is_read_once(tmp_path: Path, end: str) -> None:
    async with opened(tmp_path) as it:
        old = it.append(60)
        if end == "an alarm":
            alarm(it)  # so the last reading is not the last event
        else:
            it.consumer.acknowledge(Lane.READINGS, old[-1].seq, it.append(40)[-1].seq)
    async with opened(tmp_path, Settings(rate=100)) as it:
        fetch, fetched = it.log.reader.fetch, []

        async def counted(lane: Lane, after: int, limit: int) -> list[Event]:
            fetched.append((lane, after))
            return await fetch(lane, after, limit)

        it.log.reader.fetch = counted  # type: ignore[method-assign]
        async with running(it):
            await delivered(it, 60)
        of_readings = [after for lane, after in fetched if lane is Lane.READINGS]
        # Where no reading comes after it, it is looked once more, to see that this was all.
        assert of_readings == ([0, old[-1].seq] if end == "an alarm" else [0])


# --- live first ---------------------------------------------------------------------------------------------------


async def backlog_of(path: Path, count: int) -> list[Event]:
    """Leave a backlog, as an earlier run does."""
    async with opened(path) as it:
        return it.append(count)


async def test_with_live_first_what_happens_now_overtakes_and_the_backlog_follows_in_order(
    tmp_path: Path,
) -> None:
    old = await backlog_of(tmp_path, 3000)
    async with opened(tmp_path, LIVE_FIRST, window=BATCH) as it:
        it.far.automatic = False
        async with running(it):
            live: list[Event] = []
            while len(it.far.acknowledged) < 3000 + len(live):
                if len(it.far.acknowledged) < 1500:
                    live += it.append(1)
                await until(lambda: bool(it.far.open))
                it.far.acknowledge()
                await asyncio.sleep(0)
            await drained(it)
            assert sent_as(it, Delivery.HISTORICAL) == old
            assert sent_as(it, Delivery.LIVE) == live
            place = {event.seq: index for index, event in enumerate(it.far.sent)}
            assert max(place[event.seq] for event in live) < place[old[-1].seq] - 500
            assert it.consumer.undelivered(Lane.READINGS) == [(live[-1].seq, None)], "all joined up"
            assert await it.consumer.waiting() == 0


async def test_in_order_the_oldest_goes_first(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 3000)
    async with opened(tmp_path) as it:
        async with running(it):
            live = it.append(5)
            await delivered(it, 3005)
        assert it.far.sent == [*old, *live]


async def test_what_overtook_the_backlog_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 1000)
    seen: list[Event] = []
    async with opened(tmp_path, LIVE_FIRST, window=BATCH) as it:
        it.far.automatic = False
        async with running(it):
            await until(lambda: bool(it.far.open))  # some of the backlog
            it.far.acknowledge()
            live = it.append(20)
            await until(lambda: len(sent_as(it, Delivery.LIVE)) == 20)
            while it.far.open:
                it.far.acknowledge()
                await until(lambda: it.courier.delivered == len(it.far.acknowledged))
                if it.consumer.cursor(Lane.READINGS) > 200:
                    break
        seen += it.far.acknowledged
        assert it.consumer.undelivered(Lane.READINGS)[-1] == (live[-1].seq, None)
    async with opened(tmp_path, LIVE_FIRST) as it:
        assert it.consumer.undelivered(Lane.READINGS)[-1] == (live[-1].seq, None), "it was saved"
        async with running(it):
            await drained(it)
        assert [event.seq for event in it.far.sent] == sorted(
            {event.seq for event in [*old, *live]} - {event.seq for event in seen}
        )
        assert it.consumer.undelivered(Lane.READINGS) == [(live[-1].seq, None)]


async def test_with_live_first_a_flood_that_memory_cannot_hold_becomes_backlog(tmp_path: Path) -> None:
    async with opened(tmp_path, LIVE_FIRST, window=BATCH) as it:
        it.far.automatic = False
        async with running(it):
            first = it.append(3 * GROUP)
            await it.log.writer.commit()
            assert it.log.reader.base(Lane.READINGS) > first[BATCH].seq
            await until(lambda: len(it.far.open) == 1)
            it.far.acknowledge()
            await until(lambda: len(it.far.open) == 1)  # it has seen that it is behind
            new = it.append(10)
            it.far.automatic = True
            it.far.acknowledge()
            await until(lambda: new[-1] in it.far.sent)
            await delivered(it, len(first) + 10)
        place = {event.seq: index for index, event in enumerate(it.far.sent)}
        assert place[new[-1].seq] < place[first[-1].seq], "the new ones have overtaken"
        historical = sent_as(it, Delivery.HISTORICAL)
        assert historical == first[len(first) - len(historical) :][: len(historical)]
        assert sent_as(it, Delivery.LIVE)[-10:] == new
        assert len(place) == len(it.far.sent) == len(first) + 10


async def test_a_flood_that_became_backlog_stays_historical_over_a_short_gap(tmp_path: Path) -> None:
    async with opened(tmp_path, LIVE_FIRST, window=BATCH) as it:
        it.far.automatic = False
        async with running(it) as task:
            flood = it.append(3 * GROUP)
            await it.log.writer.commit()
            await until(lambda: len(it.far.open) == 1)
            it.far.acknowledge()
            await until(lambda: Delivery.HISTORICAL in it.far.deliveries)
            await lost(it, task)
        left = flood[len(it.far.acknowledged) :]
        it.far.sent.clear()
        it.far.deliveries.clear()
        it.far.automatic = True
        async with running(it):
            new = it.append(5)
            await delivered(it, len(flood) + 5)
        assert sent_as(it, Delivery.HISTORICAL) == left
        assert sent_as(it, Delivery.LIVE) == new


async def test_a_flood_becomes_backlog_only_as_far_as_it_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path, LIVE_FIRST, BATCH, WRITTEN_FIRST) as it:
        late: list[Event] = []
        it.far.automatic = False
        async with running(it):
            await until(lambda: it.part.health is Health.UP)
            stop = it.log.reader.listen(lambda: late.extend(it.append(5)))
            flood = it.append(3 * GROUP)
            await it.log.writer.commit()  # the courier looks while five more are not written
            stop()
            await until(lambda: len(it.far.open) == 1)
            it.far.acknowledge()
            it.far.automatic = True
            await until(lambda: len(it.far.acknowledged) == len(flood))
            await it.log.writer.commit()
            await delivered(it, len(flood) + 5)
        assert sent_as(it, Delivery.LIVE)[-5:] == late


# --- the rate -----------------------------------------------------------------------------------------------------


async def test_the_rate_holds_back_a_backlog_but_neither_what_happens_now_nor_alarms(tmp_path: Path) -> None:
    async with opened(tmp_path) as it:
        it.append(100)
        alarms = [alarm(it) for _ in range(30)]
    slow = Settings(backlog="live_first", rate=0.01)
    async with opened(tmp_path, slow) as it, running(it):
        live = [*it.append(300), alarm(it)]
        await until(lambda: len(it.far.acknowledged) >= 331)
        assert [event for event in it.far.sent if event.type != EventType.READING] == [*alarms, live[-1]]
        assert sent_as(it, Delivery.LIVE).count(live[-1]) == 1
        readings = [event for event in sent_as(it, Delivery.LIVE) if event.type == EventType.READING]
        assert readings == live[:-1]
        waiting = [event for event in sent_as(it, Delivery.HISTORICAL) if event.type == EventType.READING]
        assert len(waiting) <= 2


async def test_a_backlog_goes_no_faster_than_its_rate(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 60)
    async with opened(tmp_path, Settings(rate=100)) as it:
        began = time.monotonic()
        async with running(it):
            await delivered(it, 60)
        # Ten may go at once (BURST) and the other fifty take ten milliseconds each; it is never faster.
        assert time.monotonic() - began >= 0.48
        assert it.far.sent == old


async def test_a_slow_replay_does_not_hold_up_the_backlog(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 600)
    async with opened(tmp_path, Settings(rate=2000)) as it:
        it.courier.start_replay(0, old[-1].seq, 0.01)
        async with running(it):
            await until(lambda: sent_as(it, Delivery.HISTORICAL) == old)


# --- several in one message ---------------------------------------------------------------------------------------


async def test_a_backlog_is_joined_as_long_as_enough_waits_and_alarms_and_live_events_never(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as it:
        old = it.append(1030)
        alarms = [alarm(it) for _ in range(200)]
    async with opened(tmp_path, Settings(batch=200)) as it, running(it):
        await delivered(it, 1230)
        assert sum(it.far.joined) in range(1000, 1031)
        assert max(it.far.joined) == 200
        assert min(it.far.joined) >= BATCH, "fewer go each by itself"
        assert [event for event in it.far.sent if event.type == EventType.READING] == old
        assert [event for event in it.far.sent if event.type != EventType.READING] == alarms
        joined = len(it.far.joined)
        for _ in range(20):
            live = it.append(3)
            await until(lambda: live[-1] in it.far.acknowledged)  # noqa: B023 -- called at once
        assert len(it.far.joined) == joined


async def test_a_small_batch_is_full_in_each_message_and_few_are_in_flight(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 1000)
    async with opened(tmp_path, Settings(batch=10)) as it:
        it.far.automatic = False
        async with running(it):
            await until(lambda: len(it.far.open) == JOINED)
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(it.far.open) == JOINED
            it.far.automatic = True
            while it.far.open:
                it.far.acknowledge()
                await asyncio.sleep(0)
            await delivered(it, 1000)
        assert it.far.joined == [10] * 100
        assert it.far.sent == old


async def test_messages_are_as_full_with_a_rate_and_go_no_faster_than_it(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 300)
    async with opened(tmp_path, Settings(rate=200, batch=50)) as it:
        began = time.monotonic()
        async with running(it):
            await delivered(it, 300)
        assert it.far.joined == [50] * 6
        assert it.far.sent == old
        # Before the last message 250 had gone, of which 20 were saved up (BURST).
        assert time.monotonic() - began >= (250 - 20) / 200


# --- once more ----------------------------------------------------------------------------------------------------


def cursors(it: Bench) -> list[int]:
    return [it.consumer.cursor(lane) for lane in Lane]


async def test_a_replay_sends_a_stretch_of_both_lanes_once_more_and_moves_no_cursor(tmp_path: Path) -> None:
    async with opened(tmp_path) as it, running(it):
        events = list(itertools.chain.from_iterable([*it.append(100), alarm(it)] for _ in range(6)))
        await delivered(it, 606)
        await it.log.writer.commit()
        before, count = cursors(it), it.courier.delivered
        it.far.sent.clear()
        it.far.deliveries.clear()
        replay = it.courier.start_replay(events[49].seq, events[559].seq, None)
        with pytest.raises(GatepostError, match="under way"):
            it.courier.start_replay(0, 1, None)
        await until(lambda: replay.is_done)
        assert sent_as(it, Delivery.REPLAYED) == it.far.sent == events[50:560]
        assert replay.acknowledged == 510
        assert (cursors(it), it.courier.delivered) == (before, count)
        it.courier.end_replay()
        assert it.courier.replay is None


async def test_a_replay_reaches_to_what_is_not_written_yet(tmp_path: Path) -> None:
    async with opened(tmp_path) as it, running(it):
        events = it.append(5)
        await delivered(it, 5)
        await it.log.writer.commit()
        events += it.append(5)
        await delivered(it, 10)
        replay = it.courier.start_replay(0, events[-1].seq + 1000, None)
        await until(lambda: replay.is_done)
        assert sent_as(it, Delivery.REPLAYED) == events


async def test_a_replay_goes_on_over_a_lost_connection_where_it_was(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 1000)
    async with opened(tmp_path) as it:
        async with running(it):
            await delivered(it, 1000)
        it.far.sent.clear()
        it.far.deliveries.clear()
        it.far.automatic = False
        replay = it.courier.start_replay(0, old[-1].seq, None)
        async with running(it) as task:
            for _ in range(4):
                await until(lambda: bool(it.far.open))
                it.far.acknowledge()
            await until(lambda: replay.acknowledged == 4 * BATCH)
            await until(lambda: len(it.far.open) == 2)
            it.append(1)
            await lost(it, task)
        again = len(it.far.sent)
        it.far.automatic = True
        async with running(it):
            await until(lambda: replay.is_done)
        replayed = [event for event in it.far.sent[again:] if event.seq <= old[-1].seq]
        assert replayed == old[4 * BATCH :], "it goes on with what was not acknowledged"
        assert replay.acknowledged == 1000


async def test_what_happens_now_goes_before_a_replay(tmp_path: Path) -> None:
    old = await backlog_of(tmp_path, 2000)
    async with opened(tmp_path, window=BATCH) as it, running(it):
        await delivered(it, 2000)
        it.far.automatic = False
        it.courier.start_replay(0, old[-1].seq, None)
        await until(lambda: len(it.far.open) == 1)
        new = it.append(1)
        it.far.acknowledge()
        await until(lambda: new[0] in it.far.sent)
        assert it.far.sent == [*old, *old[:BATCH], *new, *old[BATCH : 2 * BATCH - 1]]


@pytest.mark.parametrize(("asked", "held_to"), [(None, 100), (5000, 100), (10, 10)])
async def test_a_replay_goes_no_faster_than_the_forwarder_may(
    tmp_path: Path, asked: float | None, held_to: float
) -> None:
    async with opened(tmp_path, Settings(rate=100)) as it:
        assert it.courier.start_replay(0, 10, asked).allowance.rate == held_to


# --- what is refused ----------------------------------------------------------------------------------------------


async def test_a_refused_event_stays_readable_with_who_refused_it_and_why(tmp_path: Path) -> None:
    async with opened(tmp_path) as it:
        events = [*it.append(10), alarm(it)]
        it.far.refused = {events[4].seq, events[10].seq}
        async with running(it):
            await until(lambda: it.courier.rejected == 2)
            await drained(it)
            replay = it.courier.start_replay(0, events[-1].seq, None)
            await until(lambda: replay.is_done)
    store = EventStore(tmp_path / "events.db")
    store.open_reader()
    found = [(each.event, each.consumer, each.reason) for each in store.rejected()]
    store.close()
    assert found == [(events[4], "site", "quota exceeded"), (events[10], "site", "quota exceeded")]


async def test_an_event_that_is_refused_in_a_replay_was_delivered_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as it, running(it):
        events = it.append(100)
        await delivered(it, 100)
        it.far.refused = {events[3].seq, events[70].seq}
        replay = it.courier.start_replay(0, events[-1].seq, None)
        await until(lambda: replay.is_done)
        assert (it.courier.delivered, it.courier.rejected, replay.acknowledged) == (100, 2, 98)
