"""The harness of the power cut sees a loss: tried on losses that are made up."""

from __future__ import annotations

import json
import random
import struct
from typing import TYPE_CHECKING

import pytest
from lab import ledger, writelog
from lab.ledger import Arrival, Entry, Ledger, Loss

from agent.eventlog import EventStore
from agent.eventlog.group import Group
from agent.events import Event, EventType

if TYPE_CHECKING:
    from pathlib import Path

ALARM, READING, NEXT = Entry(1, True, 10), Entry(2, False, 20), Entry(3, False, 30)


def heard(*batches: list[Entry], position: list[int] | None = None) -> Ledger:
    sizes = iter(position or range(len(batches)))
    book = Ledger(lambda: next(sizes))
    for batch in batches:
        book.hear(json.dumps([100, batch]).encode())
    return book


def test_a_missing_alarm_and_a_missing_reading_are_counted_each_on_its_own() -> None:
    promised = heard([ALARM, READING], [NEXT]).promised
    assert ledger.lost(promised, {1: ALARM, 2: READING, 3: NEXT, 4: Entry(4, urgent=False, time=40)}) == (
        0,
        0,
    )
    assert ledger.lost(promised, {2: READING}) == Loss(urgent=1, readings=1)


def test_another_event_under_the_number_of_a_promised_one_is_a_loss() -> None:
    assert ledger.lost({1: ALARM}, {1: ALARM._replace(time=11)}) == Loss(urgent=1, readings=0)


def test_a_line_that_the_cut_took_apart_promises_nothing() -> None:
    book = heard([ALARM])
    book.hear(json.dumps([100, [READING]]).encode()[:-4])
    assert book.promised == {1: ALARM}


def test_a_promise_counts_for_a_cut_only_once_it_had_arrived() -> None:
    book = heard([ALARM], [READING], position=[512, 2048])
    assert book.before(511) == {}
    assert book.before(1024) == {1: ALARM}
    assert book.before(2048) == {1: ALARM, 2: READING}


def test_order_is_judged_by_lane_and_by_the_first_arrival() -> None:
    first, second, third = (Arrival(1, one) for one in (ALARM, READING, NEXT))
    assert ledger.out_of_order([second, first, third, second]) == 0
    assert ledger.out_of_order([third, first, second]) == 1


def test_an_alarm_that_is_raised_twice_is_seen() -> None:
    raised, cleared = ("hot", "alarm.raised"), ("hot", "alarm.cleared")
    assert ledger.repeated([raised, cleared, raised, ("cold", "alarm.raised")]) == 0
    assert ledger.repeated([raised, raised, cleared]) == 1


def test_what_is_read_from_a_log_is_what_was_written_and_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = EventStore(path)
    store.open_writer()
    store.begin_run(1, 1, 0, "1")
    events = [Event(1, 1, EventType.ALARM_RAISED, "hot", 10, {"of": "a.b"})]
    events += [Event(1, seq, EventType.READING, "air", seq * 10, {"t": 1.5}) for seq in range(2, 500)]
    store.write(Group(events, {}, {}, {}, {}))
    store.close()
    log = ledger.read(path)
    assert log.integrity == "ok"
    assert {seq: log.entries[seq] for seq in (1, 2, 3)} == {1: ALARM, 2: READING, 3: NEXT}
    assert log.identities() == {(1, seq) for seq in range(1, 500)}
    assert log.alarms == [("hot", "alarm.raised")]
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)
    assert ledger.read(path).integrity != "ok"


# --- disks made from a record of writes -------------------------------------------------------------------------------


def record(path: Path, *requests: tuple[int, bytes, int]) -> Path:
    """Write a record of requests (sector, data, flags), as QEMU does."""

    def sector(*numbers: int) -> bytes:
        return struct.pack(f"<{len(numbers)}Q", *numbers).ljust(512, b"\0")

    parts = [struct.pack("<QQQI", writelog.MAGIC, 1, 0, 512).ljust(512, b"\0")]
    for where, data, flags in requests:
        parts += [sector(where, len(data) // 512, flags, 0), data]
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return a record: sectors 0 to 9 are written, a flush, sectors 10 to 19 are written."""
    writes = [(number, bytes([65 + number]) * 512, 0) for number in range(20)]
    return record(tmp_path / "log", *writes[:10], (0, b"", writelog.FLUSH), *writes[10:])


def survivors(written: Path, tmp_path: Path, seed: int, unflushed: int = 0) -> set[int]:
    before, image = tmp_path / "before", tmp_path / "image"
    before.write_bytes(bytes(20 * 512))
    cut = writelog.cut(before, written, writelog.requests(written), image, random.Random(seed), unflushed)
    content = image.read_bytes()
    found = {number for number in range(20) if content[number * 512] == 65 + number}
    assert len(found) == 20 - cut.gone
    return found


def test_an_honest_disk_keeps_all_that_was_flushed_and_only_some_of_the_rest(
    written: Path, tmp_path: Path
) -> None:
    left = [survivors(written, tmp_path, seed) for seed in range(20)]
    assert all(found >= set(range(10)) for found in left)
    assert set.intersection(*left) == set(range(10))
    assert set.union(*left) == set(range(20))


def test_a_disk_that_lies_about_flushing_also_loses_what_was_flushed(written: Path, tmp_path: Path) -> None:
    left = [survivors(written, tmp_path, seed, unflushed=16) for seed in range(20)]
    assert set.intersection(*left) == set(range(5))


def test_a_record_that_ends_in_the_midst_of_a_request_is_read_up_to_there(written: Path) -> None:
    whole = writelog.requests(written)
    written.write_bytes(written.read_bytes()[:-1])
    assert writelog.requests(written) == whole[:-1]
