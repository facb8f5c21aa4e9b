"""The event log's file: its rows and its transactions. Plain functions that block on the disk; the schema is in `schema`."""

from __future__ import annotations

import bisect
import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.eventlog import schema
from agent.eventlog.clocks import Clocks, Stretch
from agent.eventlog.group import Group, Rejection
from agent.events import Event, EventType, Lane, Quality, Value, lane_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.eventlog.cursors import Ahead, Key

_INSERTS: Final = [
    (size, "INSERT OR IGNORE INTO events VALUES " + ",".join(["(?,?,?,?,?,?)"] * size))  # noqa: S608 -- question marks
    for size in (100, 10, 1)
]
"""One statement lets go of Python's lock once, however many rows it writes. Few sizes, because SQLite keeps a compiled
program for each, and Python keeps the last 128 of them. What is there already is left: a commit that failed may have
reached the disk all the same."""

_INTEGER_OR_NONE: Final = (int, type(None))

TIME_MAX: Final = 253_402_300_799_999_999
"""The end of the year 9999 in microseconds since 1970-01-01 UTC, the last that RFC 3339 can say."""

_encode = msgspec.json.Encoder().encode
_decode_values = msgspec.json.Decoder(list[Value]).decode
_decode_quality = msgspec.json.Decoder(dict[str, Quality]).decode
_Stream = tuple[int, tuple[str, ...]]  # number, channels


class EventStore:
    """One connection to the log's file. To be used by one thread at a time.

    Attributes:
        path: The database file.
        db: The connection, once it is open.
        clocks: What the events were stamped with; whoever holds the file open for long replaces it by its own.
    """

    db: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clocks = Clocks()
        self._identity = (0, 0)
        self._is_old = False  # of version 1, and only read
        self._saved_ahead: dict[Key, tuple[Ahead, ...]] | None = None  # None: not known
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._by_number: dict[int, tuple[str, str, tuple[str, ...]]] = {}
        self._runs: list[int] = []
        self._firsts: list[int] = []

    # --- open and close ---------------------------------------------------------------------------------------

    def open_writer(self) -> None:
        """Open or create the file for writing, and make one of an earlier version one of this.

        Raises:
            sqlite3.DatabaseError: It is damaged, or the disk refuses.
            NewerLog: It was written by a newer gatepost.
            ForeignFile: It belongs to another program.
        """
        self.db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        version = schema.examine(self.db, self.path)  # before anything is written
        if version == 0:
            self.db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is any page
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")  # a commit is on the medium
        self.db.execute("PRAGMA journal_size_limit = 8388608")
        if version == 0:
            schema.create(self.db)
        else:
            schema.migrate(self.db, version)
        self._identity = _identity(self.path)
        self._load()
        self.clocks = Clocks(self._stretches())

    def open_reader(self, *, is_alone: bool = False) -> None:
        """Open the file for reading only; the writer is never held up by it.

        With `is_alone`, where nobody writes and all is in the file itself, nothing is put beside it.

        Raises:
            sqlite3.DatabaseError: There is no such file, or it is damaged.
        """
        where = f"{self.path.absolute().as_uri()}?mode=ro"
        try:
            self._open_reader(f"{where}&immutable=1" if is_alone else where)
        except sqlite3.OperationalError:
            # On a disk that is read-only nothing can be put beside the file, as WAL mode wants it; after a clean end
            # all is in the file itself.
            if not self.path.exists() or self.path.with_name(f"{self.path.name}-wal").exists():
                raise
            self._open_reader(f"{where}&immutable=1")

    def _open_reader(self, where: str) -> None:
        self.close()
        self.db = sqlite3.connect(where, uri=True, check_same_thread=False)
        self.db.isolation_level = None
        self._is_old = schema.examine(self.db, self.path) == 1
        self._load()
        self.clocks = Clocks(() if self._is_old else self._stretches())

    def close(self) -> None:
        """Close the connection, where there is one."""
        if hasattr(self, "db"):
            self.db.close()

    def _load(self) -> None:
        """Read which streams and runs there are.

        Raises:
            sqlite3.DatabaseError: That cannot be read, or makes no sense.
        """
        self._streams.clear()
        self._by_number.clear()
        for number, kind, source, channels in self.db.execute(
            "SELECT stream, type, source, channels FROM streams ORDER BY abs(stream)"
        ):
            try:
                names = tuple(msgspec.json.decode(channels, type=list[str]))
            except (msgspec.DecodeError, TypeError) as error:
                raise schema.damaged(f"stream {number} makes no sense: {error}") from error
            self._streams[kind, source] = (number, names)
            self._by_number[number] = (kind, source, names)
        self._load_runs()

    def _load_runs(self) -> None:
        runs = self.db.execute("SELECT run, first_seq FROM runs ORDER BY first_seq").fetchall()
        self._runs = [run for run, _ in runs]
        self._firsts = [first for _, first in runs]

    # --- runs, cursors and states -----------------------------------------------------------------------------

    def newest(self) -> tuple[int, int, bool]:
        """Return the last run's number, the newest sequence number, and whether that run ended cleanly."""
        # A run that began without the file has any number, so the last one is told by where it begins.
        ended = self.db.execute("SELECT ended FROM runs ORDER BY first_seq DESC, run DESC LIMIT 1").fetchone()
        run = self.db.execute("SELECT max(run) FROM runs").fetchone()[0]
        # All that speaks of sequence numbers: what speaks of deleted events must not come to speak of new ones.
        newest = ["max(seq) FROM events", "max(seq) FROM cursors", "max(first_seq) - 1 FROM runs"]
        if not self._is_old:
            newest += ["max(last) FROM ahead", "max(seq) FROM rejected"]
        seq = max(self.db.execute(f"SELECT {each}").fetchone()[0] or 0 for each in newest)
        return run or 0, seq, ended is None or ended[0] is not None

    def begin_run(self, run: int, first_seq: int, started: int, version: str) -> None:
        """Commit the start of a run, so that its number is never used again."""
        self.db.execute(
            "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, NULL, ?)", (run, first_seq, started, version)
        )
        self._load_runs()

    def end_run(self, run: int, ended: int) -> None:
        """Commit the clean end of a run."""
        self.db.execute("UPDATE runs SET ended = ? WHERE run = ?", (ended, run))

    def cursors(self) -> dict[tuple[str, Lane], int]:
        """Return the saved cursors by consumer and lane."""
        rows = self.db.execute("SELECT consumer, lane, seq FROM cursors")
        return {(consumer, Lane(lane)): seq for consumer, lane, seq in rows}

    def ahead(self) -> dict[Key, list[Ahead]]:
        """Return the saved stretches that were delivered ahead of the cursors."""
        found: dict[Key, list[Ahead]] = {}
        if not self._is_old:
            for consumer, lane, first, last in self.db.execute("SELECT * FROM ahead ORDER BY first"):
                found.setdefault((consumer, Lane(lane)), []).append((first, last))
        return found

    def forget_consumers(self, names: Iterable[str]) -> None:
        """Delete the cursors of consumers that are gone, so that the log is no longer kept for them."""
        for name in names:
            self.db.execute("DELETE FROM cursors WHERE consumer = ?", (name,))
            self.db.execute("DELETE FROM ahead WHERE consumer = ?", (name,))

    def _stretches(self) -> list[Stretch]:
        rows = self.db.execute("SELECT first_seq, boot, offset, is_set, correction FROM clocks")
        return [
            Stretch(first, boot, offset, bool(is_set), correction)
            for first, boot, offset, is_set, correction in rows
        ]

    def states(self) -> dict[str, dict[str, Value]]:
        """Return the saved states of the parts."""
        return {
            part: msgspec.json.decode(state)
            for part, state in self.db.execute("SELECT part, state FROM states")
        }

    # --- events ---------------------------------------------------------------------------------------------------

    def write(self, group: Group) -> None:
        """Write a group in one transaction.

        Raises:
            sqlite3.Error: Nothing was written, as far as is known.
        """
        if _identity(self.path) != self._identity:
            raise sqlite3.OperationalError(REMOVED)
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self._write_events(group.events, group.units)
            self._write_events([each.event for each in group.rejections], group.units)
            self.db.executemany(
                "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?)",
                [(each.event.seq, each.consumer, each.time, each.reason) for each in group.rejections],
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
                [(consumer, int(lane), seq) for (consumer, lane), seq in group.cursors.items()],
            )
            self._write_ahead(group)
            for stretch in group.clocks:
                self.db.execute(
                    "INSERT OR REPLACE INTO clocks VALUES (?, ?, ?, ?, ?)",
                    (
                        stretch.first_seq,
                        stretch.boot,
                        stretch.offset,
                        int(stretch.is_set),
                        stretch.correction,
                    ),
                )
            for part, state in group.states.items():
                if state is None:
                    self.db.execute("DELETE FROM states WHERE part = ?", (part,))
                else:
                    self.db.execute(
                        "INSERT OR REPLACE INTO states VALUES (?, ?)", (part, _encode(state).decode())
                    )
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self._saved_ahead = None
            with contextlib.suppress(sqlite3.Error):
                self._load()  # streams made in this transaction are gone with it
            raise

    def _write_events(self, events: Sequence[Event], units: Mapping[str, Mapping[str, str]]) -> None:
        start = 0
        for size, statement in _INSERTS:
            while len(events) - start >= size:
                chunk = events[start : start + size]
                self.db.execute(statement, [item for event in chunk for item in self._row(event, units)])
                start += size

    def _write_ahead(self, group: Group) -> None:
        known = self._saved_ahead
        now = {key: tuple(stretches) for key, stretches in group.ahead.items()}
        if now != known:
            self.db.execute("DELETE FROM ahead")
            self.db.executemany(
                "INSERT INTO ahead VALUES (?, ?, ?, ?)",
                [(key[0], int(key[1]), *stretch) for key, stretches in now.items() for stretch in stretches],
            )
            self._saved_ahead = now

    def _row(self, event: Event, units: Mapping[str, Mapping[str, str]]) -> tuple[Any, ...]:
        values = event.values
        number, channels = self._streams.get((event.type, event.source), (0, ()))
        if number == 0 or not values.keys() <= set(channels):
            number, channels = self._add_stream(event, channels, units.get(event.source, {}))
        if len(channels) == 1:
            value = values.get(channels[0])
        else:
            value = _encode([values.get(channel) for channel in channels]).decode()
        quality = _encode(event.quality).decode() if event.quality else None
        return (event.seq, number, event.time, value, quality, event.recorded)

    def _add_stream(self, event: Event, known: tuple[str, ...], units: Mapping[str, str]) -> _Stream:
        channels = known + tuple(channel for channel in event.values if channel not in known)
        number = (max(map(abs, self._by_number), default=0) + 1) * (
            -1 if lane_of(event.type) is Lane.URGENT else 1
        )
        said = {channel: units[channel] for channel in channels if units.get(channel)}
        self.db.execute(
            "INSERT INTO streams VALUES (?, ?, ?, ?, ?)",
            (number, event.type, event.source, _encode(channels).decode(), _encode(said).decode()),
        )
        self._streams[event.type, event.source] = (number, channels)
        self._by_number[number] = (event.type, event.source, channels)
        return number, channels

    def read(self, lane: Lane | None, after: int, upto: int | None, limit: int) -> list[Event]:
        """Return events with `after` < seq <= `upto` in order; of both lanes where the lane is None."""
        of_lane = {None: "", Lane.URGENT: "AND stream < 0", Lane.READINGS: "AND stream > 0"}[lane]
        recorded = "NULL" if self._is_old else "recorded"
        rows = self.db.execute(
            f"SELECT seq, stream, time, value, quality, {recorded} FROM events"  # noqa: S608 -- of our own making
            f" WHERE seq > ? AND seq <= ? {of_lane} ORDER BY seq LIMIT ?",
            (after, 2**62 if upto is None else upto, limit),
        ).fetchall()
        return [self._event(*row) for row in rows]

    def count(self, lane: Lane, after: int, upto: int) -> int:
        """Return how many events of a lane have `after` < seq <= `upto`."""
        sign = "<" if lane is Lane.URGENT else ">"
        row = self.db.execute(
            f"SELECT count(*) FROM events WHERE seq > ? AND seq <= ? AND stream {sign} 0",  # noqa: S608
            (after, upto),
        ).fetchone()
        return int(row[0])

    def last(self, count: int) -> int:
        """Return the sequence number after which the last `count` events come."""
        row = self.db.execute(
            "SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?", (count,)
        ).fetchone()
        return int(row[0]) if row else 0

    def since(self, time: int) -> int:
        """Return the sequence number after which events happened at or after a wall time, in microseconds."""
        # By bisection: time rises with seq but for jumps of the clock, and no index on time wears the card. Events whose
        # time is not known go with what followed them.
        low, high = self.db.execute("SELECT ifnull(min(seq), 1), ifnull(max(seq), 0) FROM events").fetchone()
        while low <= high:
            middle = (low + high) // 2
            row = self.db.execute(
                "SELECT seq, time FROM events WHERE seq >= ? ORDER BY seq LIMIT 1",
                (self.clocks.known_from(middle),),
            ).fetchone()
            if row is None or row[1] + self.clocks.correction_of(row[0]) >= time:
                high = middle - 1
            else:
                low = row[0] + 1
        return int(low) - 1

    def _event(
        self, seq: int, stream: int, time: Any, value: Any, quality: str | None, recorded: Any
    ) -> Event:
        if stream not in self._by_number or not self._firsts:
            self._load()  # the writer has added it since we opened
        # SQLite keeps any type in any column, and a flipped bit may change it.
        if type(time) is not int or not 0 <= time <= TIME_MAX:
            raise ValueError(f"event {seq} has no time that there is: {time!r}")
        if isinstance(value, bytes) or type(recorded) not in _INTEGER_OR_NONE:
            raise TypeError(f"event {seq} has {value!r} recorded at {recorded!r}")
        kind, source, channels = self._by_number[stream]
        qualities = _decode_quality(quality) if quality else None
        if len(channels) == 1:
            pairs: Iterable[tuple[str, Value]] = ((channels[0], value),)
        else:
            pairs = zip(channels, _decode_values(value), strict=False)
        values = {c: v for c, v in pairs if v is not None or (qualities is not None and c in qualities)}
        event = Event(self.run_of(seq), seq, kind, source, time, values, qualities, recorded)
        return event if seq > self.clocks.unset_upto else self.clocks.mended(event)

    def rejected(self) -> list[Rejection]:
        """Return what was refused for good, oldest first, as far as it is still there."""
        if self._is_old:
            return []
        rows = self.db.execute(
            "SELECT seq, stream, events.time, value, quality, recorded, consumer, rejected.time, reason"
            " FROM rejected JOIN events USING (seq) ORDER BY seq, consumer"
        ).fetchall()
        return [Rejection(self._event(*row[:6]), *row[6:]) for row in rows]

    def units(self) -> dict[str, dict[str, str]]:
        """Return the unit by source and channel, as it was last described."""
        rows = self.db.execute(
            "SELECT source, units FROM streams WHERE type = ? ORDER BY stream", (EventType.READING,)
        )
        return {source: msgspec.json.decode(units) for source, units in rows}

    def run_of(self, seq: int) -> int:
        """Return the run that a sequence number belongs to."""
        index = bisect.bisect_right(self._firsts, seq) - 1
        return self._runs[max(index, 0)] if self._runs else 0


REMOVED: Final = "the file was removed or replaced"


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from another of the same name."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- half the time of Path.stat, in each commit
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
