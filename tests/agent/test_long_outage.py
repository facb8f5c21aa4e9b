"""Thirteen hours without a broker, on the virtual clock: sensing and rules never notice, and then all of it arrives."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from support.boards import no_outputs
from support.couriers import Bench, FarSide, running

from agent import eventlog, reporter
from agent.busthreads import BusThreads
from agent.clock import VirtualClock
from agent.courier import Settings
from agent.eventlog import EventLog
from agent.eventlog.writer import GROUP
from agent.events import EventType, Lane, Reading
from agent.intake import Intake
from agent.outcome import RuleOutcome
from agent.quantities import Duration
from agent.reporter import Reporter
from agent.rulebook import Rulebook
from agent.rules import threshold
from drivers import heartbeat

if TYPE_CHECKING:
    from pathlib import Path

HOURS = 13
COUNT = HOURS * 3600
HOT = threshold.Settings(of="air.temperature", above=30.0, for_=Duration(60))


async def test_thirteen_hours_offline_cost_nothing_and_slow_nobody(tmp_path: Path) -> None:
    clock = VirtualClock()
    # One commit for ten virtual seconds: each is a real fsync.
    log = EventLog(tmp_path / "events.db", eventlog.Settings(commit=Duration(10)), clock)
    await log.open(["site"], "1.0")
    board = no_outputs(log, clock)
    rules = Rulebook(log, clock, board)
    rules.add("hot", threshold.Rule(HOT), RuleOutcome())
    driver = heartbeat.Driver(heartbeat.Settings(every=Duration(1)))
    intake = Intake(
        "air", driver, Reporter(reporter.Settings(), polled=True), board, rules, log, clock, BusThreads()
    )
    chance = random.Random(13)
    expected: list[tuple[int, float]] = []
    hot_for = raised = 0
    for number in range(COUNT):
        hot = number % 3600 >= 3000  # ten minutes of each hour
        value = round(chance.uniform(31, 40) if hot else chance.uniform(10, 29), 2)
        intake.take([Reading({"n": number, "temperature": value})])
        expected.append((number, value))
        hot_for = hot_for + 1 if hot else 0
        raised += hot_for == 61
        assert not log.writer.is_full, "sensing never waits"
        if log.writer.due_in() <= 0:
            await log.writer.commit()
        clock.now += 1
    assert len(rules.alarms) == 1
    assert len(log._memory.tails[Lane.READINGS].events) <= 2 * GROUP, "memory is level"
    assert raised == HOURS

    it = Bench(log, FarSide(), Settings())
    async with running(it), asyncio.timeout(120):
        await it.courier.drained()

    kinds = [event.type for event in it.far.acknowledged]
    assert kinds.count(EventType.ALARM_RAISED) == HOURS
    assert kinds.index(EventType.ALARM_RAISED) < kinds.index(EventType.READING), "alarms overtake"
    readings = [event for event in it.far.acknowledged if event.type == EventType.READING]
    assert [(event.values["n"], event.values["temperature"]) for event in readings] == expected
    assert all(event.time == clock.epoch + 1_000_000 * number for number, event in enumerate(readings))
    assert (log.losses.dropped, intake.readings) == (0, COUNT)
    await log.close()
