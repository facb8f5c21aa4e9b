"""What a faulty driver may say and no file can hold: it costs that event, is said, and stops neither log nor courier."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.couriers import Bench, FarSide
from support.logs import in_file, kept, opened, read
from support.waiting import eventually

from agent import eventlog
from agent.clock import Clock
from agent.courier import Settings
from agent.events import Delivery, Event, EventType, Lane
from agent.quantities import Duration
from agent.supervisor import Backoff, keep_running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HALF = "half of a pair: \ud800"
"""Text that is not Unicode: UTF-8 cannot say it."""

UNSTORABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "a lone surrogate": ("scale", {"t": HALF}),
    "a lone surrogate beside others": ("scale", {"t": 1, "name": HALF}),
    "a name of a channel": ("scale", {HALF: 1}),
    "a source": (HALF, {"t": 1}),
    "70 bits": ("scale", {"t": 2**70}),
    "an object": ("scale", {"t": object()}),
    "an object beside others": ("scale", {"t": object(), "name": "x"}),
}


@pytest.fixture(params=UNSTORABLE)
def unstorable(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return UNSTORABLE[request.param]


async def test_what_no_file_can_hold_costs_its_event_alone_and_is_said(
    tmp_path: Path, unstorable: tuple[str, dict[str, Any]]
) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        before = read(log, 1)
        bad = log.append(EventType.READING, *unstorable)
        after = [log.append(EventType.ALARM_RAISED, "too-hot", {"value": 1}), read(log, 2)]
        log.put_state("rule:too-hot", {"active": 1})
        await log.writer.commit()
        assert in_file(path) == [before, *after]
        assert log.reader.peek(Lane.READINGS, before.seq, 10) == [after[1]]
        log.losses.tell()
        await log.writer.commit()
        (told,) = in_file(path)[3:]
        assert told.type == EventType.LOG_DROPPED
        assert (told.values["from"], told.values["to"], told.values["count"]) == (bad.seq, bad.seq, 1)
    async with opened(path) as log:
        assert log.state("rule:too-hot") == {"active": 1}


async def test_a_state_that_no_file_can_hold_is_left_out_and_the_others_are_written(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with opened(path) as log:
        event = read(log, 1)
        log.put_state("rule:one", {"text": HALF})
        log.put_state("rule:two", {"active": 1})
    async with opened(path) as log:
        assert (log.state("rule:one"), log.state("rule:two")) == (None, {"active": 1})
    assert in_file(path) == [event]


class EncodingFarSide(FarSide):
    """A far side that writes what it sends as JSON."""

    def send(
        self, batch: Sequence[Event], delivery: Delivery = Delivery.LIVE, *, joined: bool = False
    ) -> asyncio.Future[None]:
        for event in batch:
            self.encoding.encode(event, delivery)
        return super().send(batch, delivery, joined=joined)


async def test_a_courier_goes_on_behind_what_no_file_can_hold(
    tmp_path: Path, unstorable: tuple[str, dict[str, Any]]
) -> None:
    often = eventlog.Settings(commit=Duration(0.05))
    async with opened(tmp_path / "events.db", ["site"], often, Clock()) as log, kept(log):
        it = Bench(log, EncodingFarSide(), Settings())
        carrying = asyncio.create_task(
            keep_running(
                it.part, lambda: it.courier.run(it.part), Backoff(min=Duration(0.1), max=Duration(0.1))
            )
        )
        before = it.append(3)
        log.append(EventType.READING, *unstorable)
        after = it.append(3)
        await eventually(lambda: it.far.acknowledged[-1:] == after[-1:], "what comes after it has arrived")
        assert [event for event in it.far.acknowledged if event.source == "air"] == [*before, *after]
        await it.courier.drained()
        carrying.cancel()
        await asyncio.gather(carrying, return_exceptions=True)
