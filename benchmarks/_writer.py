"""The instrument: a process that writes lines to a pseudo-terminal, as fast as they are read or at a steady rate.

Run as `python -m benchmarks._writer '{"fd": 3, …}'` with the fields of `Work`. It waits for a line on its standard
input, so that it is ready before the clock starts, and prints when it began and ended, in nanoseconds of the monotonic
clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK: Final = 4096
"""Bytes in one write: what the kernel hands to a reader of a pseudo-terminal at once."""
CHANNELS: Final = 50
"""Numbers in a wide line."""
SPIKE_EVERY: Final = 10
"""Lines from one spike to the next."""


class Work(msgspec.Struct):
    """What to write.

    Attributes:
        fd: The file descriptor of the pseudo-terminal.
        form: One of `FORMATS`.
        count: How many lines.
        rate: Lines a second; 0 for as fast as they are taken.
        first: The index of the first line.
        waits: Wait where the pseudo-terminal is full; else what does not fit is lost, as on a wire.
        tell: Say when each line was written, and which did not fit.
    """

    fd: int
    form: str
    count: int
    rate: float = 0
    first: int = 0
    waits: bool = True
    tell: bool = False


def temperature(index: int) -> float:
    """Return what the instrument measures in line `index`: always near 21, so that no alarm is raised."""
    return 20 + index % 20 / 10


FORMATS: Final[dict[str, Callable[[int], bytes]]] = {
    # n,temperature
    "csv": lambda n: f"{n},{temperature(n):.1f}\r\n".encode(),
    "json": lambda n: f'{{"n": {n}, "temperature": {temperature(n):.1f}}}\r\n'.encode(),
    # a single number
    "number": lambda n: f"{temperature(n):.1f}\r\n".encode(),
    # the moment of writing in place of the number
    "stamp": lambda n: f"{time.monotonic_ns()},{temperature(n):.1f}\r\n".encode(),
    # a tenth of the time above any limit, in one stretch every 5,000 lines
    "tenth": lambda n: f"{n},{temperature(n) + (80 if n % 5000 >= 4500 else 0):.1f}\r\n".encode(),
    # many numbers at once
    "wide": lambda n: (
        ",".join(f"{temperature(n * 7 + c * 3):.1f}" for c in range(CHANNELS)) + "\r\n"
    ).encode(),
    # as csv, with a temperature now and then that trips the rule: each spike has a height of its own
    "spikes": lambda n: f"{n},{spike(n) or temperature(n):.1f}\r\n".encode(),
}


def spike(index: int) -> float | None:
    """Return the height of the spike in line `index`, far above any limit; None where there is none."""
    return 1000.0 + index if index % SPIKE_EVERY == SPIKE_EVERY - 1 else None


def flood(work: Work) -> dict[str, object]:
    """Write all lines, made beforehand, as fast as they are taken."""
    data = memoryview(b"".join(map(FORMATS[work.form], range(work.first, work.first + work.count))))
    sys.stdin.readline()
    began = time.monotonic_ns()
    position = 0
    while position < len(data):
        position += os.write(work.fd, data[position : position + CHUNK])
    return {"began": began, "ended": time.monotonic_ns()}


def steady(work: Work) -> dict[str, object]:
    """Write line by line, each at its time."""
    line = FORMATS[work.form]
    os.set_blocking(work.fd, work.waits)
    sys.stdin.readline()
    began = time.monotonic_ns()
    moments: list[int] = []
    refused: list[int] = []
    for index in range(work.count):
        wait = began / 1e9 + index / work.rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        data = line(work.first + index)
        if work.tell:
            moments.append(time.monotonic_ns())
        try:
            written = os.write(work.fd, data)
        except BlockingIOError:
            written = 0
        if written < len(data):
            refused.append(index)
    told = {"moments": moments, "refused": refused} if work.tell else {}
    return {"began": began, "ended": time.monotonic_ns(), **told}


def main(said: str) -> None:
    """Write, and say when that was."""
    work = msgspec.json.decode(said, type=Work)
    print(json.dumps({"ready": True}), flush=True)
    print(json.dumps(steady(work) if work.rate else flood(work)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
