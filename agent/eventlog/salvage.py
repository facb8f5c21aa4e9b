"""Every row of a damaged event log that can still be read, for whoever writes them into a new one.

The pages are read without SQLite (`pages`), so nothing says which table a row is of: its shape does, the types of its
columns, and whether it makes sense there. An event must be of a stream that was found too, with as many values as the
stream has channels, so that garbage does not pass for one.

What had been deleted may come back where SQLite had not yet used its place again: old events, the state of a part that
had been forgotten, a consumer's cursor. A receiver drops what it had by the event's id. What nobody can tell is a
value that was overwritten with another that makes sense.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agent.eventlog.pages import PageReader
from agent.events import Lane, Quality, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.eventlog.cells import Record

Row = tuple[Any, ...]
_Types = frozenset[type]

BATCH: Final = 1000
"""Events handed out at once."""

TIME_MAX: Final = 7_258_118_400_000_000
"""The year 2200 in microseconds since 1970-01-01 UTC: no wall time is later. An unset clock begins at 0."""

SEQ_MAX: Final = 2**53
"""No sequence number is larger."""

_decode_names = msgspec.json.Decoder(list[str]).decode
_decode_units = msgspec.json.Decoder(dict[str, str]).decode
_decode_values = msgspec.json.Decoder(list[Value]).decode
_decode_state = msgspec.json.Decoder(dict[str, Any]).decode
_decode_quality = msgspec.json.Decoder(dict[str, Quality]).decode

_NULL: Final = type(None)
_INTEGER: Final[_Types] = frozenset({int})
_TEXT: Final[_Types] = frozenset({str})
_MAYBE_INTEGER: Final[_Types] = frozenset({int, _NULL})
_MAYBE_TEXT: Final[_Types] = frozenset({str, _NULL})
_VALUE: Final[_Types] = frozenset({int, float, str, _NULL})


# --- what makes sense ---------------------------------------------------------------------------------------------


def _is_time(value: int) -> bool:
    return 0 <= value < TIME_MAX


def _is_seq(value: int) -> bool:
    return 0 < value < SEQ_MAX


def _is_event(row: Row) -> bool:
    seq, stream, time, _, quality, recorded = row
    if quality is not None:
        _decode_quality(quality)
    return (
        0 < seq < SEQ_MAX
        and stream != 0
        and 0 <= time < TIME_MAX
        and (recorded is None or 0 <= recorded < TIME_MAX)
    )


def _is_stream(row: Row) -> bool:
    names = _decode_names(row[3])
    _decode_units(row[4])
    return row[0] != 0 and row[1] != "" and len(set(names)) == len(names)


def _is_run(row: Row) -> bool:
    return 0 < row[0] < SEQ_MAX and _is_seq(row[1]) and _is_time(row[2]) and _is_time(row[3] or 0)


def _is_cursor(row: Row) -> bool:
    return row[1] in set(Lane) and 0 <= row[2] < SEQ_MAX


def _is_state(row: Row) -> bool:
    _decode_state(row[1])
    return True


def _is_ahead(row: Row) -> bool:
    return row[1] in set(Lane) and 0 <= row[2] <= row[3] < SEQ_MAX


def _is_rejected(row: Row) -> bool:
    return _is_seq(row[0]) and _is_time(row[2])


def _is_clock(row: Row) -> bool:
    return _is_seq(row[0])


# --- which of two versions ----------------------------------------------------------------------------------------


def _later(_: Row, new: Row) -> Row:
    return new


def _ended(old: Row, new: Row) -> Row:
    return old if old[3] is not None and new[3] is None else new


def _further(old: Row, new: Row) -> Row:
    return max(old, new, key=lambda row: row[-1])


def _saved_later(old: Row, new: Row) -> Row:
    return old if _saved(old) > _saved(new) else new


def _saved(row: Row) -> float:
    saved = _decode_state(row[1]).get("saved")
    return saved if isinstance(saved, int | float) else -math.inf


# --- the tables ---------------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """What a row of a table looks like.

    Attributes:
        name: As the schema has it.
        has_rowid: Whether the first column is an INTEGER PRIMARY KEY; otherwise the table is WITHOUT ROWID.
        columns: What may be in each column, in the order of the schema.
        key: How many of the first columns are the primary key.
        makes_sense: Whether a row of that shape can be one; may raise ValueError where it cannot.
        choose: Returns the better of two rows with the same key, the earlier and the later.
        added: How many of the last columns came with a later version of the schema; rows from before lack them.
    """

    name: str
    has_rowid: bool
    columns: tuple[_Types, ...]
    key: int
    makes_sense: Callable[[Row], bool]
    choose: Callable[[Row, Row], Row]
    added: int = 0

    def fits(self, is_keyed: bool, kinds: tuple[type, ...]) -> bool:
        """Whether a record of such types may be a row of this table."""
        if self.has_rowid != is_keyed or not 0 <= len(self.columns) - len(kinds) <= self.added:
            return False
        wanted = (frozenset({_NULL}), *self.columns[1:]) if is_keyed else self.columns
        return all(kind in allowed for kind, allowed in zip(kinds, wanted, strict=False))

    def row(self, record: Record) -> Row | None:
        """Return a record of fitting types as a row of this table, or None where it makes no sense."""
        row = record.values if record.rowid is None else (record.rowid, *record.values[1:])
        row += (None,) * (len(self.columns) - len(row))
        try:
            return row if self.makes_sense(row) else None
        except ValueError:  # msgspec's are such
            return None


_EVENTS: Final = _Table(
    "events",
    True,
    (_INTEGER, _INTEGER, _INTEGER, _VALUE, _MAYBE_TEXT, _MAYBE_INTEGER),
    1,
    _is_event,
    _later,
    1,
)
_TABLES: Final = (
    _EVENTS,
    _Table("streams", True, (_INTEGER, _TEXT, _TEXT, _TEXT, _TEXT), 1, _is_stream, _later),
    _Table("runs", True, (_INTEGER, _INTEGER, _INTEGER, _MAYBE_INTEGER, _TEXT), 1, _is_run, _ended),
    _Table("cursors", False, (_TEXT, _INTEGER, _INTEGER), 2, _is_cursor, _further),
    _Table("states", False, (_TEXT, _TEXT), 1, _is_state, _saved_later),
    # Schema version 2, and the last column of events
    _Table("ahead", False, (_TEXT, _INTEGER, _INTEGER, _INTEGER), 3, _is_ahead, _further),
    _Table("rejected", False, (_INTEGER, _TEXT, _INTEGER, _TEXT), 2, _is_rejected, _later),
    _Table(
        "clocks",
        True,
        (_INTEGER, _TEXT, _INTEGER, _INTEGER, _MAYBE_INTEGER),
        1,
        _is_clock,
        _later,
    ),
)
_LONGEST: Final = max(len(table.columns) for table in _TABLES)


class _Sorter:
    """Tells rows of our tables from each other; remembers which tables a combination of types fits."""

    def __init__(self) -> None:
        self._fitting: dict[tuple[bool, tuple[type, ...]], list[_Table]] = {}

    def fitting(self, record: Record) -> list[_Table]:
        """Return the tables that have rows of such types."""
        if len(record.values) > _LONGEST:
            return []
        shape = (record.rowid is not None, tuple(map(type, record.values)))
        found = self._fitting.get(shape)
        if found is None:
            found = self._fitting[shape] = [table for table in _TABLES if table.fits(*shape)]
        return found

    def row(self, record: Record) -> tuple[_Table, Row] | None:
        """Return what a record is, or None where it is no row of ours."""
        for table in self.fitting(record):
            row = table.row(record)
            if row is not None:
                return table, row
        return None


# --- the salvage --------------------------------------------------------------------------------------------------


class Salvage:
    """What was found in a damaged log.

    Attributes:
        rows: By table, all rows but the events, each key once, in order of the key, ready for INSERT OR REPLACE.
        counts: Rows by table. Of the events those that `events` has yielded so far, repeats among them.
        lost: Events that `events` has met so far which cannot be understood: of a stream that was not found, or with
            other values than it has. Repeats among them.
        highest_seq: No event, cursor, stretch or run that was found is beyond this sequence number; 0 where there is none.
        highest_run: The highest number of a run that was found; 0 where there is none.
        pages: Pages read, those of the -wal included.
        blank_pages: Pages of zeros among them: freed by an SQLite that wipes them, or lost.
        missing_pages: Pages that the file once had, and that are not there: it was cut.
        senseless_pages: Pages that are no page of a database, or could not be read.
        senseless_cells: Rows that could not be read, on pages that could.
    """

    def __init__(self, damaged: Path) -> None:
        self._reader = PageReader(damaged)
        self._sorter = _Sorter()
        self._channels: dict[int, int] = {}
        self.rows: dict[str, list[Row]] = {table.name: [] for table in _TABLES if table is not _EVENTS}
        self.counts = {table.name: 0 for table in _TABLES}
        self.lost = 0
        self.highest_seq = 0
        self.highest_run = 0
        self.pages = self.blank_pages = self.missing_pages = self.senseless_pages = self.senseless_cells = 0

    def find(self) -> None:
        """Read the file a first time, for all but the events.

        Raises:
            OSError: It cannot be opened.
        """
        found: dict[str, dict[Row, Row]] = {name: {} for name in self.rows}
        reader = self._reader
        only_events = [_EVENTS]
        for records in reader.pages():
            for record in reversed(records):  # of a page's events the last tells the highest number
                if (record.rowid or 0) <= self.highest_seq and self._sorter.fitting(record) == only_events:
                    continue
                sorted_as = self._sorter.row(record)
                if sorted_as is None:
                    continue
                table, row = sorted_as
                if table is _EVENTS:
                    self.highest_seq = max(self.highest_seq, row[0])
                    continue
                rows, key = found[table.name], row[: table.key]
                rows[key] = table.choose(rows[key], row) if key in rows else row
        for name, rows in found.items():
            self.rows[name] = [rows[key] for key in sorted(rows)]
            self.counts[name] = len(rows)
        self._channels = {row[0]: len(_decode_names(row[3])) for row in self.rows["streams"]}
        reached = [row[2] for row in self.rows["cursors"]] + [row[1] - 1 for row in self.rows["runs"]]
        reached += [row[3] for row in self.rows["ahead"]]
        self.highest_seq = max([self.highest_seq, *reached])
        self.highest_run = max((row[0] for row in self.rows["runs"]), default=0)
        self.pages, self.blank_pages, self.missing_pages = reader.read, reader.blank, reader.missing
        self.senseless_pages, self.senseless_cells = reader.senseless, reader.cells

    def events(self) -> Iterator[list[Row]]:
        """Read the file once more and yield its events, up to `BATCH` at once; may be called again.

        Each is `(seq, stream, time, value, quality, recorded)`, the last None in a log of schema version 1. With
        INSERT OR REPLACE, the last version of an event is what stays.

        Raises:
            OSError: The file cannot be opened.
        """
        self.counts["events"] = self.lost = 0
        batch: list[Row] = []
        for records in self._reader.pages():
            for record in records:
                sorted_as = self._sorter.row(record)
                if sorted_as is None or sorted_as[0] is not _EVENTS:
                    continue
                if self._is_understood(sorted_as[1]):
                    batch.append(sorted_as[1])
                else:
                    self.lost += 1
            if len(batch) >= BATCH:
                self.counts["events"] += len(batch)
                yield from (batch[start : start + BATCH] for start in range(0, len(batch), BATCH))
                batch = []
        if batch:
            self.counts["events"] += len(batch)
            yield batch

    def _is_understood(self, event: Row) -> bool:
        """Whether the event's stream is known and its value is one of that stream."""
        count, value = self._channels.get(event[1]), event[3]
        if count == 1:
            return not isinstance(value, float) or math.isfinite(value)
        if count is None or not isinstance(value, str):
            return False
        try:
            return len(_decode_values(value)) == count
        except msgspec.DecodeError:
            return False


def salvage(damaged: Path) -> Salvage:
    """Find what can still be read of an event log, in whatever state it is. Writes nothing.

    Args:
        damaged: The database file. What SQLite kept beside it as `-wal` is read too; either may be missing.

    Raises:
        OSError: A file is there and cannot be opened.
    """
    found = Salvage(damaged)
    found.find()
    return found
