"""Carries events from the log to one forwarder: in order, paced, at least once.

A courier reads the log by cursors of its own, one for each lane, and keeps as many events in flight as the forwarder's
window allows. The cursors move on acknowledgements only, so whatever ends a connection, the next begins with the first
event that was not acknowledged. What was logged while there was no connection is historical, and is told as such; with
`backlog: live_first` it follows behind what happens now.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from agent import contracts
from agent.complaints import Complaints
from agent.errors import Disconnected, GatepostError, Rejected
from agent.events import Delivery, Lane
from agent.legs import Allowance, Flight, Leg, Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.contracts import Forwarder
    from agent.eventlog import Consumer
    from agent.events import Event
    from agent.supervisor import Part

BATCH: Final = 50
"""Events in one `send` at most: enough to make it cheap, few enough to keep several in flight."""

JOINED: Final = 8
"""Messages of many events each that may be in flight: a few keep a link busy, and each holds much memory."""

GRACE: Final = 10.0
"""Seconds without a connection, after a start or a loss, during which events still count as live."""


class Settings(contracts.Settings, frozen=True):
    """How a forwarder is served; each is written beside its kind.

    Attributes:
        backlog: in_order (the oldest first), or live_first (what happens now first, the backlog behind it).
        rate: Events a second of a backlog or a replay at most; without it as fast as they are acknowledged.
        batch: Events of a topic in one message at most, while a backlog waits; without it each has its own.
    """

    backlog: Literal["in_order", "live_first"] = "in_order"
    rate: Annotated[float, msgspec.Meta(gt=0)] | None = None
    batch: Annotated[int, msgspec.Meta(ge=2, le=10_000)] | None = None


class Courier:
    """Serves one forwarder.

    Attributes:
        name: The forwarder's name.
        delivered: Events acknowledged since the start.
        rejected: Events that the far side refused for good since the start.
        replay: What is sent once more at present; None where nothing is.
        is_connected: Whether there is a connection at present.
    """

    def __init__(
        self,
        consumer: Consumer,
        forwarder: Forwarder[Any],
        state: Callable[[], Sequence[Event]],
        settings: Settings,
    ) -> None:
        self.name = consumer.name
        self.delivered = 0
        self.rejected = 0
        self.replay: Replay | None = None
        self.is_connected = False
        self._forwarder = forwarder
        self._consumer = consumer
        self._log = consumer.reader
        self._state = state
        self._settings = settings
        # Each queue is carried in order; the first one goes first: urgent, then readings, then replays.
        self._queues: list[list[Leg]] = []
        self._sent: list[Leg] = []  # those of which all is sent and some is on its way
        self._allowance = Allowance(settings.rate)
        self._later: asyncio.TimerHandle | None = None
        self._in_flight = 0
        self._historical_upto: dict[Lane, int] = {}
        self._lost_at = time.monotonic()  # or made at
        self._moved_at = 0.0  # when it last sent or landed something, or began
        self._rewinds = 0
        self._complaints = Complaints(consumer.name)
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
            self.is_connected = True
            self._lay_out()
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
                self._lost_at = time.monotonic()
                self.is_connected = False
                stop_listening()
                if self._later is not None:
                    self._later.cancel()
                    self._later = None
            if lost is not None:
                self._notice_stuck()
                raise lost
        finally:
            await self._forwarder.close()

    # --- what is to be carried ----------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """Lay out what is not delivered, for a new connection."""
        self._in_flight = 0
        self._moved_at = time.monotonic()
        self._error = None
        self._rewinds = self._consumer.rewinds
        missed = time.monotonic() - self._lost_at > GRACE
        if missed:
            self._historical_upto = dict.fromkeys(Lane, self._log.visible)
        elif not self._historical_upto:
            self._historical_upto = dict.fromkeys(Lane, self._log.first - 1)  # all of earlier runs
        urgent, readings = (self._legs(lane) for lane in (Lane.URGENT, Lane.READINGS))
        self._sent = []
        self._queues = [urgent, readings, []]
        if self._settings.backlog == "live_first":
            self._queues = [urgent, readings[-1:], readings[:-1], []]
        if self.replay is not None:
            self._queue_replay(self.replay)

    def _legs(self, lane: Lane) -> list[Leg]:
        """Return what is not delivered of a lane, historical and live apart; the last one has no end."""
        legs = []
        boundary = self._historical_upto[lane]
        for after, upto in self._consumer.undelivered(lane):
            if after < boundary:
                legs.append(
                    self._leg(
                        lane, after, boundary if upto is None else min(upto, boundary), Delivery.HISTORICAL
                    )
                )
            if upto is None or upto > boundary:
                legs.append(self._leg(lane, max(after, boundary), upto, Delivery.LIVE))
        return legs

    def _leg(self, lane: Lane | None, after: int, upto: int | None, delivery: Delivery) -> Leg:
        return Leg(self._log, lane, after, upto, delivery, 4 * (self._settings.batch or 0))

    def _notice_stuck(self) -> None:
        """Name an event that may be why connections are lost: MQTT 3.1.1 has no other way to refuse one."""
        legs = (leg for queue in [self._sent, *self._queues] for leg in queue)
        first = next((leg.flights[0].batch[0] for leg in legs if leg.flights), None)
        if first is not None:
            self._complaints.lost_with(first)

    @property
    def due(self) -> float | None:
        """When it will next move by itself, in seconds of the monotonic clock; None while it waits for far side, file or events."""
        heads = [queue[0] for queue in self._queues if queue]  # what is behind them has to wait
        if not self.is_connected or any(leg.flights for leg in [*self._sent, *heads]):
            return None
        if self._later is not None:
            return self._later.when()
        return self._moved_at if any(leg.has_next for leg in heads) else None

    async def drained(self) -> None:
        """Wait until everything in the log is delivered."""
        while True:
            self._landed.clear()  # before looking, for what lands while the file is counted
            if not self._in_flight and not await self._consumer.waiting():
                return
            await self._landed.wait()

    # --- replays ------------------------------------------------------------------------------------------------------

    def start_replay(self, after: int, upto: int, rate: float | None) -> Replay:
        """Begin to send a stretch of the log once more, behind everything else, marked as replayed.

        It goes on over lost connections until it is done or ended; cursors do not move for it.

        Args:
            after: The sequence number after which it begins.
            upto: Its last sequence number.
            rate: Events a second at most, where the forwarder's own rate is not lower; None for no more than that.

        Raises:
            GatepostError: There is one already.
        """
        if self.replay is not None:
            raise GatepostError(f"a replay to {self.name} is under way; wait for its end")
        rates = [each for each in (rate, self._settings.rate) if each is not None]
        replay = self.replay = Replay(after, upto, min(rates, default=None))
        if self._queues:
            self._queue_replay(replay)
            self._call()
        return replay

    def end_replay(self) -> None:
        """Forget the replay; what is on its way still goes."""
        self.replay = None
        if self._queues:
            self._queues[-1].clear()

    def _queue_replay(self, replay: Replay) -> None:
        replay.leg = self._leg(None, replay.landed, replay.upto, Delivery.REPLAYED)
        self._queues[-1].append(replay.leg)

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
            if self._consumer.rewinds != self._rewinds:
                raise Disconnected("the event log was found again, with older events to deliver")
            for queue in self._queues:
                self._send_queue(queue)
        except Exception as error:  # noqa: BLE001 -- raised by `_read_files`, for the supervisor to see
            self._error = error
            self._file_wanted.set()

    def _send_queue(self, queue: list[Leg]) -> None:
        while queue:
            leg = queue[0]
            if (
                self._settings.backlog == "live_first"
                and leg.lane is Lane.READINGS
                and leg.upto is None
                and leg.is_behind
            ):
                leg = self._fall_behind(queue)
            self._send_leg(leg)
            if leg.wants_file:
                self._file_wanted.set()
            if not leg.is_sent:
                return
            queue.pop(0)
            self._sent.append(leg)
            self._finish(leg)

    def _fall_behind(self, queue: list[Leg]) -> Leg:
        """With `live_first`, let what is too far behind to be live follow behind, and go on with what is new."""
        behind, upto = queue[0], self._log.visible
        behind.upto, behind.delivery = upto, Delivery.HISTORICAL
        self._historical_upto[Lane.READINGS] = upto
        self._queues[2].append(behind)
        queue[0] = self._leg(Lane.READINGS, upto, None, Delivery.LIVE)
        return queue[0]

    async def _read_files(self) -> None:
        """Read what is no longer in memory, whenever it is wanted."""
        while True:
            await self._file_wanted.wait()
            self._file_wanted.clear()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            try:
                for queue in self._queues:
                    if queue and queue[0].wants_file:
                        await queue[0].read_file()
            except sqlite3.Error as error:
                raise Disconnected(f"the event log cannot be read: {error}") from error
            self._call()

    def _send_leg(self, leg: Leg) -> None:
        """Send from one leg as far as window and rate allow."""
        allowance = self._allowance
        if leg.delivery is Delivery.REPLAYED and self.replay is not None:
            allowance = self.replay.allowance
        join = self._settings.batch if leg.lane is Lane.READINGS else None
        while (room := self._forwarder.window - self._in_flight) > 0:
            allowed = allowance.available(time.monotonic()) if leg.is_paced else 2**31
            if allowed <= 0:
                self._send_later(allowance.wait)
                return
            single = min(allowed, room, BATCH)
            # A message of many is as full as if there were no rate; the next one waits for it all the longer.
            batch = leg.take(max(join, BATCH) if join else single)
            if not batch:
                return
            joined = join is not None and len(batch) >= min(join, BATCH)
            if joined and len(leg.flights) >= JOINED:
                break
            batch = batch[: join if joined else single]
            weight = len({(event.type, event.source) for event in batch}) if joined else len(batch)
            done = self._forwarder.send(batch, leg.delivery, joined=joined)
            self._moved_at = time.monotonic()
            flight = Flight(leg.took(batch), batch, weight, done)
            if leg.is_paced:
                allowance.spend(len(batch))
            self._in_flight += weight
            leg.flights.append(flight)
            flight.done.add_done_callback(partial(self._land, leg))
        self._is_full = True

    def _send_later(self, wait: float) -> None:
        """Send again when the rate allows it."""
        loop = asyncio.get_running_loop()
        if self._later is not None:
            if self._later.when() <= loop.time() + wait:
                return
            self._later.cancel()
        self._later = loop.call_later(wait, self._on_later)

    def _on_later(self) -> None:
        self._later = None
        self._call()

    def _land(self, leg: Leg, done: asyncio.Future[None]) -> None:
        """Move the cursor over all that is acknowledged without a gap."""
        if not done.cancelled():
            done.exception()  # seen here, whatever becomes of the flights before it
        while leg.flights and leg.flights[0].done.done():
            flight = leg.flights[0]
            if flight.done.cancelled():
                return
            error = flight.done.exception()
            if isinstance(error, Rejected):
                self._set_aside(leg, flight.batch, error)
            elif error is not None:
                return  # the connection is lost: `wait_lost` says so; the next one begins here
            leg.flights.popleft()
            self._in_flight -= flight.weight
            self._acknowledge(leg, flight)
            self._landed.set()
        if leg.is_sent:
            self._finish(leg)
        if self._is_full:
            self._is_full = False
            self._call()

    def _acknowledge(self, leg: Leg, flight: Flight) -> None:
        leg.landed = flight.batch[-1].seq
        if leg.lane is not None:
            self.delivered += len(flight.batch)
            self._consumer.acknowledge(leg.lane, flight.after, leg.landed)
        elif self.replay is not None and self.replay.leg is leg:
            self.replay.acknowledged += len(flight.batch)
            self.replay.landed = leg.landed

    def _finish(self, leg: Leg) -> None:
        """Where all of a leg is acknowledged, pass over what is not there at its end."""
        if leg.flights or leg.upto is None:
            return
        self._sent = [each for each in self._sent if each is not leg]
        if leg.landed >= leg.upto:
            return
        if leg.lane is not None:
            self._consumer.acknowledge(leg.lane, leg.landed, leg.upto)
            self._landed.set()
        elif self.replay is not None and self.replay.leg is leg:
            self.replay.landed = leg.upto
        leg.landed = leg.upto

    def _set_aside(self, leg: Leg, batch: Sequence[Event], error: Rejected) -> None:
        """Count and keep what the far side refuses for good, and go on."""
        refused = [event for event in batch if event.seq in error.reasons]
        self.rejected += len(refused)
        if leg.lane is not None:
            self.delivered -= len(refused)
            for event in refused:
                self._consumer.reject(event, error.reasons[event.seq])
        elif self.replay is not None and self.replay.leg is leg:
            self.replay.acknowledged -= len(refused)
        for event in refused:
            self._complaints.refused(event, error.reasons[event.seq], self.rejected)
