"""The program's own messages: to a terminal, to a file, to the journal; how much of them, and never a secret.

The journal takes them by its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): a datagram of fields, so that
`journalctl GATEPOST_DEVICE=air` finds what was said of one device. Where that cannot be, lines of the standard error
begin with their priority (sd-daemon(3)).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import sys
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

from agent.console import Style
from agent.secrecy import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

JOURNAL: Final = "/run/systemd/journal/socket"
LONGEST: Final = 32 * 1024
"""Characters of a message for the journal, which refuses datagrams that are much longer than that."""

BURST: Final = 5
"""Lines that say the same of the same thing, within `WINDOW`; those above are counted."""

WINDOW: Final = 60.0
"""Seconds."""

REMEMBERED: Final = 500
"""Different lines whose repetition is noticed."""

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("agent.api",),
    "courier": ("agent.courier", "agent.legs", "agent.complaints"),
    "devices": ("agent.intake", "agent.busthreads", "drivers"),
    "forwarders": ("agent.forwarders",),
    "log": ("agent.eventlog",),
    "outputs": ("agent.commander", "agent.outputs"),
    "requests": ("agent.requests",),
    "rules": ("agent.rulebook", "agent.rules"),
    "simulators": ("simulators",),
    "supervisor": ("agent.supervisor", "agent.watchdog"),
}
"""What may be named in `--log-level PART=LEVEL`, and the loggers that it means."""

LEVELS: Final = ("debug", "info", "warning", "error")
_PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class Level(NamedTuple):
    """How much is said.

    Attributes:
        part: By whom; None for all others.
        level: One of `LEVELS`.
    """

    part: str | None
    level: str

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read `debug` or `courier=debug`.

        Raises:
            ValueError: It is neither.
        """
        part, equals, level = text.rpartition("=")
        if level not in LEVELS:
            raise ValueError(f"there is no level {level!r}, expected one of: {', '.join(LEVELS)}")
        if equals and part not in PARTS:
            raise ValueError(f"there is no part {part!r}, expected one of: {', '.join(PARTS)}")
        return cls(part or None, level)


def set_up(levels: Sequence[Level] = ()) -> None:
    """Send the program's messages to the standard error, or the journal that it is; later levels go before earlier ones."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if is_journal(sys.stderr):
        handler.setFormatter(PrefixFormatter())
        if os.path.exists(JOURNAL):  # noqa: PTH110 -- a socket, and nothing else is asked of it
            handler = JournalHandler(JOURNAL, handler)
    else:
        handler.setFormatter(TerminalFormatter(sys.stderr))
    handler.addFilter(Repeats().passes)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    for part, level in levels:
        for name in ("",) if part is None else PARTS[part]:
            logging.getLogger(name).setLevel(level.upper())


def is_journal(stream: TextIO | None) -> bool:
    """Whether a stream goes to the journal, as systemd.exec(5) has it: a child may have inherited the variable only."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = os.fstat(stream.fileno())  # type: ignore[union-attr]  # None where it was closed
        return (str(found.st_dev), str(found.st_ino)) == (device, inode)
    return False


def error_prefix() -> str:
    """Return what a line begins with that is printed to the standard error, so that a journal knows it as an error."""
    return "<3>" if is_journal(sys.stderr) else ""


# --- repeated lines ---------------------------------------------------------------------------------------------------


class _Said:
    """How often something was said in a window, and how often not."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.count = 0
        self.held_back = 0


class Repeats:
    """Holds back what says the same of the same thing again and again: a fault that comes a hundred times a second is one fault."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._said: OrderedDict[tuple[str, str, str], _Said] = OrderedDict()

    def passes(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is to be said; it is told how many like it were not."""
        record.held_back = 0
        if record.levelno <= logging.DEBUG:  # asked for
            return True
        about = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        key = (record.name, str(record.msg), about)
        now = self._monotonic()
        said = self._said.setdefault(key, _Said(now))
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        if now - said.since >= WINDOW:
            said.since, said.count = now, 0
        said.count += 1
        if said.count > BURST:
            said.held_back += 1
            return False
        record.held_back, said.held_back = said.held_back, 0
        return True


# --- how they look ----------------------------------------------------------------------------------------------------


class _Formatter(logging.Formatter):
    """The text of a message, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        text = without_secrets(super().format(record))
        if count := getattr(record, "held_back", 0):
            text += f" ({count} more such lines before this one were left out)"
        return text


class TerminalFormatter(_Formatter):
    """For a person: with the time, and colour where there is any."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._paint = Style(stream)

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines for a message."""
        text = super().format(record)
        when = datetime.fromtimestamp(record.created, UTC).astimezone()
        style = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}.get(record.levelname, "dim")
        level = "" if record.levelname == "INFO" else f"{record.levelname.lower()}: "
        return f"{self._paint('dim', f'{when:%H:%M:%S}')}      {self._paint(style, level + text)}"


class PrefixFormatter(_Formatter):
    """For a journal that reads our standard error: each line begins with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines for a message."""
        priority = _PRIORITIES.get(record.levelname, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class JournalHandler(logging.Handler):
    """Sends messages to the journal with what they are about in fields of their own."""

    def __init__(self, path: str, otherwise: logging.Handler) -> None:
        super().__init__()
        self.setFormatter(_Formatter())
        self._path = path
        self._otherwise = otherwise
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one; where the journal does not take it, say it on the standard error."""
        try:
            self._socket.sendto(datagram(self._fields(record)), self._path)
        except OSError:
            self._otherwise.emit(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        fields = {
            "MESSAGE": self.format(record)[:LONGEST],
            "PRIORITY": str(_PRIORITIES.get(record.levelname, 6)),
            "SYSLOG_IDENTIFIER": "gatepost",
            "GATEPOST_PART": part_of(record.name),
            "CODE_FUNC": record.funcName or "",
            "CODE_LINE": str(record.lineno),
            "CODE_FILE": record.pathname,
        }
        facts: Mapping[str, object] = getattr(record, "facts", {})
        return fields | {
            f"GATEPOST_{name.upper()}": without_secrets(str(value)) for name, value in facts.items()
        }


def part_of(logger: str) -> str:
    """Return the part, as in `PARTS`, that a logger belongs to; the logger's name where it is of none."""
    for part, names in PARTS.items():
        if any(logger == name or logger.startswith(f"{name}.") for name in names):
            return part
    return logger


def datagram(fields: Mapping[str, str]) -> bytes:
    """Return fields as the journal's native protocol has them."""
    parts = []
    for name, value in fields.items():
        text = value.encode("utf-8", "replace")
        if b"\n" in text:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(text)) + text + b"\n")
        else:
            parts.append(name.encode() + b"=" + text + b"\n")
    return b"".join(parts)
