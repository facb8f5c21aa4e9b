"""A serial instrument on a real pseudo-terminal: what the test writes is what the driver reads."""

from __future__ import annotations

import os
import select
import time
import tty
from typing import TYPE_CHECKING, Final, NamedTuple

from support.waiting import ticks, until

from agent.events import EventType

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from support.agents import Agent

PATIENCE: Final = 10.0
"""Seconds until somebody must have read what was written before."""

HEAVY: Final = 1_000_000
"""The weight from which on a line of a counting scale is one that an alarm is due for."""


class SerialInstrument:
    """An instrument behind an adapter that can be pulled out and plugged in again, as another device node.

    Attributes:
        port: The path of the port: a link, as udev makes under /dev/serial/by-id.
    """

    def __init__(self, port: Path) -> None:
        self.port = port
        self._ends: tuple[int, int] | None = None
        self.plug()

    def plug(self) -> None:
        """Bring up a new pseudo-terminal behind the same path."""
        assert self._ends is None
        ours, theirs = os.openpty()
        tty.setraw(theirs)  # or the kernel would echo our lines back
        os.set_blocking(ours, False)
        self._ends = (ours, theirs)
        self.port.symlink_to(os.ttyname(theirs))

    def unplug(self) -> None:
        """Pull it out: the path is gone, and who reads it sees it hang up."""
        if self._ends is not None:
            ends, self._ends = self._ends, None
            self.port.unlink()
            for end in ends:
                os.close(end)

    def write(self, *lines: str | bytes) -> None:
        """Write lines, each ended by a carriage return and a newline."""
        self.write_raw(
            b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines)
        )

    def write_raw(self, data: bytes) -> None:
        """Write bytes as they are; wait while the kernel's buffer is full."""
        assert self._ends is not None
        ours = self._ends[0]
        while data:
            _, free, _ = select.select([], [ours], [], PATIENCE)
            assert free, "nobody reads the port"
            data = data[os.write(ours, data) :]


class Line(NamedTuple):
    """A line as a counting scale wrote it.

    Attributes:
        n: Its number, from 0.
        weight: What it said beside.
        at: When it was written, in seconds of the monotonic clock.
    """

    n: int
    weight: float
    at: float


class CountingScale:
    """A scale that numbers its lines, so that a missing one is seen, and remembers them.

    Attributes:
        instrument: Where it writes.
        lines: All that it wrote; `lines[n]` has the number n.
    """

    def __init__(self, instrument: SerialInstrument) -> None:
        self.instrument = instrument
        self.lines: list[Line] = []

    @property
    def written(self) -> int:
        """How many lines it wrote."""
        return len(self.lines)

    def write(self, count: int = 1) -> None:
        """Write lines that no alarm is due for."""
        self._write([n / 8 for n in range(self.written, self.written + count)])

    def write_heavy(self) -> None:
        """Write a line that an alarm is due for, and one that ends it."""
        n = self.written
        self._write([HEAVY + n, (n + 1) / 8])

    def weigh(self, chance: random.Random, during: float) -> None:
        """Write some hundred lines a second, and every now and then a heavy one, for a time in seconds."""
        for _ in ticks(every=0.01, during=during):
            if chance.random() < 0.05:
                self.write_heavy()
            else:
                self.write(chance.randint(0, 5))

    def _write(self, weights: list[float]) -> None:
        now = time.monotonic()  # before it can be read: nothing that is received is unknown here
        lines = [Line(n, weight, now) for n, weight in enumerate(weights, self.written)]
        self.lines += lines
        self.instrument.write(*(f"{line.n},{line.weight}" for line in lines))

    def wait_committed(self, agent: Agent) -> None:
        """Wait until an agent has all that was written on its disk."""

        def all_there() -> bool:
            there = {event.values.get("n") for event in agent.committed() if event.type == EventType.READING}
            return there >= {line.n for line in self.lines}

        until(all_there, "all lines are on the disk", timeout=60)

    def replug(self) -> None:
        """Plug it in anew: what nobody has read is lost, as on a real port."""
        self.instrument.unplug()
        self.instrument.plug()
