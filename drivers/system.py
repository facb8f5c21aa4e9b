"""The gateway itself: processor, memory, disk, temperature and network of the machine that it runs on.

Nothing to wire. `network_received` and `network_sent` are counters since the machine started. `cpu_load` is the share
since the last look; `cpu_temperature` is there where the machine has such a sensor.

Sample::

    devices:
      gateway:
        driver: system
        every: 30s
        only: [cpu_load, cpu_temperature, memory_used, disk_used]
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import contracts
from agent.errors import BadReading, Disconnected
from agent.events import Quality, Reading, Value
from agent.quantities import Duration
from drivers import _proc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS: Final = {
    "cpu_load": "%",
    "cpu_temperature": "Cel",
    "load1": "",
    "memory_used": "%",
    "memory_available": "By",
    "disk_used": "%",
    "disk_free": "By",
    "uptime": "s",
    "network_received": "By",
    "network_sent": "By",
}
LOAD_WINDOW: Final = 0.2
"""Seconds over which a load is measured at least."""

_CPU_SENSORS: Final = ("cpu", "soc", "x86_pkg_temp", "coretemp", "k10temp", "package")


class Settings(contracts.Settings, frozen=True):
    """What may be written beside `driver: system`.

    Attributes:
        every: How often it looks.
        only: The channels that are wanted; all where it is not said.
        disk: A path on the disk that is watched.
        root: Where /proc and /sys are found, such as /host in a container.
    """

    every: Duration = Duration(10)
    only: list[str] | None = None
    disk: str = "/"
    root: str = "/"

    def __post_init__(self) -> None:
        """Refuse channels that there are not."""
        for name in self.only or ():
            if name not in _UNITS:
                raise ValueError(f"only names {name!r}; the channels are {', '.join(_UNITS)}")
        if self.only == []:
            raise ValueError("only names no channel")


class Driver(contracts.BlockingDriver[Settings]):
    """Reads a few small files."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._wanted = frozenset(_UNITS if settings.only is None else settings.only)

    def channels(self) -> Mapping[str, str]:
        """Return the wanted channels with their units."""
        return {name: unit for name, unit in _UNITS.items() if name in self._wanted}

    def bus(self) -> str:
        """Return the name of what may be used by one thread only: nothing else uses these files."""
        return f"system-{self.settings.root}"

    def open(self) -> None:
        """Find the sensors, and look once, so that the first reading has a load."""
        self._temperature = _cpu_sensor(Path(self.settings.root) / "sys")
        self._before = _proc.cpu_times(self._text("stat"))
        self._opened = time.monotonic()

    def read(self) -> Sequence[Reading]:
        """Look at everything that is wanted."""
        values: dict[str, Value] = {}
        # A load over a few milliseconds says nothing; we are in a thread of our own.
        time.sleep(max(0.0, self._opened + LOAD_WINDOW - time.monotonic()))
        now = _proc.cpu_times(self._text("stat"))
        load = _proc.cpu_load(self._before, now)
        if load is not None:
            self._before = now
            values["cpu_load"] = load
        if self._temperature is not None:
            values["cpu_temperature"] = _millidegrees(self._temperature)
        values["load1"] = _proc.load1(self._text("loadavg"))
        values["memory_used"], values["memory_available"] = _proc.memory(self._text("meminfo"))
        values["disk_used"], values["disk_free"] = _disk(self.settings.disk)
        values["uptime"] = _proc.uptime(self._text("uptime"))
        values["network_received"], values["network_sent"] = _proc.network(self._text("net/dev"))
        wanted = {name: value for name, value in values.items() if name in self._wanted}
        if not wanted:
            raise BadReading(f"this machine has no {', '.join(sorted(self._wanted))}")
        bad = {name: Quality.BAD for name, value in wanted.items() if value is None}
        return [Reading(wanted, quality=bad or None)]

    def close(self) -> None:
        """Hold nothing, so give nothing back."""

    def _text(self, name: str) -> str:
        path = Path(self.settings.root) / "proc" / name
        try:
            return path.read_text()
        except OSError as error:
            raise Disconnected(f"cannot read {path}: {error.strerror}") from error


def _cpu_sensor(sys: Path) -> Path | None:
    """Return the file with the processor's temperature, None where the machine has none."""
    for label, reading in (("type", "temp"), ("name", "temp1_input")):
        for folder in sorted([*sys.glob("class/thermal/thermal_zone*"), *sys.glob("class/hwmon/hwmon*")]):
            try:
                kind = (folder / label).read_text().strip().lower()
            except OSError:
                continue
            if any(word in kind for word in _CPU_SENSORS) and (folder / reading).exists():
                return folder / reading
    return None


def _millidegrees(sensor: Path) -> float | None:
    try:
        return round(int(sensor.read_text()) / 1000, 1)
    except (OSError, ValueError):
        return None  # some sensors cannot be read while the processor sleeps


def _disk(path: str) -> tuple[float, int]:
    """Return the share in use, in percent, and what an ordinary user may still write, in bytes: both as `df` does."""
    try:
        disk = os.statvfs(path)
    except OSError as error:
        raise Disconnected(f"cannot look at the disk of {path}: {error.strerror}") from error
    used = disk.f_blocks - disk.f_bfree
    return round(100 * used / max(1, used + disk.f_bavail), 1), disk.f_bavail * disk.f_frsize
