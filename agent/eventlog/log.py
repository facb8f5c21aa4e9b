"""The durable, ordered record of events: takes them, and puts together what reads, writes and retains them.

`append` puts an event in memory and wakes the couriers at once, so a healthy broker has it in milliseconds; when it is
written to the file is up to the `Writer`. All of it is for use in one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from agent.eventlog.consumer import Consumer
from agent.eventlog.logfile import LogFile, Refused
from agent.eventlog.memory import Memory
from agent.eventlog.reader import Reader
from agent.eventlog.retaining import Retaining
from agent.eventlog.shedding import Losses
from agent.eventlog.writer import GROUP, STALLED, Writer
from agent.events import Event, EventType, Lane, lane_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.clock import Clock
    from agent.eventlog.identity import Numbers
    from agent.eventlog.opening import Kept
    from agent.eventlog.settings import Settings
    from agent.events import Quality, Value

logger = logging.getLogger(__name__)

WATCH_EVERY: Final = STALLED / 2
"""Seconds between looks at the clock, and at whether the disk answers."""


class EventLog:
    """One log.

    Attributes:
        path: Its file.
        reader: Reads its events.
        writer: Writes it.
        losses: What had to go.
        was_clean: Whether the last run ended by itself.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock) -> None:
        self.path = path
        self.was_clean = True
        self._clock = clock
        self._memory = memory = Memory(settings)
        self._file = file = LogFile(path, memory.hurry)
        self.losses = Losses(clock, self.append)
        self._retaining = Retaining(file, settings, clock, memory.passed, self.losses)
        self.reader = Reader(memory, file)
        self.writer = Writer(memory, file, self._retaining, self.losses, settings, clock, self.append)

    @property
    def run(self) -> int:
        """Which start of the agent this is; 0 before `open`."""
        return self._memory.run

    def consumer(self, name: str) -> Consumer:
        """Return one of those that the log was opened for."""
        return Consumer(name, self.reader, self._memory, self._clock)

    # --- open and close -------------------------------------------------------------------------------------------

    async def open(self, consumers: Sequence[str], version: str) -> None:
        """Take the file, in whatever state it is; where it cannot be had, begin in memory.

        Args:
            consumers: The names of all that read by a cursor kept here. New ones begin at the end of the log.
            version: The agent's version, for the record.

        Raises:
            LogInUse: Another program writes to this log.
            NewerLog: It was written by a newer gatepost.
            ForeignFile: It belongs to another program.
        """
        self._memory.consumers = tuple(consumers)
        opened = await self.writer.take(version)
        if opened is None:
            self._begin(*await self.writer.look())
        else:
            self._begin(opened.numbers, opened.kept)
            self.writer.adopt(opened)

    def _begin(self, numbers: Numbers, kept: Kept) -> None:
        """Begin a run, on what is known from earlier ones."""
        memory = self._memory
        memory.begin(numbers, kept)
        if not memory.clocks.is_steady(self._clock.boot(), self._clock.offset()):
            # It has jumped, in an earlier run or between the two; and an RTC may be years off until the network tells the time.
            self._retaining.on_jump()
        self.was_clean = kept.was_clean
        is_set = self._clock.is_set()
        memory.pending.clocks = memory.clocks.begin(
            memory.first, self._clock.boot(), self._clock.offset(), is_set=is_set
        )
        if not is_set:
            logger.warning("the clock is not set; events are marked until it is")

    async def close(self) -> None:
        """Write what is in memory, mark the run as ended, and close."""
        if self.run:
            await self.writer.end()
        await self._file.close()

    async def keep(self) -> None:
        """Write, retain and watch the clock, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.writer.keep())
            tasks.create_task(self._keep_retaining())
            tasks.create_task(self._keep_watching())

    # --- producers ------------------------------------------------------------------------------------------------

    def append(
        self,
        event_type: str,
        source: str,
        values: dict[str, Value],
        time: int | None = None,
        quality: dict[str, Quality] | None = None,
    ) -> Event:
        """Put an event in memory and wake those who read it.

        Args:
            event_type: One of the names in `EventType`.
            source: The device, rule or part that it is about.
            values: As `EventType` says; not to be changed any more.
            time: When it happened, in microseconds since 1970-01-01 UTC; now where it is not said.
            quality: Only the channels whose quality is not good.
        """
        memory = self._memory
        wall, now = self._clock.wall(), self._clock.monotonic()
        if memory.clocks.has_jumped(wall - round(now * 1e6)):
            self.look_at_clock()  # so that each event is known by the clock that stamped it
        late = time is not None and wall - time > 1_000_000
        seq = memory.last + 1
        event = Event(
            memory.run,
            seq,
            event_type,
            source,
            wall if time is None else time,
            values,
            quality,
            wall if late else None,
            seq <= memory.clocks.unset_upto,
        )
        memory.last = seq
        lane = lane_of(event_type)
        memory.ages.note(seq, now)
        memory.tails[lane].events.append(event)
        pending = memory.pending.events
        pending.append(event)
        if lane is Lane.URGENT:
            memory.hurry()
        elif len(pending) == 1 or len(pending) >= GROUP:
            memory.wake.set()
        if memory.sends_unwritten:
            memory.notify()
        return event

    def put_state(self, part: str, state: Mapping[str, Value] | None) -> None:
        """Save what a part must know after a restart, with the next commit; None forgets it."""
        memory = self._memory
        memory.pending.states[part] = state
        if state is None:
            memory.states.pop(part, None)
        else:
            memory.states[part] = dict(state)
        if len(memory.pending.states) == 1:
            memory.wake.set()

    def state(self, part: str) -> dict[str, Value] | None:
        """Return what a part saved, in this run or an earlier one."""
        return self._memory.states.get(part)

    def saved_parts(self) -> Iterable[str]:
        """Return the names of the parts that saved something, in this run or an earlier one."""
        return self._memory.states.keys()

    def describe(self, source: str, units: Mapping[str, str]) -> None:
        """Say the unit by channel of a device, for those who read the file itself."""
        self._memory.units[source] = units

    def units(self, source: str) -> Mapping[str, str]:
        """Return the unit by channel of a device, as `describe` was told."""
        return self._memory.units.get(source, {})

    # --- the clock, and what it brings about --------------------------------------------------------------------------

    def look_at_clock(self) -> None:
        """Notice that the clock was set, or has jumped, and correct the times of what was logged before it was set."""
        memory = self._memory
        changed, jumped = memory.clocks.observe(
            memory.last + 1, self._clock.offset(), is_set=self._clock.is_set()
        )
        if not changed:
            return
        memory.pending.clocks += changed
        corrections = [stretch.correction for stretch in changed if stretch.correction is not None]
        if jumped:
            self._retaining.on_jump()
        if corrections:
            by = corrections[-1] / 1e6
            logger.info("the clock is set; it was %.3f s behind", by)
            self.append(EventType.CLOCK_SET, "agent", {"by": by})
        elif jumped:
            logger.warning("the clock has jumped by %.3f s", jumped / 1e6)
            self.append(EventType.CLOCK_JUMPED, "agent", {"by": jumped / 1e6})

    async def _keep_watching(self) -> None:
        """Notice what nobody tells: a disk that stands still, a clock that jumps, losses that are not said yet."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            self.writer.notice_stall()
            self.look_at_clock()
            self.losses.tell()

    async def _keep_retaining(self) -> None:
        while await self._retaining.wait():
            if self.writer.fault is None:
                await self.retain()

    async def retain(self) -> None:
        """Delete what every consumer has and is older than `retain`, and what must go where it is too full."""
        self.look_at_clock()
        try:
            if self._memory.pending.rejections:  # or what they are about would go, and its run with it
                await self.writer.commit()
            await self._retaining.retain()
        except Refused as error:
            self.writer.on_fault(str(error))
            self._memory.hurry()
        self.losses.tell()
