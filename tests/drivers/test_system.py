"""The machine itself: the text of /proc and /sys to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import BadReading, Disconnected
from agent.events import Quality
from drivers import _proc
from drivers.system import Driver, Settings

if TYPE_CHECKING:
    from pathlib import Path

STAT = """cpu  1000 50 500 8000 400 0 50 0 0 0
cpu0 1000 50 500 8000 400 0 50 0 0 0
intr 123
"""
MEMINFO = """MemTotal:         947732 kB
MemFree:          115532 kB
MemAvailable:     473866 kB
Buffers:           40000 kB
"""
NETWORK = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  999999    1000    0    0    0     0          0         0   999999    1000    0    0    0     0       0          0
  eth0: 1000 10 0 0 0 0 0 0 200 2 0 0 0 0 0 0
 wlan0:7000 10 0 0 0 0 0 0 300 2 0 0 0 0 0 0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine, as far as its files go."""
    files = {
        "proc/stat": STAT, "proc/loadavg": "0.42 0.30 0.20 1/123 4567\n", "proc/meminfo": MEMINFO,
        "proc/uptime": "3600.50 7000.00\n", "proc/net/dev": NETWORK,
    }  # fmt: skip
    for name, text in files.items():
        show(tmp_path, name, text)
    return tmp_path


def show(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def opened(root: Path, only: list[str] | None = None, disk: str = "/") -> Driver:
    driver = Driver(Settings(root=str(root), only=only, disk=disk))
    driver.open()
    return driver


def test_cpu_times_leave_out_what_is_counted_twice() -> None:
    assert _proc.cpu_times(STAT) == (1600, 10_000)
    assert _proc.cpu_times("cpu 10 0 0 90 0 0 0 0 500 500\n") == (10, 100)


@pytest.mark.parametrize(
    ("after", "load"),
    [((1650, 10_100), 50.0), ((1600, 10_100), 0.0), ((1700, 10_100), 100.0), ((1600, 10_000), None)],
)
def test_load_is_the_share_since_the_last_look(after: tuple[int, int], load: float | None) -> None:
    assert _proc.cpu_load(_proc.CpuTimes(1600, 10_000), _proc.CpuTimes(*after)) == load


def test_all_channels_of_a_machine(root: Path) -> None:
    show(root, "sys/class/thermal/thermal_zone0/type", "battery\n")
    show(root, "sys/class/thermal/thermal_zone0/temp", "20000\n")
    show(root, "sys/class/thermal/thermal_zone1/type", "cpu-thermal\n")
    show(root, "sys/class/thermal/thermal_zone1/temp", "48312\n")
    driver = opened(root)
    show(root, "proc/stat", STAT.replace("1000 50", "1025 50").replace("8000", "8075"))
    (reading,) = driver.read()
    assert reading.values.keys() == driver.channels().keys()
    wanted = {
        "cpu_load": 25.0, "cpu_temperature": 48.3, "load1": 0.42, "memory_used": 50.0,
        "memory_available": 473_866 * 1024, "uptime": 3600.5, "network_received": 8000, "network_sent": 500,
    }  # fmt: skip
    assert {name: reading.values[name] for name in wanted} == wanted
    assert isinstance(reading.values["disk_free"], int)


def test_the_temperature_may_come_from_hwmon_or_be_missing(root: Path) -> None:
    assert "cpu_temperature" not in opened(root).read()[0].values
    show(root, "sys/class/hwmon/hwmon0/name", "coretemp\n")
    show(root, "sys/class/hwmon/hwmon0/temp1_input", "61000\n")
    driver = opened(root)
    assert driver.read()[0].values["cpu_temperature"] == 61.0
    show(root, "sys/class/hwmon/hwmon0/temp1_input", "")
    (reading,) = driver.read()
    assert reading.values["cpu_temperature"] is None
    assert reading.quality == {"cpu_temperature": Quality.BAD}


def test_only_the_wanted_channels_are_read_and_announced(root: Path) -> None:
    driver = opened(root, only=["uptime", "load1"])
    assert driver.channels() == {"load1": "", "uptime": "s"}
    assert driver.read()[0].values == {"load1": 0.42, "uptime": 3600.5}


def test_what_the_machine_does_not_have_is_told(root: Path) -> None:
    with pytest.raises(BadReading, match="this machine has no cpu_temperature"):
        opened(root, only=["cpu_temperature"]).read()
    with pytest.raises(Disconnected, match="cannot look at the disk of /no/such/disk"):
        opened(root, disk="/no/such/disk").read()
    with pytest.raises(Disconnected, match=r"cannot read .*stat"):
        opened(root / "nowhere")


@pytest.mark.parametrize("only", [[], ["cpu_lod"]])
def test_channels_that_there_are_not_are_refused(only: list[str]) -> None:
    with pytest.raises(ValueError, match="only names"):
        Settings(only=only)
