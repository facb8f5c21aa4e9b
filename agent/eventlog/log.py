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
from agent.eventlog.cursors import Cursors
from agent.eventlog.group import Group, Rejection
from agent.eventlog.logfile import LogFile, Refused
from agent.eventlog.pending import Ages, Pending
from agent.eventlog.retaining import Retaining
from agent.eventlog.store import REMOVED
from agent.eventlog.tail import Tails
from agent.events import Event, EventType, Lane, lane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
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

COUNT_UPTO: Final = 50_000
"""Waiting events that are counted one by one; of more, it is said how many they can be at most."""


class EventLog:
    """Appends, hands out by cursor, keeps cursors, commits and retains. For use in one event loop.

    Attributes:
        run: Which start of the agent this is; 0 before `open`.
        first: The sequence number of this run's first event.
        was_clean: Whether the last run ended by itself.
        dropped: Undelivered events that had to go since the start.
        fault: Why the log cannot be written at present; None where it can.
        rewinds: How often cursors went back to what a file says that was found late; couriers then begin anew.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock) -> None:
        self.path = path
        self.settings = settings
        self.run = 0
        self.first = 1
        self.was_clean = True
        self.dropped = 0
        self.fault: str | None = None
        self.rewinds = 0
        self._clock = clock
        self._consumers: tuple[str, ...] = ()
        self._version = ""
        self._file = LogFile(path, self._on_damage)
        self._is_blind = False  # whether this run began without knowing what is in the file
        self._next = 1
        self._written = 0
        self._pending = Pending()
        self._tails = Tails(0)
        self._cursors = Cursors((), {}, {}, 0)
        self._clocks = Clocks()
        self._states: dict[str, dict[str, Value]] = {}
        self._units: dict[str, Mapping[str, str]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._ages = Ages(settings.commit / 8)
        self._last_commit = 0.0
        self._committing_since: float | None = None
        self._losses = shedding.Losses()
        self._retaining = Retaining(self._file, settings, clock, self._passed, self._losses)

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
        self._consumers, self._version = tuple(consumers), version
        self._last_commit = self._clock.monotonic()
        try:
            opened = await self._file.take(self._clock.wall(), STALLED)
            await self._file.begin(opened, opened.numbers, self._version, self._clock.wall(), self._consumers)
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
        self.run, self.first = numbers
        self.was_clean = kept.was_clean
        self._next = self.first
        self._written = self.first - 1
        self._tails = Tails(self._written)
        self._cursors = Cursors(self._consumers, kept.cursors, kept.ahead, self._written)
        self._states = kept.states
        self._clocks = kept.clocks
        is_set = self._clock.is_set()
        self._pending.clocks = self._clocks.begin(
            self.first, self._clock.boot(), self._clock.offset(), is_set=is_set
        )
        if not is_set:
            logger.warning("the clock is not set; events are marked until it is")

    def _adopt(self, opened: opening.Opened) -> None:
        """Write to a file that was taken, from now on."""
        if self._is_blind:  # what waits in the file comes first, so this run's events come again after it
            self._is_blind = False
            self._cursors = Cursors(self._consumers, opened.kept.cursors, opened.kept.ahead, self.first - 1)
            self.rewinds += 1
            self._notify()
        self._cursors.forget_saved()
        if opened.recovery is not None:
            # Whatever is still in memory may not have been in what could be read.
            self._pending.events = self._tails.merged(0, self.last, self.last)
            self._pending.states = {**self._states}
            logger.error("the event log %s is made anew: %s", self.path, opened.recovery)
            self.append(EventType.LOG_RECOVERED, "agent", opened.recovery.facts)

    async def close(self) -> None:
        """Write what is on the tail, mark the run as ended, and close."""
        if self.run:
            try:
                self._cursors.is_dirty = True
                await self.commit()
                await self._file.end_run(self.run, self._clock.wall())
            except Refused as error:
                self.fault = str(error)
                logger.error(  # noqa: TRY400
                    "the event log %s could not be ended: %s; %d events that are not written are lost",
                    self.path, error, len(self._pending.events),
                )  # fmt: skip
        await self._file.close()

    # --- producers ------------------------------------------------------------------------------------------------

    def describe(self, source: str, units: Mapping[str, str]) -> None:
        """Say the unit by channel of a device, for those who read the file itself."""
        self._units[source] = units

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
        wall, now = self._clock.wall(), self._clock.monotonic()
        if self._clocks.has_jumped(wall - round(now * 1e6)):
            self.look_at_clock()  # so that each event is known by the clock that stamped it
        late = time is not None and wall - time > 1_000_000
        event = Event(
            self.run,
            self._next,
            event_type,
            source,
            wall if time is None else time,
            values,
            quality,
            wall if late else None,
            self._next <= self._clocks.unset_upto,
        )
        self._next += 1
        lane = lane_of(event_type)
        self._ages.note(event.seq, now)
        self._tails[lane].events.append(event)
        self._pending.events.append(event)
        if lane is Lane.URGENT:
            self._pending.is_urgent = True
            self._wake.set()
        elif len(self._pending.events) == 1 or len(self._pending.events) >= GROUP:
            self._wake.set()
        if self.settings.commit:
            self._notify()
        return event

    def put_state(self, part: str, state: Mapping[str, Value] | None) -> None:
        """Save what a part must know after a restart, with the next commit; None forgets it."""
        self._pending.states[part] = state
        if state is None:
            self._states.pop(part, None)
        else:
            self._states[part] = dict(state)
        if len(self._pending.states) == 1:
            self._wake.set()

    def state(self, part: str) -> dict[str, Value] | None:
        """Return what a part saved, in this run or an earlier one."""
        return self._states.get(part)

    def saved_parts(self) -> Iterable[str]:
        """Return the names of the parts that saved something, in this run or an earlier one."""
        return self._states.keys()

    @property
    def is_full(self) -> bool:
        """Whether producers should wait for the disk with `room`."""
        return len(self._pending.events) >= (ROOM if self.fault is None else 2 * TAIL_LIMIT)

    async def room(self) -> None:
        """Wait until the disk has caught up; at once where it refuses to be written, for sensing goes on."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    # --- consumers ------------------------------------------------------------------------------------------------

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever there is something new to read; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def units(self, source: str) -> Mapping[str, str]:
        """Return the unit by channel of a device, as `describe` was told."""
        return self._units.get(source, {})

    @property
    def last(self) -> int:
        """The sequence number of the newest event."""
        return self._next - 1

    @property
    def _visible(self) -> int:
        return self.last if self.settings.commit else self._written

    def peek(self, lane: Lane, after: int, limit: int) -> list[Event] | None:
        """Return the next events of a lane after a sequence number, or None where `fetch` must read the file."""
        tail = self._tails[lane]
        return self._mended(tail.after(after, limit, self._visible)) if after >= tail.base else None

    def _mended(self, events: list[Event]) -> list[Event]:
        """Return events of the tail with the times that are known by now."""
        if not events or events[0].seq > self._clocks.unset_upto:
            return events
        return [self._clocks.mended(event) for event in events]

    async def fetch(self, lane: Lane, after: int, limit: int) -> list[Event]:
        """Return the next events of a lane after a sequence number, from the file and then from the tail.

        Raises:
            sqlite3.Error: The file cannot be read at present.
        """
        base = self._tails[lane].base
        if after < base:
            found = await self._file.read(lane, after, base, limit)
            if found:
                return found
        return self.peek(lane, max(after, base), limit) or []

    async def history(self, after: int, limit: int) -> list[Event]:
        """Return the next events of both lanes after a sequence number, in order of seq.

        Raises:
            sqlite3.Error: The file cannot be read at present.
        """
        base = max(tail.base for tail in self._tails.values())
        if after < base and (after < self._written or self._file.is_held):
            found = await self._file.read(None, after, base, limit)
            if found:
                return found
        return self._mended(self._tails.merged(max(after, base), limit, self.last))

    def cursor(self, consumer: str, lane: Lane) -> int:
        """Return up to which sequence number a consumer has acknowledged all of a lane."""
        return self._cursors.at[consumer, lane]

    def undelivered(self, consumer: str, lane: Lane) -> list[tuple[int, int | None]]:
        """Return what a consumer has not acknowledged, oldest first: after < seq <= upto, the last one without an end."""
        return self._cursors.undelivered((consumer, lane))

    def acknowledge(self, consumer: str, lane: Lane, after: int, upto: int) -> None:
        """Note that all events of the lane with `after` < seq <= `upto` are delivered to a consumer.

        Its cursor moves where nothing before them is missing; a stretch ahead of it is remembered until then.
        """
        if self._cursors.acknowledge((consumer, lane), after, upto) and upto <= self._written:
            if not self._cursors.is_dirty:
                self._wake.set()
            self._cursors.is_dirty = True

    def reject(self, consumer: str, event: Event, reason: str) -> None:
        """Set aside an event that a consumer's far side refuses for good, so that it stays readable."""
        self._pending.rejections.append(Rejection(event, consumer, self._clock.wall(), reason))
        self._wake.set()

    async def waiting(self, consumer: str) -> int:
        """Return how many events a consumer has not acknowledged; of very many, how many they can be at most."""
        count = 0
        for lane, tail in self._tails.items():
            for after, upto in self._cursors.undelivered((consumer, lane)):
                last = self.last if upto is None else upto
                count += len(tail.after(after, len(tail.events), last))
                in_file = min(tail.base, last) - after
                if in_file > COUNT_UPTO:
                    count += in_file
                elif in_file > 0:
                    try:
                        count += await self._file.count(lane, after, min(tail.base, last))
                    except sqlite3.Error:
                        count += in_file
        return count

    @property
    def written_upto(self) -> int:
        """The sequence number up to which everything is in the file, or gone."""
        return self._written

    def base(self, lane: Lane) -> int:
        """Return the sequence number up to which events of a lane are no longer in memory."""
        return self._tails[lane].base

    def _passed(self) -> dict[Lane, int]:
        """By lane, the sequence number up to which every consumer has acknowledged."""
        return self._cursors.passed(self.last)

    @property
    def _passed_readings(self) -> int:
        return self._passed()[Lane.READINGS] if self._consumers else 0

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
        changed, jumped = self._clocks.observe(self._next, self._clock.offset(), is_set=self._clock.is_set())
        if not changed:
            return
        self._pending.clocks += changed
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
            self._wake.clear()
            wait = self._due_in()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait, LOOK_EVERY) if self._pending.events else wait):
                        await self._wake.wait()
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
        if not is_ours and opened.numbers.first_seq > self.first:
            self._file.damage = opening.CONFLICT
            raise sqlite3.DatabaseError(opening.CONFLICT)
        ours = opening.Numbers(self.run, self.first)
        await self._file.begin(opened, ours, self._version, self._clock.wall(), self._consumers)
        self._file.use(self._clocks)
        if not is_ours and self._written >= self.first:
            opened = opened._replace(recovery=opening.Recovery(REMOVED))
        self._adopt(opened)

    def _on_damage(self) -> None:
        """Have a file that turns out to be damaged made anew."""
        self._pending.is_urgent = True
        self._wake.set()

    def _due_in(self) -> float:
        """Return the seconds until what is in memory must be written; 0 or less for now."""
        if self._pending.is_urgent or len(self._pending.events) >= GROUP or not self._file.is_held:
            return 0
        has_facts = self._cursors.is_dirty or self._pending.has_facts
        if not (self._pending.events or has_facts):
            return HISTORY
        now = self._clock.monotonic()
        due = self._last_commit + HISTORY
        if has_facts:  # over what is in the file: a crash now would deliver it again
            due = min(due, self._last_commit + self.settings.commit)
        if (oldest := self._oldest_undelivered()) is not None:
            due = min(due, oldest + self.settings.commit)
        return due - now

    def _oldest_undelivered(self) -> float | None:
        """Return about when the oldest reading was appended that is neither written nor delivered everywhere."""
        after = max(self._passed_readings, self._written)
        oldest = self._tails[Lane.READINGS].after(after, 1, self.last)
        if not oldest:
            self._ages.clear()
            return None
        return self._ages.of(oldest[0].seq)

    async def commit(self) -> None:
        """Write the tail, the cursors and the states now, in one transaction.

        Raises:
            sqlite3.Error: The disk refused; everything is still on the tail.
        """
        async with self._commit_lock:
            passed = self._passed()
            taken = self._pending.take()
            cursors_moved, self._cursors.is_dirty = self._cursors.is_dirty, False
            last = taken.events[-1].seq if taken.events else self._written
            keep = taken.events
            if not self.settings.retain and self._consumers:
                keep = [event for event in keep if event.seq > passed[event.lane]]
            if self._retaining.refusal is not None:
                keep = self._refuse(keep, passed[Lane.READINGS], self._retaining.refusal)
            try:
                if keep or cursors_moved or taken.has_facts:
                    self._committing_since = self._clock.monotonic()
                    at = self._cursors.unsaved()  # those that stand still would cost a page
                    ahead = {key: tuple(stretches) for key, stretches in self._cursors.ahead.items()}
                    group = Group(keep, at, ahead, taken.states, self._units, taken.rejections, taken.clocks)
                    self._retaining.on_usage(await self._file.write(group))
                    self._cursors.note_saved(at)
            except BaseException:
                self._pending.put_back(taken)
                self._cursors.is_dirty = True
                raise
            finally:
                self._committing_since = None
            self._written = last
            self._last_commit = self._clock.monotonic()
            self._tails.trim(self._written, passed, GROUP)
            if self.fault is not None:
                logger.warning("the event log %s can be written again", self.path)
                self.fault = None
                self._tell_losses(at_once=True)
            self._room.set()
            if not self.settings.commit:
                self._notify()

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
        excess = len(self._pending.events) - TAIL_LIMIT
        if excess > 0:
            readings = [event.seq for event in self._pending.events if event.lane is Lane.READINGS]
            self._forget(shedding.chosen(self.settings.when_full, readings, excess))
        self._tell_losses()

    def _forget(self, seqs: list[int]) -> None:
        if not seqs:
            return
        gone = set(seqs)
        self._pending.events = [event for event in self._pending.events if event.seq not in gone]
        self._tails[Lane.READINGS].remove(gone)
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
            self._on_damage()
        self._tell_losses()
