"""The durable, ordered record of events: a tail in memory in front of the file.

`append` puts an event on the tail and wakes the couriers at once, so a healthy broker has it in milliseconds. The tail
is written to the file in groups, each commit with an fsync, because commits are what wears a card out:

* urgent events (alarms, commands, changes of state) at once;
* readings that are not delivered everywhere, before they are `commit` old;
* delivered readings, kept only as history, every `HISTORY` seconds; with `retain: 0` never;
* anything, when the tail holds `GROUP` events.

So a power cut costs no alarm, and at most the last second of readings not yet delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from agent.errors import GatepostError
from agent.eventlog.opening import lock, set_aside
from agent.eventlog.store import EventStore
from agent.eventlog.tail import Tail
from agent.events import Event, EventType, Lane, lane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import TextIO

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
"""Events kept in memory while the disk refuses to be written; then the oldest readings go."""

STALLED: Final = 5.0
"""Seconds that a commit may take before the disk counts as failing."""

TELL_LOST_EVERY: Final = 60.0
"""Seconds between reports of what had to go from memory."""

LOOK_EVERY: Final = 0.25
"""Seconds between looks at how old the oldest undelivered reading has become, while there is anything to write."""

RETENTION_EVERY: Final = 60.0
"""Seconds between looks for events that may go."""

_T = TypeVar("_T")


class EventLog:
    """Appends, hands out by cursor, keeps cursors, commits and retains. For use in one event loop.

    Attributes:
        run: Which start of the agent this is, counted from 1; 0 before `open`.
        first: The sequence number of this run's first event.
        was_clean: Whether the last run ended by itself.
        dropped: Undelivered events that had to go since the start.
        fault: Why the log cannot be written at present; None where it can.
    """

    def __init__(self, path: Path, settings: Settings, clock: Clock) -> None:
        self.path = path
        self.settings = settings
        self.run = 0
        self.first = 1
        self.was_clean = True
        self.dropped = 0
        self.fault: str | None = None
        self._clock = clock
        self._store = EventStore(path)
        self._reader = EventStore(path)
        self._writing = ThreadPoolExecutor(1, "log-writer")
        self._reading = ThreadPoolExecutor(1, "log-reader")
        self._lock_file: TextIO | None = None
        self._next = 1
        self._written = 0
        self._unwritten: list[Event] = []
        self._tails = {lane: Tail(0) for lane in Lane}
        self._cursors: dict[tuple[str, Lane], int] = {}
        self._states: dict[str, dict[str, Value]] = {}
        self._dirty_cursors = False
        self._dirty_states: dict[str, Mapping[str, Value] | None] = {}
        self._units: dict[str, Mapping[str, str]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._urgent = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        # A few events for each `commit`: seq, and when it was appended.
        self._marks: deque[tuple[int, float]] = deque()
        self._last_commit = 0.0
        self._committing_since: float | None = None
        self._lost: tuple[int, int, int] | None = None  # not told yet: first and last seq, and how many
        self._tell_lost_at = 0.0

    # --- open and close -------------------------------------------------------------------------------------------

    async def open(self, consumers: Sequence[str], version: str) -> None:
        """Open the file, or begin a new one; set a damaged one aside.

        Args:
            consumers: The names of all that read by a cursor kept here. New ones begin at the end of the log.
            version: The agent's version, for the record.

        Raises:
            LogInUse: Another program writes to this log.
            NewerLog: It was written by a newer gatepost.
            OSError: The folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = lock(self.path)
        aside: Path | None = None
        try:
            await self._begin(consumers, version)
        except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) and "disk image" not in str(error):
                raise GatepostError(f"cannot open the event log {self.path}: {error}") from error
            self._reader.close()
            self._store.close()
            aside = set_aside(self.path, f"{self._clock.wall() // 1_000_000}")
            logger.error("the event log %s is damaged (%s); set aside as %s", self.path, error, aside)  # noqa: TRY400
            self._store = EventStore(self.path)
            self._reader = EventStore(self.path)
            await self._begin(consumers, version)
        self._last_commit = self._clock.monotonic()
        if aside is not None:
            self.append(
                EventType.LOG_RECOVERED, "agent", {"reason": "it was damaged", "set_aside": str(aside)}
            )

    async def _begin(self, consumers: Sequence[str], version: str) -> None:
        """Open the file, begin a run in it, and take up what it keeps."""
        await self._write(self._store.open_writer)
        self.run, self._next, self.was_clean = await self._write(
            self._store.begin_run, self._clock.wall(), version
        )
        self.first = self._next
        self._written = self._next - 1
        self._tails = {lane: Tail(self._written) for lane in Lane}
        self._states = self._store.states()
        saved = self._store.cursors()
        gone = {consumer for consumer, _ in saved} - set(consumers)
        await self._write(self._store.forget_consumers, gone)
        self._cursors = {
            (name, lane): saved.get((name, lane), self._written) for name in consumers for lane in Lane
        }
        self._dirty_cursors = saved != self._cursors
        await self._read(self._reader.open_reader)

    async def close(self) -> None:
        """Write what is on the tail, mark the run as ended, and close."""
        if self.run:
            try:
                self._dirty_cursors = True
                await self.commit()
                await self._write(self._store.end_run, self.run, self._clock.wall())
            except sqlite3.Error as error:
                self.fault = str(error)
                logger.error(  # noqa: TRY400
                    "the event log %s could not be ended: %s; %d events that are not written are lost",
                    self.path, error, len(self._unwritten),
                )  # fmt: skip
        await self._read(self._reader.close)
        await self._write(self._store.close)  # the last to close moves the write-ahead log into the file
        self._writing.shutdown()
        self._reading.shutdown()
        if self._lock_file is not None:
            self._lock_file.close()

    async def _write(self, call: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, call, *arguments)

    async def _read(self, call: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, call, *arguments)

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
        event = Event(
            self.run,
            self._next,
            event_type,
            source,
            self._clock.wall() if time is None else time,
            values,
            quality,
        )
        self._next += 1
        lane = lane_of(event_type)
        now = self._clock.monotonic()
        if not self._marks or now - self._marks[-1][1] > self.settings.commit / 8:
            self._marks.append((event.seq, now))
        self._tails[lane].events.append(event)
        self._unwritten.append(event)
        if lane is Lane.URGENT:
            self._urgent = True
            self._wake.set()
        elif len(self._unwritten) == 1 or len(self._unwritten) >= GROUP:
            self._wake.set()
        if self.settings.commit:
            self._notify()
        return event

    def put_state(self, part: str, state: Mapping[str, Value] | None) -> None:
        """Save what a part must know after a restart, with the next commit; None forgets it."""
        self._dirty_states[part] = state
        if len(self._dirty_states) == 1:
            self._wake.set()

    def state(self, part: str) -> dict[str, Value] | None:
        """Return what a part saved in an earlier run."""
        return self._states.get(part)

    def saved_parts(self) -> Iterable[str]:
        """Return the names of the parts that saved something in an earlier run."""
        return self._states.keys()

    @property
    def is_full(self) -> bool:
        """Whether producers should wait for the disk with `room`."""
        return len(self._unwritten) >= (ROOM if self.fault is None else 2 * TAIL_LIMIT)

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
        return tail.after(after, limit, self._visible) if after >= tail.base else None

    async def fetch(self, lane: Lane, after: int, limit: int) -> list[Event]:
        """Return the next events of a lane after a sequence number, from the file and then from the tail.

        Raises:
            sqlite3.Error: The file cannot be read.
        """
        base = self._tails[lane].base
        if after < base:
            try:
                found = await self._read(self._reader.read, lane, after, base, limit)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                found = await self._read_past_damage(lane, after, base, error)
            if found:
                return found
        return self.peek(lane, max(after, base), limit) or []

    async def _read_past_damage(self, lane: Lane, after: int, upto: int, error: Exception) -> list[Event]:
        """Return the next event that a damaged file still gives, and report what it does not."""
        step = 0
        while after + step < upto:
            with contextlib.suppress(sqlite3.DatabaseError):
                found = await self._read(self._reader.read, lane, after + step, upto, 1)
                break
            step = step * 2 or 1
        else:
            found = []
        if step:
            last = min(after + step, upto)
            self._report_dropped(after + 1, last, last - after, f"the file is damaged: {error}")
        return found

    async def history(self, after: int, limit: int) -> list[Event]:
        """Return the next events of both lanes after a sequence number, in order of seq.

        Raises:
            sqlite3.Error: The file cannot be read.
        """
        base = max(tail.base for tail in self._tails.values())
        if after < base:
            found = await self._read(self._reader.read, None, after, base, limit)
            if found:
                return found
        newest = [tail.after(max(after, base), limit, self.last) for tail in self._tails.values()]
        return sorted((event for events in newest for event in events), key=attrgetter("seq"))[:limit]

    def cursor(self, consumer: str, lane: Lane) -> int:
        """Return up to which sequence number a consumer has acknowledged a lane."""
        return self._cursors[consumer, lane]

    def acknowledge(self, consumer: str, lane: Lane, seq: int) -> None:
        """Move a consumer's cursor: all events of the lane up to `seq` are delivered to it."""
        if seq > self._cursors[consumer, lane]:
            self._cursors[consumer, lane] = seq
            if seq <= self._written and not self._dirty_cursors:
                self._dirty_cursors = True
                self._wake.set()

    async def waiting(self, consumer: str) -> int:
        """Return how many events a consumer has not acknowledged."""
        count = 0
        for lane, tail in self._tails.items():
            cursor = self._cursors[consumer, lane]
            count += len(tail.after(cursor, len(tail.events), self.last))
            if cursor < tail.base:
                try:
                    count += await self._read(self._reader.count, lane, cursor, tail.base)
                except sqlite3.DatabaseError:
                    count += tail.base - cursor  # at most; the file is damaged
        return count

    def base(self, lane: Lane) -> int:
        """Return the sequence number up to which events of a lane are no longer in memory."""
        return self._tails[lane].base

    def _passed(self) -> dict[Lane, int]:
        """By lane, the sequence number up to which every consumer has acknowledged."""
        return {
            lane: min((seq for (_, of), seq in self._cursors.items() if of is lane), default=self.last)
            for lane in Lane
        }

    # --- the commits ----------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Commit and retain, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_committing())
            tasks.create_task(self._keep_retaining())
            tasks.create_task(self._keep_watching())

    async def _keep_watching(self) -> None:
        """Notice a disk that does not even refuse: a dying card may stall for minutes."""
        while True:
            await asyncio.sleep(STALLED / 2)
            since = self._committing_since
            if self.fault is None and since is not None and self._clock.monotonic() - since > STALLED:
                self.fault = f"the disk has not answered for {STALLED:g} s"
                logger.error("the event log %s: %s; going on in memory", self.path, self.fault)
                self._room.set()

    async def _keep_committing(self) -> None:
        while True:
            self._wake.clear()
            wait = self._due_in()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait, LOOK_EVERY) if self._unwritten else wait):
                        await self._wake.wait()
            if self._due_in() <= 0:
                try:
                    # A transaction under way ends even if we are told to stop; `close` waits for it.
                    await asyncio.shield(self.commit())
                except sqlite3.Error as error:
                    self._on_fault(error)
                    await asyncio.sleep(1)

    def _due_in(self) -> float:
        """Return the seconds until what is in memory must be written; 0 or less for now."""
        if self._urgent or len(self._unwritten) >= GROUP:
            return 0
        if not (self._unwritten or self._dirty_cursors or self._dirty_states):
            return HISTORY
        now = self._clock.monotonic()
        due = self._last_commit + HISTORY
        if (
            self._dirty_states or self._dirty_cursors
        ):  # over what is in the file: a crash now would deliver it again
            due = min(due, self._last_commit + self.settings.commit)
        if (oldest := self._oldest_undelivered()) is not None:
            due = min(due, oldest + self.settings.commit)
        return due - now

    def _oldest_undelivered(self) -> float | None:
        """Return about when the oldest reading was appended that is neither written nor delivered everywhere."""
        delivered = self._passed()[Lane.READINGS] if self._cursors else 0
        oldest = self._tails[Lane.READINGS].after(max(delivered, self._written), 1, self.last)
        if not oldest:
            self._marks.clear()
            return None
        while len(self._marks) > 1 and self._marks[1][0] <= oldest[0].seq:
            self._marks.popleft()
        return self._marks[0][1]

    async def commit(self) -> None:
        """Write the tail, the cursors and the states now, in one transaction.

        Raises:
            sqlite3.Error: The disk refused; everything is still on the tail.
        """
        async with self._commit_lock:
            passed = self._passed()
            events = self._unwritten
            last = events[-1].seq if events else self._written
            self._unwritten = []
            self._urgent = False
            states, self._dirty_states = self._dirty_states, {}
            cursors_moved, self._dirty_cursors = self._dirty_cursors, False
            keep = events
            if not self.settings.retain and self._cursors:
                keep = [event for event in events if event.seq > passed[event.lane]]
            try:
                if keep or states or cursors_moved:
                    self._committing_since = self._clock.monotonic()
                    await self._write(self._store.write, keep, dict(self._cursors), states, self._units)
            except BaseException:
                self._unwritten = events + self._unwritten
                self._urgent = True
                self._dirty_states = states | self._dirty_states
                self._dirty_cursors = True
                raise
            finally:
                self._committing_since = None
            self._written = last
            self._last_commit = self._clock.monotonic()
            for lane, tail in self._tails.items():
                # Couriers a little behind go on reading from memory; those far behind read the file.
                far = tail.events[-GROUP].seq - 1 if len(tail.events) > GROUP else 0
                tail.trim(min(self._written, max(passed[lane], far)))
            if self.fault is not None:
                logger.warning("the event log %s can be written again", self.path)
                self.fault = None
                self._tell_lost(at_once=True)
            self._room.set()
            if not self.settings.commit:
                self._notify()

    def _on_fault(self, error: sqlite3.Error) -> None:
        """Go on in memory while the disk refuses; say so once, and drop the oldest readings when it gets too much."""
        if self.fault is None:
            logger.error("the event log %s cannot be written (%s); going on in memory", self.path, error)
        self.fault = str(error)
        self._room.set()
        excess = len(self._unwritten) - TAIL_LIMIT
        if excess > 0:
            readings = [event.seq for event in self._unwritten if event.lane is Lane.READINGS][:excess]
            self._forget(readings)
        self._tell_lost()

    def _forget(self, seqs: Sequence[int]) -> None:
        if not seqs:
            return
        gone, last = set(seqs), seqs[-1]
        self._unwritten = [event for event in self._unwritten if event.seq not in gone]
        self._tails[Lane.READINGS].trim(last)
        delivered = self._passed()[Lane.READINGS]
        lost = [seq for seq in seqs if seq > delivered]  # what was delivered is missed by nobody
        if lost:
            first, _, count = self._lost or (lost[0], 0, 0)
            self._lost = (first, last, count + len(lost))

    def _tell_lost(self, *, at_once: bool = False) -> None:
        """Report what went while the log could not be written: the first at once, then once a minute."""
        now = self._clock.monotonic()
        if self._lost is None or not (at_once or now >= self._tell_lost_at):
            return
        self._tell_lost_at = now + TELL_LOST_EVERY
        first, last, count = self._lost
        self._lost = None
        self._report_dropped(first, last, count, "the log cannot be written")

    def _report_dropped(self, first: int, last: int, count: int, reason: str) -> None:
        self.dropped += count
        logger.warning("dropped %d undelivered events, %d to %d: %s", count, first, last, reason)
        self.append(
            EventType.LOG_DROPPED, "agent", {"from": first, "to": last, "count": count, "reason": reason}
        )

    async def _keep_retaining(self) -> None:
        while True:
            await asyncio.sleep(RETENTION_EVERY)
            if self.fault is None:
                await self.retain()

    async def retain(self) -> None:
        """Delete what every consumer has and is older than `retain`, and the oldest where the file is too large."""
        passed = self._passed()
        before = self._clock.wall() - round(float(self.settings.retain) * 1e6)
        try:
            while await self._write(self._store.delete_older, before, passed):
                pass
            while await self._write(self._store.used_bytes) > self.settings.max_size:
                deleted, first, last, count = await self._write(self._store.delete_oldest, passed)
                if count:
                    self._report_dropped(first, last, count, f"the log has reached {self.settings.max_size}")
                if not deleted:
                    break
        except sqlite3.Error as error:
            self._on_fault(error)
