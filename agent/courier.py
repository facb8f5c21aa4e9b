"""Carries events from the log to one forwarder: in order, paced, at least once.

A courier reads the log by cursors of its own, one for each lane, and keeps as many events in flight as the forwarder's
window allows. The cursors move on acknowledgements only, so whatever ends a connection, the next begins with the first
event that was not acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.errors import Disconnected, Rejected
from agent.events import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.contracts import Forwarder
    from agent.eventlog import EventLog
    from agent.events import Event
    from agent.supervisor import Part

logger = logging.getLogger(__name__)

BATCH: Final = 50
"""Events in one `send` at most: enough to make it cheap, few enough to keep several in flight."""

BACKLOG: Final = 500
"""Events read from the file at once."""


REFUSAL_EVERY: Final = 60.0
"""Seconds between messages about events that are refused for the same reason; those in between are counted."""

REASONS: Final = 20
"""Reasons that are remembered, for some tell of each event's size."""

STUCK: Final = 3
"""Connections lost in a row with the same event first on its way, after which that event is named."""


class _Flight:
    """A batch that was sent and is not acknowledged yet."""

    def __init__(self, batch: Sequence[Event], done: asyncio.Future[None]) -> None:
        self.batch = batch
        self.done = done


class _LaneReader:
    """Where a courier stands in one lane."""

    def __init__(self, lane: Lane, log: EventLog, consumer: str) -> None:
        self.lane = lane
        self.sent = log.cursor(consumer, lane)
        self.flights: deque[_Flight] = deque()
        self.backlog: list[Event] = []  # read from the file, not sent yet
        self._log = log

    def take(self, limit: int) -> list[Event] | None:
        """Return the next events without waiting, or None where the file must be read first."""
        if self.backlog:
            batch, self.backlog = self.backlog[:limit], self.backlog[limit:]
            return batch
        return self._log.peek(self.lane, self.sent, limit)

    @property
    def is_behind(self) -> bool:
        """Whether the next events are no longer in memory."""
        return not self.backlog and self.sent < self._log.base(self.lane)

    async def read_file(self) -> None:
        """Read a stretch of backlog from the file."""
        base = self._log.base(self.lane)
        self.backlog = await self._log.fetch(self.lane, self.sent, BACKLOG)
        if not self.backlog:
            self.sent = max(self.sent, base)  # nothing of this lane is in the file


class Courier:
    """Serves one forwarder.

    Attributes:
        name: The forwarder's name, under which the log keeps its cursors.
        delivered: Events acknowledged since the start.
        rejected: Events that the far side refused for good since the start.
    """

    def __init__(
        self, name: str, forwarder: Forwarder[Any], log: EventLog, state: Callable[[], Sequence[Event]]
    ) -> None:
        self.name = name
        self.delivered = 0
        self.rejected = 0
        self._forwarder = forwarder
        self._log = log
        self._state = state
        self._lanes: list[_LaneReader] = []
        self._in_flight = 0
        # The event that was first on its way when a connection was lost, and how often in a row.
        self._stuck = (0, 0)
        self._refusal_told: dict[str, float] = {}  # by reason: when it may be said again
        self._is_full = False
        self._is_called = False
        self._error: Exception | None = None
        self._file_wanted = asyncio.Event()
        self._landed = asyncio.Event()

    async def run(self, part: Part) -> None:
        """Connect and carry events until the connection is lost; the supervisor comes back.

        Raises:
            Disconnected: The far side is not there (any more).
        """
        try:
            await self._forwarder.connect(self._state())
            part.up()
            self._lanes = [_LaneReader(lane, self._log, self.name) for lane in Lane]  # urgent first
            self._in_flight = 0
            stop_listening = self._log.listen(self._call)
            self._call()
            lost: BaseException | None = None
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._forwarder.wait_lost())
                    tasks.create_task(self._read_files())
            except* Disconnected as group:
                lost = group.exceptions[0]
            finally:
                stop_listening()
            if lost is not None:
                self._notice_stuck()
                raise lost
        finally:
            await self._forwarder.close()

    def _notice_stuck(self) -> None:
        """Name an event that may be why connections are lost: MQTT 3.1.1 has no other way to refuse one."""
        first = next((reader.flights[0].batch[0] for reader in self._lanes if reader.flights), None)
        if first is None:
            return
        self._stuck = (first.seq, self._stuck[1] + 1 if self._stuck[0] == first.seq else 1)
        if self._stuck[1] == STUCK:
            logger.warning(
                "forwarder %s: event %s (%s of %s) was on its way each of the last %d times that the connection was lost; "
                "if the far side refuses messages of its size, say so in the forwarder's settings (mqtt: max_packet)",
                self.name, first.id, first.type, first.source, STUCK,
            )  # fmt: skip

    async def drained(self) -> None:
        """Wait until everything in the log is delivered."""
        while self._in_flight or await self._log.waiting(self.name):
            self._landed.clear()
            await self._landed.wait()

    # All that is in memory is sent by plain callbacks: at a few hundred events a second, what an event costs is the
    # number of turns of the event loop that it takes.

    def _call(self) -> None:
        """Have what is new sent in the next turn of the event loop, all in one go."""
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        """Send whatever there is, as far as there is room in the window."""
        self._is_called = False
        try:
            for reader in self._lanes:
                if not self._send_from(reader):
                    self._file_wanted.set()
        except Exception as error:  # noqa: BLE001 -- raised by `_read_files`, for the supervisor to see
            self._error = error
            self._file_wanted.set()

    async def _read_files(self) -> None:
        """Read what is no longer in memory, whenever it is wanted."""
        while True:
            await self._file_wanted.wait()
            self._file_wanted.clear()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            try:
                for reader in self._lanes:
                    if reader.is_behind:
                        await reader.read_file()
            except sqlite3.Error as error:
                raise Disconnected(f"the event log cannot be read: {error}") from error
            self._call()

    def _send_from(self, reader: _LaneReader) -> bool:
        """Send from one lane; False where the file must be read first."""
        while (room := self._forwarder.window - self._in_flight) > 0:
            batch = reader.take(min(room, BATCH))
            if not batch:
                return batch is not None
            reader.sent = batch[-1].seq
            self._in_flight += len(batch)
            flight = _Flight(batch, self._forwarder.send(batch))
            reader.flights.append(flight)
            flight.done.add_done_callback(partial(self._land, reader))
        self._is_full = True
        return True

    def _land(self, reader: _LaneReader, done: asyncio.Future[None]) -> None:
        """Move the cursor over all that is acknowledged without a gap."""
        if not done.cancelled():
            done.exception()  # seen here, whatever becomes of the flights before it
        while reader.flights and reader.flights[0].done.done():
            flight = reader.flights[0]
            if flight.done.cancelled():
                return
            error = flight.done.exception()
            if isinstance(error, Rejected):
                self._set_aside(flight.batch, error)
            elif error is not None:
                return  # the connection is lost: `wait_lost` says so; the next one begins here
            reader.flights.popleft()
            self._in_flight -= len(flight.batch)
            self.delivered += len(flight.batch)
            self._log.acknowledge(self.name, reader.lane, flight.batch[-1].seq)
            self._landed.set()
        if self._is_full:
            self._is_full = False
            self._call()

    def _set_aside(self, batch: Sequence[Event], error: Rejected) -> None:
        """Count what the far side refuses for good, and go on."""
        self.rejected += len(error.seqs)
        self.delivered -= len(error.seqs)
        now = time.monotonic()
        if now < self._refusal_told.get(error.reason, 0.0):
            return
        if len(self._refusal_told) > REASONS:
            self._refusal_told.clear()
        self._refusal_told[error.reason] = now + REFUSAL_EVERY
        event = next(event for event in batch if event.seq in error.seqs)
        logger.error(
            "forwarder %s: event %s (%s of %s) was refused and is set aside: %s (%d since the start)",
            self.name, event.id, event.type, event.source, error.reason, self.rejected,
        )  # fmt: skip
