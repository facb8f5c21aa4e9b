"""The log's file: whole, damaged, newer, foreign, refused events; and it stays as it is."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from typing import TYPE_CHECKING

import pytest
from support import damage
from support.configurations import gateway
from support.fake_machines import FakeMachine, anna, case, of

from agent.doctor import log_file
from agent.doctor.findings import Level
from agent.eventlog import EventStore
from agent.events import Event, EventType

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from support.sites import Site

    from agent.doctor.case import Case
    from agent.doctor.findings import Finding


def written(log: Path, count: int = 3000) -> None:
    """Make a log with some pages, whose run has ended."""
    store = EventStore(log)
    store.open_writer()
    store.begin_run(1, 1, 1, "0")
    store.db.execute("BEGIN")
    rows: Iterable[Event] = (
        Event(1, seq, EventType.READING, f"device-{seq % 7}", seq * 1000, {"value": seq / 3})
        for seq in range(1, count)
    )
    for event in rows:
        store.db.execute(
            "INSERT INTO events VALUES (?, 1, ?, ?, NULL, NULL)",
            (event.seq, event.time, event.values["value"]),
        )
    store.db.execute("UPDATE runs SET ended = 5")
    store.db.execute("COMMIT")
    store.close()


@pytest.fixture
def here(tmp_path: Path) -> Case:
    """A machine with a log."""
    here = case(FakeMachine(tmp_path))
    written(here.log)
    return here


def look(here: Case) -> list[Finding]:
    return list(log_file.examine(here))


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
        if path.is_file()
        and not path.name.endswith("-shm")  # an index that SQLite makes anew whenever it needs one
    }


def test_a_log_that_is_whole_is_told_with_its_last_event_and_stays_as_it_is(here: Case) -> None:
    before = snapshot(here.log.parent)
    (found,) = look(here)
    assert found.level is Level.OK
    assert found.what.startswith("the log is whole: ")
    assert found.what.endswith("schema 2, last event 2999")
    assert snapshot(here.log.parent) == before


def test_no_log_yet_is_no_fault(here: Case) -> None:
    here.log.unlink()
    (found,) = look(here)
    assert (found.level, "the first start makes it" in found.what) == (Level.OK, True)
    assert not list(here.log.parent.iterdir())


@pytest.mark.parametrize("way", ["overwrite_the_beginning", "truncate", "overwrite_all", "make_empty"])
def test_a_damaged_log_is_a_fault_and_stays_as_it_is(here: Case, way: str) -> None:
    damage.WAYS[way](here.log, random.Random(7))
    before = snapshot(here.log.parent)
    found = look(here)
    assert of(found, Level.FAULT)
    assert "the log is damaged: " in found[0].what
    assert "copy" in found[0].do
    assert snapshot(here.log.parent) == before


def test_pages_of_noise_are_found(here: Case) -> None:
    with here.log.open("r+b") as file:
        for page in range(5, here.log.stat().st_size // damage.PAGE):
            file.seek(page * damage.PAGE)
            file.write(random.Random(page).randbytes(damage.PAGE))
    assert of(look(here), Level.FAULT)


def test_what_cannot_be_read_in_time_is_told_as_read_in_part(here: Case) -> None:
    db = sqlite3.connect(here.log)
    faults, is_whole = log_file.quick_check(db, seconds=-1)
    assert (faults, is_whole) == ([], False)
    assert log_file.quick_check(db, seconds=60) == ([], True), "the clock is looked at no longer"
    db.close()


@pytest.mark.parametrize(
    ("pragma", "said"),
    [
        ("user_version = 99", "was written by a newer gatepost"),
        ("application_id = 7", "is a database of another program"),
    ],
)
def test_a_log_that_is_not_ours_is_a_fault_with_what_to_do(here: Case, pragma: str, said: str) -> None:
    db = sqlite3.connect(here.log)
    db.execute(f"PRAGMA {pragma}")
    db.close()
    (found,) = look(here)
    assert found.level is Level.FAULT
    assert said in found.what
    assert "`log: {path: …}`" in found.do


def test_a_run_that_did_not_end_by_itself_is_told(here: Case) -> None:
    db = sqlite3.connect(here.log)
    db.execute("UPDATE runs SET ended = NULL")
    db.commit()
    db.close()
    (found,) = of(look(here), Level.NOTE)
    assert found.what.startswith("the last run did not end by itself")


def test_events_that_were_refused_are_told_with_the_reason(here: Case) -> None:
    db = sqlite3.connect(here.log)
    db.execute("INSERT INTO rejected VALUES (7, 'site', 5, 'the broker does not let us publish')")
    db.execute("INSERT INTO rejected VALUES (8, 'office', 1, 'too large')")
    db.commit()
    db.close()
    (found,) = of(look(here), Level.NOTE)
    assert (
        found.what
        == "far sides have refused 2 events, the latest by site: the broker does not let us publish"
    )


def test_a_log_of_an_earlier_version_is_told_with_what_becomes_of_it(here: Case) -> None:
    db = sqlite3.connect(here.log)
    db.executescript(
        "DROP VIEW readable; DROP TABLE clocks; DROP TABLE ahead; DROP TABLE rejected;"
        "ALTER TABLE events DROP COLUMN recorded; PRAGMA user_version = 1"
    )
    db.close()
    (found,) = look(here)
    assert (found.level, "schema 1, which the next start makes 2" in found.what) == (Level.OK, True)


def test_damaged_files_that_were_set_aside_are_told(here: Case) -> None:
    here.log.with_name("events.db.damaged-20261101T000000").touch()
    (found,) = of(look(here), Level.NOTE)
    assert "damaged logs were set aside: 1" in found.what


def test_a_user_who_may_not_write_to_it_is_told(here: Case) -> None:
    here.log.chmod(0o600)
    (found,) = of(look(here._replace(user=anna())), Level.FAULT)
    assert found.do == f"sudo chown anna {here.log}*"


def test_the_log_of_an_agent_that_was_killed_stays_as_it_is(site: Site) -> None:
    agent = site.agent(gateway({"beat": {"driver": "heartbeat", "every": "50ms"}}))
    agent.start_and_wait()
    agent.kill()
    here = case(FakeMachine(site.folder / "fake"))._replace(log=agent.log)
    before = snapshot(agent.log.parent)
    assert any(name.endswith("-wal") for name in before)
    found = look(here)
    assert not of(found, Level.FAULT)
    assert snapshot(agent.log.parent) == before
    agent.start()
    agent.wait_status(lambda _: True, "it runs again")
    assert not agent.lines("write-ahead log was gone"), "nothing of it was taken away"
