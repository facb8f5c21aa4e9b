"""Cuts the power of a gateway again and again, and counts what is missing: `python -m lab.powercut [--trials N]`.

First one gateway lives through all trials on one disk: QEMU is killed, or the machine is reset, at a random moment while
the agent commits alarms and readings. Then the same disk is imagined with a cache of its own: from a record of every
write and flush, disks are made as a cut at any moment would have left them, by a disk that is honest about flushing and
by one that lies. What was promised is known from outside; see ledger.py. Exit status 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import fcntl
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab import ledger, writelog
from lab.life import LOG, Life, Plan, configuration
from lab.machine import LAB
from support.agents import Agent
from support.brokers import MOSQUITTO, embedded, mosquitto
from support.subscribers import Subscriber

if TYPE_CHECKING:
    from lab.ledger import Ledger

KINDS: Final = [("1s", False), ("1s", True), ("0s", True)]
"""What `commit` says, and whether the broker can be reached."""
CUTS: Final = [("kill", "none"), ("kill", "unsafe"), ("reset", "writeback"), ("kill", "writeback")]
"""How the power goes, and QEMU's cache mode, in an order in which the machine goes on with the same one after a reset.

Twelve trials have each of these with each of the kinds.
"""
PERIODS: Final = ("400ms", "6s")
"""How often the alarm is raised: so often that it commits nearly everything, or so seldom that readings wait for `commit`."""
LIES: Final = (1, 200)
"""How many requests a disk that lies about flushing may still have in its cache, at least and at most."""


def put(text: str = "") -> None:
    """Print a line of the result."""
    print(text, flush=True)


@dataclass(frozen=True)
class Bench:
    """What both kinds of trial work with.

    Attributes:
        folder: For disks, records and copies.
        subscriber: Receives what is delivered, outside of the machine.
        port: Where its broker is.
        chance: Decides on moments and on what a cache loses.
        control: The agent is broken on purpose: its fsync is taken away.
    """

    folder: Path
    subscriber: Subscriber
    port: int
    chance: random.Random
    control: bool

    def life(self, book: Ledger) -> Life:
        """Return a gateway on a new disk."""
        return Life(self.folder, self.subscriber, self.port, book, control=self.control)


# --- one gateway, many cuts -------------------------------------------------------------------------------------------


def live_trials(bench: Bench, count: int) -> bool:
    """Cut one gateway's power so often; print a line for each, and return whether all promises were kept."""
    life = bench.life(ledger.Ledger())
    put(
        "| cut | lived s | alarms | readings | alarms lost | readings lost | log | disk | newest reading s | gap s |"
    )
    put("|---|--:|--:|--:|--:|--:|---|---|--:|--:|")
    trials = []
    try:
        for number in range(count):
            period, seconds = bench.chance.choice(PERIODS), bench.chance.uniform(3, 15)
            one = life.trial(Plan(*CUTS[number % len(CUTS)], *KINDS[number % len(KINDS)], period, seconds))
            trials.append(one)
            put(
                f"| {one.plan} | {one.plan.seconds:.1f} | {one.urgent} | {one.readings} | {one.loss.urgent} | "
                f"{one.loss.readings} | {one.integrity} | {one.file_system} | {one.behind:.2f} | {one.gap:.2f} |"
            )
        put(
            f"{len(trials)} cuts: {sum(one.urgent for one in trials)} alarms and {sum(one.readings for one in trials)} "
            f"readings promised; {sum(one.loss.urgent for one in trials)} and "
            f"{sum(one.loss.readings for one in trials)} lost"
        )
        faults = life.deliver()
    finally:
        life.end()
    received = ledger.arrivals(bench.subscriber.received)
    put(
        f"at last {len(life.log.entries)} events in the log, {len(received)} received, "
        f"{len(received) - len(set(received))} of them repeats"
    )
    put(f"durable after it happened: {lags(life.book)}")
    for fault in faults:
        put(f"BROKEN: {fault}")
    return not faults and all(one.kept_promise for one in trials)


def lags(book: Ledger) -> str:
    """Say how long events took until they were durable."""
    said = []
    for name, urgent in (("alarms", True), ("readings", False)):
        seconds = sorted(lag for entry, lag in book.lags if entry.urgent is urgent)
        said.append(f"{name} {seconds[len(seconds) // 2]:.2f} s (median), {seconds[-1]:.2f} s (longest)")
    return "; ".join(said)


# --- a disk with a cache of its own -----------------------------------------------------------------------------------


def cached_trials(bench: Bench, count: int, seconds: float) -> bool:
    """Record a gateway's writes, and see what cuts at so many moments leave on an honest disk and on one that lies."""
    record, before = bench.folder / "writes.log", bench.folder / "before.img"
    record.write_bytes(b"")
    life = bench.life(ledger.Ledger(lambda: record.stat().st_size))
    shutil.copyfile(life.disk, before)
    try:
        life.begin(configuration("1s"), reachable=False, record=record)
        life.until_lived(seconds)
        life.cut("kill")
    finally:
        life.end()
    done = writelog.requests(record)
    flushes = sum(bool(one.flags & writelog.FLUSH) for one in done)
    put(
        f"{len(done)} requests recorded, {flushes} of them flushes; {len(life.book.promised)} events promised"
    )
    kept = True
    put(
        "| disk | cuts | writes cached, gone, torn | alarms lost | readings lost | log damaged | file system repaired | agent starts |"
    )
    put("|---|--:|---|--:|--:|--:|--:|--:|")
    for name, lies in (("honest, with a cache", False), ("lies about flushing", True)):
        left = [image_trial(bench, record, before, done, life.book, lies=lies) for _ in range(count)]
        cached, gone, torn = (sum(numbers) for numbers in zip(*(one.cut for one in left), strict=True))
        put(
            f"| {name} | {count} | {cached}, {gone}, {torn} | {spread([one.loss.urgent for one in left])} | "
            f"{spread([one.loss.readings for one in left])} | {sum(one.damaged for one in left)} | "
            f"{sum(one.repaired for one in left)} | {sum(one.starts for one in left)} |"
        )
        kept &= all(one.starts for one in left)
        if not lies:
            kept &= all(one.loss == (0, 0) and not one.damaged and not one.repaired for one in left)
    return kept


def spread(numbers: list[int]) -> str:
    """Say a sum, and the median and the largest where it is not nothing."""
    if not any(numbers):
        return "0"
    return f"{sum(numbers)} (median {sorted(numbers)[len(numbers) // 2]}, most {max(numbers)})"


@dataclass
class Left:
    """What a cut left on a disk with a cache, and what the agent made of it."""

    cut: writelog.Cut
    loss: ledger.Loss
    damaged: bool
    repaired: bool
    starts: bool


def image_trial(
    bench: Bench, record: Path, before: Path, done: list[writelog.Request], book: Ledger, *, lies: bool
) -> Left:
    """Cut at a random moment, start the agent on what is there, and see what its log holds then."""
    chance, home = bench.chance, bench.folder / "home"
    first = next(number for number, one in enumerate(done) if one.end >= min(book.positions.values()))
    moment = chance.randrange(first, len(done))
    while chance.random() < 0.8 and moment < len(done) - 1 and not done[moment].flags & writelog.FLUSH:
        moment += 1  # rather shortly before a flush, when the cache holds most
    image, files = bench.folder / "cut.img", bench.folder / "cut"
    cut = writelog.cut(before, record, done[:moment], image, chance, chance.randint(*LIES) if lies else 0)
    file_system = writelog.extract(image, files)
    shutil.rmtree(home, ignore_errors=True)
    agent = Agent(home, configuration("1s", "127.0.0.1", 9), "--simulate")
    agent.log.parent.mkdir(parents=True)
    for name in (LOG, f"{LOG}-wal"):
        if (files / name).exists():
            shutil.copy(files / name, agent.log.parent)
    found = ledger.read(files / LOG)
    try:
        agent.start_and_wait()
        starts = agent.stop() == 0
    except AssertionError as error:
        put(f"the agent does not start: {error}")
        starts = False
    finally:
        agent.kill()
    promised = book.before(done[moment - 1].end)
    loss = ledger.lost(promised, ledger.read(agent.log).entries)
    return Left(cut, loss, found.integrity != "ok", file_system != "ok", starts)


# --- the command ------------------------------------------------------------------------------------------------------


def main() -> int:
    """Cut, count, print, and return the exit status: 0 where every promise was kept, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.powercut", description="Cuts the power of a gateway in a VM."
    )
    parser.add_argument("--trials", type=int, default=12, help="how often the machine's power is cut (12)")
    parser.add_argument(
        "--images", type=int, default=40, help="how many disks of each kind are made from the record (40)"
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="repeat the moments of an earlier run, as far as time allows"
    )
    parser.add_argument("--quick", action="store_true", help="3 trials and 6 disks: a first impression")
    parser.add_argument(
        "--control",
        action="store_true",
        help="take the agent's fsync away: losses must show, or this sees none",
    )
    options = parser.parse_args()
    trials, images, seconds = (3, 6, 15.0) if options.quick else (options.trials, options.images, 60.0)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no machine is left behind
    began = time.monotonic()
    put(f"seed {seed}; virtual machine in {LAB}")
    with (LAB / "lock").open("a") as lock, tempfile.TemporaryDirectory(prefix="powercut-", dir=LAB) as name:
        fcntl.flock(lock, fcntl.LOCK_SH)  # so that image.sh puts no other gatepost in the machine meanwhile
        folder = Path(name)
        broker = mosquitto(folder) if MOSQUITTO else embedded(folder)
        broker.start()
        subscriber = Subscriber(broker.port)
        bench = Bench(folder, subscriber, broker.port, random.Random(seed), options.control)
        try:
            put(f"\nOne gateway, its power cut {trials} times\n")
            kept = live_trials(bench, trials)
            put(f"\nA disk with a volatile cache, cut at {images} moments of {seconds:g} s\n")
            kept &= cached_trials(bench, images, seconds)
        finally:
            subscriber.close()
            broker.stop()
    put(f"\n{'every promise was kept' if kept else 'A PROMISE WAS BROKEN'}; {time.monotonic() - began:.0f} s")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
