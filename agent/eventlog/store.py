"""The event log's file: its schema, its rows and its transactions. Plain functions that block on the disk.

Every event is one compact row. What repeats (type, source, the channels' names and units) is a stream, said once in a
table of its own; a row holds the stream's number, the time and the value: a single one as itself, several as a JSON
array in the stream's order. Streams of the urgent lane have negative numbers, so a partial index finds urgent events
without a column of their own. The view `readable` shows it all to a person with the sqlite3 shell.
"""

from __future__ import annotations

import bisect
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.errors import GatepostError
from agent.events import Event, EventType, Lane, Quality, lane_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.events import Value

APPLICATION_ID: Final = 0x67617465  # "gate": file(1) and PRAGMA application_id tell whose file it is
SCHEMA_VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER, version TEXT NOT NULL
);
CREATE TABLE streams (
    stream INTEGER PRIMARY KEY, type TEXT NOT NULL, source TEXT NOT NULL, channels TEXT NOT NULL, units TEXT NOT NULL
);
CREATE TABLE events (seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL, time INTEGER NOT NULL, value, quality TEXT);
CREATE INDEX urgent_events ON events (seq) WHERE stream < 0;
CREATE TABLE cursors (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (consumer, lane)
) WITHOUT ROWID;
CREATE TABLE states (part TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE VIEW readable AS
SELECT
    (SELECT max(run) FROM runs WHERE first_seq <= seq) || '-' || seq AS id,
    strftime('%Y-%m-%d %H:%M:%S', time / 1000000, 'unixepoch') || printf('.%06d', time % 1000000) AS utc,
    type, source, channels, value, units, quality
FROM events JOIN streams USING (stream);
"""

_INSERTS: Final = [
    (size, "INSERT INTO events VALUES " + ",".join(["(?,?,?,?,?)"] * size))  # noqa: S608 -- question marks
    for size in (100, 10, 1)
]
"""One statement lets go of Python's lock once, however many rows it writes. Few sizes, because SQLite keeps a compiled
program for each, and Python keeps the last 128 of them."""

DELETE_CHUNK: Final = 5_000
"""Rows in one DELETE of retention, so that no transaction holds the writer up for long."""

_encode = msgspec.json.Encoder().encode
_decode_quality = msgspec.json.Decoder(dict[str, Quality]).decode
_Stream = tuple[int, tuple[str, ...]]  # number, channels


class NewerLog(GatepostError):  # noqa: N818
    """The log was written by a newer gatepost; it is left as it is."""


class EventStore:
    """One connection to the log's file. To be used by one thread at a time.

    Attributes:
        path: The database file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._by_number: dict[int, tuple[str, str, tuple[str, ...]]] = {}
        self._runs: list[int] = []
        self._firsts: list[int] = []

    # --- open and close ---------------------------------------------------------------------------------------

    def open_writer(self) -> None:
        """Open or create the file for writing.

        Raises:
            sqlite3.DatabaseError: It is damaged, or the disk is.
            NewerLog: It was written by a newer gatepost.
        """
        self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # a commit is on the medium
        self._db.execute("PRAGMA journal_size_limit = 8388608")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise NewerLog(
                f"{self.path} was written by a newer gatepost (schema {version}, this one knows {SCHEMA_VERSION}); "
                f"install that version again, or name another file with `log: {{path: …}}`"
            )
        if version == 0:
            self._db.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
        self._load()

    def open_reader(self) -> None:
        """Open the file for reading only; the writer is never held up by it.

        Raises:
            sqlite3.DatabaseError: There is no such file, or it is damaged.
        """
        self._db = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        self._db.isolation_level = None
        self._load()

    def close(self) -> None:
        """Close the connection, where there is one."""
        if hasattr(self, "_db"):
            self._db.close()

    def _load(self) -> None:
        for number, kind, source, channels in self._db.execute(
            "SELECT stream, type, source, channels FROM streams ORDER BY abs(stream)"
        ):
            names = tuple(msgspec.json.decode(channels, type=list[str]))
            self._streams[kind, source] = (number, names)
            self._by_number[number] = (kind, source, names)
        runs = self._db.execute("SELECT run, first_seq FROM runs ORDER BY run").fetchall()
        self._runs = [run for run, _ in runs]
        self._firsts = [first for _, first in runs]

    # --- runs, cursors and states -----------------------------------------------------------------------------

    def begin_run(self, started: int, version: str) -> tuple[int, int, bool]:
        """Commit the start of a run: its number, its first sequence number, and whether the last one ended cleanly."""
        last = self._db.execute("SELECT run, ended FROM runs ORDER BY run DESC LIMIT 1").fetchone()
        first = self._db.execute(
            "SELECT max((SELECT ifnull(max(seq), 0) FROM events), (SELECT ifnull(max(seq), 0) FROM cursors),"
            " (SELECT ifnull(max(first_seq), 1) - 1 FROM runs)) + 1"
        ).fetchone()[0]
        run = last[0] + 1 if last else 1
        self._db.execute("INSERT INTO runs VALUES (?, ?, ?, NULL, ?)", (run, first, started, version))
        self._runs.append(run)
        self._firsts.append(first)
        return run, first, last is None or last[1] is not None

    def end_run(self, run: int, ended: int) -> None:
        """Commit the clean end of a run."""
        self._db.execute("UPDATE runs SET ended = ? WHERE run = ?", (ended, run))

    def cursors(self) -> dict[tuple[str, Lane], int]:
        """Return the saved cursors by consumer and lane."""
        rows = self._db.execute("SELECT consumer, lane, seq FROM cursors")
        return {(consumer, Lane(lane)): seq for consumer, lane, seq in rows}

    def forget_consumers(self, names: Iterable[str]) -> None:
        """Delete the cursors of consumers that are gone, so that the log is no longer kept for them."""
        self._db.executemany("DELETE FROM cursors WHERE consumer = ?", [(name,) for name in names])

    def states(self) -> dict[str, dict[str, Value]]:
        """Return the saved states of the parts."""
        return {
            part: msgspec.json.decode(state)
            for part, state in self._db.execute("SELECT part, state FROM states")
        }

    # --- events ---------------------------------------------------------------------------------------------------

    def write(
        self,
        events: Sequence[Event],
        cursors: Mapping[tuple[str, Lane], int],
        states: Mapping[str, Mapping[str, Value] | None],
        units: Mapping[str, Mapping[str, str]],
    ) -> None:
        """Write events, cursors and states in one transaction; a state of None is deleted.

        Raises:
            sqlite3.Error: Nothing was written.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            start = 0
            for size, statement in _INSERTS:
                while len(events) - start >= size:
                    chunk = events[start : start + size]
                    self._db.execute(statement, [item for event in chunk for item in self._row(event, units)])
                    start += size
            self._db.executemany(
                "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
                [(consumer, int(lane), seq) for (consumer, lane), seq in cursors.items()],
            )
            for part, state in states.items():
                if state is None:
                    self._db.execute("DELETE FROM states WHERE part = ?", (part,))
                else:
                    self._db.execute(
                        "INSERT OR REPLACE INTO states VALUES (?, ?)", (part, _encode(state).decode())
                    )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._streams.clear()  # streams made in this transaction are gone with it
            self._by_number.clear()
            self._load()
            raise

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
        return (event.seq, number, event.time, value, quality)

    def _add_stream(self, event: Event, known: tuple[str, ...], units: Mapping[str, str]) -> _Stream:
        channels = known + tuple(channel for channel in event.values if channel not in known)
        number = (max(map(abs, self._by_number), default=0) + 1) * (
            -1 if lane_of(event.type) is Lane.URGENT else 1
        )
        said = {channel: units[channel] for channel in channels if units.get(channel)}
        self._db.execute(
            "INSERT INTO streams VALUES (?, ?, ?, ?, ?)",
            (number, event.type, event.source, _encode(channels).decode(), _encode(said).decode()),
        )
        self._streams[event.type, event.source] = (number, channels)
        self._by_number[number] = (event.type, event.source, channels)
        return number, channels

    def read(self, lane: Lane | None, after: int, upto: int | None, limit: int) -> list[Event]:
        """Return events with `after` < seq <= `upto` in order; of both lanes where the lane is None."""
        of_lane = {None: "", Lane.URGENT: "AND stream < 0", Lane.READINGS: "AND stream > 0"}[lane]
        rows = self._db.execute(
            "SELECT seq, stream, time, value, quality FROM events"  # noqa: S608 -- of our own making
            f" WHERE seq > ? AND seq <= ? {of_lane} ORDER BY seq LIMIT ?",
            (after, 2**62 if upto is None else upto, limit),
        ).fetchall()
        return [self._event(*row) for row in rows]

    def count(self, lane: Lane, after: int, upto: int) -> int:
        """Return how many events of a lane have `after` < seq <= `upto`."""
        sign = "<" if lane is Lane.URGENT else ">"
        row = self._db.execute(
            f"SELECT count(*) FROM events WHERE seq > ? AND seq <= ? AND stream {sign} 0",  # noqa: S608
            (after, upto),
        ).fetchone()
        return int(row[0])

    def last(self, count: int) -> int:
        """Return the sequence number after which the last `count` events come."""
        row = self._db.execute(
            "SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?", (count,)
        ).fetchone()
        return int(row[0]) if row else 0

    def since(self, time: int) -> int:
        """Return the sequence number after which events happened at or after a wall time, in microseconds."""
        # By bisection: time rises with seq but for corrections of the clock, and no index on time wears the card.
        low, high = self._db.execute("SELECT ifnull(min(seq), 1), ifnull(max(seq), 0) FROM events").fetchone()
        while low <= high:
            middle = (low + high) // 2
            row = self._db.execute(
                "SELECT seq, time FROM events WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
            ).fetchone()
            if row is None or row[1] >= time:
                high = middle - 1
            else:
                low = row[0] + 1
        return int(low) - 1

    def _event(self, seq: int, stream: int, time: int, value: Value, quality: str | None) -> Event:
        if stream not in self._by_number or not self._firsts:
            self._load()  # the writer has added it since we opened
        kind, source, channels = self._by_number[stream]
        qualities = _decode_quality(quality) if quality else None
        if len(channels) == 1:
            pairs: Iterable[tuple[str, Value]] = ((channels[0], value),)
        else:
            pairs = zip(channels, msgspec.json.decode(value), strict=False)  # type: ignore[arg-type]
        values = {c: v for c, v in pairs if v is not None or (qualities is not None and c in qualities)}
        return Event(self.run_of(seq), seq, kind, source, time, values, qualities)

    def units(self) -> dict[str, dict[str, str]]:
        """Return the unit by source and channel, as it was last described."""
        rows = self._db.execute(
            "SELECT source, units FROM streams WHERE type = ? ORDER BY stream", (EventType.READING,)
        )
        return {source: msgspec.json.decode(units) for source, units in rows}

    def run_of(self, seq: int) -> int:
        """Return the run that a sequence number belongs to."""
        index = bisect.bisect_right(self._firsts, seq) - 1
        return self._runs[max(index, 0)] if self._runs else 0

    # --- retention ------------------------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Return the bytes of the file that hold something."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def delete_older(self, before: int, passed: Mapping[Lane, int]) -> int:
        """Delete a chunk of events from before a wall time that every consumer has passed; return how many.

        Args:
            before: In microseconds since 1970-01-01 UTC.
            passed: By lane, the sequence number up to which every consumer has acknowledged.
        """
        deleted = 0
        for lane, sign in ((Lane.READINGS, ">"), (Lane.URGENT, "<")):
            deleted += self._db.execute(
                "DELETE FROM events WHERE seq IN (SELECT seq FROM (SELECT seq, time FROM events"  # noqa: S608
                f" WHERE stream {sign} 0 AND seq <= ? ORDER BY seq LIMIT ?) WHERE time < ?)",
                (passed[lane], DELETE_CHUNK, before),
            ).rowcount
        return deleted

    def delete_oldest(self, passed: Mapping[Lane, int]) -> tuple[int, int, int, int]:
        """Delete a chunk of the oldest events to make room, readings first, alarms last.

        Returns:
            How many were deleted; and of those that were not delivered everywhere, the first and the last sequence
            number, and how many.
        """
        for lane, sign in ((Lane.READINGS, ">"), (Lane.URGENT, "<")):
            rows = self._db.execute(
                f"SELECT seq FROM events WHERE stream {sign} 0 ORDER BY seq LIMIT ?",  # noqa: S608
                (DELETE_CHUNK,),
            ).fetchall()
            if rows:
                last = rows[-1][0]
                self._db.execute(f"DELETE FROM events WHERE seq <= ? AND stream {sign} 0", (last,))  # noqa: S608
                lost = [seq for (seq,) in rows if seq > passed[lane]]
                return (len(rows), lost[0], lost[-1], len(lost)) if lost else (len(rows), 0, 0, 0)
        return (0, 0, 0, 0)
