"""The log's file: whose, which version, whole. It is only read, and a running agent is not held up."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from agent.doctor.findings import Finding, counted, fault, note, ok
from agent.errors import GatepostError
from agent.eventlog import EventStore, schema
from agent.eventlog.opening import Senseless

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.doctor.case import Case

READ_FOR: Final = 3.0
"""Seconds that are spent on reading through it; what is larger is read in part."""

STEPS: Final = 2000
"""Instructions of SQLite's machine between looks at the clock."""

MOST: Final = 3
"""Faults of the file that are told."""


def examine(case: Case) -> Iterator[Finding]:
    """Look at the log's file."""
    log = case.log
    try:
        if not log.exists():
            yield ok(f"there is no log yet at {log}; the first start makes it")
            return
        with log.open("rb"):
            pass
        if not case.user.may(log, write=True):
            yield fault(f"{case.user.name} may not write to {log}", f"sudo chown {case.user.name} {log}*")
    except OSError as error:
        yield note(f"cannot read {log}: {error.strerror}", "call this again with sudo")
        return
    yield from _read(case)
    aside = sorted(log.parent.glob(f"{log.name}.damaged-*[0-9]"))
    if aside:
        yield note(
            f"damaged logs were set aside: {len(aside)}, the last one is {aside[-1].name}",
            "the card or the power supply may be failing; once they are not needed: remove them",
        )


def _read(case: Case) -> Iterator[Finding]:
    log = case.log
    store = EventStore(log)
    try:
        _open(store, is_alone=not case.agent.is_there)
        version = int(store.db.execute("PRAGMA user_version").fetchone()[0])
        _, newest, was_clean = store.newest()
        faults, is_whole = quick_check(store.db, READ_FOR)
        refused = schema.refused(store.db) if not faults and version == schema.VERSION else None
    except GatepostError as error:  # newer, or another program's
        what, _, todo = str(error).partition("; ")
        yield fault(what, todo)
        return
    except (sqlite3.Error, *Senseless) as error:
        yield _damaged(log, str(error))
        return
    finally:
        store.close()
    size = f"{log.stat().st_size / 1e6:.1f} MB"
    for what in faults:
        yield _damaged(log, what)
    if not faults:
        part = "" if is_whole else f", as far as it could be read in {READ_FOR:g} s"
        older = "" if version == schema.VERSION else f", which the next start makes {schema.VERSION}"
        yield ok(f"the log is whole{part}: {size}, schema {version}{older}, last event {newest}")
    if not was_clean and not case.agent.is_there:
        yield note(
            "the last run did not end by itself: a power cut, a kill or a crash",
            "nothing, if you know why; else look at its messages: journalctl -u gatepost -b -1 -n 50",
        )
    if refused:
        count, consumer, reason = refused
        yield note(
            f"far sides have refused {counted(count, 'event')}, the latest by {consumer}: {reason}",
            f"gatepost events --rejected {case.config.path}",
        )


def _open(store: EventStore, *, is_alone: bool) -> None:
    """Open the file; where nobody writes and all is in the file itself, without making anything beside it.

    After a kill SQLite needs its index of the write-ahead log (-shm), and makes it anew: for the file's owner, also as root.
    """
    wal = store.path.with_name(store.path.name + "-wal")
    store.open_reader(is_alone=is_alone and not wal.exists())


def quick_check(db: sqlite3.Connection, seconds: float) -> tuple[list[str], bool]:
    """Return what SQLite finds wrong with a file within a time, and whether it came to the end."""
    until = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    found: list[str] = []
    is_whole = True
    try:
        for (line,) in db.execute(f"PRAGMA quick_check({MOST})"):
            found.append(line)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        is_whole = False
    finally:
        with contextlib.suppress(sqlite3.Error):
            db.set_progress_handler(None, STEPS)
    return [line for line in found if line != "ok"], is_whole


def _damaged(log: Path, why: str) -> Finding:
    return fault(
        f"the log is damaged: {' '.join(why.split())}",
        f"the next start saves what can be read and begins a new file; first copy {log}* away, and doubt the card",
    )
