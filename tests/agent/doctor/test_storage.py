"""Room, kind of disk, permissions and wear, on trees and in numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_machines import FakeMachine, anna, case, of

from agent.doctor import storage
from agent.doctor.findings import Level
from agent.doctor.storage import Room

MEGABYTE = 1_000_000
ENOUGH = Room(900 * MEGABYTE, 100_000, is_read_only=False)


@pytest.mark.parametrize(
    ("room", "level", "said"),
    [
        (ENOUGH, Level.OK, "900 MB of the disk of /var are free"),
        (ENOUGH._replace(free=100 * MEGABYTE), Level.NOTE, "only 100 MB"),
        (ENOUGH._replace(free=63 * MEGABYTE), Level.FAULT, "events are dropped"),
        (ENOUGH._replace(is_read_only=True), Level.FAULT, "is read-only"),
        (ENOUGH._replace(inodes=None), Level.OK, "900 MB"),
    ],
)
def test_room_is_judged_by_what_the_log_leaves_free(room: Room, level: Level, said: str) -> None:
    (found,) = storage.judge_room(room, 64 * MEGABYTE, Path("/var"))
    assert found.level is level
    assert said in found.what
    assert bool(found.do) is (level is not Level.OK)


def test_a_disk_that_takes_no_more_files_is_a_fault_although_it_has_room() -> None:
    found = list(storage.judge_room(ENOUGH._replace(inodes=12), 64 * MEGABYTE, Path("/var")))
    assert [each.what for each in of(found, Level.FAULT)] == ["the disk of /var takes only 12 files more"]


def test_the_room_is_that_of_the_disk(tmp_path: Path) -> None:
    room = storage.room(tmp_path)
    assert room.free > 0
    assert not room.is_read_only


MOUNTS = """/dev/root / ext4 rw 0 0
tmpfs /var/log tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sda1 /mnt/a\\040stick ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/gatepost", "ext4"),
        ("/var/log/gatepost", "tmpfs"),
        ("/home/anna", "nfs4"),
        ("/mnt/a stick/x", "ext4"),
    ],
)
def test_the_kind_of_a_disk_is_that_of_the_nearest_mount(tmp_path: Path, folder: str, kind: str) -> None:
    machine = FakeMachine(tmp_path)
    machine.write("/proc/mounts", MOUNTS)
    assert storage.kind_of(machine, Path(folder)) == kind


@pytest.mark.parametrize(("kind", "level"), [("tmpfs", Level.NOTE), ("nfs4", Level.FAULT)])
def test_a_disk_that_a_log_should_not_be_on_is_told(tmp_path: Path, kind: str, level: Level) -> None:
    machine = FakeMachine(tmp_path)
    machine.write("/proc/mounts", f"somewhere / {kind} rw 0 0\n")
    found = [each for each in storage.examine(case(machine)) if f"({kind})" in each.what]
    assert [each.level for each in found] == [level]


def test_a_user_who_may_not_write_there_is_told_how_to_make_the_folder(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    here = case(machine, user=anna())
    here.log.parent.chmod(0o755)
    (found,) = [each for each in storage.examine(here) if "anna" in each.what]
    assert found.level is Level.FAULT
    assert found.do.startswith(f"sudo install -d -o anna -m 750 {here.log.parent}")
    here.log.parent.chmod(0o777)
    (found,) = [each for each in storage.examine(here) if "anna" in each.what]
    assert (found.level, found.what) == (Level.OK, f"anna may write in {here.log.parent}")


def test_a_folder_that_is_not_there_yet_is_judged_by_the_one_above_and_not_made(tmp_path: Path) -> None:
    here = case(FakeMachine(tmp_path))
    here = here._replace(log=here.log.parent / "new" / "deep" / "events.db")
    assert not of(list(storage.examine(here)), Level.FAULT)
    assert not here.log.parent.parent.exists()


@pytest.mark.parametrize(
    ("life", "end", "level", "said"),
    [
        ("0x02 0x01", "0x01", Level.OK, "has used up to 20 % of its life"),
        ("0x01 0x09", "0x01", Level.NOTE, "has used up to 90 % of its life"),
        ("0x0b 0x01", "0x01", Level.NOTE, "used longer than it is made for"),
        ("0x01 0x01", "0x02", Level.NOTE, "80 % of its spare blocks are used"),
        ("0x01 0x01", "0x03", Level.NOTE, "90 % of its spare blocks are used"),
    ],
)
def test_flash_memory_tells_how_worn_it_is(
    tmp_path: Path, life: str, end: str, level: Level, said: str
) -> None:
    machine = FakeMachine(tmp_path)
    machine.write("/sys/block/mmcblk0/device/life_time", life + "\n")
    machine.write("/sys/block/mmcblk0/device/pre_eol_info", end + "\n")
    (found,) = storage.wear(machine)
    assert found.level is level
    assert "mmcblk0" in found.what
    assert said in found.what


def test_a_card_that_says_nothing_of_itself_is_passed_over(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.write("/sys/block/mmcblk0/device/name", "SD32G\n")
    machine.write("/sys/fs/ext4/mmcblk0p2/errors_count", "0\n")
    assert not list(storage.wear(machine))


def test_a_file_system_that_has_met_errors_is_told(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.write("/sys/fs/ext4/mmcblk0p2/errors_count", "7\n")
    (found,) = storage.wear(machine)
    assert (found.level, found.what) == (Level.NOTE, "the file system on mmcblk0p2 has met 7 errors")


def test_the_services_own_folder_is_made_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakeMachine(tmp_path)
    here = case(machine, user=anna())
    here.log.parent.rmdir()
    here.log.parent.parent.chmod(0o755)
    monkeypatch.setattr(storage, "SERVICE_LOG", here.log)
    assert [each.level for each in storage.examine(here) if "anna" in each.what] == [Level.FAULT]
    machine.write("/etc/systemd/system/gatepost.service")
    found = list(storage.examine(here))
    assert not of(found, Level.FAULT)
    assert [each.what for each in found if "systemd" in each.what] == [
        f"systemd makes {here.log.parent} when it starts the service"
    ]
