"""A directory that looks like /proc and /sys, with values that move. The disk stays that of the real machine.

Sample::

    simulate:
      signals: {cpu_temperature: {steps: [[0s, 48], [30s, 82]]}}
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from agent import contracts
from agent.quantities import Duration
from drivers import system
from simulators._signals import RandomWalk, Signal, Sine, waveform

_USUAL: Final[dict[str, Signal | float]] = {
    "cpu_load": Signal(sine=Sine(low=5, high=60), noise=2),
    "cpu_temperature": Signal(sine=Sine(low=45, high=62), noise=0.2),
    "memory_used": Signal(random_walk=RandomWalk(around=40, within=5)),
    "network_received": 25_000.0,
    "network_sent": 8_000.0,
}
_MEMORY: Final = 1_000_000
"""KiB in the simulated machine."""
_UP: Final = 3600.0
"""How long (s) it has been up when the simulation begins."""


class Settings(contracts.Settings, frozen=True):
    """What may be written under `simulate:`.

    Attributes:
        every: How often the values move.
        signals: What a channel does: cpu_load, cpu_temperature, memory_used, and network_received and network_sent
            in bytes per second. What is not said moves about a little.
    """

    every: Duration = Duration(1)
    signals: dict[str, Signal | float] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse channels that are not simulated."""
        for name in self.signals:
            if name not in _USUAL:
                raise ValueError(f"signals names {name!r}; what can be simulated is {', '.join(_USUAL)}")
        if self.every <= 0:
            raise ValueError("every must be more than 0")


class Simulator(contracts.Simulator[system.Settings]):
    """The directory, and what moves the values in it."""

    not_simulated = frozenset({"disk_used", "disk_free"})

    def __init__(self, device: system.Settings, simulate: Settings, seed: int) -> None:
        super().__init__(device, simulate, seed)
        self.simulate: Settings = simulate
        self._root: Path | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> system.Settings:
        """Make the directory and set its values moving."""
        signals = _USUAL | self.simulate.signals
        self._waves = {name: waveform(signal, self.seed, name) for name, signal in signals.items()}
        self._busy = self._received = self._sent = 0.0
        self._root = Path(tempfile.mkdtemp(prefix="gatepost-system-"))
        for folder in ("proc/net", "sys/class/thermal/thermal_zone0"):
            (self._root / folder).mkdir(parents=True)
        self._show("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
        self._step(0)
        self._task = asyncio.create_task(self._run())
        return msgspec.structs.replace(self.device, root=str(self._root))

    async def close(self) -> None:
        """Stop, and remove the directory."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None

    async def _run(self) -> None:
        loop, every = asyncio.get_running_loop(), self.simulate.every
        began, step = loop.time(), 0
        while True:
            step += 1
            await asyncio.sleep(max(0.0, began + step * every - loop.time()))
            self._step(step)

    def _step(self, step: int) -> None:
        """Write all files as they are after so many steps."""
        every = self.simulate.every
        value = {name: wave(step * every) for name, wave in self._waves.items()}
        up = _UP + step * every
        self._busy += min(100, max(0, value["cpu_load"])) / 100 * every * 100  # 100 ticks a second
        self._received += value["network_received"] * every
        self._sent += value["network_sent"] * every
        idle = up * 100 - self._busy
        available = _MEMORY * (1 - value["memory_used"] / 100)
        self._show("proc/stat", f"cpu  {self._busy:.0f} 0 0 {idle:.0f} 0 0 0 0 0 0\n")
        self._show("proc/loadavg", f"{value['cpu_load'] / 100:.2f} 0.20 0.15 1/120 4242\n")
        self._show(
            "proc/meminfo", f"MemTotal: {_MEMORY} kB\nMemFree: 90000 kB\nMemAvailable: {available:.0f} kB\n"
        )
        self._show("proc/uptime", f"{up:.2f} {idle / 100:.2f}\n")
        counters = f"{self._received:.0f} 1 0 0 0 0 0 0 {self._sent:.0f} 1 0 0 0 0 0 0"
        loopback = "lo: 777 1 0 0 0 0 0 0 777 1 0 0 0 0 0 0"
        self._show(
            "proc/net/dev",
            f"Inter-| Receive | Transmit\n face |bytes |bytes\n {loopback}\n eth0: {counters}\n",
        )
        self._show("sys/class/thermal/thermal_zone0/temp", f"{value['cpu_temperature'] * 1000:.0f}\n")

    def _show(self, name: str, text: str) -> None:
        """Change a file at once, so that nobody reads half of it."""
        if self._root is not None:
            fresh = self._root / "fresh"
            fresh.write_text(text)
            fresh.replace(self._root / name)
