"""What is known outside of the machine of what the agent promised, held against what it kept."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.clock import from_iso
from agent.events import Lane, lane_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from support.subscribers import Received


class Entry(NamedTuple):
    """One event, as far as it must be the same wherever it is seen.

    Attributes:
        seq: Its place in the log.
        urgent: Whether it travels in the urgent lane: an alarm or another change of state.
        time: When it happened, in microseconds since 1970-01-01 UTC.
    """

    seq: int
    urgent: bool
    time: int


class Loss(NamedTuple):
    """How many promised events are missing."""

    urgent: int
    readings: int


class Arrival(NamedTuple):
    """An event as a subscriber received it."""

    run: int
    entry: Entry


@dataclass
class Log:
    """What is in the file of an event log.

    Attributes:
        integrity: `ok`, or what SQLite says is wrong.
        entries: Its events by seq.
        runs: The first seq by run.
        alarms: Rule and type of its alarms, in order.
    """

    integrity: str
    entries: dict[int, Entry] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)
    alarms: list[tuple[str, str]] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The seq of the newest event."""
        return max(self.entries, default=0)

    def identities(self) -> set[tuple[int, int]]:
        """Return run and seq of each event."""
        firsts = sorted((first, run) for run, first in self.runs.items())
        return {(max(run for first, run in firsts if first <= seq), seq) for seq in self.entries}


def read(path: Path) -> Log:
    """Read a log's file, with what its write-ahead log holds; what cannot be read is missing."""
    log = Log("there is no file")
    if not path.exists():
        return log
    with contextlib.closing(sqlite3.connect(path)) as database:
        try:
            log.integrity = "; ".join(said for (said,) in database.execute("PRAGMA integrity_check(3)"))
            log.runs = dict(database.execute("SELECT run, first_seq FROM runs"))
            for seq, urgent, time in database.execute("SELECT seq, stream < 0, time FROM events"):
                log.entries[seq] = Entry(seq, bool(urgent), time)
            log.alarms = database.execute(
                "SELECT source, type FROM events JOIN streams USING (stream) WHERE type LIKE 'alarm.%' ORDER BY seq"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            log.integrity = str(error)
    return log


class Ledger:
    """Writes down what the observer in the machine says is durable, line by line, in a thread.

    Attributes:
        promised: Every event that was durable, by seq.
        positions: By seq, how long the disk's write log was when the promise arrived: all that it rests on is before.
        lags: Each event that happened under observation, and the seconds until it was durable.
        now: The newest time that the machine has told, in microseconds since 1970-01-01 UTC.
    """

    def __init__(self, position: Callable[[], int] = lambda: 0) -> None:
        self.promised: dict[int, Entry] = {}
        self.positions: dict[int, int] = {}
        self.lags: list[tuple[Entry, float]] = []
        self.now = 0
        self._position = position
        self._began: int | None = None
        self._thread: threading.Thread | None = None

    def follow(self, port: socket.socket) -> None:
        """Listen to a machine until it is cut."""
        port.settimeout(None)
        self._thread = threading.Thread(target=self._listen, args=(port,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait until all is written down that a machine said before it was cut."""
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None

    def _listen(self, port: socket.socket) -> None:
        with contextlib.suppress(ConnectionError), port, port.makefile("rb") as lines:
            for line in lines:
                self.hear(line)

    def hear(self, line: bytes) -> None:
        """Write a line down; one that was cut off says nothing."""
        try:
            now, new = json.loads(line)
        except ValueError:
            self._began = None  # an observer begins with an empty line
            return
        position = self._position()
        self._began = self._began or now
        for seq, urgent, time in new:
            entry = self.promised[seq] = Entry(seq, bool(urgent), time)
            self.positions[seq] = position
            if time >= self._began:
                self.lags.append((entry, (now - time) / 1e6))
        self.now = now

    def before(self, position: int) -> dict[int, Entry]:
        """Return what was promised when the disk's write log was that long."""
        return {seq: entry for seq, entry in self.promised.items() if self.positions[seq] <= position}


def lost(promised: Mapping[int, Entry], kept: Mapping[int, Entry]) -> Loss:
    """Count what was promised and is not kept, or kept as something else."""
    missing = [entry for seq, entry in promised.items() if kept.get(seq) != entry]
    urgent = sum(entry.urgent for entry in missing)
    return Loss(urgent, len(missing) - urgent)


def arrivals(messages: Iterable[Received]) -> list[Arrival]:
    """Return the events among what a subscriber received, in the order in which they came."""
    return [_arrival(message.body) for message in messages if b'"id":' in message.payload]


def _arrival(body: Mapping[str, Any]) -> Arrival:
    run, seq = map(int, body["id"].split("-"))
    urgent = "type" in body and lane_of(body["type"]) is Lane.URGENT
    return Arrival(run, Entry(seq, urgent, from_iso(body["time"])))


def out_of_order(received: Sequence[Arrival]) -> int:
    """Count events that came, for the first time, after a later one of their lane."""
    count = 0
    for urgent in (True, False):
        first = dict.fromkeys((run, entry.seq) for run, entry in received if entry.urgent is urgent)
        count += sum(after < before for before, after in itertools.pairwise(first))
    return count


def repeated(alarms: Iterable[tuple[str, str]]) -> int:
    """Count alarms that were raised while active, or cleared while they were not."""
    state: dict[str, str] = {}
    count = 0
    for rule, kind in alarms:
        count += state.get(rule, "alarm.cleared") == kind
        state[rule] = kind
    return count
