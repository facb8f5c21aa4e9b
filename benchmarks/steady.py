"""Processor time and latency at a steady 200 events a second: from the line written to the message received.

The line holds the moment at which it was written, of the clock that all processes of a machine share. The latency of
paho-mqtt alone is that of the broker, the subscriber and the machine, without serial port, log and rule.

A processor that slept since the last event begins with empty caches, so an event costs several times what it does in a
flood, whatever the program; the share of paho-mqtt alone says how much of it is the machine's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks._harness import Broker, Child, Line, Subscriber, folder, progress
from benchmarks._programs import Agent, one_line
from benchmarks._results import Row, percentile, row
from benchmarks._subscriber import Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE: Final = 200
AIM_CPU: Final = 3.0
"""Percent of a core."""
AIM_LATENCY: Final = 5.0
"""Milliseconds, for 99 of 100 events."""


def _agent(count: int) -> tuple[float, list[int]]:
    """Return the share of a core in percent and the latencies in nanoseconds."""
    with folder() as place, Broker(place) as broker, Line() as line:
        subscriber = Subscriber(Wanted(port=broker.port, count=count, meaning="stamp"))
        writer = line.writer("stamp", count, RATE)
        with subscriber, writer, Agent(place, one_line(line.port, broker.port_v5, place)) as program:
            program.wait(subscriber, "online")
            program.wait_open(line.port)
            before = program.usage()
            writer.go()
            said = writer.read(count / RATE + 30)
            received = subscriber.received(30)
            used = program.usage().since(before)
            program.stop()
    if received["count"] != count:
        raise RuntimeError(f"of {count} lines {received['count']} came\n{program.messages()}")
    return used.cpu / ((received["last"] - said["began"]) / 1e9) * 100, received["latencies"]


def _alone(count: int) -> tuple[float, list[int]]:
    """Return the same of paho-mqtt alone."""
    with folder() as place, Broker(place) as broker:
        subscriber = Subscriber(Wanted(port=broker.port, count=count, meaning="stamp"))
        with subscriber, Child("_paho_alone", broker.port_v5, count, RATE) as publisher:
            publisher.read()
            publisher.go()
            said = publisher.read(count / RATE + 30)
            received = subscriber.received(30)
    return said["cpu"] / ((said["ended"] - said["began"]) / 1e9) * 100, received["latencies"]


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    count, repeats = (RATE * 6, 2) if quick else (RATE * 20, 3)
    cpu: list[float] = []
    cpu_alone: list[float] = []
    mine: list[list[int]] = []
    alone: list[list[int]] = []
    for turn in range(repeats):
        progress(f"steady: run {turn + 1} of {repeats}")
        share, latencies = _agent(count)
        cpu.append(share)
        mine.append(latencies)
        share, latencies = _alone(count)
        cpu_alone.append(share)
        alone.append(latencies)

    def at(runs: Sequence[Sequence[int]], share: float) -> list[float]:
        return [percentile(latencies, share) / 1e6 for latencies in runs]

    return [
        row(f"steady: CPU at {RATE}/s", cpu, "%", AIM_CPU, note="of one core"),
        row(f"steady: CPU at {RATE}/s, paho alone", cpu_alone, "%"),
        row("steady: CPU, of paho alone", [a / b for a, b in zip(cpu, cpu_alone, strict=True)], "x"),
        row("steady: CPU an event", [share / 100 / RATE * 1e6 for share in cpu], "µs"),
        row("steady: latency, p50", at(mine, 0.5), "ms"),
        row("steady: latency, p99", at(mine, 0.99), "ms", AIM_LATENCY),
        row("steady: latency, paho alone, p50", at(alone, 0.5), "ms", note="broker, subscriber and machine"),
        row("steady: latency, paho alone, p99", at(alone, 0.99), "ms"),
    ]
