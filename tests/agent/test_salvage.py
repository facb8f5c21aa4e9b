"""A damaged log gives back every event on pages that are whole, and none that never was."""

from __future__ import annotations

import random
import resource
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.logs import in_file

from agent import eventlog
from agent.clock import VirtualClock
from agent.eventlog import EventLog, EventStore, opening
from agent.eventlog.group import Group
from agent.eventlog.salvage import BATCH, Salvage, salvage
from agent.events import Event, EventType, Lane, Quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.events import Value

PAGE = 4096
BEGAN = 1_767_225_600_000_000
COUNT = 2500
ALARM: dict[str, Value] = {"severity": "critical", "of": "air.t", "value": 36.5, "limit": "above 35"}


def various(count: int, first: int = 1) -> list[Event]:
    """Return events of every kind that a log holds: urgent ones and readings, short values and long."""
    chance = random.Random(first)
    events = []
    for seq in range(first, first + count):
        kind, source, quality = EventType.READING, f"dev{seq % 5}", None
        values: dict[str, Value]
        match seq % 12:
            case 0:
                kind, source, values = (
                    EventType.ALARM_RAISED,
                    "too-hot",
                    {**ALARM, "message": "é" * (seq % 40)},
                )
            case 1:
                values = {"a": chance.random(), "b": chance.getrandbits(62) - 2**61, "c": "on"}
                source = "several"
            case 2:
                values, source, quality = {"a": None, "b": 0, "c": ""}, "several", {"a": Quality.BAD}
            case 3:
                values, quality = {"t": None}, {"t": Quality.UNCERTAIN}
            case 4 if seq % 240 == 4:
                values, source = {"text": f"{seq} " * 2000}, "long"
            case 5:
                kind, source, values = EventType.DEVICE_UP, f"dev{seq % 5}", {}
            case _:
                wide: list[Value] = [
                    chance.getrandbits(chance.randrange(1, 63)),
                    0,
                    1,
                    -seq,
                    chance.gauss(20, 5),
                    "x",
                ]
                values = {"t": chance.choice(wide)}
        events.append(Event(1, seq, kind, source, BEGAN + seq * 10_000, values, quality))
    return events


def write(store: EventStore, events: Sequence[Event], **more: Any) -> None:
    for start in range(0, len(events), 500):
        store.write(
            Group(events[start : start + 500], more.get("cursors", {}), {}, more.get("states", {}), {})
        )


def make(path: Path, events: Sequence[Event]) -> None:
    """Write a log in which everything is in the database file."""
    store = EventStore(path)
    store.open_writer()
    store.begin_run(1, 1, BEGAN, "0.1.0")
    cursors = {("site", Lane.URGENT): len(events) // 3, ("site", Lane.READINGS): len(events) // 2}
    write(store, events, cursors=cursors, states={"too-hot": {"active": 1}})
    store.end_run(1, BEGAN + 10**12)
    store.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "events.db"
    make(path, various(COUNT))
    return path


@pytest.fixture
def damaged(tmp_path: Path, whole: Path) -> Path:
    """Return a copy that may be damaged."""
    return Path(shutil.copy(whole, tmp_path / "damaged.db"))


def salvaged(found: Salvage) -> set[tuple[Any, ...]]:
    return {row for batch in found.events() for row in batch}


def in_sqlite(path: Path, table: str = "events") -> set[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
    return set(rows)


def into_new(path: Path, found: Salvage) -> None:
    """Write what was salvaged into a new log, as one who repairs does."""
    EventStore(path).open_writer()
    with closing(sqlite3.connect(path)) as db:
        for table, rows in found.rows.items():
            if rows:
                db.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)
        for batch in found.events():
            db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)", batch)
        db.commit()


def pages_of(path: Path) -> Iterator[int]:
    yield from range(path.stat().st_size // PAGE)


def overwrite(path: Path, number: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(number * PAGE)
        file.write(content)


# --- what is whole ------------------------------------------------------------------------------------------------


def test_a_whole_log_comes_back_as_it_was(tmp_path: Path, whole: Path) -> None:
    found = salvage(whole)
    into_new(tmp_path / "new.db", found)
    assert in_file(tmp_path / "new.db") == in_file(whole) == various(COUNT)
    for table in ("streams", "runs", "cursors", "states"):
        assert in_sqlite(tmp_path / "new.db", table) == in_sqlite(whole, table) != set()
        assert found.counts[table] == len(in_sqlite(whole, table))
    assert found.counts["events"] == COUNT
    assert (found.highest_seq, found.highest_run) == (COUNT, 1)
    assert (found.lost, found.senseless_pages, found.senseless_cells) == (0, 0, 0)
    assert found.pages == len(list(pages_of(whole)))


def test_events_come_in_batches_and_as_often_as_they_are_asked_for(whole: Path) -> None:
    found = salvage(whole)
    batches = list(found.events())
    assert {len(batch) for batch in batches[:-1]} <= set(range(1, BATCH + 1))
    assert len(batches) < 12
    assert list(found.events()) == batches
    assert found.counts["events"] == COUNT


async def test_a_log_that_is_in_use_comes_back_with_what_is_only_in_its_wal(tmp_path: Path) -> None:
    path, copy = tmp_path / "events.db", tmp_path / "copy.db"
    log = EventLog(path, eventlog.Settings(), VirtualClock())
    await log.open(["site"], "1.0")
    appended = []
    for number in range(3000):
        appended.append(log.append(EventType.READING, f"dev{number % 7}", {"t": number / 7, "n": number}))
        if number % 100 == 0:
            appended.append(log.append(EventType.ALARM_RAISED, "too-hot", dict(ALARM)))
            log.put_state("too-hot", {"active": 1, "saved": number})
            log.consumer("site").acknowledge(Lane.READINGS, 0, number)
            await log.writer.commit()
    await log.writer.commit()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    await log.close()
    assert Path(f"{copy}-wal").stat().st_size > 100_000
    found = salvage(copy)
    into_new(tmp_path / "new.db", found)
    assert in_file(tmp_path / "new.db") == appended
    assert found.rows["states"] == [("too-hot", '{"active":1,"saved":2900}')]
    assert found.rows["cursors"] == [("site", 0, 0), ("site", 1, 2900)]
    assert found.highest_seq == appended[-1].seq

    copy.unlink()
    assert read_of_wal_alone(tmp_path, copy) == appended


def read_of_wal_alone(tmp_path: Path, copy: Path) -> list[Event]:
    into_new(tmp_path / "of_wal.db", salvage(copy))
    return in_file(tmp_path / "of_wal.db")


# --- what is damaged ----------------------------------------------------------------------------------------------


def test_a_lost_first_page_costs_no_event(damaged: Path, whole: Path) -> None:
    for junk in (bytes(PAGE), random.Random(1).randbytes(PAGE), b"\xff" * PAGE):
        overwrite(damaged, 0, junk)
        found = salvage(damaged)
        assert salvaged(found) == in_sqlite(whole)
        assert set(found.rows["streams"]) == in_sqlite(whole, "streams")


@pytest.mark.parametrize("how", ["zeros", "garbage"])
def test_each_lost_page_costs_its_own_events_and_invents_none(damaged: Path, whole: Path, how: str) -> None:
    chance = random.Random(2)
    events = in_sqlite(whole)
    original = whole.read_bytes()
    costs = []
    for number in pages_of(whole):
        overwrite(damaged, number, bytes(PAGE) if how == "zeros" else chance.randbytes(PAGE))
        found = salvage(damaged)
        back = salvaged(found)
        assert back <= events
        if set(found.rows["streams"]) == in_sqlite(whole, "streams"):
            costs.append(len(events) - len(back))
        else:  # it was the page with the streams: no event can be understood
            assert (back, found.lost) == (set(), COUNT)
            assert found.highest_seq == COUNT
        overwrite(damaged, number, original[number * PAGE : (number + 1) * PAGE])
    assert len(costs) == len(list(pages_of(whole))) - 1
    assert max(costs) < PAGE // 12
    # A long text is lost with any of its pages, so it is counted more than once.
    long = sum(len(str(row[3])) > PAGE for row in events)
    assert len(events) <= sum(costs) <= len(events) + 4 * long


def test_many_lost_pages_cost_no_more_than_is_on_them(damaged: Path, whole: Path) -> None:
    events = in_sqlite(whole)
    chance = random.Random(3)
    pages = list(pages_of(whole))
    by_page = {number: lost_with(whole, damaged, number) for number in pages}
    for _ in range(25):
        shutil.copy(whole, damaged)
        hit = chance.sample(pages, chance.randrange(1, len(pages) // 2))
        for number in hit:
            overwrite(damaged, number, chance.choice((bytes(PAGE), chance.randbytes(PAGE), b"text " * 819)))
        expected = events - {row for number in hit for row in by_page[number]}
        assert salvaged(salvage(damaged)) == expected


def lost_with(whole: Path, damaged: Path, number: int) -> set[tuple[Any, ...]]:
    shutil.copy(whole, damaged)
    overwrite(damaged, number, bytes(PAGE))
    return in_sqlite(whole) - salvaged(salvage(damaged))


def test_a_truncated_log_gives_the_events_before_the_cut(damaged: Path, whole: Path) -> None:
    events = in_sqlite(whole)
    content = whole.read_bytes()
    counts = []
    chance = random.Random(4)
    for cut in sorted(chance.randrange(len(content)) for _ in range(40)):
        damaged.write_bytes(content[:cut])
        back = salvaged(salvage(damaged))
        assert back <= events
        counts.append(len(back))
    assert counts == sorted(counts)
    assert counts[-1] > 0.8 * COUNT


def test_a_log_that_ends_in_zeros_gives_the_events_before_them(damaged: Path, whole: Path) -> None:
    content = whole.read_bytes()
    half = len(content) // PAGE // 2 * PAGE
    damaged.write_bytes(content[:half] + bytes(len(content) - half))
    found = salvage(damaged)
    damaged.write_bytes(content[:half])
    assert salvaged(found) == salvaged(salvage(damaged)) < in_sqlite(whole)
    assert salvage(damaged).blank_pages == 0
    assert found.blank_pages == (len(content) - half) // PAGE


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is no log\n" * 3000, bytes(100_000), random.Random(5).randbytes(4_000_000)],
    ids=["nothing", "text", "zeros", "noise"],
)
def test_what_is_no_log_gives_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(content)
    found = salvage(path)
    assert salvaged(found) == set()
    assert not any(found.rows.values())
    assert (found.highest_seq, found.highest_run, found.lost) == (0, 0, 0)


def test_noise_after_a_log_adds_nothing(damaged: Path, whole: Path) -> None:
    with damaged.open("ab") as file:
        file.write(random.Random(6).randbytes(8_000_000))
    found = salvage(damaged)
    assert salvaged(found) == in_sqlite(whole)
    assert found.highest_seq == COUNT
    assert found.senseless_pages > 1900


def test_noise_in_the_cells_of_a_page_passes_for_no_event(damaged: Path, whole: Path) -> None:
    """The worst place: the page's own header says that there are cells, and where."""
    events = in_sqlite(whole)
    content = bytearray(whole.read_bytes())
    chance = random.Random(7)
    for number in range(3, len(content) // PAGE):
        if content[number * PAGE] == 0x0D:
            cells = number * PAGE + int.from_bytes(content[number * PAGE + 5 : number * PAGE + 7], "big")
            content[cells : (number + 1) * PAGE] = chance.randbytes((number + 1) * PAGE - cells)
    damaged.write_bytes(content)
    found = salvage(damaged)
    assert salvaged(found) <= events
    assert found.senseless_cells > COUNT / 2
    assert found.highest_seq <= COUNT


def test_another_program_s_database_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, age INTEGER, born INTEGER, name, note TEXT)")
        db.executemany(
            "INSERT INTO people VALUES (?, ?, ?, ?, ?)", [(n, 40, n, "Ann", "{}") for n in range(500)]
        )
        db.execute("CREATE TABLE tags (a TEXT PRIMARY KEY, b TEXT) WITHOUT ROWID")
        db.execute("INSERT INTO tags VALUES ('x', 'not json')")
        db.commit()
    found = salvage(path)
    assert salvaged(found) == set()
    assert not any(found.rows.values())
    assert found.lost == 499  # one has the number 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**30), st.binary(min_size=1, max_size=200)), min_size=1, max_size=20)
)
def test_bytes_changed_anywhere_never_raise_and_cost_only_what_they_hit(
    hits: list[tuple[int, bytes]],
) -> None:
    events = [Event(1, n, "reading", f"dev{n % 3}", BEGAN + n, {"t": n / 3}) for n in range(1, 2001)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        make(path, events)
        rows = in_sqlite(path)
        content = bytearray(path.read_bytes())
        touched = set()
        for at, junk in hits:
            start = at % (len(content) - len(junk))
            content[start : start + len(junk)] = junk
            touched |= {start // PAGE, (start + len(junk) - 1) // PAGE}
        path.write_bytes(content)
        found = salvage(path)
        back = salvaged(found)
        into_new(Path(folder) / "new.db", found)
        in_file(Path(folder) / "new.db")  # what is written into a new log can be read from it
    if found.counts["streams"] == 3:
        assert len(rows - back) <= len(touched) * PAGE // 20
    assert len(back - rows) <= len(hits) * 200 // 10


# --- which rows make sense ----------------------------------------------------------------------------------------


def rows_in(path: Path, table: str, rows: Iterable[tuple[Any, ...]]) -> Salvage:
    """Salvage a log to which rows were added behind its back."""
    with closing(sqlite3.connect(path)) as db:
        columns = len(db.execute(f"PRAGMA table_info({table})").fetchall())
        for row in rows:
            whole = (*row, *[None] * (columns - len(row)))  # what is not said is not there
            db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * columns)})", whole)
        db.commit()
    return salvage(path)


@pytest.mark.parametrize(
    "row",
    [
        (9001, 99, BEGAN, 1.5, None),
        (9001, 0, BEGAN, 1.5, None),
        (0, 1, BEGAN, 1.5, None),
        (-5, 1, BEGAN, 1.5, None),
        (2**53, 1, BEGAN, 1.5, None),
        (9001, 1, -1, 1.5, None),
        (9001, 1, 2**60, 1.5, None),
        (9001, 1, BEGAN, float("inf"), None),
        (9001, 1, BEGAN, b"blob", None),
        (9001, 1, BEGAN, 1.5, "not json"),
        (9001, 1, BEGAN, 1.5, "[]"),
        (9001, 1, BEGAN, 1.5, '{"t":"so-so"}'),
        (9001, 2, BEGAN, 1.5, None),
        (9001, 2, BEGAN, "text", None),
        (9001, 2, BEGAN, "[1]", None),
        (9001, 2, BEGAN, "[1,2,3]", None),
        (9001, 2, BEGAN, "[1,[2]]", None),
        (9001, 2, BEGAN, '{"a":1,"b":2}', None),
    ],
)
def test_a_row_that_is_no_event_of_its_stream_is_left_out(tmp_path: Path, row: tuple[Any, ...]) -> None:
    path = tmp_path / "events.db"
    events = [
        Event(1, 1, "reading", "one", BEGAN, {"t": 1.5}),
        Event(1, 2, "reading", "two", BEGAN, {"a": 1, "b": 2}),
    ]
    make(path, events)
    whole = in_sqlite(path)
    assert salvaged(rows_in(path, "events", [row])) == whole
    good = [
        (9002, 1, 0, None, '{"t":"bad"}'),
        (9003, 2, BEGAN, '[null,"x"]', None),
        (9004, 1, BEGAN, "text", None),
    ]
    assert salvaged(rows_in(path, "events", good)) == whole | {(*row, None) for row in good}


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("streams", (0, "reading", "x", '["t"]', "{}")),
        ("streams", (9, "", "x", '["t"]', "{}")),
        ("streams", (9, "reading", "x", "t", "{}")),
        ("streams", (9, "reading", "x", '["t","t"]', "{}")),
        ("streams", (9, "reading", "x", "[1]", "{}")),
        ("streams", (9, "reading", "x", '["t"]', "[]")),
        ("runs", (0, 1, BEGAN, None, "1")),
        ("runs", (9, 0, BEGAN, None, "1")),
        ("runs", (9, 1, -1, None, "1")),
        ("cursors", ("site", 2, 1)),
        ("cursors", ("other", 0, -1)),
        ("cursors", ("other", 0, 2**60)),
        ("states", ("too-cold", "[]")),
        ("states", ("too-cold", "not json")),
    ],
)
def test_a_row_that_makes_no_sense_in_its_table_is_left_out(
    damaged: Path, table: str, row: tuple[Any, ...]
) -> None:
    before = salvage(damaged).rows[table]
    found = rows_in(damaged, table, [row])
    assert found.rows[table] == before
    assert found.highest_seq == COUNT


def test_a_cursor_or_a_run_beyond_the_last_event_counts_for_the_next_number(damaged: Path) -> None:
    assert rows_in(damaged, "cursors", [("other", 1, 7000)]).highest_seq == 7000
    found = rows_in(damaged, "runs", [(4, 8001, BEGAN, None, "0.1.0")])
    assert (found.highest_seq, found.highest_run) == (8000, 4)


# --- several versions of a row ------------------------------------------------------------------------------------


def with_stale_pages(path: Path, *scripts: str) -> Salvage:
    """Salvage a log and the -wal that has every version of its pages since it was last moved."""
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA secure_delete = OFF")
        for script in scripts:
            db.executescript(script)
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    return salvage(copy)


def test_of_several_versions_of_a_row_the_newest_wins(damaged: Path) -> None:
    found = with_stale_pages(
        damaged,
        "UPDATE events SET value = 'first' WHERE seq = 6",
        "UPDATE events SET value = 'second' WHERE seq = 6",
        "UPDATE cursors SET seq = 4000 WHERE lane = 1",
        """UPDATE states SET state = '{"saved":2000}'""",
        """UPDATE states SET state = '{"saved":1000}'""",
        "UPDATE cursors SET seq = 3000 WHERE lane = 1",
        "UPDATE runs SET ended = NULL",
    )
    versions = [row[3] for batch in found.events() for row in batch if row[0] == 6]
    assert versions[-2:] == ["first", "second"]
    assert found.rows["cursors"] == [("site", 0, COUNT // 3), ("site", 1, 4000)]
    assert found.rows["states"] == [("too-hot", '{"saved":2000}')]
    assert found.rows["runs"] == [(1, 1, BEGAN, BEGAN + 10**12, "0.1.0")]


def test_deleted_events_may_come_back_but_only_as_they_were(damaged: Path, whole: Path) -> None:
    found = with_stale_pages(damaged, f"DELETE FROM events WHERE seq <= {COUNT // 2}")
    kept = {row for row in in_sqlite(whole) if row[0] > COUNT // 2}
    assert kept < salvaged(found) <= in_sqlite(whole)


# --- the versions of the schema -------------------------------------------------------------------------------


def test_rows_of_schema_version_2_come_beside_those_from_before(damaged: Path, whole: Path) -> None:
    with closing(sqlite3.connect(damaged)) as db:
        db.executescript("""
            DROP VIEW readable; DROP TABLE ahead; DROP TABLE rejected; DROP TABLE clocks;
            ALTER TABLE events DROP COLUMN recorded;
            ALTER TABLE events ADD COLUMN recorded INTEGER;
            CREATE TABLE ahead (consumer TEXT, lane INTEGER, first INTEGER, last INTEGER,
                PRIMARY KEY (consumer, lane, first)) WITHOUT ROWID;
            CREATE TABLE rejected (seq INTEGER, consumer TEXT, time INTEGER, reason TEXT,
                PRIMARY KEY (seq, consumer)) WITHOUT ROWID;
            CREATE TABLE clocks (first_seq INTEGER PRIMARY KEY, boot TEXT, offset INTEGER, is_set INTEGER,
                correction INTEGER);
        """)
        stream = db.execute("SELECT stream FROM streams WHERE source = 'dev1' AND stream > 0").fetchone()[0]
        later = {(6001, stream, BEGAN, 1.5, None, None), (6002, stream, BEGAN, "x", '{"t":"bad"}', BEGAN + 7)}
        db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", later)
        others: dict[str, list[tuple[Any, ...]]] = {
            "ahead": [("site", 0, 5, 9), ("site", 1, 5, 9), ("site", 1, 20, 30)],
            "rejected": [(number, "site", BEGAN + number, "too large") for number in range(1, 2000)],
            "clocks": [(1, "b00t", -5, 0, None), (900, "b00t", 10**15, 1, 7), (950, "b00t", 0, 1, 0)],
        }
        for table, rows in others.items():
            db.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)
        db.commit()
    found = salvage(damaged)
    assert salvaged(found) == in_sqlite(whole) | later
    for table, rows in others.items():
        assert found.rows[table] == rows
    assert found.highest_seq == 6002
    assert found.lost == 0


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Have the disk refuse what makes a file larger than so many bytes (setrlimit(2), RLIMIT_FSIZE)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_salvage_for_which_there_is_no_room_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    events = [Event(1, seq, EventType.READING, "air", BEGAN, {"t": "x" * 1000}) for seq in range(1, 8001)]
    with closing(EventStore(path)) as store:
        store.open_writer()
        store.begin_run(1, 1, BEGAN, "1.0")
        write(store, events)
    whole = path.read_bytes()
    # Its write-ahead log has room, for that is moved into the file now and then; only the last move is refused.
    with no_file_larger_than(len(whole) - PAGE), pytest.raises(sqlite3.Error):
        opening.take(path, BEGAN, "a damaged page")
    assert path.read_bytes() == whole
    assert {file.name for file in tmp_path.iterdir()} <= {"events.db", "events.db.lock"}
    opened = opening.take(path, BEGAN, "a damaged page")
    assert opened.store.read(None, 0, None, 10_000) == events
    opened.store.close()
    assert opened.lock is not None
    opened.lock.close()
