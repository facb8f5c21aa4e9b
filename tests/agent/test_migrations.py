"""Files of the first released schema: they are taken over as they are, and merely looked at they stay as they are."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from agent import eventlog
from agent.clock import VirtualClock
from agent.eventlog import EventLog, EventStore, schema
from agent.eventlog.salvage import salvage
from agent.events import Event, EventType, Lane, Quality

if TYPE_CHECKING:
    from pathlib import Path

VERSION_1 = """
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
"""The schema of version 1 as it was released; not to be changed."""

CONTENTS = """
INSERT INTO runs VALUES (1, 1, 1767225600000000, 1767225700000000, '1.0'), (2, 4, 1767225800000000, NULL, '1.0');
INSERT INTO streams VALUES
    (1, 'reading', 'air', '["temperature"]', '{"temperature":"Cel"}'),
    (-2, 'alarm.raised', 'too-hot', '["severity","value"]', '{}'),
    (3, 'reading', 'air', '["temperature","humidity"]', '{"temperature":"Cel","humidity":"%"}');
INSERT INTO events VALUES
    (1, 1, 1767225600000001, 21.5, NULL),
    (2, -2, 1767225601000000, '["critical",36.5]', NULL),
    (3, 1, 1767225602000000, 22, NULL),
    (4, 3, 1767225800000000, '[20.5,40]', NULL),
    (5, 3, 1767225801000000, '[null,41]', '{"temperature":"bad"}');
INSERT INTO cursors VALUES ('site', 0, 2), ('site', 1, 3), ('slow', 0, 0), ('slow', 1, 1);
INSERT INTO states VALUES ('rule:too-hot', '{"raised":1,"value":36.5}');
"""

T0 = 1_767_225_600_000_000
EVENTS = [
    Event(1, 1, EventType.READING, "air", T0 + 1, {"temperature": 21.5}),
    Event(1, 2, EventType.ALARM_RAISED, "too-hot", T0 + 1_000_000, {"severity": "critical", "value": 36.5}),
    Event(1, 3, EventType.READING, "air", T0 + 2_000_000, {"temperature": 22}),
    Event(2, 4, EventType.READING, "air", T0 + 200_000_000, {"temperature": 20.5, "humidity": 40}),
    Event(
        2, 5, EventType.READING, "air", T0 + 201_000_000, {"temperature": None, "humidity": 41},
        {"temperature": Quality.BAD},
    ),
]  # fmt: skip


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A file as the release that knew schema 1 left it, which had no auto-vacuum, after a power cut."""
    path = tmp_path / "events.db"
    running = tmp_path / "running.db"
    db = sqlite3.connect(running, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(
        f"BEGIN; PRAGMA application_id = {0x67617465}; {VERSION_1} PRAGMA user_version = 1; COMMIT; BEGIN; {CONTENTS} COMMIT"
    )
    for suffix in ("", "-wal"):
        shutil.copy(f"{running}{suffix}", f"{path}{suffix}")
    db.close()
    return path


def contents(path: Path) -> list[str]:
    """Return all that is in a file, as SQL."""
    db = sqlite3.connect(path)
    try:
        return [*db.iterdump(), str(db.execute("PRAGMA user_version").fetchone()[0])]
    finally:
        db.close()


async def test_a_file_of_version_1_is_taken_over_with_all_that_is_in_it(released: Path) -> None:
    clock = VirtualClock(epoch=T0 + 1_000_000_000)
    log = EventLog(released, eventlog.Settings(), clock)
    await log.open(["site", "slow"], "2.0")
    assert (log.run, log.reader.first, log.was_clean) == (1001, 6, False)  # the seconds since NO_EARLIER
    cursors = {(name, lane): log.consumer(name).cursor(lane) for name in ("site", "slow") for lane in Lane}
    assert cursors == {
        ("site", Lane.URGENT): 2,
        ("site", Lane.READINGS): 3,
        ("slow", Lane.URGENT): 0,
        ("slow", Lane.READINGS): 1,
    }
    assert log.state("rule:too-hot") == {"raised": 1, "value": 36.5}
    assert await log.reader.history(0, 100) == EVENTS
    assert await log.consumer("slow").waiting() == 4

    late = log.append(
        EventType.READING, "air", {"temperature": 23.0, "humidity": 42}, time=clock.wall() - 5_000_000
    )
    alarm = log.append(EventType.ALARM_RAISED, "too-hot", {"severity": "critical", "value": 37.0})
    log.consumer("site").acknowledge(Lane.READINGS, late.seq - 1, late.seq)  # ahead of its cursor
    log.consumer("slow").reject(EVENTS[0], "too large")
    await log.close()

    store = EventStore(released)
    store.open_reader()
    assert store.db.execute("PRAGMA user_version").fetchone() == (2,)
    assert store.read(None, 0, None, 100) == [*EVENTS, late, alarm]
    assert late.recorded == clock.wall(), "what version 1 had no column for is kept"
    assert store.ahead() == {("site", Lane.READINGS): [(late.seq, late.seq)]}
    assert [(each.event, each.reason) for each in store.rejected()] == [(EVENTS[0], "too large")]
    readable = store.db.execute("SELECT id, utc FROM readable ORDER BY id").fetchall()
    store.close()
    assert len(readable) == 7
    assert readable[0] == ("1-1", "2026-01-01 00:00:00.000001")


def test_a_file_of_version_1_is_read_without_being_changed(released: Path) -> None:
    listed = contents(released)
    before = released.read_bytes()
    store = EventStore(released)
    store.open_reader()
    assert store.read(None, 0, None, 100) == EVENTS
    assert store.read(Lane.URGENT, 0, None, 100) == [EVENTS[1]]
    assert store.newest() == (2, 5, False)
    assert store.cursors()["slow", Lane.READINGS] == 1
    assert (store.ahead(), store.rejected()) == ({}, [])
    assert store.units() == {"air": {"temperature": "Cel", "humidity": "%"}}
    store.close()
    assert released.read_bytes() == before
    assert contents(released) == listed


def test_a_migration_that_is_interrupted_changes_nothing_and_is_done_at_the_next_start(
    released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(released)
    whole = schema.MIGRATIONS[1]
    for broken in (f"{whole} INSERT INTO nowhere VALUES (1);", whole.replace("DROP VIEW", "DROP TABLE")):
        monkeypatch.setitem(schema.MIGRATIONS, 1, broken)
        store = EventStore(released)
        with pytest.raises(sqlite3.OperationalError):
            store.open_writer()
        store.close()
        assert contents(released) == before
    monkeypatch.setitem(schema.MIGRATIONS, 1, whole)
    for _ in range(2):  # the second time there is nothing to do
        store = EventStore(released)
        store.open_writer()
        assert store.db.execute("PRAGMA user_version").fetchone() == (2,)
        assert store.read(None, 0, None, 100) == EVENTS
        store.close()


def test_a_process_that_is_killed_in_the_midst_of_a_migration_leaves_version_1(released: Path) -> None:
    before = contents(released)
    db = sqlite3.connect(released, isolation_level=None)
    db.executescript(f"PRAGMA cache_size = 1; BEGIN IMMEDIATE; {schema.MIGRATIONS[1]}")
    db.execute(
        "UPDATE events SET recorded = zeroblob(100000)"
    )  # so that its pages are written before its end
    # What a power cut leaves: the file and its write-ahead log, with pages of a transaction that has no end.
    copy = released.with_name("copy.db")
    for suffix in ("", "-wal"):
        source = released.with_name(released.name + suffix)
        if source.exists():
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
    db.close()
    assert copy.with_name("copy.db-wal").stat().st_size > 100_000
    assert contents(copy) == before


def test_rows_of_version_1_are_salvaged_before_and_after_the_migration(released: Path) -> None:
    for _ in range(2):
        found = salvage(released)
        events = [row for batch in found.events() for row in batch]
        assert [row[0] for row in events] == [1, 2, 3, 4, 5]
        assert {row[5] for row in events} == {None}
        assert (found.counts["cursors"], found.counts["states"], found.senseless_pages) == (4, 1, 0)
        store = EventStore(released)
        store.open_writer()
        store.close()


def test_a_new_file_and_a_migrated_one_have_the_same_tables(released: Path, tmp_path: Path) -> None:
    shapes = []
    for path in (released, tmp_path / "new.db"):
        store = EventStore(path)
        store.open_writer()
        names = [name for (name,) in store.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        shapes.append({name: store.db.execute(f"PRAGMA table_info({name})").fetchall() for name in names})
        store.close()
    assert shapes[0] == shapes[1]
