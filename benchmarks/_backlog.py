"""A log made beforehand, as an agent leaves it behind: so many readings of one device, waiting or delivered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from agent.eventlog import EventStore
from agent.eventlog.group import Group
from agent.events import Event, EventType, Lane
from benchmarks._writer import temperature

if TYPE_CHECKING:
    from pathlib import Path

CONSUMER: Final = "broker"
"""The forwarder's name in the configuration of the measures."""
DEVICE: Final = "line"
TRANSACTION: Final = 50_000
"""Events written at once: making the file is not what is measured."""
APART: Final = 5_000
"""Microseconds between two readings: they came at 200/s, and the last just now."""


def make(path: Path, count: int) -> None:
    """Write a log with `count` readings, numbered from 0, none of which is delivered."""
    store = EventStore(path)
    store.open_writer()
    now = time.time_ns() // 1000
    run, first = 1, 1
    store.begin_run(run, first, now, "benchmark")
    began = now - count * APART
    for start in range(0, count, TRANSACTION):
        store.write(Group([
            Event(run, first + n, EventType.READING, DEVICE, began + n * APART, {"n": n, "temperature": temperature(n)})
            for n in range(start, min(start + TRANSACTION, count))
        ], {}, {}, {}, {}))  # fmt: skip
    store.end_run(run, now)
    store.close()
    put_cursor(path, 0)


def put_cursor(path: Path, seq: int) -> None:
    """Say that the forwarder has everything up to a sequence number: 0 for nothing, so that all of it waits (again)."""
    store = EventStore(path)
    store.open_writer()
    store.write(Group([], {(CONSUMER, lane): seq for lane in Lane}, {}, {}, {}))
    store.close()


def last(path: Path) -> int:
    """Return the sequence number of the newest event."""
    store = EventStore(path)
    store.open_reader()
    newest = store.last(0)
    store.close()
    return newest


def size(path: Path) -> int:
    """Return the bytes of the file, with the write-ahead log beside it."""
    parts = (path, path.with_name(path.name + "-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())
