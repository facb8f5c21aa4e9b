"""Database files read without SQLite: the same rows as SQLite reads, and around any damage."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import tempfile
import tracemalloc
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.eventlog.pages import PAGE_SIZES, PageReader, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE = 4096
INT64 = st.integers(-(2**63), 2**63 - 1)
PRINTED = st.characters(min_codepoint=1, exclude_categories=["Cs"])
VALUES = st.one_of(
    st.none(),
    INT64,
    st.integers(-300, 300),
    st.floats(allow_nan=False),
    st.text(PRINTED, max_size=80),
    st.binary(max_size=80).filter(lambda data: any(data) or not data),
    # A page of overflow that holds nothing but zeros counts as wiped, so no text of NULs alone.
    st.builds(
        lambda text, times: text * times, st.text(PRINTED, min_size=1, max_size=40), st.integers(1, 400)
    ),
)


def make(path: Path, rows: Sequence[tuple[Any, ...]], page_size: int = PAGE, columns: int = 1) -> None:
    """Write rows, each a rowid and its values, to a table of their own."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA page_size = {page_size}")
        db.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {', '.join(f'c{n}' for n in range(columns))})")
        db.executemany(f"INSERT OR REPLACE INTO t VALUES (?{', ?' * columns})", rows)
        db.commit()


def numbered(count: int) -> list[tuple[int, str]]:
    return [(number, f"row number {number}") for number in range(1, count + 1)]


def stored(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows as records have them: the INTEGER PRIMARY KEY is the rowid."""
    return sorted((row[0], (None, *row[1:])) for row in rows)


def found(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows read from a file, but those of its schema."""
    return sorted(tuple(record) for record in records(path) if record.values[:1] == (None,))


def latest(path: Path) -> dict[int | None, tuple[Any, ...]]:
    return {record.rowid: record.values for record in records(path) if record.values[:1] == (None,)}


@contextmanager
def copied_while_open(tmp_path: Path, *scripts: str) -> Iterator[tuple[Path, list[tuple[Any, ...]]]]:
    """Yield a copy of a database and its -wal, which nothing has been moved out of, and its rows as SQLite has them."""
    path, copy = tmp_path / "live.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        for script in scripts:
            db.executescript(script)
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        yield copy, db.execute("SELECT * FROM t").fetchall()


FILL = (
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {1})"
    " SELECT i, 'row ' || i || {2} FROM n;"
)
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, c);"


# --- what SQLite reads --------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(INT64, st.tuples(VALUES, VALUES, VALUES), max_size=40),
    st.sampled_from(PAGE_SIZES),
)
def test_rows_come_as_they_were_written(rows: dict[int, tuple[Any, ...]], page_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.db"
        written = [(rowid, *values) for rowid, values in rows.items()]
        make(path, written, page_size, columns=3)
        reader = PageReader(path)
        read = {
            record.rowid: record.values
            for page in reader.pages()
            for record in page
            if record.values[:1] == (None,)
        }
    assert read == {rowid: (None, *values) for rowid, values in rows.items()}
    assert [[type(v) for v in read[k]] for k in rows] == [[type(None), *map(type, rows[k])] for k in rows]
    assert (reader.senseless, reader.cells) == (0, 0)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text(PRINTED, max_size=600), VALUES, max_size=60), st.sampled_from((512, 4096)))
def test_rows_of_a_table_without_rowid_come_as_they_were_written(
    rows: dict[str, Any], page_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.db"
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA page_size = {page_size}")
            db.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID")
            db.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", rows.items())
            db.commit()
            expected = db.execute("SELECT * FROM t").fetchall()
        read = [record.values for record in records(path) if record.rowid is None]
    assert sorted(read, key=lambda row: row[0].encode()) == sorted(expected, key=lambda row: row[0].encode())


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_long_rows_come_whole_at_every_length_around_a_page(tmp_path: Path, page_size: int) -> None:
    lengths = [
        times * page_size + more
        for times in (0, 1, 2, 3)
        for more in range(-60, 61, 3)
        if times * page_size + more > 0
    ]
    rows = [(length, "".join(chr(97 + place % 26) for place in range(length))) for length in lengths]
    make(tmp_path / "t.db", rows, page_size)
    assert found(tmp_path / "t.db") == stored(rows)


def test_many_pages_of_tables_and_indexes_are_as_sqlite_has_them(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, x, y TEXT)")
        db.execute("CREATE INDEX of_x ON a (x)")
        db.execute("CREATE TABLE b (k TEXT, n INTEGER, v, PRIMARY KEY (k, n)) WITHOUT ROWID")
        chance = random.Random(1)
        rows = [
            (n, chance.getrandbits(chance.randrange(60)), chance.choice(("", "é", None))) for n in range(9000)
        ]
        db.executemany("INSERT INTO a VALUES (?, ?, ?)", rows)
        db.executemany("INSERT INTO b VALUES (?, ?, ?)", [(f"k{n % 97}", n, n / 7) for n in range(9000)])
        db.commit()
        expected = Counter((n, (None, x, y)) for n, x, y in db.execute("SELECT * FROM a"))
        expected += Counter((None, row) for row in db.execute("SELECT x, id FROM a"))
        expected += Counter((None, row) for row in db.execute("SELECT * FROM b"))
        expected += Counter([(row[0], row[1:]) for row in db.execute("SELECT rowid, * FROM sqlite_schema")])
    reader = PageReader(path)
    assert Counter(tuple(record) for page in reader.pages() for record in page) == expected
    assert reader.read == path.stat().st_size // PAGE
    assert (reader.page_size, reader.blank, reader.senseless, reader.cells) == (PAGE, 0, 0, 0)


# --- damage -------------------------------------------------------------------------------------------------------


def only(path: Path, number: int) -> list[tuple[Any, ...]]:
    """Return the rows of one page, from a copy in which every other is zeros."""
    content = path.read_bytes()
    start = number * PAGE
    alone = path.with_name("alone.db")
    alone.write_bytes(bytes(start) + content[start : start + PAGE] + bytes(len(content) - start - PAGE))
    return found(alone)


@pytest.mark.parametrize("how", ["zeros", "garbage", "ones", "text"])
def test_a_damaged_page_costs_its_own_rows_and_no_other(tmp_path: Path, how: str) -> None:
    path, damaged = tmp_path / "t.db", tmp_path / "damaged.db"
    rows = numbered(3000)
    make(path, rows)
    content = path.read_bytes()
    pages = len(content) // PAGE
    chance = random.Random(2)
    junk = {
        "zeros": bytes(PAGE), "garbage": chance.randbytes(PAGE), "ones": b"\xff" * PAGE, "text": b"all is well\n" * 342
    }[how][:PAGE]  # fmt: skip
    together: list[tuple[Any, ...]] = []
    for number in range(pages):
        of_page = only(path, number)
        start = number * PAGE
        damaged.write_bytes(content[:start] + junk + content[start + PAGE :])
        assert found(damaged) == sorted(set(stored(rows)) - set(of_page))
        ids = [row[0] for row in of_page]
        assert ids == list(range(ids[0], ids[0] + len(ids))) if ids else number in {0, 1}
        assert len(ids) < PAGE / 20
        together += of_page
    assert sorted(together) == stored(rows)


def test_a_truncated_file_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    path, damaged = tmp_path / "t.db", tmp_path / "damaged.db"
    rows = numbered(2000)
    make(path, rows)
    content = path.read_bytes()
    by_page = [only(path, number) for number in range(len(content) // PAGE)]
    chance = random.Random(3)
    for cut in [
        0,
        1,
        99,
        100,
        PAGE - 1,
        PAGE,
        len(content) - 1,
        *(chance.randrange(len(content)) for _ in range(60)),
    ]:
        damaged.write_bytes(content[:cut])
        whole = {row for page in by_page[: cut // PAGE] for row in page}
        partly = set(by_page[cut // PAGE]) if cut // PAGE < len(by_page) else set()
        assert whole <= set(found(damaged)) <= whole | partly


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("length", [16, 24, 100])
def test_the_page_size_is_found_without_the_header(tmp_path: Path, page_size: int, length: int) -> None:
    path = tmp_path / "t.db"
    rows = numbered(60_000 if page_size > 16_000 else 5000)
    make(path, rows, page_size)
    with path.open("r+b") as file:
        file.write(b"\xa5" * length)
    reader = PageReader(path)
    assert sum(len(page) for page in reader.pages()) >= len(rows)
    assert reader.page_size == page_size
    assert found(path) == stored(rows)


@pytest.mark.parametrize("wrong", [1, 512, 8192, 32768])
def test_a_header_that_names_a_wrong_page_size_is_not_believed(tmp_path: Path, wrong: int) -> None:
    path = tmp_path / "t.db"
    make(path, numbered(1000))
    with path.open("r+b") as file:
        file.seek(16)
        file.write(wrong.to_bytes(2, "big"))
    assert found(path) == stored(numbered(1000))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"SQLite format 3\0",
        b"hello\n" * 5000,
        bytes(50_000),
        random.Random(4).randbytes(3_000_000),
    ],
    ids=["nothing", "one byte", "magic", "text", "zeros", "noise"],
)
def test_what_is_no_database_has_no_rows(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(content)
    (tmp_path / "t.db-wal").write_bytes(content)
    assert list(records(path)) == []


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert list(records(tmp_path / "t.db")) == []


def test_a_file_that_must_not_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.db").mkdir()
    with pytest.raises(OSError, match="directory"):
        list(records(tmp_path / "t.db"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60_000), st.binary(min_size=1, max_size=60)), min_size=1, max_size=12)
)
@example([(15, b"\0\2\0")])
@example([(16, b"\0\1")])
@example([(20, b"\7")])
def test_bytes_changed_anywhere_never_raise_and_leave_other_pages_alone(
    hits: list[tuple[int, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.db"
        rows = [(n, f"row {n:04}") for n in range(1, 1001)]
        make(path, [*rows, *((n, "long " * 300 * (n % 9 + 1)) for n in range(1001, 1009))])
        content = bytearray(path.read_bytes())
        page_of = {row: content.index(row[1].encode()) // PAGE for row in rows}
        touched = set()
        for at, junk in hits:
            start = at % (len(content) - len(junk))
            content[start : start + len(junk)] = junk
            touched |= {start // PAGE, (start + len(junk) - 1) // PAGE}
        path.write_bytes(content)
        read = {tuple(record) for record in records(path)}
        assert set(stored([row for row in rows if page_of[row] not in touched])) <= read


def test_a_row_whose_overflow_page_is_lost_is_left_out_and_not_patched(tmp_path: Path) -> None:
    path, damaged = tmp_path / "t.db", tmp_path / "damaged.db"
    rows = [(number, chr(96 + number) * 9000) for number in range(1, 9)]
    make(path, rows)
    content = path.read_bytes()
    overflow = [number for number in range(1, len(content) // PAGE) if content[number * PAGE] == 0]
    assert len(overflow) >= 2 * len(rows)
    for number in overflow:
        for junk in (bytes(PAGE), random.Random(number).randbytes(PAGE), content[:PAGE]):
            damaged.write_bytes(content[: number * PAGE] + junk + content[(number + 1) * PAGE :])
            left = set(found(damaged))
            assert left < set(stored(rows))
            assert len(left) == len(rows) - 1


def test_a_cell_with_a_damaged_key_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    make(path, numbered(300))
    content = path.read_bytes()
    at = content.index(b"row number 200") - 6
    assert content[at : at + 4] == bytes(
        [17, 0x81, 0x48, 3]
    )  # length, rowid 200 in two bytes, length of the header
    path.write_bytes(content[: at + 1] + bytes([0x80, 0x05]) + content[at + 3 :])
    reader = PageReader(path)
    read = [tuple(record) for page in reader.pages() for record in page if record.values[:1] == (None,)]
    assert sorted(read) == [row for row in stored(numbered(300)) if row[0] != 200]
    assert reader.cells == 1


def test_sectors_that_cannot_be_read_cost_their_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.db"
    make(path, numbered(30_000))
    lost = {number: only(path, number) for number in (0, 7, 100)}
    pread = os.pread

    def failing(descriptor: int, size: int, offset: int) -> bytes:
        if any(offset < (number + 1) * PAGE and offset + size > number * PAGE for number in lost):
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    reader = PageReader(path)
    read = [tuple(record) for page in reader.pages() for record in page]
    assert sorted(read) == sorted(
        set(stored(numbered(30_000))) - {row for page in lost.values() for row in page}
    )
    assert reader.senseless == 3


def test_pages_are_counted_by_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    make(path, numbered(2000))
    content = bytearray(path.read_bytes())
    content[3 * PAGE : 4 * PAGE] = bytes(PAGE)
    content[5 * PAGE : 7 * PAGE] = b"\xee" * 2 * PAGE
    path.write_bytes(content)
    reader = PageReader(path)
    assert list(reader.pages())
    assert (reader.read, reader.blank, reader.senseless) == (len(content) // PAGE, 1, 2)


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    make(path, numbered(20_000))
    with path.open("r+b") as file:
        file.truncate(64 * 1024**2)
    tracemalloc.start()
    try:
        assert sum(len(rows) for rows in PageReader(path).pages()) >= 20_000
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024**2
    finally:
        tracemalloc.stop()


# --- the -wal -----------------------------------------------------------------------------------------------------


def test_the_last_version_that_comes_is_the_one_sqlite_has(tmp_path: Path) -> None:
    scripts = [
        TABLE + FILL.format(1, 2000, "''"),
        "PRAGMA wal_checkpoint(TRUNCATE);" + FILL.format(2001, 3000, "' long' || hex(zeroblob(3000))"),
        "UPDATE t SET c = 'changed' WHERE id % 3 = 0;" + FILL.format(3001, 3100, "''"),
        "UPDATE t SET c = c || ' again' WHERE id % 7 = 0;",
    ]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        assert latest(copy) == dict(stored(rows))


def test_frames_of_an_earlier_use_of_the_wal_are_left_out(tmp_path: Path) -> None:
    scripts = [
        TABLE + FILL.format(1, 2000, "' old'"),
        "PRAGMA wal_checkpoint(RESTART); UPDATE t SET c = 'new' WHERE id = 1;",
    ]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        reader = PageReader(copy)
        read = [record for page in reader.pages() for record in page if record.values[:1] == (None,)]
        assert {record.rowid: record.values for record in read} == dict(stored(rows))
        assert reader.read < Path(f"{copy}-wal").stat().st_size / PAGE + 5
        assert [record.values[1] for record in read if record.rowid == 1] == ["row 1 old", "new"]


def test_what_was_rolled_back_never_comes_after_what_was_committed(tmp_path: Path) -> None:
    scripts = [
        TABLE + FILL.format(1, 3000, "''"),
        "PRAGMA cache_size = 1; BEGIN; UPDATE t SET c = 'rolled back'; ROLLBACK;",
        "UPDATE t SET c = 'committed' WHERE id = 1500;",
    ]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        assert "rolled back" in {record.values[1] for record in records(copy) if len(record.values) == 2}
        assert latest(copy) == dict(stored(rows))


@pytest.mark.parametrize("main", ["missing", "empty", "noise"])
def test_the_wal_alone_gives_its_rows(tmp_path: Path, main: str) -> None:
    scripts = [TABLE + FILL.format(1, 900, "''") + FILL.format(901, 920, "hex(zeroblob(9000))")]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        if main == "missing":
            copy.unlink()
        else:
            copy.write_bytes(b"" if main == "empty" else random.Random(5).randbytes(20_000))
        assert latest(copy) == dict(stored(rows))


def test_a_damaged_frame_costs_its_own_rows(tmp_path: Path) -> None:
    scripts = [TABLE + FILL.format(1, 2000, "''"), FILL.format(2001, 4000, "''")]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        wal = Path(f"{copy}-wal")
        content = wal.read_bytes()
        stride = 24 + PAGE
        for frame in range((len(content) - 32) // stride):
            start = 32 + frame * stride
            wal.write_bytes(
                content[:start] + random.Random(frame).randbytes(stride) + content[start + stride :]
            )
            read = latest(copy)
            assert read.items() <= dict(stored(rows)).items()
            assert len(read) > len(rows) - PAGE / 10


def test_a_frame_whose_own_header_is_damaged_still_gives_its_rows(tmp_path: Path) -> None:
    scripts = [TABLE + FILL.format(1, 2000, "''"), FILL.format(2001, 4000, "''")]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        wal = Path(f"{copy}-wal")
        content = wal.read_bytes()
        for start in range(32 + 2 * (24 + PAGE), len(content) - 24 - PAGE, 24 + PAGE):
            wal.write_bytes(content[:start] + b"\xa5" * 24 + content[start + 24 :])
            assert latest(copy) == dict(stored(rows))


def test_a_wal_without_its_header_gives_its_rows(tmp_path: Path) -> None:
    scripts = [TABLE + FILL.format(1, 2000, "''"), FILL.format(2001, 4000, "''")]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        wal = Path(f"{copy}-wal")
        content = wal.read_bytes()
        for length in (8, 32, PAGE):
            wal.write_bytes(b"\xa5" * length + content[length:])
            assert latest(copy) == dict(stored(rows))


def test_a_truncated_wal_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    scripts = [TABLE, *(FILL.format(n, n + 9, "''") for n in range(1, 500, 10))]
    with copied_while_open(tmp_path, *scripts) as (copy, rows):
        wal = Path(f"{copy}-wal")
        content = wal.read_bytes()
        chance = random.Random(6)
        counts = []
        for cut in sorted(chance.randrange(len(content)) for _ in range(40)):
            wal.write_bytes(content[:cut])
            read = latest(copy)
            assert read.items() <= dict(stored(rows)).items()
            counts.append(len(read))
        assert counts == sorted(counts)
        assert counts[-1] > 400
