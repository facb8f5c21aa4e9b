"""All areas together: each within its time, none stopped by another; users; and what people and programs are shown."""

from __future__ import annotations

import grp
import io
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.fake_machines import FakeMachine, anna, case

from agent import needs
from agent.console import Style
from agent.doctor import devices, examination, files, report, timekeeping, users
from agent.doctor.examination import Area
from agent.doctor.findings import Finding, Level, fault, note, ok, said
from agent.doctor.running import Running
from agent.errors import Disconnected, GatepostError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.case import Case

BEAT = "gateway: g\ndevices:\n  beat: {driver: heartbeat}\n"


@pytest.fixture
def here(tmp_path: Path) -> Case:
    """A machine with one device that needs nothing."""
    return case(FakeMachine(tmp_path), text=BEAT)


def test_every_area_is_examined_and_those_without_a_finding_are_left_out(here: Case) -> None:
    names = [area.name for area in examination.examine(here)]
    assert names == ["agent", "limits", "device beat", "disk", "log", "clock"]


def test_an_area_that_hangs_is_left_behind_and_the_others_are_told(
    here: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr(examination, "PATIENCE", 0.3)
    monkeypatch.setattr(timekeeping, "examine", lambda: iter([end.wait(20)]))
    areas = {area.name: area.findings for area in examination.examine(here)}
    end.set()
    assert [each.what for each in areas["clock"]] == ["this could not be looked at in time"]
    assert areas["log"][0].level is Level.OK


def test_an_area_with_a_bug_says_so_and_the_others_are_told(
    here: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(timekeeping, "examine", break_down)
    areas = {area.name: area.findings for area in examination.examine(here)}
    assert [each.what for each in areas["clock"]] == ["a bug in the doctor: ZeroDivisionError: a bug"]
    assert areas["log"][0].level is Level.OK


# --- devices ----------------------------------------------------------------------------------------------------------


def beat(here: Case) -> list[Finding]:
    (device,) = here.config.devices.values()
    return list(devices.examine(device, here))


@pytest.mark.parametrize(
    ("part", "level", "said"),
    [
        (
            {"health": "up", "readings": 7, "bad": 2},
            Level.OK,
            "it is up in the running agent, with 7 readings, 2 of them bad",
        ),
        ({"health": "down", "reason": "it is gone; plug it in"}, Level.FAULT, "it is gone"),
    ],
)
def test_the_running_agent_is_asked_about_a_device(
    here: Case, part: dict[str, Any], level: Level, said: str
) -> None:
    (found,) = beat(here._replace(agent=Running(5, {"devices": {"beat": part}})))
    assert (found.level, found.what) == (level, said)


def test_a_device_that_the_running_agent_does_not_know_is_new(here: Case) -> None:
    (found,) = beat(here._replace(agent=Running(5, {"devices": {}})))
    assert (found.level, found.what) == (Level.NOTE, "the running agent does not know it")


def test_a_file_and_a_library_are_needs_too(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    here = case(machine, user=anna())
    need = needs.File("/dev/i2c-1", group="i2c", writable=True, missing="load the overlay")
    (found,) = files.examine(need, here)
    assert (found.level, found.do) == (Level.FAULT, "load the overlay")
    machine.write("/dev/i2c-1").chmod(0o660)
    (found,) = files.examine(need, here)
    assert found.what == "anna may not write to /dev/i2c-1"
    machine.at("/dev/i2c-1").chmod(0o666)
    (found,) = files.examine(need, here)
    assert found.level is Level.OK
    assert not list(files.examine_library(needs.Library("json", "pip install it")))
    (found,) = files.examine_library(needs.Library("no_such_library", "pip install it"))
    assert (found.level, found.do) == (Level.FAULT, "pip install it")


def test_settings_that_say_nothing_need_nothing() -> None:
    assert not needs.needs_of(object())


# --- users ------------------------------------------------------------------------------------------------------------


def test_a_user_who_does_not_exist_is_refused() -> None:
    with pytest.raises(GatepostError, match="there is no user 'nobody-of-that-name'"):
        users.find("nobody-of-that-name")


def test_without_a_name_it_is_us_or_for_root_the_services_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "SERVICE_USER", "no-such-user")
    assert users.find(None).uid == os.geteuid()
    if os.geteuid() == 0:
        monkeypatch.setattr(users, "SERVICE_USER", "daemon")
        assert users.find(None).name == "daemon"


def test_a_group_that_this_session_does_not_have_yet_is_told(here: Case) -> None:
    fresh = users.User("anna", 54321, frozenset({20}), "/home/anna", lacks=("dialout",))
    (area,) = [each for each in examination.examine(here._replace(user=fresh)) if each.name == "user"]
    assert area.findings[0].what.endswith("groups yet that anna was given: dialout")
    assert area.findings[0].do == "log out and in again"


@pytest.mark.parametrize(
    ("mode", "owns", "shares", "may_read", "may_write"),
    [
        (0o660, False, True, True, True),
        (0o640, False, True, True, False),
        (0o660, False, False, False, False),
        (0o666, False, False, True, True),
        (0o606, False, True, False, False),
        (0o600, True, False, True, True),
        (0o066, True, True, False, False),
    ],
)
def test_who_may_open_a_file_goes_by_owner_then_group_then_others(
    tmp_path: Path, mode: int, owns: bool, shares: bool, may_read: bool, may_write: bool
) -> None:
    file = tmp_path / "device"
    file.touch()
    file.chmod(mode)
    if owns and os.geteuid() != 0:
        pytest.skip("a file of another user is made by root only")
    if owns:
        os.chown(file, 54321, -1)
    user = anna(*([file.stat().st_gid] if shares else []))
    assert (user.may(file), user.may(file, write=True)) == (may_read, may_write)
    assert users.User("root", 0, frozenset(), "/root").may(file, write=True)


def test_the_groups_that_only_the_service_has_count() -> None:
    group = grp.getgrall()[-1]
    assert group.gr_gid in anna().joined([group.gr_name, "no-such-group"]).groups


# --- what is shown ----------------------------------------------------------------------------------------------------


AREAS = [
    Area("clock", [ok("the clock is synchronised")]),
    Area(
        "device scale",
        [fault("there is no /dev/ttyUSB0", "plug it in, " * 12 + "please"), note("it is old", "replace it")],
    ),
    Area("disk", [note("little room", "make room")]),
]


def shown(here: Case, areas: list[Area]) -> list[str]:
    return list(report.lines(areas, here, Style(io.StringIO()), 60))


def test_the_report_numbers_what_needs_doing_and_ends_with_the_sum(here: Case) -> None:
    lines = shown(here, AREAS)
    assert lines[0] == f"g: {here.config.path}, for user root"
    assert lines[2:4] == ["clock", "    ok     the clock is synchronised"]
    assert " 1  fault  there is no /dev/ttyUSB0" in lines
    assert " 2  note   it is old" in lines
    assert "           do: replace it" in lines
    assert " 3  note   little room" in lines
    assert lines[-1] == "1 fault (device scale), 2 notes"
    assert all(len(line) <= 60 for line in lines[1:])


def test_what_several_devices_lack_has_one_number_and_is_told_once_what_to_do(here: Case) -> None:
    lack = fault("lgpio is not installed", "install it")
    lines = shown(here, [Area("device door", [lack]), Area("device fan", [note("old", "renew it"), lack])])
    assert lines.count(" 1  fault  lgpio is not installed") == 2
    assert lines.count("           do: install it") == 1
    assert " 2  note   old" in lines
    assert lines[-1] == "1 fault (device door, device fan), 1 note"


def test_a_report_without_faults_says_that_nothing_would_stop_it(here: Case) -> None:
    assert shown(here, [AREAS[0]])[-1] == "nothing would stop it"
    assert shown(here, [AREAS[0], AREAS[2]])[-1] == "nothing would stop it, 1 note"


def test_the_board_is_named_where_it_is_known(here: Case, tmp_path: Path) -> None:
    FakeMachine(tmp_path).write("/proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    assert shown(here, [])[0].endswith("for user root on Raspberry Pi 4 Model B Rev 1.4")


def test_the_document_has_the_same_for_programs(here: Case) -> None:
    found = report.document(AREAS, here)
    assert (found["faults"], found["notes"], found["agent"]) == (1, 2, None)
    assert found["findings"][2] == {
        "area": "device scale",
        "level": "note",
        "what": "it is old",
        "do": "replace it",
    }


def test_the_words_of_a_part_become_what_is_wrong_and_what_to_do() -> None:
    found = said(Disconnected("the door is shut; open it; gently"))
    assert (found.level, found.what, found.do) == (Level.FAULT, "the door is shut", "open it; gently")
