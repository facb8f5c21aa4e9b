"""Brings what is in memory into the log's file, in groups, and goes on in memory while the disk refuses.

Each commit has an fsync, and commits are what wears a card out. So there is one for

* urgent events (alarms, commands, changes of state) at once;
* readings that are not delivered everywhere, before they are `commit` old;
* delivered readings, kept only as history, every `HISTORY` seconds; with `retain: 0` never;
* anything, when `GROUP` events are pending.

A power cut costs no alarm, and at most the last second of readings not yet delivered.

A file that cannot be had (a full, read-only or dying disk, a lock) keeps nobody from sensing: events stay in memory,
within bounds, and once a second the file is tried again. One that is damaged is made anew of what can be read of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Final

from agent.eventlog import opening, retention, shedding
from agent.eventlog.clocks import Clocks
from agent.eventlog.group import Group
from agent.eventlog.identity import Numbers, unknown
from agent.eventlog.logfile import Refused
from agent.eventlog.store import REMOVED
from agent.events import EventType, Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.eventlog.logfile import LogFile
    from agent.eventlog.memory import Memory
    from agent.eventlog.retaining import Retaining
    from agent.eventlog.settings import Settings
    from agent.events import Event, Value

logger = logging.getLogger(__name__)

GROUP: Final = 2_000
"""Pending events that make a commit of their own: about 41 bytes written for each at this size."""

HISTORY: Final = 30.0
"""Seconds between commits of what is already delivered."""

ROOM: Final = 4 * GROUP
"""Pending events above which producers wait for the disk, so that a flood is not kept in memory."""

TAIL_LIMIT: Final = 50_000
"""Events kept in memory while the disk refuses to be written; then readings go, as `when_full` says."""

STALLED: Final = 5.0
"""Seconds that the disk may take to open the file or to commit before it counts as failing."""

RETRY: Final = 1.0
"""Seconds between tries while the disk refuses."""

LOOK_EVERY: Final = 0.25
"""Seconds between looks at how old the oldest undelivered reading has become, while there is anything to write."""


class Writer:
    """Writes one log.

    Attributes:
        fault: Why the file cannot be written at present; None where it can.
    """

    def __init__(
        self,
        memory: Memory,
        file: LogFile,
        retaining: Retaining,
        losses: shedding.Losses,
        settings: Settings,
        clock: Clock,
        append: Callable[[str, str, dict[str, Value]], Event],
    ) -> None:
        self.fault: str | None = None
        self._memory = memory
        self._file = file
        self._retaining = retaining
        self._losses = losses
        self._settings = settings
        self._clock = clock
        self._append = append  # for what happens to the log itself
        self._version = ""
        self._is_blind = False  # whether this run began without knowing what is in the file
        self._room = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._last_commit = 0.0
        self._committing_since: float | None = None
        self._turns_by: float | None = None  # when `keep` will next look, whatever happens

    # --- the file -------------------------------------------------------------------------------------------------

    async def take(self, version: str) -> opening.Opened | None:
        """Take the file for a new run, in whatever state it is; None where it cannot be had.

        Args:
            version: The agent's version, for the record.

        Raises:
            LogInUse: Another program writes to this log.
            NewerLog: It was written by a newer gatepost.
            ForeignFile: It belongs to another program.
        """
        self._version = version
        self._last_commit = self._clock.monotonic()
        try:
            opened = await self._file.take(self._clock.wall(), STALLED)
            await self._begin(opened, opened.numbers)
        except (sqlite3.Error, OSError) as error:  # TimeoutError is an OSError
            fault = str(error)
        else:
            return opened
        self.fault = fault
        logger.error("the event log %s cannot be used (%s); going on in memory", self._file.path, fault)
        return None

    async def look(self) -> tuple[Numbers, opening.Kept]:
        """Return what a run can begin with that could not take the file."""
        known = await self._file.look(STALLED)
        self._is_blind = known is None
        if known is None:
            nothing = opening.Kept(False, {}, {}, {}, Clocks())
            known = (unknown(self._clock.wall()), nothing)
        return known

    async def _take_again(self) -> None:
        """Try to take the file again, for this run.

        Raises:
            Refused: It still cannot be had.
        """
        memory = self._memory
        opened = await self._file.take(self._clock.wall(), STALLED)
        is_ours = opened.recovery is not None or opened.last_run == memory.run
        is_new = opened.recovery is not None and opened.recovery.reason == opening.CONFLICT
        if (self._is_blind or not is_ours) and not is_new and opened.numbers.first_seq > memory.first:
            self._file.damage = opening.CONFLICT
            raise sqlite3.DatabaseError(opening.CONFLICT)
        await self._begin(opened, Numbers(memory.run, memory.first))
        self._file.use(memory.clocks)
        if not is_ours and memory.written >= memory.first:
            opened = opened._replace(recovery=opening.Recovery(REMOVED))
        self.adopt(opened)

    async def _begin(self, opened: opening.Opened, numbers: Numbers) -> None:
        consumers = self._memory.consumers
        await self._file.begin(opened, numbers, self._version, self._clock.wall(), consumers)

    def adopt(self, opened: opening.Opened) -> None:
        """Write to a file that was taken, from now on."""
        memory = self._memory
        if self._is_blind:  # what waits in the file comes first, so this run's events come again after it
            self._is_blind = False
            memory.rewind(opened.kept)
        memory.cursors.forget_saved()
        if opened.recovery is not None:
            # Whatever is still in memory may not have been in what could be read.
            memory.pending.events = memory.tails.merged(0, memory.last, memory.last)
            memory.pending.states = {**memory.states}
            memory.pending.clocks = memory.clocks.of_run(memory.first)
            logger.error("the event log %s was damaged: %s", self._file.path, opened.recovery)
            self._append(EventType.LOG_RECOVERED, "agent", opened.recovery.facts)

    async def end(self) -> None:
        """Write what is pending, and mark the run as ended."""
        memory = self._memory
        try:
            memory.cursors.is_dirty = True
            await self.commit()
            self._losses.tell(at_once=True)
            if memory.pending.events:
                await self.commit()
            await self._file.end_run(memory.run, self._clock.wall())
        except Refused as error:
            self.fault = str(error)
            logger.error(  # noqa: TRY400
                "the event log %s could not be ended: %s; %d events that are not written are lost",
                self._file.path, error, len(memory.pending.events),
            )  # fmt: skip

    # --- the commits ----------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Commit whenever it is due, until cancelled."""
        memory = self._memory
        while True:
            memory.wake.clear()
            wait = self.due_in()
            self._turns_by = self._clock.monotonic() + max(wait, 0)
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait, LOOK_EVERY) if memory.pending.events else wait):
                        await memory.wake.wait()
            if self.due_in() <= 0:
                try:
                    if self._file.damage is not None:
                        await self._file.drop()
                    if not self._file.is_held:
                        await self._take_again()
                    # A transaction under way ends even if we are told to stop; `end` waits for it.
                    await asyncio.shield(self.commit())
                except Refused as error:
                    self.on_fault(str(error))
                    await asyncio.sleep(RETRY)

    @property
    def due(self) -> float | None:
        """When it will next move by itself, in seconds of the monotonic clock; None while the disk is known to refuse."""
        return self._turns_by if self.fault is None else None

    def due_in(self) -> float:
        """Return the seconds until what is in memory must be written; 0 or less for now."""
        memory, pending = self._memory, self._memory.pending
        if pending.is_urgent or len(pending.events) >= GROUP or not self._file.is_held:
            return 0
        has_facts = memory.cursors.is_dirty or pending.has_facts
        if not (pending.events or has_facts):
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
        memory = self._memory
        after = max(self._passed_readings, memory.written)
        oldest = memory.tails[Lane.READINGS].after(after, 1, memory.last)
        if not oldest:
            memory.ages.clear()
            return None
        return memory.ages.of(oldest[0].seq)

    @property
    def _passed_readings(self) -> int:
        return self._memory.passed()[Lane.READINGS] if self._memory.consumers else 0

    async def commit(self) -> None:
        """Write what is pending and the cursors now, in one transaction.

        Raises:
            sqlite3.Error: The disk refused; everything is still pending.
        """
        memory = self._memory
        async with self._commit_lock:
            passed = memory.passed()
            taken = memory.pending.take()
            cursors_moved, memory.cursors.is_dirty = memory.cursors.is_dirty, False
            memory.taken = last = taken.events[-1].seq if taken.events else memory.written
            keep = taken.events
            if not self._settings.retain and memory.consumers:
                keep = [event for event in keep if event.seq > passed[event.lane]]
            refusal, refused = self._retaining.refusal, []
            if refusal is not None:  # it is full; readings stay in memory for a while
                refused = [event.seq for event in keep if event.lane is Lane.READINGS]
                keep = [event for event in keep if event.lane is Lane.URGENT]
            unstorable: list[Event] = []
            try:
                # Where it refused, nothing is written too: or it would be well again without having been asked.
                if keep or cursors_moved or taken.has_facts or self.fault is not None:
                    self._committing_since = self._clock.monotonic()
                    at = memory.cursors.unsaved()  # those that stand still would cost a page
                    ahead = {key: tuple(stretches) for key, stretches in memory.cursors.ahead.items()}
                    group = Group(keep, at, ahead, taken.states, memory.units, taken.rejections, taken.clocks)
                    usage, unstorable = await self._file.write(group)
                    self._retaining.on_usage(usage)
                    memory.cursors.note_saved(at)
            except BaseException:
                memory.pending.put_back(taken)
                memory.cursors.is_dirty = True
                memory.taken = memory.written
                raise
            finally:
                self._committing_since = None
            if refusal is not None:
                self._note(refused, passed[Lane.READINGS], refusal)
            for event in unstorable:
                memory.tails[event.lane].remove({event.seq})
                said = f"{event.source!a} has said what cannot be kept"
                self._losses.note(event.seq, event.seq, 1, said)
            memory.written = last
            self._last_commit = self._clock.monotonic()
            memory.tails.trim(memory.written, passed, GROUP)
            logger.debug("%d events are written, up to %d", len(keep), last)
            if self.fault is not None:
                logger.warning("the event log %s can be written again", self._file.path)
                self.fault = None
                self._losses.tell(at_once=True)
            self._room.set()
            if not memory.sends_unwritten:
                memory.notify()

    def _note(self, gone: list[int], passed: int, reason: str) -> None:
        """Note that readings are gone, by sequence number; what was delivered is missed by nobody."""
        if lost := [seq for seq in gone if seq > passed]:
            self._losses.note(lost[0], lost[-1], len(lost), reason)

    @property
    def is_full(self) -> bool:
        """Whether producers should wait for the disk with `room`: never where it refuses, for sensing goes on."""
        return self.fault is None and len(self._memory.pending.events) >= ROOM

    async def room(self) -> None:
        """Wait until the disk has caught up."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    # --- what cannot be kept --------------------------------------------------------------------------------------

    def notice_stall(self) -> None:
        """Notice a disk that does not even refuse: a dying card may stall for minutes."""
        since = self._committing_since
        if self.fault is None and since is not None and self._clock.monotonic() - since > STALLED:
            self._go_on_in_memory(f"the disk has not answered for {STALLED:g} s")

    def _go_on_in_memory(self, fault: str) -> None:
        if self.fault is None:
            logger.error(
                "the event log %s cannot be written (%s); going on in memory", self._file.path, fault,
                extra={"facts": {"reason": fault}},
            )  # fmt: skip
        self.fault = fault
        self._room.set()

    def on_fault(self, fault: str) -> None:
        """Go on in memory while the disk refuses; say so once, and let events go when they get too many."""
        self._go_on_in_memory(fault)
        pending = self._memory.pending
        excess = len(pending.events) - TAIL_LIMIT
        if excess > 0:
            self._forget(self._dispensable(excess))
        del pending.rejections[: -retention.REJECTED]
        self._losses.tell()

    def _dispensable(self, excess: int) -> set[int]:
        """Return by sequence number which pending events go: what everybody has, then readings, then the oldest of all."""
        events, passed = self._memory.pending.events, self._memory.passed()
        if not self._memory.consumers:
            passed = dict.fromkeys(Lane, 0)
        gone = {event.seq for event in events if event.seq <= passed[event.lane]}
        if len(gone) < excess:
            readings = [
                event.seq for event in events if event.lane is Lane.READINGS and event.seq not in gone
            ]
            gone.update(shedding.chosen(self._settings.when_full, readings, excess - len(gone)))
        if len(gone) < excess:
            gone.update([event.seq for event in events if event.seq not in gone][: excess - len(gone)])
        return gone

    def _forget(self, gone: set[int]) -> None:
        memory = self._memory
        passed = memory.passed()
        for lane, tail in memory.tails.items():
            lost = [event.seq for event in memory.pending.events if event.seq in gone and event.lane is lane]
            self._note(lost, passed[lane] if memory.consumers else 0, "the log cannot be written")
            tail.remove(gone)
        memory.pending.events = [event for event in memory.pending.events if event.seq not in gone]
