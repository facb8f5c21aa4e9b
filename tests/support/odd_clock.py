"""Runs gatepost with a wall clock that a test turns: `python odd_clock.py FILE run …`.

FILE holds the nanoseconds by which the clock is wrong, as a 64-bit integer in native order; it is looked at for each
time that is told, so the clock jumps when the test writes to it. Times by the monotonic clock are as they are.
With GATEPOST_TEST_RETAIN_EVERY retention looks so often, in seconds, instead of once a minute.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path
from typing import Final

from agent import cli
from agent.eventlog import retaining

FORMAT: Final = struct.Struct("q")


class OddClock:
    """The clock of one process, seen from the test.

    Attributes:
        program: What to put in place of `python -m agent`.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.program = [sys.executable, str(Path(__file__)), str(self._file)]
        self.set_off(0)

    def set_off(self, seconds: float) -> None:
        """Let the clock be so many seconds ahead."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:  # mapped, so never another file
            file.write(FORMAT.pack(round(seconds * 1e9)))

    def set_to_1970(self) -> None:
        """Let it be as on a machine without a clock of its own: it begins in 1970."""
        self.set_off(-time.time())


def main() -> int:
    """Turn the clock and run."""
    with Path(sys.argv.pop(1)).open("rb") as file:
        wrong = mmap.mmap(file.fileno(), FORMAT.size, access=mmap.ACCESS_READ)
    real = time.time_ns

    def time_ns() -> int:
        off: int = FORMAT.unpack(wrong)[0]
        return real() + off

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    assert hasattr(retaining, "EVERY")
    retaining.EVERY = float(os.environ.get("GATEPOST_TEST_RETAIN_EVERY", retaining.EVERY))  # type: ignore[misc]
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
