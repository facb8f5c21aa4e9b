"""Keeps one driver open and turns what it reads into readings and events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from agent.busthreads import BusThreads, Threaded
from agent.contracts import BlockingDriver, Driver
from agent.errors import BadReading, Disconnected
from agent.events import EventType, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.clock import Clock
    from agent.eventlog import EventLog
    from agent.events import Value
    from agent.outputs.board import Board
    from agent.reporter import Reporter
    from agent.rulebook import Rulebook
    from agent.supervisor import Part

logger = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Readings that are taken in before it is looked whether the disk has fallen behind."""

EVIDENCE_EVERY: Final = 60.0
"""Seconds between events about bad readings of one device; those in between are counted."""


class Intake:
    """One device: its driver, what it last said, and how many of its readings were bad.

    Attributes:
        name: The device's name.
        latest: The last value by channel, with the time in seconds of the monotonic clock.
        readings: How many readings it has brought since the start.
        bad: How many bad readings it has brought since the start.
        due: When it will next move by itself, in seconds of the monotonic clock; None while it waits for its driver.
        asked_at: When its driver was asked for what it has not answered yet, on the same clock; None where nothing is asked.
        on_new_channels: Called with the names of all channels when the device has shown new ones.
    """

    def __init__(
        self,
        name: str,
        driver: Driver[Any] | BlockingDriver[Any],
        reporter: Reporter,
        board: Board,
        rulebook: Rulebook,
        log: EventLog,
        clock: Clock,
        threads: BusThreads,
    ) -> None:
        self.name = name
        self.latest: dict[str, tuple[Value, float]] = {}
        self.readings = 0
        self.bad = 0
        self.due: float | None = None
        self.asked_at: float | None = None
        self.on_new_channels: Callable[[list[str]], None] | None = None
        self._driver = Threaded(driver, threads) if isinstance(driver, BlockingDriver) else driver
        self._every: float | None = getattr(driver.settings, "every", None)
        self._reporter = reporter
        self._board = board
        self._rulebook = rulebook
        self._log = log
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._evidence_at: float | None = None
        self._bad_told = 0
        self._is_open = False
        self._asked: list[asyncio.Future[None]] = []  # done when it was read once more
        self._pausing: asyncio.Future[None] | None = None

    @property
    def is_polled(self) -> bool:
        """Whether it is read at intervals, and so may be read in between."""
        return self._every is not None

    def trigger(self) -> asyncio.Future[None]:
        """Have a polled device read now, or as soon as the reading is done that is under way; its own times do not change.

        Returns:
            Done when it was read; the reading is logged, whatever `report` says. Fails with `BadReading` or `Disconnected`.

        Raises:
            Disconnected: It is not there.
        """
        if not self._is_open:
            raise Disconnected(f"{self.name} is down")
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        if self._pausing is not None:
            _end_pause(self._pausing)
        return asked

    async def run(self, part: Part) -> None:
        """Open the device and read it until it is lost; the supervisor comes back.

        Raises:
            Disconnected: It is not there (any more).
        """
        self.asked_at = self._clock.monotonic()
        try:
            await self._driver.open()
            if self._every is None:
                part.up()
            self._is_open = True
            next_at = self._clock.monotonic()
            turns, is_early = 0, False
            while True:
                self.due, self.asked_at = None, self._clock.monotonic()
                asked = len(self._asked)  # who asks while it is being read waits for the next reading
                try:
                    readings = await self._driver.read()
                except BadReading as error:
                    self.due, self.asked_at = self._clock.monotonic(), None
                    self._take_bad(error)
                    self._answer(asked, error)
                else:
                    self.due, self.asked_at = self._clock.monotonic(), None
                    part.up()
                    await self._take_all(readings, is_asked=asked > 0)
                    self._answer(asked)
                if self._every is None:
                    turns += 1
                    if turns % 8 == 0:  # a driver that always has something must not starve the others
                        await asyncio.sleep(0)
                else:
                    now = self._clock.monotonic()
                    if not is_early:
                        next_at = max(next_at + self._every, now)  # what was missed is not made up for
                    self.due = next_at
                    is_early = await self._pause(next_at - now)
        finally:
            self._is_open = False
            self.due = self.asked_at = None
            self._answer(len(self._asked), Disconnected(f"{self.name} was lost before it was read"))
            if self._timer is not None:
                self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._driver.close()

    async def _take_all(self, readings: Sequence[Reading], *, is_asked: bool) -> None:
        """Take in all that came at once, and wait for the disk in between: each reading may change any number of alarms."""
        writer, begin = self._log.writer, 0
        try:
            while True:
                part = readings[begin : begin + AT_ONCE]
                begin += AT_ONCE
                self.take(part, is_asked=is_asked)
                if writer.is_full:
                    await writer.room()
                if begin >= len(readings):
                    return
        except asyncio.CancelledError:
            self.take(readings[begin:])  # the agent ends, and they were read
            raise

    async def _pause(self, seconds: float) -> bool:
        """Wait for a time, or until somebody asks for a reading; return whether it was that."""
        loop = asyncio.get_running_loop()
        pausing = self._pausing = loop.create_future()
        timer = loop.call_at(loop.time() + (0 if self._asked else seconds), _end_pause, pausing)
        try:
            await pausing
        finally:
            timer.cancel()
            self._pausing = None
        return bool(self._asked)

    def _answer(self, count: int, fault: Exception | None = None) -> None:
        """Tell the first so many of those who have asked for a reading what became of it."""
        for asked in self._asked[:count]:
            if asked.done():
                continue
            if fault is None:
                asked.set_result(None)
            else:
                asked.set_exception(fault)
        del self._asked[:count]

    def take(self, readings: Sequence[Reading], *, is_asked: bool = False) -> None:
        """Show readings to the rules and log those worth keeping, and those that were asked for, cause before effect."""
        now = self._clock.monotonic()
        zero = self._clock.wall_at(0.0)
        self.readings += len(readings)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("device %s: %s", self.name, [reading.values for reading in readings])
        for reading in readings:
            at = now if reading.at is None else reading.at
            self._board.on_reading(self.name, reading.values, at, reading.quality)
            outcome = self._rulebook.on_reading(self.name, reading.values, at, reading.quality)
            values = self._reporter.keep(reading, at, force=is_asked or outcome is not None)
            if values:
                self._keep(reading, values, zero + round(at * 1e6))
            if outcome is not None:
                self._rulebook.record(outcome, at)
        if readings:
            known = len(self.latest)
            self.latest.update({channel: (value, now) for channel, value in readings[-1].values.items()})
            if len(self.latest) > known and self.on_new_channels is not None:
                self.on_new_channels(list(self.latest))
        if self._reporter.deadline is not None:
            self._set_timer(self._reporter.deadline - now)

    def _keep(self, reading: Reading, values: dict[str, Value], time: int) -> None:
        quality = reading.quality
        if quality is not None and len(values) < len(reading.values):
            quality = {channel: quality[channel] for channel in quality if channel in values} or None
        self._log.append(EventType.READING, self.name, values, time, quality)

    def _set_timer(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(wait, 0.0), self._on_timer)

    def _on_timer(self) -> None:
        """Log what the reporter has held back, or repeats as a heartbeat."""
        now = self._clock.monotonic()
        reading = self._reporter.on_time(now)
        if reading is not None:
            self._keep(reading, reading.values, self._clock.wall())
        if self._reporter.deadline is not None:
            self._set_timer(max(self._reporter.deadline - now, 0.001))

    def _take_bad(self, error: BadReading) -> None:
        """Count a bad reading and keep the evidence: the first at once, then one a minute with the count."""
        self.bad += 1
        now = self._clock.monotonic()
        if self._evidence_at is not None and now - self._evidence_at < EVIDENCE_EVERY:
            return
        self._evidence_at = now
        count, self._bad_told = self.bad - self._bad_told, self.bad
        logger.warning(
            "device %s: bad reading: %s (%d since the last such line)", self.name, error, count,
            extra={"facts": {"device": self.name, "reason": error.reason}},
        )  # fmt: skip
        facts: dict[str, Value] = {"reason": error.reason, "evidence": error.evidence, "count": count}
        self._rulebook.on_event(self._log.append(EventType.BAD_READING, self.name, facts))


def _end_pause(pausing: asyncio.Future[None]) -> None:
    if not pausing.done():
        pausing.set_result(None)
