"""Time from the start of the process to the first event at the subscriber, and what the imports cost.

With an empty log, with one that holds millions of delivered readings as history, and with one where they still wait.
The files are warm: the program was started before. The three take turns, and the ratio is that of one turn.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from benchmarks import _backlog
from benchmarks._harness import ROOT, Broker, Subscriber, folder, progress
from benchmarks._programs import Agent
from benchmarks._results import Row, row
from benchmarks._subscriber import Wanted

if TYPE_CHECKING:
    from pathlib import Path

AIM: Final = 0.7
"""Seconds."""
AIM_LARGE: Final = 1.5
"""Of the time with an empty log."""
LARGE: Final = 5_000_000
LARGE_QUICK: Final = 500_000

_CONFIG: Final = """
devices:
  machine: {{driver: system, every: 1s}}
  pulse: {{driver: heartbeat, every: 1s}}
rules:
  busy:
    threshold: {{of: machine.cpu_load, above: 1000}}
forward:
  broker: {{mqtt: {{host: 127.0.0.1, port: {port}}}}}
log: {{path: {place}/events.db}}
"""


def _empty() -> tuple[float, float]:
    """Return the seconds to the first event and to the first reading, with an empty log."""
    with folder() as place, Broker(place) as broker:
        subscriber = Subscriber(Wanted(port=broker.port, count=1, key="memory_used", meaning="count"))
        with subscriber, Agent(place, _CONFIG.format(port=broker.port_v5, place=place)) as program:
            event = program.wait(subscriber, "event")["at"]
            reading = program.wait(subscriber, "reading")["at"]
            program.stop()
        return (event - program.started) / 1e9, (reading - program.started) / 1e9


def _large(place: Path, *, delivered: bool) -> float:
    """Return the seconds to the first event, of either kind, with the log in a folder."""
    path = place / "events.db"
    _backlog.put_cursor(path, _backlog.last(path) if delivered else 0)
    with Broker(place) as broker:
        subscriber = Subscriber(Wanted(port=broker.port, count=10**9, key="memory_used", meaning="count"))
        with subscriber, Agent(place, _CONFIG.format(port=broker.port_v5, place=place)) as program:
            event = program.wait(subscriber, "event")["at"]
            program.stop()
        return float(event - program.started) / 1e9


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    count, repeats = (LARGE_QUICK, 3) if quick else (LARGE, 9)
    empty: list[tuple[float, float]] = []
    large: dict[bool, list[float]] = {True: [], False: []}
    with folder() as place:
        progress(f"startup: making a log of {count:,}")
        _backlog.make(place / "events.db", count)
        _empty()
        for turn in range(repeats):
            progress(f"startup: run {turn + 1} of {repeats}")
            empty.append(_empty())
            for delivered, found in large.items():
                found.append(_large(place, delivered=delivered))
    events = [event for event, _ in empty]
    rows = [
        row("startup: to the first event", events, "s", AIM),
        row("startup: to the first reading", [reading for _, reading in empty], "s", AIM),
    ]
    for delivered, found in large.items():
        name = f"startup: {count:,} {'delivered' if delivered else 'waiting'}"
        ratios = [a / b for a, b in zip(found, events, strict=True)]
        rows.append(row(f"{name}, to the first event", found, "s"))
        rows.append(row(f"{name}, against an empty log", ratios, "x", AIM_LARGE))
    return rows


def import_costs(count: int = 10) -> list[str]:
    """Return what the imports of a small gateway cost, by package, dearest first."""
    with folder() as place:
        settings = place / "gatepost.yaml"
        settings.write_text(_CONFIG.format(port=1, place=place), encoding="utf-8")
        said = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "agent", "run", "--no-events", "--for", "100ms", str(settings)],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
    costs: dict[str, int] = defaultdict(int)
    for line in said.splitlines():
        if line.startswith("import time:") and "self" not in line:
            own, _, name = line.removeprefix("import time:").split("|")
            costs[name.strip().partition(".")[0]] += int(own)
    dearest = sorted(costs.items(), key=lambda item: -item[1])[:count]
    total = sum(costs.values()) / 1000
    return [
        f"\nimports, {total:.0f} ms in all under -X importtime (which costs some itself); by package, in ms:",
        "  " + "  ".join(f"{name} {cost / 1000:.1f}" for name, cost in dearest),
    ]
