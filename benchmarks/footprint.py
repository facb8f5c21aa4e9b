"""Resident memory with 1 and with 50 simulated devices, connected to a broker, after a warm-up.

The simulators run in the same process, so their memory is in it, as are the libraries of every kind of device that the
configuration names.
"""

from __future__ import annotations

import time
from typing import Final

from benchmarks._harness import Broker, Subscriber, folder, progress
from benchmarks._programs import Agent, Usage
from benchmarks._results import Row
from benchmarks._subscriber import Wanted

AIM: Final = 40.0
"""MB."""
MB: Final = 1e6


def _serial(count: int) -> list[str]:
    return [
        f"  line{index}: {{driver: serial_lines, port: /dev/ttyUSB{index}, parse: {{csv: [temperature, humidity]}}, "
        "simulate: {every: 1s}}"
        for index in range(count)
    ]


def _pins(count: int) -> list[str]:
    return [
        f"  pin{index}: {{driver: gpio_input, pin: {index + 4}, simulate: {{square: {{period: 4s, high_for: 2s}}}}}}"
        for index in range(count)
    ]


CASES: Final = {
    "1 serial device": _serial(1),
    "50 serial devices": _serial(50),
    "50 devices, 26 serial and 24 GPIO": _serial(26) + _pins(24),
}


def _run(devices: list[str], warm_up: float) -> Usage:
    with folder() as place, Broker(place) as broker:
        config = "\n".join(
            [
                "devices:",
                *devices,
                "rules:\n  too-hot:\n    threshold: {of: line0.temperature, above: 90}",
                f"forward:\n  broker: {{mqtt: {{host: 127.0.0.1, port: {broker.port_v5}}}}}",
                f"log: {{path: {place}/events.db}}",
            ]
        )
        subscriber = Subscriber(Wanted(port=broker.port, count=10**9, key="temperature", meaning="count"))
        with subscriber, Agent(place, config, "--simulate", "--seed", "1") as program:
            program.wait(subscriber, "reading")
            time.sleep(warm_up)
            usage = program.usage()
            program.stop()
            return usage


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    warm_up = 5 if quick else 20
    rows = []
    for name, devices in CASES.items():
        progress(f"footprint: {name}")
        usage = _run(devices, warm_up)
        rows.append(Row(f"footprint: RSS, {name}", usage.rss / MB, "MB", AIM))
        rows.append(Row(f"footprint: PSS, {name}", usage.pss / MB, "MB"))
    return rows
