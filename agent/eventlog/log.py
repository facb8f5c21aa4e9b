"""The durable, ordered record of events: a tail in memory in front of the file.

`append` puts an event on the tail and wakes the couriers at once, so a healthy broker has it in milliseconds. The tail
is written to the file in groups, each commit with an fsync, because commits are what wears a card out:

* urgent events (alarms, commands, changes of state) at once;
* readings that are not delivered everywhere, before they are `commit` old;
* delivered readings, kept only as history, every `HISTORY` seconds; with `retain: 0` never;
* anything, when the tail holds `GROUP` events.

So a power cut costs no alarm, and at most the last second of readings not yet delivered.

A file that cannot be had (a full, read-only or dying disk, a lock) keeps nobody from sensing: events stay on the tail,
within bounds, and once a second the file is tried again. One that is damaged is made anew of what can be read of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

from agent.eventlog import opening, shedding
from agent.eventlog.clocks import Clocks
from agent.eventlog.consumer import Consumer
from agent.eventlog.group import Group
from agent.eventlog.logfile import LogFile, Refused
from agent.eventlog.memory import Memory
from agent.eventlog.reader import Reader
from agent.eventlog.retaining import Retaining
from agent.eventlog.store import REMOVED
from agent.events import Event, EventType, Lane, lane_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.clock import Clock
    from agent.eventlog.settings import Settings
    from agent.events import Quality, Value

logger = logging.getLogger(__name__)

GROUP: Final = 2_000
"""Events on the tail that make a commit of their own: about 41 bytes written for each at this size."""

HISTORY: Final = 30.0
"""Seconds between commits of what is already delivered."""

ROOM: Final = 4 * GROUP
"""Unwritten events above which producers wait for the disk, so that a flood is not kept in memory."""

TAIL_LIMIT: Final = 50_000
"""Events kept in memory while the disk refuses to be written; then readings go, as `when_full` says."""

STALLED: Final = 5.0
"""Seconds that the disk may take to open the file or to commit before it counts as failing."""

RETRY: Final = 1.0
"""Seconds between tries while the disk refuses."""

LOOK_EVERY: Final = 0.25
"""Seconds between looks at how old the oldest undelivered reading has become, while there is anything to write."""


class EventLog:
    """Appends, hands out by cursor, keeps cursors, commits and retains. For use in one event loop.

    Attributes:
        path: Its file.
        reader: Reads its events.
        was_clean: Whether the last run ended by itself.
        dropped: Undelivered events that had to go since the start.
        fault: Why the log cannot be written at present; None where it can.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock) -> None:
        self.path = path
        self.was_clean = True
        self.dropped = 0
        self.fault: str | None = None
        self._settings = settings
        self._clock = clock
        self._version = ""
        self._memory = Memory(settings)
        self._file = LogFile(path, self._memory.hurry)
        self.reader = Reader(self._memory, self._file)
        self._is_blind = False  # whether this run began without knowing what is in the file
        self._room = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._last_commit = 0.0
        self._committing_since: float | None = None
        self._losses = shedding.Losses()
        self._retaining = Retaining(self._file, settings, clock, self._memory.passed, self._losses)

    @property
    def run(self) -> int:
        """Which start of the agent this is; 0 before `open`."""
        return self._memory.run

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
        self._memory.consumers, self._version = tuple(consumers), version
        self._last_commit = self._clock.monotonic()
        try:
            opened = await self._file.take(self._clock.wall(), STALLED)
            await self._file.begin(
                opened, opened.numbers, self._version, self._clock.wall(), self._memory.consumers
            )
        except (sqlite3.Error, OSError) as error:  # TimeoutError is an OSError
            fault = str(error)
            await self._file.drop()
        else:
            self._begin(opened.numbers, opened.kept)
            self._adopt(opened)
            return
        self.fault = fault
        logger.error("the event log %s cannot be used (%s); going on in memory", self.path, fault)
        known = await self._file.look(STALLED)
        self._is_blind = known is None
        if known is None:
            nothing = opening.Kept(False, {}, {}, {}, Clocks())
            known = (opening.unknown(self._clock.wall()), nothing)
        self._begin(*known)

    def _begin(self, numbers: opening.Numbers, kept: opening.Kept) -> None:
        """Begin a run, on what is known from earlier ones."""
        memory = self._memory
        memory.begin(numbers, kept)
        self.was_clean = kept.was_clean
        is_set = self._clock.is_set()
        memory.pending.clocks = memory.clocks.begin(
            memory.first, self._clock.boot(), self._clock.offset(), is_set=is_set
        )
        if not is_set:
            logger.warning("the clock is not set; events are marked until it is")

    def _adopt(self, opened: opening.Opened) -> None:
        """Write to a file that was taken, from now on."""
        if self._is_blind:  # what waits in the file comes first, so this run's events come again after it
            self._is_blind = False
            self._memory.rewind(opened.kept)
        self._memory.cursors.forget_saved()
        if opened.recovery is not None:
            # Whatever is still in memory may not have been in what could be read.
            self._memory.pending.events = self._memory.tails.merged(0, self._memory.last, self._memory.last)
            self._memory.pending.states = {**self._memory.states}
            logger.error("the event log %s is made anew: %s", self.path, opened.recovery)
            self.append(EventType.LOG_RECOVERED, "agent", opened.recovery.facts)

    async def close(self) -> None:
        """Write what is on the tail, mark the run as ended, and close."""
        if self.run:
            try:
                self._memory.cursors.is_dirty = True
                await self.commit()
                await self._file.end_run(self.run, self._clock.wall())
            except Refused as error:
                self.fault = str(error)
                logger.error(  # noqa: TRY400
                    "the event log %s could not be ended: %s; %d events that are not written are lost",
                    self.path, error, len(self._memory.pending.events),
                )  # fmt: skip
        await self._file.close()

    # --- producers ------------------------------------------------------------------------------------------------

    def describe(self, source: str, units: Mapping[str, str]) -> None:
        """Say the unit by channel of a device, for those who read the file itself."""
        self._memory.units[source] = units

    def append(
        self,
        event_type: str,
        source: str,
        values: dict[str, Value],
        time: int | None = None,
        quality: dict[str, Quality] | None = None,
    ) -> Event:
        """Put an event on the tail and wake those who read it.

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
        self._memory.pending.states[part] = state
        if state is None:
            self._memory.states.pop(part, None)
        else:
            self._memory.states[part] = dict(state)
        if len(self._memory.pending.states) == 1:
            self._memory.wake.set()

    def state(self, part: str) -> dict[str, Value] | None:
        """Return what a part saved, in this run or an earlier one."""
        return self._memory.states.get(part)

    def saved_parts(self) -> Iterable[str]:
        """Return the names of the parts that saved something, in this run or an earlier one."""
        return self._memory.states.keys()

    @property
    def is_full(self) -> bool:
        """Whether producers should wait for the disk with `room`."""
        return len(self._memory.pending.events) >= (ROOM if self.fault is None else 2 * TAIL_LIMIT)

    async def room(self) -> None:
        """Wait until the disk has caught up; at once where it refuses to be written, for sensing goes on."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    # --- consumers ------------------------------------------------------------------------------------------------

    def consumer(self, name: str) -> Consumer:
        """Return one of those that the log was opened for, by name."""
        return Consumer(name, self.reader, self._memory, self._clock)

    def units(self, source: str) -> Mapping[str, str]:
        """Return the unit by channel of a device, as `describe` was told."""
        return self._memory.units.get(source, {})

    @property
    def _passed_readings(self) -> int:
        return self._memory.passed()[Lane.READINGS] if self._memory.consumers else 0

    # --- the commits ----------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Commit and retain, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_committing())
            tasks.create_task(self._keep_retaining())
            tasks.create_task(self._keep_watching())

    async def _keep_watching(self) -> None:
        """Notice a disk that does not even refuse (a dying card may stall for minutes), and a clock that jumps."""
        while True:
            await asyncio.sleep(STALLED / 2)
            since = self._committing_since
            if self.fault is None and since is not None and self._clock.monotonic() - since > STALLED:
                self._go_on_in_memory(f"the disk has not answered for {STALLED:g} s")
            self.look_at_clock()
            self._tell_losses()

    def look_at_clock(self) -> None:
        """Notice that the clock was set, or has jumped, and correct the times of what was logged before it was set."""
        changed, jumped = self._memory.clocks.observe(
            self._memory.last + 1, self._clock.offset(), is_set=self._clock.is_set()
        )
        if not changed:
            return
        self._memory.pending.clocks += changed
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

    async def _keep_committing(self) -> None:
        while True:
            self._memory.wake.clear()
            wait = self._due_in()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(
                        min(wait, LOOK_EVERY) if self._memory.pending.events else wait
                    ):
                        await self._memory.wake.wait()
            if self._due_in() <= 0:
                try:
                    if self._file.damage is not None:
                        await self._file.drop()
                    if not self._file.is_held:
                        await self._take_again()
                    # A transaction under way ends even if we are told to stop; `close` waits for it.
                    await asyncio.shield(self.commit())
                except Refused as error:
                    self._on_fault(str(error))
                    await asyncio.sleep(RETRY)

    async def _take_again(self) -> None:
        """Try to take the file again, for this run.

        Raises:
            Refused: It still cannot be had.
        """
        opened = await self._file.take(self._clock.wall(), STALLED)
        is_ours = opened.recovery is not None or opened.numbers.run == self.run + 1
        if not is_ours and opened.numbers.first_seq > self._memory.first:
            self._file.damage = opening.CONFLICT
            raise sqlite3.DatabaseError(opening.CONFLICT)
        ours = opening.Numbers(self.run, self._memory.first)
        await self._file.begin(opened, ours, self._version, self._clock.wall(), self._memory.consumers)
        self._file.use(self._memory.clocks)
        if not is_ours and self._memory.written >= self._memory.first:
            opened = opened._replace(recovery=opening.Recovery(REMOVED))
        self._adopt(opened)

    def _due_in(self) -> float:
        """Return the seconds until what is in memory must be written; 0 or less for now."""
        if (
            self._memory.pending.is_urgent
            or len(self._memory.pending.events) >= GROUP
            or not self._file.is_held
        ):
            return 0
        has_facts = self._memory.cursors.is_dirty or self._memory.pending.has_facts
        if not (self._memory.pending.events or has_facts):
            return HISTORY
        now = self._clock.monotonic()
        due = self._last_commit + HISTORY
        if has_facts:  # over what is in the file: a crash now would deliver it again
            due = min(due, self._last_commit + self._settings.commit)
        if (oldest := self._oldest_undelivered()) is not None:
            due = min(due, oldest + self._settings.commit)
        return due - now

    def _oldest_undelivered(self) -> float | None:
        """Return about when the oldest reading was appended that is neither written nor delivered everywhere."""
        after = max(self._passed_readings, self._memory.written)
        oldest = self._memory.tails[Lane.READINGS].after(after, 1, self._memory.last)
        if not oldest:
            self._memory.ages.clear()
            return None
        return self._memory.ages.of(oldest[0].seq)

    async def commit(self) -> None:
        """Write the tail, the cursors and the states now, in one transaction.

        Raises:
            sqlite3.Error: The disk refused; everything is still on the tail.
        """
        async with self._commit_lock:
            passed = self._memory.passed()
            taken = self._memory.pending.take()
            cursors_moved, self._memory.cursors.is_dirty = self._memory.cursors.is_dirty, False
            last = taken.events[-1].seq if taken.events else self._memory.written
            keep = taken.events
            if not self._settings.retain and self._memory.consumers:
                keep = [event for event in keep if event.seq > passed[event.lane]]
            if self._retaining.refusal is not None:
                keep = self._refuse(keep, passed[Lane.READINGS], self._retaining.refusal)
            try:
                if keep or cursors_moved or taken.has_facts:
                    self._committing_since = self._clock.monotonic()
                    at = self._memory.cursors.unsaved()  # those that stand still would cost a page
                    ahead = {key: tuple(stretches) for key, stretches in self._memory.cursors.ahead.items()}
                    group = Group(
                        keep, at, ahead, taken.states, self._memory.units, taken.rejections, taken.clocks
                    )
                    self._retaining.on_usage(await self._file.write(group))
                    self._memory.cursors.note_saved(at)
            except BaseException:
                self._memory.pending.put_back(taken)
                self._memory.cursors.is_dirty = True
                raise
            finally:
                self._committing_since = None
            self._memory.written = last
            self._last_commit = self._clock.monotonic()
            self._memory.tails.trim(self._memory.written, passed, GROUP)
            if self.fault is not None:
                logger.warning("the event log %s can be written again", self.path)
                self.fault = None
                self._tell_losses(at_once=True)
            self._room.set()
            if not self._memory.sends_unwritten:
                self._memory.notify()

    def _refuse(self, events: list[Event], passed: int, reason: str) -> list[Event]:
        """Keep new readings that are not delivered off a file that is full; they stay in memory for a while."""
        refused = [event.seq for event in events if event.lane is Lane.READINGS and event.seq > passed]
        if refused:
            self._losses.note(refused[0], refused[-1], len(refused), reason)
        return [event for event in events if event.lane is Lane.URGENT]

    # --- what cannot be kept --------------------------------------------------------------------------------------

    def _go_on_in_memory(self, fault: str) -> None:
        if self.fault is None:
            logger.error("the event log %s cannot be written (%s); going on in memory", self.path, fault)
        self.fault = fault
        self._room.set()

    def _on_fault(self, fault: str) -> None:
        """Go on in memory while the disk refuses; say so once, and let readings go when they get too many."""
        self._go_on_in_memory(fault)
        excess = len(self._memory.pending.events) - TAIL_LIMIT
        if excess > 0:
            readings = [event.seq for event in self._memory.pending.events if event.lane is Lane.READINGS]
            self._forget(shedding.chosen(self._settings.when_full, readings, excess))
        self._tell_losses()

    def _forget(self, seqs: list[int]) -> None:
        if not seqs:
            return
        gone = set(seqs)
        self._memory.pending.events = [
            event for event in self._memory.pending.events if event.seq not in gone
        ]
        self._memory.tails[Lane.READINGS].remove(gone)
        passed = self._passed_readings  # what was delivered is missed by nobody
        if lost := [seq for seq in seqs if seq > passed]:
            self._losses.note(lost[0], lost[-1], len(lost), "the log cannot be written")

    def _tell_losses(self, *, at_once: bool = False) -> None:
        for first, last, count, reason in self._losses.due(self._clock.monotonic(), at_once=at_once):
            self.dropped += count
            logger.warning("dropped %d undelivered events, %d to %d: %s", count, first, last, reason)
            facts: dict[str, Value] = {"from": first, "to": last, "count": count, "reason": reason}
            self.append(EventType.LOG_DROPPED, "agent", facts)

    async def _keep_retaining(self) -> None:
        while await self._retaining.wait():
            if self.fault is None:
                await self.retain()

    async def retain(self) -> None:
        """Delete what every consumer has and is older than `retain`, and what must go where it is too full."""
        self.look_at_clock()
        try:
            await self._retaining.retain()
        except sqlite3.Error as error:
            self._on_fault(str(error))
            self._memory.hurry()
        self._tell_losses()
