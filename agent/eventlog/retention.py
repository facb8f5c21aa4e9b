"""What goes from the log's file, and when: by age, by size, and while the disk is nearly full. Plain functions."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.clock import NO_EARLIER
from agent.events import Lane

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from agent.eventlog.settings import DropPolicy

CHUNK: Final = 5_000
"""Rows in one DELETE, so that no transaction holds the writer up for long."""

MOVED: Final = 250
"""Rows held in memory while they move from one page to another; a row may have any size."""

RESERVE: Final = 1024**2
"""Bytes kept empty inside a file that may not grow, for what is written next."""

GIVE_BACK: Final = 16 * 1024**2
"""Bytes that must be empty, and more than half of the file, before the file shrinks: shrinking moves pages."""

REJECTED: Final = 10_000
"""Rejected events that are kept; the oldest go first."""

_SHIFT: Final = """ifnull((
    SELECT coalesce(this.correction, CASE WHEN this.is_set THEN 0 END, (
        SELECT next.offset - this.offset FROM clocks next
        WHERE next.first_seq > this.first_seq AND next.is_set ORDER BY next.first_seq LIMIT 1
    ), 1 << 60)
    FROM clocks this WHERE this.first_seq <= seq ORDER BY this.first_seq DESC LIMIT 1
), 0)"""
"""What is to be added to the time of an event to tell how old it is. Where its boot never knew the time, it is taken for one
of the next boot that did: too young rather than too old. While none is in the file that did, it is of the far future."""

_SIGNS: Final = ((Lane.READINGS, ">"), (Lane.URGENT, "<"))


class Usage(NamedTuple):
    """How full it is, in bytes.

    Attributes:
        used: What holds something in the file.
        size: The file, without the write-ahead log.
        free: What is free of the disk.
    """

    used: int
    size: int
    free: int


class Freed(NamedTuple):
    """What went to make room.

    Attributes:
        rows: How many events went in all.
        first: The first sequence number of those that were not delivered everywhere.
        last: The last one.
        lost: How many they were.
    """

    rows: int
    first: int = 0
    last: int = 0
    lost: int = 0


def usage(db: sqlite3.Connection, path: Path) -> Usage:
    """Look how full it is."""
    pages, empty, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    disk = os.statvfs(path.parent)
    return Usage((pages - empty) * size, pages * size, disk.f_bavail * disk.f_frsize)


def limit(now: Usage, max_size: int, min_free: int) -> int:
    """Return how many bytes may be used: where the disk is nearly full, no more than the file has already."""
    if now.free >= min_free:
        return max_size
    return min(max_size, max(now.size - RESERVE, RESERVE))


def delete_older(db: sqlite3.Connection, before: int, passed: Mapping[Lane, int]) -> int:
    """Delete a chunk of events from before a wall time; return how many.

    Args:
        db: The log.
        before: In microseconds since 1970-01-01 UTC.
        passed: By lane, up to which sequence number they may go. Rejected events stay.
    """
    deleted = 0
    for lane, sign in _SIGNS:
        deleted += db.execute(
            "DELETE FROM events WHERE seq IN (SELECT seq FROM (SELECT seq, time FROM events"  # noqa: S608
            f" WHERE stream {sign} 0 AND seq <= ? AND seq NOT IN (SELECT seq FROM rejected) ORDER BY seq LIMIT ?)"
            f" WHERE time + {_SHIFT} < ?)",
            (passed[lane], CHUNK, before),
        ).rowcount
    return deleted


def undelivered_older(db: sqlite3.Connection, before: int, passed: Mapping[Lane, int]) -> Freed:
    """Delete a chunk of events from before a wall time that are not delivered everywhere."""
    rows = db.execute(
        "SELECT seq, stream FROM (SELECT seq, time, stream FROM events WHERE seq > ?"  # noqa: S608 -- our own text
        " AND seq > CASE WHEN stream < 0 THEN ? ELSE ? END ORDER BY seq LIMIT ?)"
        f" WHERE time + {_SHIFT} < ?",
        (min(passed.values()), passed[Lane.URGENT], passed[Lane.READINGS], CHUNK, before),
    ).fetchall()
    delivered = {lane: _out_of_turn(db, lane, passed[lane]) for lane in Lane}
    lost = [
        seq
        for seq, stream in rows
        if not any(
            first <= seq <= last for first, last in delivered[Lane.URGENT if stream < 0 else Lane.READINGS]
        )
    ]
    return _delete(db, [seq for seq, _ in rows], lost)


def _out_of_turn(db: sqlite3.Connection, lane: Lane, passed: int) -> list[tuple[int, int]]:
    """Return what every consumer has of a lane beyond a sequence number: live events that have overtaken a backlog."""
    common: list[tuple[int, int]] | None = None
    for consumer, seq in db.execute(
        "SELECT consumer, seq FROM cursors WHERE lane = ?", (int(lane),)
    ).fetchall():
        ahead = "SELECT first, last FROM ahead WHERE consumer = ? AND lane = ? ORDER BY first"
        has = [(0, seq), *db.execute(ahead, (consumer, int(lane))).fetchall()]
        if common is None:
            common = has
        else:
            pairs = [(max(one[0], other[0]), min(one[1], other[1])) for one in common for other in has]
            common = sorted(pair for pair in pairs if pair[0] <= pair[1])
    return [(max(first, passed + 1), last) for first, last in common or () if last > passed]


def forget_rejected(db: sqlite3.Connection, before: int) -> None:
    """Forget rejections from before a wall time, and the oldest where there are too many."""
    db.execute(
        "DELETE FROM rejected WHERE time BETWEEN ? AND ?", (NO_EARLIER, before)
    )  # others are of an unset clock
    db.execute(
        "DELETE FROM rejected WHERE seq <= (SELECT seq FROM rejected ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        (REJECTED,),
    )


def forget_runs(db: sqlite3.Connection) -> None:
    """Forget runs, and what their clock was, of which no event is left; not the last one."""
    oldest = db.execute("SELECT ifnull(min(seq), 0) FROM events").fetchone()[0]
    for table in ("runs", "clocks"):
        last = db.execute(
            f"SELECT max(first_seq) FROM {table} WHERE first_seq <= ?",  # noqa: S608 -- one of two names
            (oldest,),
        ).fetchone()[0]
        if last is not None:
            db.execute(f"DELETE FROM {table} WHERE first_seq < ?", (last,))  # noqa: S608


def make_room(db: sqlite3.Connection, policy: DropPolicy, passed: Mapping[Lane, int], after: int) -> Freed:
    """Delete a chunk of events: delivered ones first, then readings as the policy says, alarms last.

    Args:
        db: The log.
        policy: Which undelivered readings go.
        passed: By lane, the sequence number up to which every consumer has acknowledged.
        after: Where thinning goes on.
    """
    for lane, sign in _SIGNS:
        rows = db.execute(
            f"SELECT seq FROM events WHERE stream {sign} 0 AND seq <= ? ORDER BY seq LIMIT ?",  # noqa: S608
            (passed[lane], CHUNK),
        ).fetchall()
        for first, last in () if rows else _out_of_turn(db, lane, passed[lane]):
            rows += db.execute(
                f"SELECT seq FROM events WHERE stream {sign} 0 AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",  # noqa: S608
                (first, last, CHUNK - len(rows)),
            ).fetchall()
        if rows:
            return _delete(db, [seq for (seq,) in rows], [])
    if policy == "thin":
        for start in dict.fromkeys((after, 0)):  # at the end of a pass, a new one begins
            if (freed := _thin(db, start)).rows:
                return freed
    order = "DESC" if policy == "newest" else "ASC"
    rows = (
        db.execute(
            f"SELECT seq FROM events WHERE stream > 0 ORDER BY seq {order} LIMIT ?",  # noqa: S608
            (CHUNK,),
        ).fetchall()
        or db.execute("SELECT seq FROM events ORDER BY seq LIMIT ?", (CHUNK,)).fetchall()
    )
    seqs = sorted(seq for (seq,) in rows)
    return _delete(db, seqs, seqs)


def _thin(db: sqlite3.Connection, after: int) -> Freed:
    """Delete every second reading of each device in a chunk, so that a slow one keeps as large a share as a fast one.

    The first of each stays, or a device with one reading in each chunk would lose them all. What stays is written anew, or
    each page would be left half empty and none would be free.
    """
    numbered = db.execute(
        "SELECT seq, row_number() OVER (PARTITION BY stream ORDER BY seq) FROM"
        " (SELECT seq, stream FROM events WHERE stream > 0 AND seq > ? ORDER BY seq LIMIT ?) ORDER BY seq",
        (after, CHUNK),
    ).fetchall()
    gone = [seq for seq, number in numbered if number % 2 == 0]
    if not gone:
        return Freed(0)
    left = [(seq,) for seq, number in numbered if number % 2 == 1]
    with _transaction(db):
        _delete_rows(db, gone)
        for start in range(0, len(left), MOVED):
            seqs = left[start : start + MOVED]
            rows = [db.execute("SELECT * FROM events WHERE seq = ?", seq).fetchone() for seq in seqs]
            _delete_rows(db, [seq for (seq,) in seqs])
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
    return Freed(len(gone), gone[0], gone[-1], len(gone))


def _delete(db: sqlite3.Connection, seqs: list[int], lost: list[int]) -> Freed:
    if not seqs:
        return Freed(0)
    with _transaction(db):
        _delete_rows(db, seqs)
    return Freed(len(seqs), lost[0], lost[-1], len(lost)) if lost else Freed(len(seqs))


def _delete_rows(db: sqlite3.Connection, seqs: list[int]) -> None:
    db.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in seqs])


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def give_back(db: sqlite3.Connection, now: Usage) -> None:
    """Return empty pages to the disk, where they are most of the file, as after a long backlog."""
    empty = now.size - now.used
    if empty > max(GIVE_BACK, now.used):
        # `execute` would stop after the first page; some megabytes at a time, for the writer waits meanwhile.
        db.executescript(f"PRAGMA incremental_vacuum({GIVE_BACK // 4096})")
        # Not TRUNCATE: a write-ahead log of no bytes tells nobody that it was there.
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
