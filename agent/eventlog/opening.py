"""Taking the log's file, in whatever state it is: one agent at a time; what is damaged is salvaged and set aside.

A new file is made of what can still be read beside the damaged one, under another name, and only when it is whole takes
its place. So a power cut in the midst of it costs nothing: the next start begins again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from agent.errors import GatepostError
from agent.eventlog.identity import SKIPPED, Numbers, jump, next_run, unknown
from agent.eventlog.salvage import Salvage, salvage
from agent.eventlog.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from agent.eventlog.clocks import Clocks
    from agent.eventlog.cursors import Ahead, Key
    from agent.events import Value

SET_ASIDE: Final = 3
"""Damaged files that are kept: a card that damages them again and again must not fill up with them."""

CONFLICT: Final = "it has the numbers of this run"
"""What is wrong with a file that is found late by a run which began without it, and while the clock was not set."""

Senseless: Final = (msgspec.DecodeError, LookupError, TypeError, ValueError)
"""What reading a row raises that makes no sense."""

LOST_WAL: Final = "its write-ahead log was gone, and with it what was written last"

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""The last, for statements that never change, says that a table is not what it was."""


class LogInUse(GatepostError):  # noqa: N818
    """Another program writes to this log."""


class Kept(NamedTuple):
    """What a file knows from earlier runs.

    Attributes:
        was_clean: Whether the last run ended by itself.
        cursors: By consumer and lane.
        ahead: Stretches that were delivered ahead of the cursors.
        states: By part.
        clocks: What its events were stamped with.
    """

    was_clean: bool
    cursors: dict[Key, int]
    ahead: dict[Key, list[Ahead]]
    states: dict[str, dict[str, Value]]
    clocks: Clocks


class Recovery(NamedTuple):
    """That a damaged file was replaced.

    Attributes:
        reason: What was wrong with it.
        set_aside: Where it is now; None where nothing was left of it.
        salvaged: Events that were read from it, repeats among them.
        unreadable: Pages of it that could not be read, or were no longer there.
    """

    reason: str
    set_aside: Path | None = None
    salvaged: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        if self.reason == LOST_WAL:
            return f"{self.reason}; the file itself is used as it is"
        old = (
            f"the old one is {self.set_aside}"
            if self.set_aside is not None
            else "nothing was left of the old one"
        )
        return f"{self.reason}; {self.salvaged} events salvaged, {self.unreadable} pages unreadable; {old}"

    @property
    def facts(self) -> dict[str, Value]:
        """What an event says of it."""
        facts: dict[str, Value] = {
            "reason": self.reason, "salvaged": self.salvaged, "unreadable": self.unreadable,
        }  # fmt: skip
        return facts if self.set_aside is None else facts | {"set_aside": str(self.set_aside)}


class Opened(NamedTuple):
    """A file that is ours to write.

    Attributes:
        store: The connection, to be used in the thread that opened it.
        lock: Held open as long as it is ours; None where the disk takes no lock.
        numbers: Of the run that is next.
        kept: From earlier runs.
        recovery: Whether it had to be made anew.
        last_run: The number of the run before, 0 where there is none.
    """

    store: EventStore
    lock: TextIO | None
    numbers: Numbers
    kept: Kept
    recovery: Recovery | None
    last_run: int = 0


def is_damage(error: Exception) -> bool:
    """Whether an error says that the file itself is bad, and not only that the disk refuses at present."""
    if isinstance(error, Senseless):
        return True  # a row that makes no sense
    if isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode to UTF-8"):
        return True  # Python's own, without a code
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def take(path: Path, now: int, damage: str | None) -> Opened:
    """Take a log's file for this process; `LogFile.begin` then begins a run in it.

    Args:
        path: The file; its folder is made where it is missing.
        now: The wall time, in microseconds since 1970-01-01 UTC.
        damage: What is known to be wrong with the file, so that it is made anew; None where nothing is.

    Raises:
        LogInUse: Another process has it.
        NewerLog: It was written by a newer gatepost.
        ForeignFile: It belongs to another program.
        sqlite3.Error: The disk refuses at present.
        OSError: The disk refuses at present.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = lock(path)
    try:
        recovery = _finish(path, now)
        damage = damage or _visible_damage(path)
        if damage is None:
            was_there = path.exists()
            has_wal = _has_wal(path)
            try:
                store = _open(path)
                run, newest, was_clean = store.newest()
                kept = _kept(store)
                if recovery is None and was_there and not has_wal and (run == 0 or not was_clean):
                    # SQLite takes the file alone for all there was, although the last run did not close it.
                    recovery = Recovery(LOST_WAL)
                if recovery is not None:
                    return _anew(store, held, recovery, now, are_runs_known=run > 0)
                return Opened(store, held, Numbers(next_run(run, now), newest + 1), kept, None, run)
            except (sqlite3.DatabaseError, *Senseless) as error:
                if not is_damage(error):
                    raise
                damage = str(error)
        if damage == CONFLICT:
            recovery, are_runs_known = Recovery(damage, _set_aside(path, now)), False
        else:
            recovery, are_runs_known = _replace(path, damage, now)
        return _anew(_open(path), held, recovery, now, are_runs_known=are_runs_known)
    except BaseException:
        if held is not None:
            held.close()
        raise


def _anew(
    store: EventStore, held: TextIO | None, recovery: Recovery, now: int, *, are_runs_known: bool
) -> Opened:
    """Return a file of which something is missing, with numbers that what is missing cannot have had."""
    run, newest, _ = store.newest()
    skipped = newest + SKIPPED
    numbers = Numbers(next_run(run, now), skipped) if are_runs_known else unknown(max(now, skipped))
    return Opened(store, held, numbers, _kept(store)._replace(was_clean=False), recovery)


def _visible_damage(path: Path) -> str | None:
    """Return what SQLite would take for a new file, although something was there; None where nothing is wrong."""
    if path.exists():
        return "it was empty" if path.stat().st_size == 0 else None
    return "only its write-ahead log was there" if _has_wal(path) else None


def _has_wal(path: Path) -> bool:
    wal = path.with_name(path.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0


def look(path: Path) -> tuple[Numbers, Kept] | None:
    """Read what a file that cannot be written knows; None where it cannot be read either.

    The run that begins on it in memory gets a number that no committed run ever has.
    """
    store = EventStore(path)
    try:
        store.open_reader()
        run, newest, _ = store.newest()
        return Numbers(jump(run), newest + 1), _kept(store)
    except (sqlite3.Error, OSError, GatepostError, *Senseless):
        return None
    finally:
        store.close()


def _open(path: Path) -> EventStore:
    store = EventStore(path)
    try:
        store.open_writer()
    except BaseException:
        store.close()
        raise
    return store


def _kept(store: EventStore) -> Kept:
    return Kept(store.newest()[2], store.cursors(), store.ahead(), store.states(), store.clocks)


# --- one agent at a time ------------------------------------------------------------------------------------------


def lock(path: Path) -> TextIO | None:
    """Claim a log for this process, until the returned file is closed or the process ends; None on a read-only disk.

    Raises:
        LogInUse: Another process has claimed it.
    """
    file = path.with_name(path.name + ".lock")
    try:
        held = file.open("a+")
    except OSError:
        if not file.exists():
            return None
        held = file.open("r")  # the claim itself writes nothing
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.seek(0)
        holder = held.read().strip()
        held.close()
        raise LogInUse(
            f"another gatepost (process {holder or 'unknown'}) writes to {path}; "
            f"stop it, or give this one a file of its own with `log: {{path: …}}`"
        ) from None
    with contextlib.suppress(OSError):  # a full disk: then the message above names nobody
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
    return held


# --- damage -------------------------------------------------------------------------------------------------------


def _replace(path: Path, reason: str, now: int) -> tuple[Recovery, bool]:
    """Make a new file of what can be read of a damaged one, and set that aside; also return whether its runs are known."""
    making, made = _beside(path)
    _remove(making)
    _look_for_room(path)
    found = salvage(path)
    store = _open(making)
    try:
        salvaged = _fill(store, found)
    except BaseException:
        store.close()
        _remove(making)  # on a full disk it would be in the way of its own next try
        raise
    store.close()
    os.replace(making, made)  # noqa: PTH105 -- atomic
    finished = _finish(path, now)
    aside = finished.set_aside if finished is not None else None
    unreadable = found.senseless_pages + found.blank_pages + found.missing_pages
    return Recovery(reason, aside, salvaged, unreadable), found.highest_run > 0


def _look_for_room(path: Path) -> None:
    """Refuse to begin what the disk has no room for: to try it each second would wear it out.

    Raises:
        OSError: There is less than the old file takes.
    """
    needed = sum(file.stat().st_size for file in _with_siblings(path) if file.exists())
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize < needed:
        raise OSError(
            errno.ENOSPC, f"it is damaged, and making it anew needs {needed / 1e6:.1f} MB of free disk"
        )


def _fill(store: EventStore, found: Salvage) -> int:
    """Write what was read of a damaged file to a new one, all of it into the file itself; return how many events it has."""
    for table, rows in found.rows.items():
        for row in rows:
            marks = ",".join("?" * len(row))
            store.db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608 -- our own tables
    for batch in found.events():
        store.db.execute("BEGIN")
        store.db.executemany("INSERT OR REPLACE INTO events VALUES (?,?,?,?,?,?)", batch)
        store.db.execute("COMMIT")
    store.db.execute(
        "PRAGMA wal_checkpoint(TRUNCATE)"
    ).fetchall()  # closing would do it too, but not say where it cannot
    salvaged: int = store.db.execute("SELECT count(*) FROM events").fetchone()[0]
    return salvaged


def _finish(path: Path, now: int) -> Recovery | None:
    """Put a file that was made anew in its place, also where that was interrupted; None where there is none."""
    _, made = _beside(path)
    if not made.exists():
        return None
    aside = _set_aside(path, now)
    os.replace(made, path)  # noqa: PTH105 -- atomic
    _sync_folder(path.parent)
    return Recovery("making it anew was interrupted", aside)


def _beside(path: Path) -> tuple[Path, Path]:
    """Return the names of the file that is being made, and of the one that is whole."""
    return path.with_name(path.name + ".salvaging"), path.with_name(path.name + ".salvaged")


def _remove(path: Path) -> None:
    for file in _with_siblings(path):
        file.unlink(missing_ok=True)


def _with_siblings(path: Path) -> Iterator[Path]:
    """Yield a database file and what SQLite keeps beside it, the file itself last: while it is there, nothing is done."""
    for suffix in ("-shm", "-wal", ""):
        yield path.with_name(path.name + suffix)


def _set_aside(path: Path, now: int) -> Path | None:
    """Move a damaged log out of the way, under a dated name, with what SQLite keeps beside it; return that name."""
    if not path.exists() and not path.with_name(path.name + "-wal").exists():
        return None
    stamp = f"{datetime.fromtimestamp(now // 1_000_000, UTC):%Y%m%dT%H%M%S}"
    before = sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"))
    for old in before[: max(0, len(before) - SET_ASIDE + 1)]:
        _remove(old)
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for part in _with_siblings(path):
        if part.exists():
            target = part.with_name(part.name.replace(path.name, aside.name, 1))
            os.replace(part, target)  # noqa: PTH105 -- atomic, over what may be there
    return aside


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
