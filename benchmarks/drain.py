"""How fast a backlog drains, with few and with many events waiting: the rate must not fall as the log grows.

The agent is started on a log made beforehand, with the cursor of its forwarder at the beginning. Compared is the same
stretch in all of them, the first readings, as many as the smallest backlog has in all: from the first one received to
the last. Sizes take turns, and the ratio is that of one turn, so that what the machine does meanwhile falls on all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks import _backlog
from benchmarks._harness import Broker, Line, Subscriber, folder, progress
from benchmarks._programs import Agent, one_line
from benchmarks._results import Row, row
from benchmarks._subscriber import Wanted

if TYPE_CHECKING:
    from pathlib import Path

STRETCH: Final = 10_000
LONGER: Final = 60_000
"""Readings received in a run, where there are so many: a longer stretch is less at the mercy of the machine."""
SIZES: Final = (STRETCH, 1_000_000, 5_000_000)
SIZES_QUICK: Final = (STRETCH, 100_000, 1_000_000)
AIM: Final = 0.9
"""Of the rate with the smallest backlog."""
MB: Final = 1e6


class Run(NamedTuple):
    """What one run gave.

    Attributes:
        rate: Events received in a second, over the stretch.
        longer: The same over all that was received.
        cpu: Microseconds of processor time for each event after the first, which the load on a machine changes less.
        rss: Resident memory when the last was received, bytes.
    """

    rate: float
    longer: float
    cpu: float
    rss: int


def run(place: Path, waiting: int) -> Run:
    """Start the agent on the log in a folder and receive the first of what waits.

    Raises:
        RuntimeError: Something is missing or out of order.
    """
    count = min(waiting, LONGER)
    _backlog.put_cursor(place / "events.db", 0)
    with Broker(place) as broker, Line() as line:
        subscriber = Subscriber(Wanted(port=broker.port, count=count, mark=STRETCH))
        with subscriber, Agent(place, one_line(line.port, broker.port_v5, place)) as program:
            program.wait(subscriber, "reading")
            before = program.usage()
            received = subscriber.received(120)
            after = program.usage()
            program.stop()
    if received["unique"] < count or received["missing"] or received["disordered"]:
        raise RuntimeError(f"of the first {count} of {waiting}: {received}\n{program.messages()}")
    first = received["first"]
    return Run(
        STRETCH / (received["marked"] - first) * 1e9,
        received["count"] / (received["last"] - first) * 1e9,
        (after.cpu - before.cpu) / received["count"] * 1e6,
        after.rss,
    )


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    sizes, repeats = (SIZES_QUICK, 3) if quick else (SIZES, 5)
    runs: dict[int, list[Run]] = {size: [] for size in sizes}
    files: dict[int, int] = {}
    with folder() as place:
        for size in sizes:
            progress(f"drain: making a log of {size:,}")
            place.joinpath(str(size)).mkdir()
            _backlog.make(place / str(size) / "events.db", size)
            files[size] = _backlog.size(place / str(size) / "events.db")
        for turn in range(repeats):
            for size in sizes:
                progress(f"drain: {size:,} waiting, run {turn + 1} of {repeats}")
                runs[size].append(run(place / str(size), size))
    small, large = runs[sizes[0]], runs[sizes[-1]]
    rows = [
        row(
            f"drain: {size:,} waiting",
            [run.rate for run in runs[size]],
            "events/s",
            note=f"the first {STRETCH:,}",
        )
        for size in sizes
    ]
    ratios = [a.rate / b.rate for a, b in zip(large, small, strict=True)]
    rows.append(row(f"drain: {sizes[-1]:,} against {sizes[0]:,}", ratios, "x", AIM, "≥"))
    rows += [
        row(
            f"drain: {size:,} waiting, longer",
            [run.longer for run in runs[size]],
            "events/s",
            note=f"the first {LONGER:,}",
        )
        for size in sizes[1:]
    ]
    rows += [
        row(f"drain: CPU an event, {size:,} waiting", [run.cpu for run in runs[size]], "µs") for size in sizes
    ]
    rows += [
        row(f"drain: RSS, {size:,} waiting", [run.rss / MB for run in runs[size]], "MB") for size in sizes
    ]
    rows += [
        Row(
            f"drain: file, {size:,} waiting",
            files[size] / MB,
            "MB",
            note=f"{files[size] / size:.0f} B an event",
        )
        for size in sizes
    ]
    return rows
