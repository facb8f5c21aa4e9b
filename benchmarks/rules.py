"""What many rules cost: 1,000 of all kinds on 200 channels, and 300 on one channel at 500 readings a second.

The real program. First four serial lines bring 50 numbers in each line, which five rules for each look at: as fast as they are
taken, and once a second. There is no forwarder, and the log keeps next to none of the readings (`change: 1000`), so
what is measured is reading, judging and saving; the same without rules says what of it is not theirs.

Then the setting of eKuiper's published test: 300 rules on one stream of 500 messages a second, each a comparison that one
message in ten passes. What differs is said in docs/benchmarks.md.

At last what long states wear: ten medians over an hour, a reading a second each, for a day on a virtual clock, into a log on
the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import eventlog, rulebook
from agent.clock import VirtualClock
from agent.commander import Commander
from agent.eventlog import EventLog
from agent.outcome import RuleOutcome
from agent.quantities import Duration
from agent.rules import window
from benchmarks._harness import ROOT, Broker, Line, Subscriber, folder, progress
from benchmarks._programs import Agent, Usage
from benchmarks._results import Row, row
from benchmarks._subscriber import Wanted
from benchmarks._writer import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterator

MB: Final = 1e6
RULES: Final = 1000
LINES: Final = 4
VALUES: Final = LINES * CHANNELS
YARDSTICK: Final = (300, 500)
"""Rules and messages a second."""
DAY: Final = 86_400

_OF_ALL: Final = (
    "threshold: {of: CHANNEL, above: 90, clear: 85, for: 10s}",
    "window: {of: CHANNEL, take: mean, over: 10m, above: 90}",
)
_IN_TURN: Final = (
    "rate: {of: CHANNEL, per: minute, over: 5m, above: 1e9}",
    "stuck: {of: CHANNEL, for: 1h}",
    "absence: {of: CHANNEL, longer_than: 1m}",
    "flapping: {of: CHANNEL, crosses: [15, 28], more_than: 1000, within: 1m}",
    "compare: {of: CHANNEL - OTHER, above: 90, max_age: 5m}",
    "count: {of: CHANNEL > 90, at_least: 5, within: 10m}",
    "sequence: {first: CHANNEL > 90, then: OTHER > 90, within: 1m}",
    "anomaly: {of: CHANNEL, z: 9, at_least: 90}",
    "window: {of: CHANNEL, take: median, over: 10m, above: 90}",
    "threshold: {of: CHANNEL, above: {warning: 90, critical: 95}}",
    "threshold: {of: CHANNEL, above: 90}\n    only: {between: [06:00, 22:00]}\n    where: OTHER < 95",
)


def _mixed(count: int) -> str:
    """Return that many rules, the same number for each channel."""
    names = [f"line{line}.c{channel}" for line in range(LINES) for channel in range(CHANNELS)]
    lines = ["rules:"]
    for index in range(count):
        place, turn = index % len(names), index // len(names)
        kind = _OF_ALL[turn] if turn < len(_OF_ALL) else _IN_TURN[index % len(_IN_TURN)]
        named = kind.replace("CHANNEL", names[place]).replace("OTHER", names[place - 1])
        lines.append(f"  rule-{index}:\n    {named}")
    return "\n".join(lines) if count else ""


def _wide(rules: int, lines: int, rate: float) -> tuple[float, Usage, Usage]:
    """Return the seconds that it took, what was used meanwhile, and what was in use at the end."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        ports = [stack.enter_context(Line()) for _ in range(LINES)]
        names = ", ".join(f"c{channel}" for channel in range(CHANNELS))
        devices = "\n".join(
            f"  line{index}: {{driver: serial_lines, port: {port.port}, parse: {{csv: [{names}]}}, report: {{change: 1000}}}}"
            for index, port in enumerate(ports)
        )
        config = f"devices:\n{devices}\n{_mixed(rules)}\nlog: {{path: {place}/events.db}}"
        writers = [stack.enter_context(port.writer("wide", lines, rate)) for port in ports]
        program = stack.enter_context(Agent(place, config))
        for port in ports:
            program.wait_open(port.port, settle=1.0)
        before = program.usage()
        for writer in writers:
            writer.go()
        said = [writer.read(300) for writer in writers]
        read = _readings(place)
        after = program.usage()
        program.stop()
    if read != lines * LINES:
        raise RuntimeError(f"of {lines * LINES} lines {read} were read")
    took = max(each["ended"] for each in said) - min(each["began"] for each in said)
    return took / 1e9, after.since(before), after


def _readings(place: Path) -> int:
    """Return how many readings the agent has taken in."""
    command = [sys.executable, "-m", "agent", "status", "--json", str(place / "gatepost.yaml")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return sum(device["readings"] for device in json.loads(said)["devices"].values())


def _many(*, quick: bool) -> list[Row]:
    repeats, lines, seconds = (2, 500, 10) if quick else (3, 2000, 30)
    found = []
    costs: dict[int, Row] = {}
    memory: dict[int, Row] = {}
    for rules in (0, RULES):
        name = f"rules: {rules:,} on {VALUES} channels" if rules else "rules: none"
        speeds, cpu, rss, shares = [], [], [], []
        for turn in range(repeats):
            progress(f"{name}: run {turn + 1} of {repeats}")
            took, used, after = _wide(rules, lines, 0)
            speeds.append(lines * VALUES / took)
            cpu.append(used.cpu / lines / VALUES * 1e6)
            rss.append(after.rss / MB)
            took, used, _ = _wide(rules, seconds, 1)
            shares.append(used.cpu / took * 100)
        costs[rules] = row(f"{name}, CPU a value", cpu, "µs")
        memory[rules] = row(f"{name}, RSS at the end", rss, "MB")
        found += [
            row(f"{name}, values", speeds, "values/s", note=f"{lines * LINES} lines of {CHANNELS}, as fast as they are taken"),
            costs[rules],
            row(f"{name}, CPU at {VALUES} values/s", shares, "%", note="of one core, a line a second of each device"),
            memory[rules],
        ]  # fmt: skip
    each = (costs[RULES].value - costs[0].value) * VALUES / RULES
    kilobytes = (memory[RULES].value - memory[0].value) * 1000 / RULES
    found.append(
        Row("rules: a value for a rule, on average", each, "µs", note="of the kinds as they are mixed")
    )
    found.append(
        Row("rules: memory of a rule, on average", kilobytes, "kB", note="of the kinds as they are mixed")
    )
    return found


def _yardstick(rules: int, seconds: int) -> tuple[float, float]:
    """Return the share of a core in percent, and the memory in MB."""
    rate = YARDSTICK[1]
    with folder() as place, Broker(place) as broker, Line() as line:
        count = seconds * rate
        subscriber = Subscriber(Wanted(port=broker.port, count=count, key="temperature", meaning="count"))
        writer = line.writer("tenth", count, rate)
        written = "\n".join(
            f"  rule-{index}: {{threshold: {{of: line.temperature, above: 50}}}}" for index in range(rules)
        )
        config = f"""
devices:
  line: {{driver: serial_lines, port: {line.port}, parse: {{csv: [n, temperature]}}}}
rules:
{written}
forward:
  broker: {{mqtt: {{host: 127.0.0.1, port: {broker.port_v5}}}}}
log: {{path: {place}/events.db}}
"""
        with subscriber, writer, Agent(place, config) as program:
            program.wait(subscriber, "online")
            program.wait_open(line.port)
            before = program.usage()
            writer.go()
            said = writer.read(seconds + 60)
            subscriber.received(30)
            after = program.usage()
            program.stop()
    return after.since(before).cpu / ((said["ended"] - said["began"]) / 1e9) * 100, after.rss / MB


def _against(*, quick: bool) -> Iterator[Row]:
    repeats, seconds = (1, 10) if quick else (3, 30)
    for rules in (1, YARDSTICK[0]):
        shares, memory = [], []
        for turn in range(repeats):
            progress(f"rules: {rules} at {YARDSTICK[1]}/s: run {turn + 1} of {repeats}")
            share, used = _yardstick(rules, seconds)
            shares.append(share)
            memory.append(used)
        name = f"rules: {rules} on one channel at {YARDSTICK[1]}/s"
        yield row(f"{name}, CPU", shares, "%", note="of one core; log and MQTT included")
        yield row(f"{name}, RSS", memory, "MB")


def _written() -> int:
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    return 0


async def _day_of_medians(place: Path, seconds: int) -> float:
    """Return the bytes that a day of ten medians makes the kernel write for their states."""
    clock = VirtualClock()
    log = EventLog(place / "events.db", eventlog.Settings(), clock)
    await log.open([], "benchmark")
    rules = rulebook.Rulebook(log, clock, Commander(log, clock).board)
    for index in range(10):
        settings = window.Settings(of=f"air.c{index}", take="median", over=Duration(3600), above=1e9)
        rules.add(f"median-{index}", window.Rule(settings), RuleOutcome())
    rules.restore()
    chance = random.Random(1)
    before = 0
    for second in range(3600 + seconds):
        if second == 3600:
            await log.writer.commit()
            before = _written()
        clock.now = float(second)
        rules.on_reading("air", {f"c{index}": chance.gauss(20, 5) for index in range(10)}, clock.now)
        rules.on_time(clock.now)
        if second % 60 == 1:
            await log.writer.commit()
    await log.writer.commit()
    written = _written() - before
    await log.close()
    return written / seconds * DAY


def _wear(*, quick: bool) -> Iterator[Row]:
    bounded = rulebook.SAVE_RATE
    for name, rate in (("", bounded), (", if each were saved every minute", math.inf)):
        progress(f"rules: states of ten medians{name}")
        rulebook.SAVE_RATE = rate  # type: ignore[misc]
        try:
            with folder() as place:
                written = asyncio.run(_day_of_medians(place, DAY // 24 if quick else DAY // 4))
        finally:
            rulebook.SAVE_RATE = bounded  # type: ignore[misc]
        yield Row(
            f"rules: states of ten medians{name}",
            written / MB,
            "MB/day",
            note="over an hour, a reading a second each",
        )


def measure(*, quick: bool) -> list[Row]:
    """Measure."""
    return [*_many(quick=quick), *_against(quick=quick), *_wear(quick=quick)]
