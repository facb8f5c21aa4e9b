"""The folders that are looked at: the machine's own, or in tests a tree that looks like them."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

GET_CHIPINFO: Final = 0x8044B401
"""GPIO_GET_CHIPINFO_IOCTL of include/uapi/linux/gpio.h: _IOR(0xB4, 0x01, struct gpiochip_info)."""

GET_LINEINFO: Final = 0xC100B405
"""GPIO_V2_GET_LINEINFO_IOCTL of include/uapi/linux/gpio.h: _IOWR(0xB4, 0x05, struct gpio_v2_line_info). It only asks."""

_CHIPINFO: Final = struct.Struct("=32s32sI")
"""struct gpiochip_info: name, label, lines."""

_LINEINFO: Final = struct.Struct("=32s32sIIQ176x")
"""struct gpio_v2_line_info: name, consumer, offset, num_attrs, flags, then attributes and padding."""

_USED: Final = 1 << 0
_OUTPUT: Final = 1 << 3
"""Of enum gpio_v2_line_flag."""


class Chip(NamedTuple):
    """A GPIO chip.

    Attributes:
        label: What it is, such as pinctrl-bcm2711.
        lines: How many lines it has.
    """

    label: str
    lines: int


class Line(NamedTuple):
    """The state of a GPIO line.

    Attributes:
        name: Its name on the board.
        consumer: Who has it, in its own words.
        is_used: Whether it cannot be had now.
        is_output: Whether it is driven.
    """

    name: str
    consumer: str
    is_used: bool
    is_output: bool


class Machine:
    """Looks at files by the names that they have on the machine."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def at(self, path: str) -> Path:
        """Return where a file is looked for."""
        return self._root / path.lstrip("/")

    def text(self, path: str) -> str:
        """Return what a file says, without white space around it; "" where it cannot be read."""
        try:
            return self.at(path).read_bytes().decode(errors="replace").strip("\0 \t\n")
        except OSError:
            return ""

    def names(self, pattern: str) -> list[str]:
        """Return the names of the files that a pattern matches, sorted."""
        try:
            return sorted(self._name(path) for path in self._root.glob(pattern.lstrip("/")))
        except OSError:
            return []

    def resolved(self, path: str) -> str:
        """Return the name of what a path leads to, all links followed."""
        return self._name(Path(os.path.realpath(self.at(path))))

    def _name(self, path: Path) -> str:
        root = Path(os.path.realpath(self._root))
        for folder in (self._root, root):
            if path.is_relative_to(folder):
                return f"/{path.relative_to(folder)}"
        return str(path)

    def chip(self, device: str) -> Chip:
        """Ask the kernel about a GPIO chip.

        Raises:
            OSError: It cannot be opened, or does not answer.
        """
        _, label, lines = _CHIPINFO.unpack(self._ask(device, GET_CHIPINFO, bytes(_CHIPINFO.size)))
        return Chip(_word(label), lines)

    def line(self, device: str, offset: int) -> Line:
        """Ask the kernel about a line of a GPIO chip; the line is not taken.

        Raises:
            OSError: The chip cannot be opened, or has no such line.
        """
        answer = self._ask(device, GET_LINEINFO, _LINEINFO.pack(b"", b"", offset, 0, 0))
        name, consumer, _, _, flags = _LINEINFO.unpack(answer)
        return Line(_word(name), _word(consumer), bool(flags & _USED), bool(flags & _OUTPUT))

    def _ask(self, device: str, request: int, question: bytes) -> bytes:
        descriptor = os.open(self.at(device), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            answer: bytes = fcntl.ioctl(descriptor, request, question)
            return answer
        finally:
            os.close(descriptor)


def _word(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")
