r"""Reads lines of text from a serial port: scales, meters, GPS receivers, Arduinos, anything that prints.

USB adapters are `/dev/ttyUSB0` or `/dev/ttyACM0`; the names under `/dev/serial/by-id/` stay the same when several
are plugged in. The UART on the header (TXD is GPIO14, RXD is GPIO15, 3.3 V only) is `/dev/serial0`, once the login
console is off it. Each line becomes one reading, by one of four ways to parse it: `json`, `key_value`,
`{csv: [temperature, humidity]}` or `{regex: '(?P<weight>[-\d.]+) kg'}`. A channel with a unit must be a number;
other channels may hold text.

A port is joined midway: what arrives within 50 ms of opening it up to the end of that line is dropped, and so is the
first line if it cannot be parsed. All later lines that make no sense are counted, and kept as evidence.

Sample::

    devices:
      scale:
        driver: serial_lines
        port: /dev/ttyUSB0
        baud: 9600
        parse: {regex: '(?P<weight>[-\d.]+) kg'}
        units: {weight: kg}
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import os
import termios
import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import serial

from agent import contracts
from agent.errors import BadReading, Disconnected
from agent.needs import SerialPort
from agent.quantities import Duration, Size
from drivers._lines import Lines
from drivers._parsing import Parse, check_channel, parser
from drivers._permissions import join_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Reading
    from agent.needs import Need

_CHUNK: Final = 65_536
_MIDWAY: Final = 0.05
"""Text that arrives sooner after opening (s) began before: longer than any pause inside a line, USB delays included."""


class Settings(contracts.Settings, frozen=True):
    """What may be written beside `driver: serial_lines`.

    Attributes:
        port: The port, such as /dev/ttyUSB0 or a name under /dev/serial/by-id.
        parse: How a line becomes values: json, key_value, {csv: [...]}, {key_value: {...}} or {regex: '...'}.
        units: The unit by channel. A channel with a unit (also an empty one) must be a number.
        baud: Bits per second.
        bytesize: Data bits.
        parity: none, even, odd, mark or space.
        stopbits: Stop bits.
        encoding: The encoding of the text.
        max_line: A longer line is dropped and counted as bad.
        silent_for: Open the port again where no good line came for so long; wait for ever where it is not said.
        exclusive: Keep other programs from opening the port too.
    """

    port: str
    parse: Literal["json", "key_value"] | Parse
    units: dict[str, str] = msgspec.field(default_factory=dict)
    baud: int = 9600
    bytesize: Literal[5, 6, 7, 8] = 8
    parity: Literal["none", "even", "odd", "mark", "space"] = "none"
    stopbits: Literal[1, 2] = 1
    encoding: str = "utf-8"
    max_line: Size = Size(4096)
    silent_for: Duration | None = None
    exclusive: bool = True

    def __post_init__(self) -> None:
        """Refuse what no line could fit."""
        if self.baud <= 0 or self.max_line <= 0:
            raise ValueError("baud and max_line must be more than 0")
        try:
            newline = "\n".encode(codecs.lookup(self.encoding).name)
        except LookupError:
            raise ValueError(f"there is no encoding {self.encoding!r}") from None
        if newline != b"\n":
            raise ValueError(
                f"lines in {self.encoding} cannot be told apart; use one such as utf-8 or latin-1"
            )
        known = self.parsing().channels()
        for name in self.units:
            check_channel(name)
            if known is not None and name not in known:
                raise ValueError(
                    f"units names {name!r}, which parse does not give; it gives {', '.join(known)}"
                )

    def parsing(self) -> Parse:
        """Return how a line becomes values, also where only a word is written."""
        if isinstance(self.parse, Parse):
            return self.parse
        return Parse(json=True) if self.parse == "json" else Parse(key_value=True)

    def claims(self) -> str:
        """Return what only one device may use: the port."""
        return self.port

    def needs(self) -> Sequence[Need]:
        """Return what must be there before it can be opened: the port."""
        return [SerialPort(self.port)]


class Driver(contracts.Driver[Settings]):
    """Waits for the port on the event loop and reads what has arrived: no thread, and no line is polled for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._parse = parser(settings.parsing(), settings.units, settings.encoding)
        self._serial: serial.Serial | None = None
        self._arrived = asyncio.Event()
        self._is_listening = False

    def channels(self) -> Mapping[str, str] | None:
        """Return the columns or groups with their units; None where the names come with the lines."""
        names = self.settings.parsing().channels()
        return None if names is None else {name: self.settings.units.get(name, "") for name in names}

    async def open(self) -> None:
        """Open the port; what it held from before is dropped."""
        settings = self.settings
        try:
            self._serial = serial.Serial(
                settings.port,
                settings.baud,
                settings.bytesize,
                settings.parity[0].upper(),
                settings.stopbits,
                exclusive=settings.exclusive or None,
            )
        except (OSError, ValueError, termios.error) as error:
            raise Disconnected(_cannot_open(settings.port, error)) from error
        self._lines = Lines(self._parse, settings.max_line)
        self._opened = self._heard = time.monotonic()
        self._untouched = True
        self._lost: Disconnected | None = None
        self._arrived.clear()
        self._listen()

    async def read(self) -> Sequence[Reading]:
        """Return all lines that have arrived, as soon as there is one."""
        if self._serial is None:
            raise Disconnected(f"{self.settings.port} is not open")
        pending = self._lines.pending
        while not pending:
            if self._lost is not None:
                raise self._lost
            if not self._is_listening:
                self._listen()
            self._arrived.clear()
            await self._wait_arrived()
        found = pending.popleft()
        if isinstance(found, BadReading):
            raise found
        self._heard = time.monotonic()
        return found

    async def close(self) -> None:
        """Close the port, if it is open."""
        if self._serial is not None:
            self._stop_listening()
            port, self._serial = self._serial, None
            with contextlib.suppress(OSError):  # unplugged: there is nothing left to close
                port.close()

    def _listen(self) -> None:
        if self._serial is not None:
            asyncio.get_running_loop().add_reader(self._serial.fileno(), self._on_readable)
            self._is_listening = True

    def _stop_listening(self) -> None:
        if self._serial is not None and self._is_listening:
            asyncio.get_running_loop().remove_reader(self._serial.fileno())
            self._is_listening = False

    def _on_readable(self) -> None:
        """Take in what has arrived; while the last of it is not taken, leave it to the kernel's buffer."""
        if self._serial is None or self._lines.pending:
            self._stop_listening()
            return
        at = time.monotonic()
        port = self.settings.port
        try:
            data = os.read(self._serial.fileno(), _CHUNK)
            if not data:
                self._lost = Disconnected(f"{port} is gone: unplugged, or read by another program too")
        except BlockingIOError:
            return
        except OSError as error:
            self._lost = Disconnected(f"{port} is gone: unplugged? ({error.strerror})")
        if self._lost is not None:
            self._stop_listening()
        else:
            if self._untouched:
                self._untouched = False
                if at - self._opened < _MIDWAY:
                    self._lines.join_midway()
            self._lines.feed(data, at)
            if not self._lines.pending:
                return  # not a whole line yet
        self._arrived.set()

    async def _wait_arrived(self) -> None:
        """Wait until there is something to return, but no longer than the device may be silent."""
        silent_for = self.settings.silent_for
        if silent_for is None:
            await self._arrived.wait()
            return
        try:
            async with asyncio.timeout(self._heard + silent_for - time.monotonic()):
                await self._arrived.wait()
        except TimeoutError:
            raise Disconnected(
                f"no line for {silent_for}: is the instrument on, and does it send at {self.settings.baud} baud?"
            ) from None


def _cannot_open(port: str, error: Exception) -> str:
    """Say why a port cannot be opened and what to do about it."""
    cause = error.__context__ if isinstance(error.__context__, termios.error) else error
    number = getattr(cause, "errno", None) or next(iter(cause.args), None)
    if number == errno.ENOENT:
        return f"there is no {port}: is it plugged in? `ls /dev/serial/by-id` lists the USB adapters that are"
    if number in {errno.EACCES, errno.EPERM}:
        return f"cannot open {port}: permission denied; {join_group(port, 'dialout')}"
    if number in {errno.EBUSY, errno.EAGAIN}:
        return f"{port} is in use by another program; `sudo fuser -v {port}` names it"
    if number in {errno.ENXIO, errno.ENODEV, errno.EIO}:
        return f"{port} is not answering: was it unplugged just now?"
    if number in {errno.ENOTTY, errno.EINVAL}:
        return f"{port} is not a serial port"
    return f"cannot open {port}: {error}"
