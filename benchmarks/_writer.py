"""The instrument: a process that writes lines to a pseudo-terminal, as fast as they are read or at a steady rate.

Run as `python -m benchmarks._writer FD FORMAT COUNT RATE`. It waits for a line on its standard input, so that it is
ready before the clock starts, and prints when it began and ended, in nanoseconds of the monotonic clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK: Final = 4096
"""Bytes in one write: what the kernel hands to a reader of a pseudo-terminal at once."""


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
}


def flood(fd: int, line: Callable[[int], bytes], count: int) -> tuple[int, int]:
    """Write all lines, made beforehand, as fast as they are taken."""
    data = memoryview(b"".join(map(line, range(count))))
    sys.stdin.readline()
    began = time.monotonic_ns()
    position = 0
    while position < len(data):
        position += os.write(fd, data[position : position + CHUNK])
    return began, time.monotonic_ns()


def steady(fd: int, line: Callable[[int], bytes], count: int, rate: float) -> tuple[int, int]:
    """Write line by line, each at its time."""
    sys.stdin.readline()
    began = time.monotonic_ns()
    for index in range(count):
        wait = began / 1e9 + index / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        os.write(fd, line(index))
    return began, time.monotonic_ns()


def main(fd: int, form: str, count: int, rate: float) -> None:
    """Write, and say when that was."""
    line = FORMATS[form]
    print(json.dumps({"ready": True}), flush=True)
    began, ended = steady(fd, line, count, rate) if rate else flood(fd, line, count)
    print(json.dumps({"began": began, "ended": ended}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
