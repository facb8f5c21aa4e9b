r"""A pseudo-terminal with an instrument at the other end, which writes lines that the driver's `parse` can read.

The port is a link in a temporary directory, so its path stays the same when the instrument is unplugged and comes
back. As with a real UART, what nobody reads in time is lost.

Sample::

    simulate:
      every: 1s
      signals: {weight: {random_walk: {around: 12.5, within: 0.5}, noise: 0.01}}
      faults: {garble: 1%, unplug: {every: 60s, for: 5s}}
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent import contracts
from agent.quantities import Duration
from drivers import serial_lines
from drivers._parsing import parser, scalar
from simulators._faults import Outage, Share, ValueFaults, garble, happens
from simulators._signals import Signal, key, usual, waveform
from simulators._templates import Template, derive

if TYPE_CHECKING:
    from collections.abc import Callable

_BURST: Final = 1000
"""The most lines written at once; those that are later than that are lost."""
_ASK: Final = "say the instrument's line in `simulate: {line: ...}`, each channel in braces"


class Faults(ValueFaults, frozen=True):
    """How a line, a cable and a plug go wrong.

    Attributes:
        garble: The share of lines with changed bytes.
        dropouts: The share of lines that are not sent.
        overlong: The share of lines that go on past `max_line`.
        unplug: The port goes away and comes back.
    """

    garble: Share = Share(0)
    dropouts: Share = Share(0)
    overlong: Share = Share(0)
    unplug: Outage | None = None


class Settings(contracts.Settings, frozen=True):
    """What may be written under `simulate:`.

    Attributes:
        every: How often the instrument writes a line.
        signals: What each channel does; a number is a constant. What is not said follows the channel's name.
        line: The line, with each channel in braces, such as 'ST,GS,{weight:8.2f} kg'; derived from `parse`.
        faults: How it goes wrong.
    """

    every: Duration = Duration(1)
    signals: dict[str, Signal | float] = msgspec.field(default_factory=dict)
    line: str | None = None
    faults: Faults = Faults()

    def __post_init__(self) -> None:
        """Refuse an instrument that would never stop writing."""
        if self.every <= 0:
            raise ValueError("every must be more than 0")


class Simulator(contracts.Simulator[serial_lines.Settings]):
    """The instrument, and the port that it is plugged into."""

    def __init__(self, device: serial_lines.Settings, simulate: Settings, seed: int) -> None:
        super().__init__(device, simulate, seed)
        self.simulate: Settings = simulate
        self._folder: Path | None = None
        self._task: asyncio.Task[None] | None = None
        self._ends: tuple[int, int] | None = None

    async def open(self) -> serial_lines.Settings:
        """Plug the instrument in.

        Raises:
            ValueError: No line can be derived from `parse`, or `line` names what is not there.
        """
        line = self._line()
        self._folder = Path(tempfile.mkdtemp(prefix="gatepost-port-"))
        self._port = self._folder / (Path(self.device.port).name or "port")
        self._plug()
        self._task = asyncio.create_task(self._run(line))
        return msgspec.structs.replace(self.device, port=str(self._port))

    async def close(self) -> None:
        """Unplug it for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._unplug()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # --- the plug ---------------------------------------------------------------------------------------------------

    def _plug(self) -> None:
        instrument, port = os.openpty()
        tty.setraw(port)  # or the kernel would echo the instrument's lines back to it
        os.set_blocking(instrument, False)
        self._ends = (instrument, port)
        self._port.symlink_to(os.ttyname(port))

    def _unplug(self) -> None:
        if self._ends is not None:
            self._port.unlink(missing_ok=True)
            for end in self._ends:
                os.close(end)
            self._ends = None

    # --- the instrument ---------------------------------------------------------------------------------------------

    async def _run(self, line: Callable[[int], bytes]) -> None:
        """Write the lines in time, and pull the plug when it is time for that."""
        loop, every, unplug = asyncio.get_running_loop(), self.simulate.every, self.simulate.faults.unplug
        began = loop.time()
        sent = 0
        while True:
            await asyncio.sleep(max(0.001, began + (sent + 1) * every - loop.time()))
            time = loop.time() - began
            if unplug is not None and unplug.on(time):
                self._unplug()
            elif self._ends is None:
                self._plug()
            due = int(time / every)
            if self._ends is not None and due > sent:
                text = b"".join(map(line, range(max(sent, due - _BURST), due)))
                with contextlib.suppress(BlockingIOError):
                    os.write(self._ends[0], text)
            sent = due

    def _line(self) -> Callable[[int], bytes]:
        """Return the function that gives each line, by its number from 0."""
        simulate, seed, faults = self.simulate, self.seed, self.simulate.faults
        waves = {name: waveform(self._signal(name), seed, name) for name in self._channels()}
        seeds = {name: key(seed, name) for name in waves}
        encoding, overlong = self.device.encoding, b"#" * (self.device.max_line + 1)

        def values(index: int) -> dict[str, float]:
            time = faults.time_seen(index * simulate.every)
            return {name: faults.value(wave(time), seeds[name], index) for name, wave in waves.items()}

        template = self._template(values(0))

        def line(index: int) -> bytes:
            if happens(faults.dropouts, seed, "dropouts", index):
                return b""
            text = template.line(values(index)).encode(encoding)
            if happens(faults.garble, seed, "garble", index):
                text = garble(text, seed, index)
            if happens(faults.overlong, seed, "overlong", index):
                text += overlong
            return text + b"\r\n"

        return line

    def _signal(self, channel: str) -> Signal | float:
        return self.simulate.signals.get(channel, usual(channel))

    def _channels(self) -> list[str]:
        """Return what the instrument measures: what `parse` names, else what has a signal or a unit."""
        known = self.device.parsing().channels()
        if known is not None:
            return known
        return list(dict.fromkeys([*self.simulate.signals, *self.device.units])) or ["value"]

    def _template(self, values: dict[str, float]) -> Template:
        """Return the line's template, once the driver's own parser has read a line of it."""
        device, channels = self.device, list(values)
        parse = device.parsing()
        template = Template(self.simulate.line or derive(parse, channels, values), channels)
        line = template.line(values)
        wanted = {name: scalar(text) for name, text in template.written(values).items()}
        try:
            read = parser(parse, device.units, device.encoding)(line.encode(device.encoding))
        except ValueError as error:
            raise ValueError(f"parse cannot read the simulated line {line!r} ({error}); {_ASK}") from error
        if any(read.get(name) != value for name, value in wanted.items()):
            raise ValueError(f"parse reads {read} from the simulated line {line!r}; {_ASK}")
        return template
