"""How long an alarm takes from the line that trips it to the subscriber, and to the disk; also past a backlog.

The instrument writes 200 lines a second, and every tenth is a spike of a height of its own, by which its alarm is known
again. The moment is taken just before the line is written. A committed alarm is one that another connection to the
log's file sees: SQLite shows a transaction to readers after its fsync, and the harness looks every `LOOK` seconds.

With a backlog, only those alarms count whose line was written while readings from before were still on their way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.eventlog import EventStore
from agent.events import EventType, Lane
from benchmarks import _backlog
from benchmarks._harness import Broker, Child, Line, Subscriber, folder, progress
from benchmarks._programs import Agent, one_line
from benchmarks._results import Row, percentile, row
from benchmarks._subscriber import Wanted
from benchmarks._writer import spike

if TYPE_CHECKING:
    from pathlib import Path

RATE: Final = 200
BACKLOG: Final = 100_000
LOOK: Final = 0.001
"""Seconds between looks at the file."""
AIM_SENT: Final = 5.0
AIM_COMMITTED: Final = 25.0
"""Milliseconds, for 99 of 100 alarms without a backlog."""
AIM_PAST: Final = 25.0
"""Milliseconds past a backlog, to either, where seconds of readings wait before it. Set after a first look (8.5, 14.8)."""


class Run(NamedTuple):
    """What one run gave, in milliseconds for each alarm.

    Attributes:
        received: From the line to the subscriber.
        committed: From the line to the disk.
        drained: Seconds from the first reading received to the end of the backlog; 0 without one.
    """

    received: list[float]
    committed: list[float]
    drained: float


def run(place: Path, backlog: int, count: int) -> Run:
    """Let `count` lines be written, on a log in which `backlog` readings wait.

    Raises:
        RuntimeError: An alarm or a reading is missing, or out of order.
    """
    path = place / "events.db"
    _backlog.make(path, backlog)
    end = _backlog.last(path)
    with Broker(place) as broker, Line() as line:
        subscriber = Subscriber(Wanted(broker.port, backlog + count, mark=backlog, alarms=True))
        writer = line.writer("spikes", count, RATE, first=backlog, tell=True)
        with (
            subscriber,
            writer,
            Agent(place, one_line(line.port, broker.port_v5, place)) as program,
        ):
            if not backlog:
                program.wait(subscriber, "online")
            program.wait_open(line.port, 0.1)
            writer.go()
            committed, said = _watch(path, end, writer, count / RATE + 30)
            received = subscriber.received(120)
            program.stop()
    heights = {index: spike(backlog + index) for index in range(count)}
    moments = {height: said["moments"][index] for index, height in heights.items() if height is not None}
    arrived = {height: at for height, at in received["alarms"] if height in moments}
    if len(arrived) < len(moments) or len(committed) < len(moments):
        raise RuntimeError(
            f"of {len(moments)} alarms {len(arrived)} came and {len(committed)} were committed\n{program.messages()}"
        )
    if received["missing"] or received["disordered"] or received["unique"] < backlog + count:
        raise RuntimeError(f"of {backlog + count} readings: {received['unique']}\n{program.messages()}")
    drained = received["marked"]
    counted = [height for height, at in moments.items() if not backlog or at < drained]
    return Run(
        [(arrived[height] - moments[height]) / 1e6 for height in counted],
        [(committed[height] - moments[height]) / 1e6 for height in counted],
        (drained - received["first"]) / 1e9 if backlog else 0.0,
    )


def _watch(path: Path, after: int, writer: Child, timeout: float) -> tuple[dict[float, int], dict[str, Any]]:
    """Look at the file until all is written, and return when each height was seen there, and what the writer says."""
    store = EventStore(path)
    store.open_reader()
    seen: dict[float, int] = {}
    said: dict[str, Any] | None = None
    deadline = time.monotonic() + timeout
    linger = 0.0
    while said is None or time.monotonic() < linger:
        if time.monotonic() > deadline:
            raise TimeoutError("the instrument does not come to an end")
        events = store.read(Lane.URGENT, after, None, 1000)
        now = time.monotonic_ns()
        for event in events:
            after = event.seq
            if event.type == EventType.ALARM_RAISED and isinstance(height := event.values["value"], float):
                seen[height] = now
        if said is None and writer.has_said():
            said = writer.read()
            linger = time.monotonic() + 2
        time.sleep(LOOK)
    store.close()
    return seen, said


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    count, repeats = (RATE * 5, 2) if quick else (RATE * 10, 5)
    rows = []
    for name, backlog in (("", 0), (f", {BACKLOG:,} draining", BACKLOG)):
        runs = []
        for turn in range(repeats):
            progress(f"alarm{name}: run {turn + 1} of {repeats}")
            with folder() as place:
                runs.append(run(place, backlog, count))
        note = f"{sum(len(each.received) for each in runs)} alarms at {RATE} readings/s"
        if backlog:
            took = sorted(each.drained for each in runs)[repeats // 2]
            note += f"; the backlog took {took:.1f} s"
        for what, aim, found in (
            ("received", AIM_PAST if backlog else AIM_SENT, [each.received for each in runs]),
            ("committed", AIM_PAST if backlog else AIM_COMMITTED, [each.committed for each in runs]),
        ):
            half = [percentile(latencies, 0.5) for latencies in found]
            most = [percentile(latencies, 0.99) for latencies in found]
            rows.append(row(f"alarm{name}: {what}, p50", half, "ms", note=note))
            rows.append(row(f"alarm{name}: {what}, p99", most, "ms", aim))
    return rows
