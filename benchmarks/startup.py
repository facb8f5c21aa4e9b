"""Time from the start of the process to the first event at the subscriber, and what the imports cost.

The files are warm: the program was started before.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from typing import Final

from benchmarks._harness import ROOT, Agent, Broker, Subscriber, folder, progress
from benchmarks._results import Row, row
from benchmarks._subscriber import Wanted

AIM: Final = 0.7
"""Seconds."""

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


def _run() -> tuple[float, float]:
    """Return the seconds to the first event and to the first reading."""
    with folder() as place, Broker(place) as broker:
        subscriber = Subscriber(Wanted(port=broker.port, count=1, key="memory_used", meaning="count"))
        with subscriber, Agent(place, _CONFIG.format(port=broker.port_v5, place=place)) as program:
            event = program.wait(subscriber, "event")["at"]
            reading = program.wait(subscriber, "reading")["at"]
            program.stop()
        return (event - program.started) / 1e9, (reading - program.started) / 1e9


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    repeats = 3 if quick else 9
    progress("startup")
    _run()
    runs = [_run() for _ in range(repeats)]
    return [
        row("startup: to the first event", [event for event, _ in runs], "s", AIM),
        row("startup: to the first reading", [reading for _, reading in runs], "s", AIM),
    ]


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
