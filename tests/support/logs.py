"""An event log in a test: opened for a while, kept or not, crashed, and what its file then holds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent import eventlog
from agent.clock import VirtualClock
from agent.eventlog import EventLog, EventStore
from agent.events import Event, EventType, Lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.clock import Clock

DEFAULTS = eventlog.Settings()


@asynccontextmanager
async def opened(
    path: Path,
    consumers: Sequence[str] = ("a",),
    configured: eventlog.Settings = DEFAULTS,
    clock: Clock | None = None,
) -> AsyncIterator[EventLog]:
    log = EventLog(path, configured, clock or VirtualClock())
    await log.open(consumers, "1.0")
    try:
        yield log
    finally:
        await log.close()


async def crash(log: EventLog) -> None:
    """Let go of everything as a SIGKILL does: what is only in memory is gone."""
    log._file._writing.shutdown()
    log._file._reading.shutdown()
    log._file._reader.close()
    if log._file._store is not None:
        log._file._store.close()
    if log._file._lock is not None:
        log._file._lock.close()


def read(log: EventLog, number: int, source: str = "air") -> Event:
    return log.append(EventType.READING, source, {"temperature": number})


async def undelivered(log: EventLog, consumer: str, limit: int) -> list[Event]:
    after = log.consumer(consumer).cursor(Lane.READINGS)
    return await log.reader.fetch(Lane.READINGS, after, limit)


def in_file(path: Path) -> list[Event]:
    store = EventStore(path)
    store.open_reader()
    try:
        return store.read(None, 0, None, 1_000_000)
    finally:
        store.close()


@asynccontextmanager
async def kept(log: EventLog) -> AsyncIterator[None]:
    task = asyncio.create_task(log.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_in_file(path: Path, count: int) -> list[Event]:
    async with asyncio.timeout(10):
        while len(found := in_file(path)) < count:
            await asyncio.sleep(0.005)
    return found
