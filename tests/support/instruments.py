"""A serial instrument on a real pseudo-terminal: what the test writes is what the driver reads."""

from __future__ import annotations

import os
import select
import tty
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE: Final = 10.0
"""Seconds until somebody must have read what was written before."""


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
