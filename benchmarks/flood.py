"""Lines flooding a pseudo-terminal to acknowledged QoS 1 publishes, against paho-mqtt alone.

Each run has the agent and, before and after it, paho-mqtt alone with the same payloads, the same broker and the same
subscriber; the ratio is that of neighbours, so that what the machine does meanwhile falls on both.

Batched, one message carries many readings, so there the aim is a rate and not a share of what paho-mqtt does with one
message each. The runs with and without `batch` take turns too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from benchmarks._harness import Broker, Child, Line, Subscriber, folder, progress
from benchmarks._programs import Agent, accepts, one_line
from benchmarks._results import Row, row
from benchmarks._subscriber import Wanted

AIM: Final = 0.6
"""Of what paho-mqtt alone does."""
BATCH: Final = 500
BATCHED: Final = f", batch: {BATCH}"
"""What is written for the forwarder."""
LONGER: Final = 3
"""How many times the lines in a batched run, so that it lasts about as long."""
AIM_BATCHED: Final = 60_000
"""Readings a second."""
MB: Final = 1e6

PARSERS: Final = {
    "csv": "{csv: [n, temperature]}",
    "regex": r"{regex: '(?P<n>\d+),(?P<temperature>[-\d.]+)'}",
    "json": "json",
}
"""By name, how the agent parses; a regex reads what csv reads."""


class Run(NamedTuple):
    """What one run gave.

    Attributes:
        rate: Events received in a second.
        cpu: Microseconds of processor time for each, of the publishing process.
        rss: Resident memory of the agent when the last was received, bytes.
    """

    rate: float
    cpu: float
    rss: int = 0


def agent(place: Path, broker: Broker, parse: str, count: int, forward: str = "") -> Run:
    """Flood the agent, with what else is written for its forwarder.

    Raises:
        RuntimeError: Something is missing or out of order.
    """
    subscriber = Subscriber(Wanted(port=broker.port, count=count))
    with Line() as line, subscriber:
        writer = line.writer("json" if parse == "json" else "csv", count)
        config = one_line(line.port, broker.port_v5, place, parse=PARSERS[parse], forward=forward)
        with writer, Agent(place, config) as program:
            program.wait(subscriber, "online")
            program.wait_open(line.port)
            before = program.usage()
            writer.go()
            began = writer.read(120)["began"]
            received = subscriber.received(120)
            used = program.usage().since(before)
            program.stop()
    if received["count"] != count or received["missing"] or received["disordered"]:
        raise RuntimeError(f"of {count} lines: {received}\n{program.messages()}")
    rate = count / (received["last"] - began) * 1e9
    return Run(rate, used.cpu / count * 1e6, before.rss + used.rss)


def alone(broker: Broker, count: int) -> Run:
    """Publish the same with paho-mqtt alone."""
    subscriber = Subscriber(Wanted(port=broker.port, count=count))
    with subscriber, Child("_paho_alone", broker.port_v5, count, 0) as publisher:
        publisher.read()
        publisher.go()
        said = publisher.read(120)
        received = subscriber.received(120)
    return Run(count / (received["last"] - said["began"]) * 1e9, said["cpu"] / count * 1e6)


def has_batch() -> bool:
    """Whether the agent knows the setting."""
    return accepts(one_line("/dev/null", 1883, Path("/var/tmp"), forward=BATCHED))


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    count, repeats = (20_000, 3) if quick else (60_000, 5)
    batched: list[Run] | None = [] if has_batch() else None
    if batched is None:
        progress("flood: batched runs are left out: the agent has no setting `batch`")
    references: list[Run] = []
    runs: dict[str, list[Run]] = {parse: [] for parse in PARSERS}
    ratios: dict[str, list[float]] = {parse: [] for parse in PARSERS}
    for turn in range(repeats):
        for parse in PARSERS:
            progress(f"flood: {parse}, run {turn + 1} of {repeats}")
            with folder() as place, Broker(place) as broker:
                before = alone(broker, count)
                mine = agent(place, broker, parse, count)
                after = alone(broker, count)
            references += [before, after]
            runs[parse].append(mine)
            ratios[parse].append(2 * mine.rate / (before.rate + after.rate))
        if batched is not None:
            progress(f"flood: batched, run {turn + 1} of {repeats}")
            with folder() as place, Broker(place) as broker:
                batched.append(agent(place, broker, "csv", LONGER * count, BATCHED))
    paho = [run.rate for run in references]
    rows = [row("flood: paho-mqtt alone", paho, "events/s", note=f"{count:,} messages, window 100, MQTT 5")]
    for parse, found in runs.items():
        rows += [
            row(f"flood: agent, {parse} lines", [run.rate for run in found], "events/s"),
            row(f"flood: agent, {parse}, of paho alone", ratios[parse], "x", AIM, "≥"),
        ]
    rows.append(row("flood: CPU an event, paho alone", [run.cpu for run in references], "µs"))
    for parse, found in runs.items():
        rows.append(row(f"flood: CPU an event, agent, {parse}", [run.cpu for run in found], "µs"))
    rows.append(row("flood: RSS at the end, agent, csv", [run.rss / MB for run in runs["csv"]], "MB"))
    if batched is not None:
        note = f"{LONGER * count:,} lines, batch: {BATCH}, none missing"
        rows += [
            row(
                "flood: batched, csv lines", [run.rate for run in batched], "events/s", AIM_BATCHED, "≥", note
            ),
            row("flood: batched, CPU an event", [run.cpu for run in batched], "µs"),
            row("flood: batched, RSS at the end", [run.rss / MB for run in batched], "MB"),
        ]
    return rows
