"""What Linux tells about itself under /proc and /sys: pure functions from the text of its files to numbers."""

from __future__ import annotations

from typing import NamedTuple


class CpuTimes(NamedTuple):
    """Ticks since the machine started, summed over all cores.

    Attributes:
        busy: Spent working.
        total: All that passed.
    """

    busy: int
    total: int


def cpu_times(stat: str) -> CpuTimes:
    """Read the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
    ticks = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]  # guest time is within user time
    idle = ticks[3] + (ticks[4] if len(ticks) > 4 else 0)
    return CpuTimes(sum(ticks) - idle, sum(ticks))


def cpu_load(before: CpuTimes, after: CpuTimes) -> float | None:
    """Return the share of time between two looks that was spent working, in percent; None where none passed."""
    passed = after.total - before.total
    return round(100 * (after.busy - before.busy) / passed, 1) if passed > 0 else None


def load1(loadavg: str) -> float:
    """Read /proc/loadavg: how many tasks wanted to run, on average over a minute."""
    return float(loadavg.split(maxsplit=1)[0])


def memory(meminfo: str) -> tuple[float, int]:
    """Read /proc/meminfo: the share in use, in percent, and what is available, in bytes."""
    kibibytes = {}
    for line in meminfo.splitlines():
        name, _, amount = line.partition(":")
        if name in {"MemTotal", "MemAvailable"}:
            kibibytes[name] = int(amount.split()[0])
    total, available = kibibytes["MemTotal"], kibibytes["MemAvailable"]
    return round(100 * (total - available) / total, 1), available * 1024


def uptime(text: str) -> float:
    """Read /proc/uptime: seconds since the machine started."""
    return float(text.split(maxsplit=1)[0])


def network(dev: str) -> tuple[int, int]:
    """Read /proc/net/dev: bytes received and sent since the start, over all interfaces but the loopback."""
    received = sent = 0
    for line in dev.splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            fields = counters.split()
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent
