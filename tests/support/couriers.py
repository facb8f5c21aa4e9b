"""A courier on a bench: a log in front of it, and a far side behind it that does as it is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent import contracts
from agent.clock import VirtualClock
from agent.contracts import Gateway
from agent.courier import Courier, Settings
from agent.encodings import json as plain_json
from agent.errors import Disconnected, Rejected
from agent.events import Delivery, Event, EventType
from agent.supervisor import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from agent.eventlog import EventLog

GATEWAY = Gateway("bench", "1.0", 1)


class FarSide(contracts.Forwarder[contracts.Settings]):
    """A far side that acknowledges when it is told to."""

    def __init__(self, window: int = 100) -> None:
        encoding = plain_json.Encoding(plain_json.Settings(), GATEWAY)
        super().__init__(contracts.Settings(), GATEWAY, encoding)
        self.window = window
        self.automatic = True
        self.refused: set[int] = set()
        self.states: list[Sequence[Event]] = []
        self.sent: list[Event] = []
        self.deliveries: list[Delivery] = []  # of each that was sent
        self.joined: list[int] = []  # how many events each message of several had
        self.acknowledged: list[Event] = []
        self.open: list[tuple[Sequence[Event], asyncio.Future[None]]] = []
        self.lost: asyncio.Future[str] | None = None
        self.closed = 0
        self.most_in_flight = 0

    async def connect(self, state: Sequence[Event]) -> None:
        self.states.append(state)
        self.lost = asyncio.get_running_loop().create_future()

    def send(
        self, batch: Sequence[Event], delivery: Delivery = Delivery.LIVE, *, joined: bool = False
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent += batch
        self.deliveries += [delivery] * len(batch)
        self.joined += [len(batch)] if joined else []
        self.open.append((batch, done))
        self.most_in_flight = max(self.most_in_flight, sum(len(each) for each, _ in self.open))
        if self.automatic:
            asyncio.get_running_loop().call_soon(self.acknowledge)
        return done

    def acknowledge(self, which: int = 0) -> None:
        batch, done = self.open.pop(which)
        self.acknowledged += [event for event in batch if event.seq not in self.refused]
        refused = [event.seq for event in batch if event.seq in self.refused]
        if refused:
            done.set_exception(Rejected(dict.fromkeys(refused, "quota exceeded")))
        else:
            done.set_result(None)

    def lose(self) -> None:
        assert self.lost is not None
        self.lost.set_result("gone")
        for _, done in self.open:
            done.set_exception(Disconnected("gone"))
        self.open.clear()

    async def wait_lost(self) -> None:
        assert self.lost is not None
        raise Disconnected(await asyncio.shield(self.lost))

    async def close(self) -> None:
        self.closed += 1


class Bench:
    """A log, a courier and a far side."""

    def __init__(self, log: EventLog, far: FarSide, settings: Settings) -> None:
        self.log = log
        self.far = far
        self.consumer = log.consumer("site")
        self.courier = Courier(self.consumer, far, list, settings)
        self.part = Part("forwarder", "site", VirtualClock(), lambda *_: None)

    def append(self, count: int) -> list[Event]:
        return [self.log.append(EventType.READING, "air", {"t": number}) for number in range(count)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(it: Bench) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(it.courier.run(it.part))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
