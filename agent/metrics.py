"""What an agent says of itself as metrics, in the text format of Prometheus (exposition format 0.0.4).

Names are by its conventions: a prefix, base units, `_total` for what only rises. All is made of the status, so that there is
one truth; docs/operations.md lists the names.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.events import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Labels = tuple[tuple[str, str], ...]
_Sample = tuple[_Labels, float | None]


class _Page:
    """A text that grows by a family of metrics at a time."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def counter(self, name: str, about: str, samples: Iterable[_Sample]) -> None:
        """Add what only rises, and begins anew with the agent."""
        self._add("counter", name, about, samples)

    def gauge(self, name: str, about: str, samples: Iterable[_Sample]) -> None:
        """Add what rises and falls."""
        self._add("gauge", name, about, samples)

    def _add(self, kind: str, name: str, about: str, samples: Iterable[_Sample]) -> None:
        lines = [
            f"{name}{_braced(labels)} {_number(value)}" for labels, value in samples if value is not None
        ]
        if lines:
            self._lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *lines]

    def text(self) -> str:
        """Return all of it."""
        return "\n".join(self._lines) + "\n"


def nothing() -> str:
    """Return the metrics of an agent that does not answer."""
    page = _Page()
    page.gauge("gatepost_up", _UP, [((), 0)])
    return page.text()


def text(said: Mapping[str, Any], process: Mapping[str, float]) -> str:
    """Return a status, as `agent.status` tells it, and what the kernel says of the process, as metrics."""
    page = _Page()
    page.gauge("gatepost_up", _UP, [((), 1)])
    about = ("gateway", "version", "simulated")
    page.gauge("gatepost_info", "What runs.", [(tuple((name, _plain(said[name])) for name in about), 1)])
    devices, forwarders, log = said["devices"], said["forwarders"], said["log"]
    page.gauge("gatepost_device_up", "Whether a device works.", _ups("device", devices))
    page.counter(
        "gatepost_device_readings_total",
        "Readings that a device has brought.",
        _each("device", devices, "readings"),
    )
    page.counter(
        "gatepost_device_bad_readings_total",
        "Readings of a device that made no sense.",
        _each("device", devices, "bad"),
    )
    page.gauge("gatepost_forwarder_up", "Whether a forwarder is connected.", _ups("forwarder", forwarders))
    for key, about_it in (
        ("delivered", "that the far side has acknowledged"),
        ("rejected", "that the far side has refused for good"),
    ):
        page.counter(
            f"gatepost_forwarder_{key}_events_total",
            f"Events {about_it}.",
            _each("forwarder", forwarders, key),
        )
    page.gauge(
        "gatepost_forwarder_waiting_events",
        "Events that are not acknowledged yet.",
        _each("forwarder", forwarders, "waiting"),
    )
    page.gauge(
        "gatepost_forwarder_oldest_waiting_seconds",
        "Age of the oldest event that is not acknowledged yet; 0 where none waits.",
        (
            ((("forwarder", name),), part["oldest"] or 0)
            for name, part in forwarders.items()
            if part["waiting"] is not None
        ),
    )
    page.gauge("gatepost_broker_up", "Whether the embedded broker runs.", _ups("broker", said["brokers"]))
    _add_alarms(page, said["alarms"])
    page.gauge(
        "gatepost_rules_out_of_service", "Rules that are out of service.", [((), len(said["out_of_service"]))]
    )
    page.counter(
        "gatepost_requests_total",
        "What was asked for from afar or at the machine.",
        [((("result", result),), count) for result, count in said["requests"].items()],
    )
    page.counter(
        "gatepost_log_events_total",
        "Sequence number of the newest event; rises over restarts.",
        [((), log["last"])],
    )
    page.counter(
        "gatepost_log_dropped_events_total",
        "Undelivered events that had to go since the start.",
        [((), log["dropped"])],
    )
    page.gauge("gatepost_log_writable", "Whether the log can be written.", [((), log["fault"] is None)])
    page.counter(
        "gatepost_disk_written_bytes_total",
        "Bytes that the agent has had written to disks.",
        [((), said["disk"]["written"])],
    )
    page.gauge("gatepost_stuck_parts", "Parts that stand still by a bug.", [((), len(said["stuck"]))])
    for name, (kind, about_it) in _PROCESS.items():
        add = page.counter if kind == "counter" else page.gauge
        add(name, about_it, [((), process.get(name))])
    return page.text()


_UP: Final = "Whether the agent runs and answers."

_PROCESS: Final = {
    "process_cpu_seconds_total": ("counter", "Processor time, user and system."),
    "process_max_fds": ("gauge", "Files that may be open."),
    "process_open_fds": ("gauge", "Files that are open."),
    "process_resident_memory_bytes": ("gauge", "Memory in use."),
    "process_start_time_seconds": ("gauge", "When the process began, since 1970-01-01 UTC."),
    "process_virtual_memory_bytes": ("gauge", "Memory that is mapped."),
}
"""What Prometheus' own libraries say of any process, by the same names."""


def of_process() -> dict[str, float]:
    """Return what the kernel says of this process, as far as it does (proc(5))."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "process_cpu_seconds_total": used.ru_utime + used.ru_stime,
        "process_max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    }
    try:
        found["process_open_fds"] = float(len(os.listdir("/proc/self/fd")) - 1)  # noqa: PTH208 -- it opens one itself
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
        found["process_virtual_memory_bytes"] = float(int(pages[0]) * resource.getpagesize())
        found["process_resident_memory_bytes"] = float(int(pages[1]) * resource.getpagesize())
        ticks = (
            Path("/proc/self/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
        boot = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()
            if line.startswith("btime ")
        )
        found["process_start_time_seconds"] = boot + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return found
    return found


def _ups(kind: str, parts: Mapping[str, Mapping[str, Any]]) -> Iterator[_Sample]:
    for name, part in parts.items():
        yield ((kind, name),), part["health"] == "up"


def _each(kind: str, parts: Mapping[str, Mapping[str, Any]], key: str) -> Iterator[_Sample]:
    for name, part in parts.items():
        yield ((kind, name),), part[key]


def _add_alarms(page: _Page, alarms: Iterable[Mapping[str, Any]]) -> None:
    active = dict.fromkeys((severity.value for severity in Severity), 0)
    waiting = dict(active)
    for alarm in alarms:
        active[alarm["severity"]] += alarm["state"].startswith("active")
        waiting[alarm["severity"]] += alarm["state"].endswith("unacknowledged")
    page.gauge(
        "gatepost_alarms_active",
        "Alarms that are active.",
        [((("severity", name),), count) for name, count in active.items()],
    )
    page.gauge(
        "gatepost_alarms_unacknowledged",
        "Alarms that nobody has acknowledged, active or not.",
        [((("severity", name),), count) for name, count in waiting.items()],
    )


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: float) -> str:
    return str(+value)  # so that True is 1


def _braced(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
