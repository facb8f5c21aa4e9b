"""Bytes as they arrive to readings, line by line; no input or output, so any chunking gives the same readings.

Shared by all drivers that read lines.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from agent.errors import BadReading
from agent.events import Quality, Reading

if TYPE_CHECKING:
    from drivers._parsing import Parser

LONG_EVIDENCE: Final = 80
EVIDENCE: Final = 200


class Lines:
    """Cuts a stream of bytes into lines and reads each.

    Attributes:
        pending: What was read and not yet taken, oldest first: good lines together, each bad line alone, so that
            a bad line among good ones costs neither the good ones nor their order.
    """

    def __init__(self, parse: Parser, longest: int) -> None:
        self.pending: deque[list[Reading] | BadReading] = deque()
        self._parse = parse
        self._longest = int(longest)
        self._partial = b""
        self._discarding = False
        self._first = True

    def join_midway(self) -> None:
        """Drop what comes before the next end of a line: it is the rest of a line whose beginning was missed."""
        self._discarding = True

    def feed(self, data: bytes, at: float) -> None:
        """Take in what arrived at a time of the monotonic clock; a line ends with CR, LF or both."""
        *lines, rest = data.replace(b"\r", b"\n").split(b"\n")
        if not lines:
            self._partial += rest
        else:
            lines[0] = self._partial + lines[0]
            self._partial = rest
            if self._discarding:
                del lines[0]
                self._discarding = self._first = False
            if lines:
                self._read(lines, at)
        if self._discarding:
            self._partial = b""
        elif len(self._partial) > self._longest:
            self.pending.append(self._too_long(self._partial))
            self._partial = b""
            self._discarding = True

    def _read(self, lines: list[bytes], at: float) -> None:
        parse, longest = self._parse, self._longest
        good: list[Reading] = []
        for line in lines:
            bad = None
            if len(line) > longest:
                bad = self._too_long(line)
            elif not line or line.isspace():
                continue
            else:
                try:
                    values = parse(line)
                except ValueError as error:
                    if not self._first:  # an unreadable first line was joined midway: nobody's fault
                        bad = BadReading(_reason(error), printable(line, EVIDENCE))
                else:
                    good.append(_reading(values, at))
            self._first = False
            if bad is not None:
                if good:
                    self.pending.append(good)
                    good = []
                self.pending.append(bad)
        if good:
            self.pending.append(good)

    def _too_long(self, line: bytes) -> BadReading:
        evidence = printable(line[: min(LONG_EVIDENCE, self._longest)], LONG_EVIDENCE)
        return BadReading(f"line longer than {self._longest} bytes", evidence)


def _reading(values: dict[str, float | int | str | None], at: float) -> Reading:
    if None in values.values():
        return Reading(values, at, {name: Quality.BAD for name, value in values.items() if value is None})
    return Reading(values, at)


def _reason(error: ValueError) -> str:
    return f"not {error.encoding}" if isinstance(error, UnicodeDecodeError) else str(error)


def printable(line: bytes, most: int) -> str:
    r"""Return bytes as text that any log can hold: what is not printable is written as `\x1b`."""
    text = line.decode(errors="backslashreplace")
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text[:most]
    )[:most]
