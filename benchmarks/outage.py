"""The same outage, to gatepost and to Node-RED: the broker away for 20 s, and the gateway killed in the middle.

The instrument writes 200 lines a second for 20 s to a pseudo-terminal. The broker is stopped just before the first and
comes back after the last; after some 10 s the gateway is killed (SIGKILL) and at once started again, as systemd would.
Each run kills at another part of a second, because both write to the disk once a second, and what is lost is what was
read since.

An instrument waits for nobody: what the kernel's buffer cannot take is lost on the wire. Nobody can be blamed for what
is written while no gateway runs, so that is counted by itself: from the kill to the moment when the new process has
opened the port, which is known to some 5 ms. What was written at other times the gateway had before it, and is counted
as such: those few included that were in the kernel's buffer at the kill.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import _nodered
from benchmarks._harness import Broker, Line, Subscriber, folder, progress
from benchmarks._programs import Agent, Program, one_line
from benchmarks._results import Row, mosquitto, row
from benchmarks._subscriber import Wanted

RATE: Final = 200
SECONDS: Final = 20
COUNT: Final = RATE * SECONDS
SETTLE: Final = 45.0
"""Seconds to wait after the broker is back: longer than either waits before it tries again."""
FIRST: Final = 20
"""Readings that must arrive before the broker is stopped: they show that the gateway works."""
COMMIT: Final = 1
"""Seconds: the default of `log: {commit: …}`, which says how much of undelivered readings a crash may cost."""

Start = Callable[[Path, str, Broker], Program]


class Run(NamedTuple):
    """What one run gave.

    Attributes:
        before: Readings written while a gateway had the port open.
        before_came: How many of them arrived.
        during: Readings written while none had.
        during_came: How many of them arrived.
        down: Seconds from the kill to the port's being open again.
        repeats: Readings that came again.
        disordered: Readings that came after a later one.
        written: Bytes that both processes made the kernel write to the disk.
        caught_up: Seconds from the broker's return to the last reading; 0 where none came.
    """

    before: int
    before_came: int
    during: int
    during_came: int
    down: float
    repeats: int
    disordered: int
    written: int
    caught_up: float


def run(start: Start, part: float) -> Run:
    """Let one gateway go through it.

    Args:
        start: Starts it.
        part: Seconds after the middle at which it is killed.

    Raises:
        RuntimeError: It does not bring every reading while all is well.
    """
    with folder() as place, Broker(place, keeps_sessions=True) as broker, Line() as line:
        wanted = Wanted(broker.port, FIRST + COUNT, qos=1, session=True, absent=True)
        writer = line.writer("csv", COUNT, RATE, first=FIRST, waits=False, tell=True)
        with Subscriber(wanted) as subscriber, writer:
            with start(place, line.port, broker) as program:
                program.wait(subscriber, "online")
                program.wait_open(line.port)
                with line.writer("csv", FIRST, RATE) as first:
                    first.go()
                    program.wait(subscriber, "reading")
                    first.read()
                time.sleep(1)  # until all of them are there
                broker.stop()
                writer.go()
                time.sleep(SECONDS / 2 + part)
                killed = time.monotonic_ns()
                used = program.kill()
            line.release()
            with start(place, line.port, broker) as program:
                program.wait_open(line.port, 0)
                opened = time.monotonic_ns()
                said = writer.read(SECONDS + 10)
                broker.start()
                back = time.monotonic_ns()
                received = subscriber.received(SETTLE)
                written = used.written + program.stop().written
    absent = {number - FIRST for number in received["absent"]} | set(
        range(received["highest"] + 1 - FIRST, COUNT)
    )
    if min(absent, default=0) < 0:
        raise RuntimeError(f"some were lost before the outage: {received}")
    during = {index for index, at in enumerate(said["moments"]) if killed <= at < opened}
    refused = set(said["refused"]) - during  # that the kernel had no room for: there was no gateway to read
    during |= refused
    before = set(range(COUNT)) - during
    came_back = received["highest"] >= FIRST
    return Run(
        len(before),
        len(before - absent),
        len(during),
        len(during - absent),
        (opened - killed) / 1e9,
        received["repeats"],
        received["disordered"],
        written,
        (received["last"] - back) / 1e9 if came_back else 0.0,
    )


def _gatepost(log: str) -> Start:
    return lambda place, port, broker: Agent(place, one_line(port, broker.port_v5, place, log=log))


def _nodered_in(cache: Path, *, keeps: bool) -> Start:
    return lambda place, port, broker: _nodered.NodeRed(place, cache, port, broker.port, keeps=keeps)


def measure(*, quick: bool) -> list[Row]:
    """Measure.

    Raises:
        RuntimeError: There is no Mosquitto, whose sessions outlast it.
    """
    if mosquitto() is None:
        raise RuntimeError("the outage needs Mosquitto: apt install mosquitto")
    systems: list[tuple[str, Start, float | None]] = [
        ("gatepost", _gatepost(""), COMMIT * RATE),
        ("gatepost, commit: 0", _gatepost(", commit: 0"), None),
    ]
    if why := _nodered.missing():
        progress(f"outage: Node-RED is left out: {why}")
    else:
        cache = _nodered.install()
        name = f"Node-RED {_nodered.version(cache)}"
        systems += [
            (name, _nodered_in(cache, keeps=False), None),
            (f"{name}, queue on disk", _nodered_in(cache, keeps=True), None),
        ]
    repeats = 1 if quick else 3
    runs: dict[str, list[Run]] = {name: [] for name, _, _ in systems}
    for turn in range(repeats):
        for name, start, _ in systems:
            progress(f"outage: {name}, run {turn + 1} of {repeats}")
            runs[name].append(run(start, turn / repeats))
    return [one for name, _, aim in systems for one in _rows(name, runs[name], aim)]


def _rows(name: str, runs: list[Run], aim: float | None) -> list[Row]:
    before = statistics.median(one.before for one in runs)
    during = statistics.median(one.during for one in runs)
    down = statistics.median(one.down for one in runs)
    came = [one.before_came + one.during_came for one in runs]
    rows = [
        row(f"outage: {name}: arrived", came, "", note=f"of {COUNT:,}"),
        row(
            f"outage: {name}: lost while it ran", [one.before - one.before_came for one in runs], "", aim,
            note=f"of {before:,.0f} written while it had the port",
        ),
        row(
            f"outage: {name}: lost while it was down", [one.during - one.during_came for one in runs], "",
            note=f"of {during:,.0f} written in the {down:.2f} s until it had the port again",
        ),
        row(f"outage: {name}: came twice", [one.repeats for one in runs], ""),
        row(f"outage: {name}: out of order", [one.disordered for one in runs], ""),
        row(f"outage: {name}: written to disk", [one.written / 1e6 for one in runs], "MB"),
    ]  # fmt: skip
    if all(came):
        after = [one.caught_up for one in runs]
        rows.append(row(f"outage: {name}: last reading", after, "s", note="after the broker's return"))
    return rows
