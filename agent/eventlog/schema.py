"""The schema of the log's file, and how a file of an earlier gatepost becomes one of this.

Every event is one compact row. What repeats (type, source, the channels' names and units) is a stream, said once in a
table of its own; a row holds the stream's number, the time and the value: a single one as itself, several as a JSON
array in the stream's order. Streams of the urgent lane have negative numbers, so a partial index finds urgent events
without a column of their own. The view `readable` shows it all to a person with the sqlite3 shell.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from agent.errors import GatepostError

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID: Final = 0x67617465  # "gate": file(1) and PRAGMA application_id tell whose file it is
VERSION: Final = 2

_CLOCKS: Final = """
CREATE TABLE clocks (
    first_seq INTEGER PRIMARY KEY, boot TEXT NOT NULL, offset INTEGER NOT NULL, is_set INTEGER NOT NULL, correction INTEGER
);
"""
_AHEAD: Final = """
CREATE TABLE ahead (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (consumer, lane, first)
) WITHOUT ROWID;
"""
_REJECTED: Final = """
CREATE TABLE rejected (
    seq INTEGER NOT NULL, consumer TEXT NOT NULL, time INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (seq, consumer)
) WITHOUT ROWID;
"""
_READABLE: Final = """
CREATE VIEW readable AS
SELECT
    (SELECT max(run) FROM runs WHERE first_seq <= seq) || '-' || seq AS id,
    strftime('%Y-%m-%d %H:%M:%S', known / 1000000, 'unixepoch') || printf('.%06d', known % 1000000) AS utc,
    type, source, channels, value, units, quality
FROM (
    SELECT *, time + ifnull(
        (SELECT correction FROM clocks WHERE first_seq <= seq ORDER BY first_seq DESC LIMIT 1), 0
    ) AS known FROM events
) JOIN streams USING (stream);
"""
SCHEMA: Final = f"""
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER, version TEXT NOT NULL
);
CREATE TABLE streams (
    stream INTEGER PRIMARY KEY, type TEXT NOT NULL, source TEXT NOT NULL, channels TEXT NOT NULL, units TEXT NOT NULL
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL, time INTEGER NOT NULL, value, quality TEXT, recorded INTEGER
);
CREATE INDEX urgent_events ON events (seq) WHERE stream < 0;
CREATE TABLE cursors (
    consumer TEXT NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (consumer, lane)
) WITHOUT ROWID;
CREATE TABLE states (part TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
{_CLOCKS}{_AHEAD}{_REJECTED}{_READABLE}"""

MIGRATIONS: Final = {
    1: f"ALTER TABLE events ADD COLUMN recorded INTEGER; DROP VIEW readable; {_CLOCKS}{_AHEAD}{_REJECTED}{_READABLE}",
}
"""By version, what makes the next one of it. Rows stay where they are: a card of millions of them is not written anew."""


class NewerLog(GatepostError):  # noqa: N818
    """The log was written by a newer gatepost; it is left as it is."""


class ForeignFile(GatepostError):  # noqa: N818
    """The file is a database of another program; it is left as it is."""


def examine(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a file's schema, 0 where there is none yet; nothing is written.

    Raises:
        NewerLog: It was written by a newer gatepost.
        ForeignFile: It belongs to another program.
        sqlite3.DatabaseError: It is damaged.
    """
    version, owner = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("user_version", "application_id")
    )
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner != APPLICATION_ID and (owner or version or tables):
        raise ForeignFile(
            f"{path} is a database of another program; name another file with `log: {{path: …}}`"
        )
    if version > VERSION:
        raise NewerLog(
            f"{path} was written by a newer gatepost (schema {version}, this one knows {VERSION}); "
            f"install that version again, or name another file with `log: {{path: …}}`"
        )
    return version


def refused(db: sqlite3.Connection) -> tuple[int, str, str] | None:
    """Return how many events far sides have refused, and the consumer and reason of the latest; None where none.

    Raises:
        sqlite3.DatabaseError: It is damaged, or of version 1, which did not keep them.
    """
    found: tuple[int, str, str] | None = db.execute(
        "SELECT (SELECT count(*) FROM rejected), consumer, reason FROM rejected ORDER BY time DESC LIMIT 1"
    ).fetchone()
    return found


def create(db: sqlite3.Connection) -> None:
    """Make the tables of a new log."""
    db.executescript(
        f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT"
    )


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Make a file of an earlier version one of this, each step in a transaction of its own."""
    for step in range(version, VERSION):
        try:
            db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[step]} PRAGMA user_version = {step + 1}; COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def damaged(what: str) -> sqlite3.DatabaseError:
    """Return an error as SQLite raises it for a damaged file."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
