"""Where the log is: room, kind of disk, whether the user may write there, and what the disk says of its own health."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.doctor import unit
from agent.doctor.findings import Finding, counted, fault, note, ok
from agent.whereabouts import SERVICE_LOG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.case import Case
    from agent.doctor.machine import Machine

FEW_INODES: Final = 1000

_VOLATILE: Final = ("tmpfs", "ramfs")
_NETWORK: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")
"""SQLite's write-ahead log wants shared memory, which these lack (sqlite.org, Write-Ahead Logging)."""

_LIFE_UNKNOWN: Final = 0
_LIFE_EXCEEDED: Final = 0x0B
_LIFE_OLD: Final = 0x09
"""Of DEVICE_LIFE_TIME_EST_TYP_A and _B of an eMMC's EXT_CSD (JEDEC JESD84-B50): n says up to n times 10 % of its life used."""

_END_OF_LIFE: Final = {2: "80 % of its spare blocks are used", 3: "90 % of its spare blocks are used"}
"""By PRE_EOL_INFO of the same."""


class Room(NamedTuple):
    """What is left of a disk.

    Attributes:
        free: Bytes that an ordinary user may still write.
        inodes: Files that may still be made; None where the disk does not count them.
        is_read_only: Whether nothing may be written.
    """

    free: int
    inodes: int | None
    is_read_only: bool


def room(folder: Path) -> Room:
    """Look what is left of the disk of a folder.

    Raises:
        OSError: It cannot be looked at.
    """
    disk = os.statvfs(folder)
    inodes = disk.f_favail if disk.f_files else None
    return Room(disk.f_bavail * disk.f_frsize, inodes, bool(disk.f_flag & os.ST_RDONLY))


def examine(case: Case) -> Iterator[Finding]:
    """Look at the disk that the log is on."""
    folder = case.log.parent
    there = nearest(folder)
    try:
        yield from judge_room(room(there), case.config.log.min_free, there)
        allowed = case.user.may_use_folder(there)
    except OSError as error:
        yield fault(f"cannot look at {there}: {error.strerror}", "call this again with sudo")
        return
    if there != folder and case.log == SERVICE_LOG and unit.is_installed(case.machine):
        yield ok(f"systemd makes {folder} when it starts the service")
    elif not allowed:
        verb = "write in" if there == folder else "make folders in"
        yield fault(
            f"{case.user.name} may not {verb} {there}, and the log is to be {case.log}",
            f"sudo install -d -o {case.user.name} -m 750 {folder}; or name another file: `log: {{path: …}}`",
        )
    elif there == folder:
        yield ok(f"{case.user.name} may write in {folder}")
    kind = kind_of(case.machine, there)
    if kind in _VOLATILE:
        yield note(
            f"{there} is in memory ({kind}): the log does not outlive a power cut",
            "name a file on a disk: `log: {path: …}`",
        )
    elif kind in _NETWORK:
        yield fault(
            f"{there} is on a network ({kind}), where SQLite cannot keep its log",
            "name a file on a disk of this machine: `log: {path: …}`",
        )
    yield from wear(case.machine)


def nearest(folder: Path) -> Path:
    """Return the folder itself, or the first above it that is there."""
    for each in (folder, *folder.parents):
        try:
            if each.is_dir():
                return each
        except OSError:
            continue
    return Path("/")


def judge_room(left: Room, min_free: int, folder: Path) -> Iterator[Finding]:
    """Say whether there is room for a log."""
    megabytes = f"{left.free / 1e6:.0f} MB"
    if left.is_read_only:
        yield fault(
            f"the disk of {folder} is read-only: the log is in memory alone",
            "a card that fails is made read-only by the kernel: see dmesg | grep -i -E 'ext4|mmc'; or it is mounted so on purpose",
        )
    elif left.free < min_free:
        yield fault(
            f"only {megabytes} of the disk of {folder} are free, less than log.min_free ({min_free / 1e6:.0f} MB): events are dropped",
            "make room: sudo apt clean, sudo journalctl --vacuum-size=50M; what takes it: sudo du -xh / | sort -h | tail",
        )
    elif left.free < 2 * min_free:
        yield note(
            f"only {megabytes} of the disk of {folder} are free",
            f"make room; below {min_free / 1e6:.0f} MB events are dropped",
        )
    else:
        yield ok(f"{megabytes} of the disk of {folder} are free")
    if left.inodes is not None and left.inodes < FEW_INODES and not left.is_read_only:
        yield fault(
            f"the disk of {folder} takes only {left.inodes} files more",
            "remove many small files: sudo du --inodes -x / | sort -n | tail",
        )


def kind_of(machine: Machine, folder: Path) -> str:
    """Return the kind of the file system that a folder is on, as /proc/mounts says it; "" where it is not known."""
    best, kind = "", ""
    for line in machine.text("/proc/mounts").splitlines():
        fields = line.split()
        if len(fields) > 2:
            point = fields[1].replace("\\040", " ")
            if folder.is_relative_to(point) and len(point) >= len(best):
                best, kind = point, fields[2]
    return kind


def wear(machine: Machine) -> Iterator[Finding]:
    """Say what eMMC and file systems say of their own health; SD cards say nothing."""
    for folder in machine.names("/sys/block/mmcblk*/device"):
        name = folder.split("/")[3]
        life = [_number(word) for word in machine.text(f"{folder}/life_time").split()]
        worst = max(life, default=_LIFE_UNKNOWN)
        end = _number(machine.text(f"{folder}/pre_eol_info"))
        if end in _END_OF_LIFE or worst >= _LIFE_EXCEEDED:
            why = _END_OF_LIFE.get(end, "it is used longer than it is made for")
            yield note(
                f"the flash memory {name} is near its end: {why}", "replace it, before it becomes read-only"
            )
        elif worst >= _LIFE_OLD:
            yield note(
                f"the flash memory {name} has used up to {worst * 10} % of its life", "plan to replace it"
            )
        elif worst != _LIFE_UNKNOWN:
            yield ok(f"the flash memory {name} has used up to {worst * 10} % of its life")
    for file in machine.names("/sys/fs/ext4/*/errors_count"):
        if count := _number(machine.text(file)):
            name = file.split("/")[4]
            yield note(
                f"the file system on {name} has met {counted(count, 'error')}",
                "the card may be failing: copy what matters, have it checked at the next start (fsck), replace it",
            )


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0
