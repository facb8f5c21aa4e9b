"""Bytes written to the disk for each event: what wears out a card.

Taken from `write_bytes` of /proc/PID/io: the kernel counts there each page (4 KiB) of a file when the process makes it
dirty, so a small commit costs whole pages, as it does on the card. It counts the log, its write-ahead log and its index,
from before the first line to the end of the process, so the last commit and the checkpoint at the end are in it; the
file system's own journal is not. `passed` is what was passed to write(2), sockets included, from `wchar`.

Each event is one number. Where the broker is down, nobody listens on its port.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks._harness import Broker, Line, Subscriber, folder, free_port, progress
from benchmarks._programs import Agent, Usage, one_line
from benchmarks._results import Row, row
from benchmarks._subscriber import Wanted

if TYPE_CHECKING:
    from pathlib import Path

RATE: Final = 200
PARSE: Final = "{csv: [temperature]}"


class Case(NamedTuple):
    """One way to run.

    Attributes:
        name: As it is printed.
        online: Whether the broker is there.
        log: What is written under `log:`.
        rate: Lines a second; 0 for a flood.
    """

    name: str
    online: bool
    log: str
    rate: float


CASES: Final = (
    Case("200/s, online", online=True, log="", rate=RATE),
    Case("200/s, online, retain: 0", online=True, log=", retain: 0", rate=RATE),
    Case("200/s, broker down", online=False, log="", rate=RATE),
    Case("200/s, broker down, retain: 0", online=False, log=", retain: 0", rate=RATE),
    Case("flood, online", online=True, log="", rate=0),
    Case("flood, online, retain: 0", online=True, log=", retain: 0", rate=0),
    Case("flood, broker down", online=False, log="", rate=0),
)


def _online(case: Case, place: Path, count: int) -> Usage:
    with Broker(place) as broker, Line() as line:
        subscriber = Subscriber(Wanted(port=broker.port, count=count, key="temperature", meaning="count"))
        writer = line.writer("number", count, case.rate)
        config = one_line(line.port, broker.port_v5, place, parse=PARSE, log=case.log)
        with subscriber, writer, Agent(place, config) as program:
            program.wait(subscriber, "online")
            program.wait_open(line.port)
            before = program.usage()
            writer.go()
            writer.read(300)
            if subscriber.received(60)["count"] != count:
                raise RuntimeError(f"not all of {count} came\n{program.messages()}")
            time.sleep(0.5)  # until the acknowledgements are there too
            return program.stop().since(before)


def _offline(case: Case, place: Path, count: int) -> Usage:
    with Line() as line:
        writer = line.writer("number", count, case.rate)
        config = one_line(line.port, free_port(), place, parse=PARSE, log=case.log)
        with writer, Agent(place, config) as program:
            program.wait_open(line.port)
            before = program.usage()
            writer.go()
            writer.read(300)
            time.sleep(2)  # longer than `commit`
            return program.stop().since(before)


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    rows = []
    for case in CASES:
        repeats = 1 if quick or case.rate else 3  # what a clock paces comes out the same each time
        count = RATE * (6 if quick else 20) if case.rate else (20_000 if quick else 60_000)
        written: list[float] = []
        passed: list[float] = []
        left = 0.0
        for turn in range(repeats):
            progress(f"wear: {case.name}, run {turn + 1} of {repeats}")
            with folder() as place:
                used = (_online if case.online else _offline)(case, place, count)
                log = place / "events.db-wal"
                left = log.stat().st_size / count if log.exists() else 0.0
            written.append(used.written / count)
            passed.append(used.passed / count)
        note = f"{count:,} events; passed to write: {sorted(passed)[repeats // 2]:,.0f}"
        if left:
            note += f"; left in the write-ahead log: {left:,.0f}"
        rows.append(row(f"wear: {case.name}", written, "B/event", note=note))
    return rows
