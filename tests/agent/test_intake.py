"""The intake: one driver kept open, paced, and its bad readings kept as evidence."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.boards import no_outputs

from agent import contracts, eventlog
from agent.busthreads import BusThreads
from agent.clock import Clock
from agent.errors import BadReading, Disconnected
from agent.eventlog import EventLog
from agent.eventlog.writer import ROOM
from agent.events import Event, EventType, Quality, Reading
from agent.intake import AT_ONCE, Intake
from agent.quantities import Change, Duration
from agent.reporter import Reporter
from agent.reporter import Settings as Report
from agent.rulebook import Rulebook
from agent.supervisor import Health, Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path


class EventDriven(contracts.Settings, frozen=True):
    """Settings without `every`."""


class Polled(contracts.Settings, frozen=True):
    """Settings with `every`."""

    every: Duration = Duration(0.01)


class Script(contracts.Driver[Any]):
    """A driver that does what the test wrote, and then waits for ever."""

    def __init__(self, settings: contracts.Settings, *steps: object) -> None:
        super().__init__(settings)
        self.steps = list(steps)
        self.calls: list[str] = []

    async def open(self) -> None:
        self.calls.append("open")

    async def read(self) -> Sequence[Reading]:
        self.calls.append("read")
        if not self.steps:
            await asyncio.Event().wait()
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, list)
        return step

    async def close(self) -> None:
        self.calls.append("close")


class Blocking(contracts.BlockingDriver[Polled]):
    """A driver that notes the thread that it is called in."""

    def __init__(self, bus: str, threads: set[int]) -> None:
        super().__init__(Polled())
        self._bus = bus
        self._threads = threads

    def bus(self) -> str:
        return self._bus

    def open(self) -> None:
        self._threads.add(threading.get_ident())

    def read(self) -> Sequence[Reading]:
        self._threads.add(threading.get_ident())
        return [Reading({"v": 1})]

    def close(self) -> None:
        self._threads.add(threading.get_ident())


class Bench:
    """A log that intakes write to."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.threads = BusThreads()
        self.board = no_outputs(log, Clock())
        self.rules = Rulebook(log, Clock(), self.board)

    def intake(self, driver: Any, report: Report | None = None) -> tuple[Intake, Part]:
        reporter = Reporter(report or Report(), polled=hasattr(driver.settings, "every"))
        intake = Intake("air", driver, reporter, self.board, self.rules, self.log, Clock(), self.threads)
        return intake, Part("device", "air", Clock(), lambda *_: None)

    async def events(self, event_type: str) -> list[Event]:
        return [event for event in await self.log.reader.history(0, 10_000) if event.type == event_type]


@asynccontextmanager
async def bench(path: Path) -> AsyncIterator[Bench]:
    log = EventLog(path / "events.db", eventlog.Settings(), Clock())
    await log.open([], "1.0")
    it = Bench(log)
    try:
        yield it
    finally:
        it.threads.close()
        await log.close()


@asynccontextmanager
async def running(intake: Intake, part: Part) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(intake.run(part))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_an_event_driven_device_is_up_when_it_is_open_and_a_polled_one_when_it_was_read(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as it:
        for settings, expected in ((EventDriven(), Health.UP), (Polled(), Health.STARTING)):
            driver = Script(settings)
            intake, part = it.intake(driver)
            async with running(intake, part):
                await until(lambda driver=driver: "read" in driver.calls)  # type: ignore[misc]
                assert part.health is expected


async def test_the_driver_is_closed_however_reading_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        for end in (Disconnected("gone"), RuntimeError("bug")):
            driver = Script(EventDriven(), end)
            intake, part = it.intake(driver)
            with pytest.raises(type(end)):
                await intake.run(part)
            assert driver.calls == ["open", "read", "close"]
        driver = Script(EventDriven())
        intake, part = it.intake(driver)
        async with running(intake, part):
            await until(lambda: "read" in driver.calls)
        assert driver.calls == ["open", "read", "close"]


async def test_bad_readings_are_counted_the_first_is_evidence_and_good_ones_go_on(tmp_path: Path) -> None:
    steps = [BadReading("not a number", "2x.5 kg"), BadReading("too long"), [Reading({"v": 1})]]
    async with bench(tmp_path) as it:
        intake, part = it.intake(Script(EventDriven(), *steps))
        async with running(intake, part):
            await until(lambda: intake.readings == 1)
        (evidence,) = await it.events(EventType.BAD_READING)
        assert evidence.values == {"reason": "not a number", "evidence": "2x.5 kg", "count": 1}
        assert intake.bad == 2
        assert len(await it.events(EventType.READING)) == 1


async def test_the_times_of_readings_are_those_at_which_they_were_seen(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        clock = Clock()
        at = clock.monotonic() - 5.0
        intake, _ = it.intake(Script(EventDriven()))
        intake.take([Reading({"v": 1}, at), Reading({"v": 2}, at + 2.5)])
        first, second = await it.events(EventType.READING)
        assert second.time - first.time == pytest.approx(2_500_000, abs=2)
        assert clock.wall() - first.time == pytest.approx(5_000_000, abs=500_000)


async def test_what_comes_at_once_waits_for_a_disk_that_has_fallen_behind_and_none_of_it_is_lost_at_the_end(
    tmp_path: Path,
) -> None:
    count = 2 * ROOM
    async with bench(tmp_path) as it:
        intake, part = it.intake(Script(EventDriven(), [Reading({"v": n}) for n in range(count)]))
        async with running(intake, part):
            await until(lambda: it.log.writer.is_full)
            assert ROOM <= intake.readings <= ROOM + AT_ONCE
            await it.log.writer.commit()
            await until(lambda: intake.readings > ROOM + AT_ONCE)
        assert intake.readings == count


async def test_an_event_has_only_the_qualities_of_its_own_channels(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        intake, _ = it.intake(Script(EventDriven()), Report(change=Change(10.0)))
        quality = {"t": Quality.UNCERTAIN}
        intake.take(
            [Reading({"t": 1.0, "h": 1.0}, quality=quality), Reading({"t": 2.0, "h": 50.0}, quality=quality)]
        )
        first, second = await it.events(EventType.READING)
        assert (first.quality, second.values, second.quality) == (quality, {"h": 50.0}, None)


async def test_what_is_held_back_comes_by_itself(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        intake, part = it.intake(Script(EventDriven()), Report(at_most=Duration(0.05)))
        async with running(intake, part):
            intake.take([Reading({"v": 1})])
            intake.take([Reading({"v": 2})])
            async with asyncio.timeout(5):
                while len(await it.events(EventType.READING)) < 2:
                    await asyncio.sleep(0.005)
        assert [event.values for event in await it.events(EventType.READING)] == [{"v": 1}, {"v": 2}]


async def test_one_bus_is_used_by_one_thread_and_never_by_the_event_loop(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        threads: dict[str, set[int]] = {"i2c-1": set(), "i2c-2": set()}
        tasks = []
        intakes = []
        for bus in ("i2c-1", "i2c-1", "i2c-2"):
            intake, part = it.intake(Blocking(bus, threads[bus]))
            intakes.append(intake)
            tasks.append(asyncio.create_task(intake.run(part)))
        await until(lambda: all(intake.readings > 1 for intake in intakes))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [len(used) for used in threads.values()] == [1, 1]
    assert threads["i2c-1"].isdisjoint(threads["i2c-2"])
    assert threading.get_ident() not in threads["i2c-1"] | threads["i2c-2"]


async def test_new_channels_of_a_device_are_told_once(tmp_path: Path) -> None:
    told: list[list[str]] = []
    async with bench(tmp_path) as it:
        intake, _ = it.intake(Script(EventDriven()))
        intake.on_new_channels = told.append
        for values in ({"a": 1}, {"a": 2}, {"b": 3}, {"a": 4, "b": 5}):
            intake.take([Reading(dict(values))])
    assert told == [["a"], ["a", "b"]]


# --- readings that somebody asks for ----------------------------------------------------------------------------------


HOURLY = Polled(every=Duration(3600))


async def test_who_asks_gets_a_reading_at_once_and_the_own_times_stay(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        driver = Script(HOURLY, [Reading({"v": 1})], [Reading({"v": 2})], [Reading({"v": 3})])
        intake, part = it.intake(driver, Report(change=Change(100.0), at_most=Duration(9999)))
        async with running(intake, part):
            await until(lambda: intake.readings == 1)
            await intake.trigger()
            for _ in range(10):
                await asyncio.sleep(0)
            assert driver.calls.count("read") == 2, "it waits for its own time again"
        kept = [event.values for event in await it.events(EventType.READING)]
        assert kept == [{"v": 1}, {"v": 2}], "whatever `report` says"


async def test_the_own_times_of_a_device_go_on_while_others_ask(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        driver = Script(Polled(every=Duration(0.2)), *[[Reading({"v": n})] for n in range(10_000)])
        intake, part = it.intake(driver)
        async with running(intake, part):
            await until(lambda: intake.readings == 1)
            began, asked = asyncio.get_running_loop().time(), 0
            while asyncio.get_running_loop().time() - began < 0.7:
                await intake.trigger()
                asked += 1
                await asyncio.sleep(0.01)
        assert 2 <= intake.readings - asked <= 5, "the first, and one each 0.2 s"


async def test_those_who_ask_at_once_share_a_reading(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        driver = Script(HOURLY, *[[Reading({"v": n})] for n in range(5)])
        intake, part = it.intake(driver)
        async with running(intake, part):
            await until(lambda: intake.readings == 1)
            await asyncio.gather(*(intake.trigger() for _ in range(5)))
            assert driver.calls.count("read") == 2


async def test_who_asks_is_told_of_a_bad_reading_and_of_a_device_that_is_lost_or_down(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        driver = Script(HOURLY, [Reading({"v": 1})], BadReading("garbage"), Disconnected("unplugged"))
        intake, part = it.intake(driver)
        async with running(intake, part):
            await until(lambda: intake.readings == 1)
            with pytest.raises(BadReading):
                await intake.trigger()
            with pytest.raises(Disconnected, match="was lost before it was read"):
                await intake.trigger()
            with pytest.raises(Disconnected, match="is down"):
                intake.trigger()


async def test_it_says_when_it_will_move_and_nothing_while_its_driver_has_the_turn(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        driver = Script(Polled(every=Duration(60)), [Reading({"v": 1})])
        intake, part = it.intake(driver)
        assert intake.due is None
        async with running(intake, part):
            await until(lambda: intake.due is not None and intake.due > Clock().monotonic() + 30)
            intake.trigger()  # the script has ended: this reading never comes
            await until(lambda: driver.calls.count("read") == 2)
            assert intake.due is None
            assert intake.asked_at is not None, "its driver has not answered"
        assert intake.due is None
        assert intake.asked_at is None
