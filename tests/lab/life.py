"""A gateway in its machine, that lives on one disk through many power cuts, and what each of them left."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml
from lab import ledger, writelog
from lab.machine import OUTSIDE, Disk, Machine
from support.waiting import until

if TYPE_CHECKING:
    from lab.ledger import Ledger
    from support.subscribers import Subscriber

HERE: Final = Path(__file__).parent
STATE: Final = "/var/lib/gatepost"
CONFIGURATION: Final = "/etc/gatepost/gatepost.yaml"
PROGRAM: Final = "/opt/gatepost/bin/gatepost"
STORE: Final = "/opt/gatepost/lib/python3.11/site-packages/agent/eventlog/store.py"
LOG: Final = "events-simulated.db"
PORT: Final = 1883
DISK_MB: Final = 96
START: Final = "systemctl start gatepost || { journalctl -u gatepost -n 40 --no-pager -o cat >&2; false; }"
PATIENCE: Final = 600.0
"""Seconds for what the emulated machine has to do."""


def configuration(
    commit: str, host: str = OUTSIDE, port: int = PORT, *, every: str = "10ms", period: str = "400ms"
) -> dict[str, Any]:
    """Return a gateway with a reading `every` so often, and an alarm that is raised and cleared once in a `period`."""
    device = {
        "driver": "serial_lines",
        "port": "/dev/ttyUSB0",
        "parse": {"csv": ["count", "level"]},
        "simulate": {
            "every": every,
            "signals": {
                "count": {"ramp": {"start": 0, "stop": 100_000, "period": "1000s"}},
                "level": {"square": {"low": 0, "high": 1, "period": period}},
            },
        },
    }
    return {
        "gateway": "powercut",
        "devices": {"line": device},
        "rules": {"high": {"threshold": {"of": "line.level", "above": 0.5}, "severity": "critical"}},
        "log": {"commit": commit},
        "forward": {
            "outside": {"mqtt": {"host": host, "port": port}, "reconnect": {"min": "1s", "max": "2s"}}
        },
    }


class Plan(NamedTuple):
    """What to do in one trial.

    Attributes:
        how: `kill` QEMU, or `reset` the machine.
        cache: QEMU's cache mode for the disk.
        commit: What the configuration says under `log:`.
        reachable: Whether the broker is.
        period: How often the alarm is raised and cleared.
        seconds: How long the gateway lives.
    """

    how: str
    cache: str
    commit: str
    reachable: bool
    period: str
    seconds: float

    def __str__(self) -> str:
        broker = "reached" if self.reachable else "out of reach"
        return (
            f"{self.how}, cache {self.cache}; commit {self.commit}, alarm each {self.period}, broker {broker}"
        )


@dataclass
class Trial:
    """One power cut, and what it left.

    Attributes:
        plan: What was done.
        urgent: How many urgent events, alarms nearly all, were promised in this life.
        readings: How many readings were.
        loss: What is missing of all that was ever promised.
        integrity: What SQLite says of the file.
        file_system: What e2fsck(8) says of the disk.
        behind: Seconds by which the newest reading on the disk is older than the cut.
        gap: The longest time between two readings of this life on the disk, in seconds: whether sensing stood still.
    """

    plan: Plan
    urgent: int
    readings: int
    loss: ledger.Loss
    integrity: str
    file_system: str
    behind: float
    gap: float

    @property
    def kept_promise(self) -> bool:
        """Whether nothing is missing and nothing is damaged."""
        return self.loss == (0, 0) and self.integrity == "ok"


class Life:
    """One gateway in its machine: boots, runs, is cut, boots again.

    Attributes:
        book: What it has promised.
        log: What its disk held after the last cut.
    """

    def __init__(
        self, folder: Path, subscriber: Subscriber, port: int, book: Ledger, *, control: bool
    ) -> None:
        self.book = book
        self.log = ledger.Log("ok")
        self.disk = folder / "data.img"
        self._control = control
        self._folder = folder
        self._subscriber = subscriber
        self._reach = {PORT: port}
        self._machine: Machine | None = None
        writelog.make_disk(self.disk, DISK_MB)

    def begin(
        self,
        settings: dict[str, Any],
        *,
        reachable: bool,
        cache: str = "writeback",
        record: Path | None = None,
    ) -> Machine:
        """Boot where the machine is off, start the agent, and listen to what it promises."""
        disk = Disk(self.disk, cache, record)
        machine = self._machine
        if machine is None:
            machine = self._machine = Machine(
                self._folder / "machine", disk=disk, reach=self._reach, ports=("ledger",)
            )
            machine.start()
            self.book.follow(machine.port("ledger"))
        assert machine.disk == disk, "a machine that was reset has the disk that it had"
        machine.put(yaml.safe_dump(settings).encode(), CONFIGURATION)
        machine.put((HERE / "guest" / "observer.py").read_bytes(), "/root/observer.py")
        if self._control:
            off = "synchronous = OFF"
            machine.run(f"sed -i 's/synchronous = FULL/{off}/' {STORE} && grep -q '{off}' {STORE}")
        machine.run(f"systemctl start var-lib-gatepost.mount && mountpoint -q {STATE}")
        machine.network(up=reachable)
        machine.run(START, timeout=PATIENCE)
        observer = (
            f"/usr/bin/python3 /root/observer.py {STATE}/{LOG} /dev/virtio-ports/ledger {self.log.last}"
        )
        machine.run(f"systemd-run --quiet --unit observer {observer}")
        return machine

    def until_lived(self, seconds: float) -> None:
        """Wait until it has promised something and has then lived so long, by its own clock."""
        known = len(self.book.promised)
        until(lambda: len(self.book.promised) > known, "the observer sees an event", PATIENCE)
        end = self.book.now + seconds * 1e6
        until(lambda: self.book.now >= end, "the machine lives", PATIENCE)

    def cut(self, how: str) -> str:
        """Cut its power, read what is on the disk, and return what e2fsck(8) says of that."""
        assert self._machine is not None
        copy = self._folder / "copy.img"
        if how == "kill":
            self._machine.cut()
            self._machine = None
            self.book.end()
            shutil.copyfile(self.disk, copy)
        else:
            self._machine.reset()
            shutil.copyfile(self.disk, copy)
            self._machine.go_on()
        said = writelog.extract(copy, self._folder / "copy")
        self.log = ledger.read(self._folder / "copy" / LOG)
        return said

    def trial(self, plan: Plan) -> Trial:
        """Live for a while, be cut, and see what is missing."""
        last = self.log.last
        before, received_before = set(self.book.promised), len(self._subscriber.received)
        self.begin(configuration(plan.commit, period=plan.period), reachable=plan.reachable, cache=plan.cache)
        self.until_lived(plan.seconds)
        file_system = self.cut(plan.how)
        if plan.commit == "0s":  # what was received had been committed before it was sent
            for arrival in ledger.arrivals(self._subscriber.received[received_before:]):
                self.book.promised.setdefault(arrival.entry.seq, arrival.entry)
        new = [entry for seq, entry in self.book.promised.items() if seq not in before]
        urgent = sum(entry.urgent for entry in new)
        times = [one.time for seq, one in sorted(self.log.entries.items()) if seq > last and not one.urgent]
        gap = max((after - earlier for earlier, after in itertools.pairwise(times)), default=0) / 1e6
        loss = ledger.lost(self.book.promised, self.log.entries)
        # What is missing is told once.
        self.book.promised = {seq: one for seq, one in self.book.promised.items() if seq in self.log.entries}
        behind = (self.book.now - max(times, default=0)) / 1e6
        return Trial(plan, urgent, len(new) - urgent, loss, self.log.integrity, file_system, behind, gap)

    def deliver(self) -> list[str]:
        """Boot a last time, let everything be delivered, end cleanly, and return which promises were broken."""
        held = self.log.identities()
        machine = self.begin(configuration("1s", every="1h"), reachable=True)
        status = f"STATE_DIRECTORY={STATE} {PROGRAM} status --simulate --json {CONFIGURATION}"
        until(
            lambda: json.loads(machine.run(status).out)["forwarders"]["outside"]["waiting"] == 0,
            "the backlog is delivered", PATIENCE,
        )  # fmt: skip
        machine.run(f"systemctl stop observer gatepost && umount {STATE}", timeout=PATIENCE)
        self.cut("kill")
        received = ledger.arrivals(self._subscriber.received)
        missing = held - {(run, entry.seq) for run, entry in received}
        faults = {
            f"{len(missing)} committed events were never received": missing,
            "events came out of order": ledger.out_of_order(received),
            "an alarm was raised or cleared twice": ledger.repeated(self.log.alarms),
            f"the log is damaged at the end: {self.log.integrity}": self.log.integrity != "ok",
            "promised events are missing at the end": ledger.lost(self.book.promised, self.log.entries)
            != (0, 0),
        }
        return [what for what, broken in faults.items() if broken]

    def end(self) -> None:
        """Switch off."""
        if self._machine is not None:
            self._machine.cut()
        self.book.end()
