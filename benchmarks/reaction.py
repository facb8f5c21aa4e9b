"""How long an output takes from the line that trips a rule: from writing it to the serial port to setting the pin.

The instrument writes 100 lines a second, and every tenth is a spike of a height of its own, which trips one of several
rules (one rule alone may act 30 times a minute). The pin is one of gpiozero's mock pins: what a real one costs beyond that
is a register. The moment of writing is taken just before the line is written; that of the pin is the time of the reading
by which the output reports that it is set, which the log has by the wall clock. There is no broker.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from agent.eventlog import EventStore
from agent.events import EventType
from benchmarks._harness import Line, folder, progress
from benchmarks._programs import Agent
from benchmarks._results import Row, percentile, row
from benchmarks._writer import SPIKE_EVERY, spike

if TYPE_CHECKING:
    from pathlib import Path

RATE: Final = 100
EACH: Final = 25
"""Spikes for each rule, which may act 30 times a minute."""


def run(place: Path, count: int) -> list[float]:
    """Let `count` lines be written, and return the milliseconds from each spike to the pin.

    Raises:
        RuntimeError: The output was not set once for each spike.
    """
    with Line() as line:
        writer = line.writer("spikes", count, RATE, tell=True)
        with writer, Agent(place, _config(line.port, place, count), "--simulate") as program:
            program.wait_open(line.port, 0.3)
            writer.go()
            said = writer.read(count / RATE + 30)
            time.sleep(0.5)  # for the last of them; what is missing is noticed below
            ahead = time.time_ns() - time.monotonic_ns()
            program.stop()
    store = EventStore(place / "events-simulated.db")
    store.open_reader()
    events = store.read(None, 0, None, 100 * count)
    store.close()
    on = [
        event.time * 1000 - ahead
        for event in events
        if event.type == EventType.READING and event.source == "fan" and event.values["state"] == 1
    ]
    written = [moment for index, moment in enumerate(said["moments"]) if spike(index) is not None]
    if len(on) != len(written):
        raise RuntimeError(f"for {len(written)} spikes the fan was set {len(on)} times\n{program.messages()}")
    return [(set_at - moment) / 1e6 for set_at, moment in zip(on, written, strict=True)]


def _config(port: str, place: Path, count: int) -> str:
    heights = [height for index in range(count) if (height := spike(index)) is not None]
    rules = "".join(
        f"  hot-{start}: {{threshold: {{of: line.temperature, inside: [{some[0]}, {some[-1] + 1}]}}, then: {{set: {{fan: on}}}}}}\n"
        for start in range(0, len(heights), EACH)
        if (some := heights[start : start + EACH])
    )
    return f"""
devices:
  line: {{driver: serial_lines, port: {port}, parse: {{csv: [n, temperature]}}, simulate: false}}
  fan: {{driver: gpio_output, pin: 27}}
rules:
{rules}
log: {{path: {place}/events.db}}
"""


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    count, repeats = (RATE * 5, 2) if quick else (RATE * 20, 5)
    found = []
    for turn in range(repeats):
        progress(f"reaction: run {turn + 1} of {repeats}")
        with folder() as place:
            found.append(run(place, count))
    note = f"{sum(map(len, found))} spikes, {RATE // SPIKE_EVERY} a second at {RATE} readings/s"
    half, most = ([percentile(each, share) for each in found] for share in (0.5, 0.99))
    return [
        row("reaction: output set, p50", half, "ms", note=note),
        row("reaction: output set, p99", most, "ms"),
    ]
