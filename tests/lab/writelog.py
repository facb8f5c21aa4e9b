"""Disks as a power cut leaves them, made from QEMU's record of every write and flush (`blklogwrites`).

The record has the format of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a sector
that says what it is; then for each request a sector with where, how much and flags, followed by the data.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

SECTOR: Final = 512
MAGIC: Final = 0x6A736677736872
FLUSH: Final = 1
FUA: Final = 2  # forced unit access: this write does not stay in the cache
DISCARD: Final = 4


class Request(NamedTuple):
    """One request to the disk.

    Attributes:
        sector: Where it writes.
        sectors: How many.
        flags: FLUSH, FUA, DISCARD.
        start: Where its data begins in the record.
        end: How long the record was once it was done.
    """

    sector: int
    sectors: int
    flags: int
    start: int
    end: int


class Cut(NamedTuple):
    """What a power cut did: how many writes were in the cache, and how many of them are gone or torn."""

    cached: int
    gone: int
    torn: int


def requests(record: Path) -> list[Request]:
    """Return the requests in order. QEMU counts them only up to the last flush, so the count is not looked at.

    Raises:
        ValueError: It is no such record.
    """
    found = []
    size = record.stat().st_size
    with record.open("rb") as file:
        magic, _, _, sector_size = struct.unpack("<QQQI", file.read(28))
        if (magic, sector_size) != (MAGIC, SECTOR):
            raise ValueError(f"{record} is no record of writes with sectors of {SECTOR} bytes")
        at = SECTOR
        while at + SECTOR <= size:
            file.seek(at)
            sector, count, flags, _ = struct.unpack("<QQQQ", file.read(32))
            start = at + SECTOR
            at = start + (0 if flags & DISCARD else count * SECTOR)
            if at > size or not (count or flags):
                break  # the end, in the midst of a request
            found.append(Request(sector, count, flags, start, at))
    return found


def cut(
    before: Path, record: Path, done: list[Request], image: Path, random: Random, unflushed: int = 0
) -> Cut:
    """Make the image of a disk whose power was cut after `done`.

    Every write since the last flush may be gone, each with a probability of one half; one in ten of the others is torn
    between two sectors.

    Args:
        before: The disk as it was when the record began.
        record: The record of writes.
        done: The requests that were made.
        image: Where to put it.
        random: Decides.
        unflushed: For a disk that lies about flushing: so many of its last requests are in its cache, flushed or not.
    """
    flushed = max((number for number, one in enumerate(done) if one.flags & FLUSH), default=-1)
    safe = len(done) - unflushed - 1 if unflushed else flushed
    cached = gone = torn = 0
    shutil.copyfile(before, image)
    with record.open("rb") as source, image.open("r+b") as target:
        for number, one in enumerate(done):
            if one.flags & DISCARD or not one.sectors:
                continue
            source.seek(one.start)
            data = source.read(one.sectors * SECTOR)
            if number > safe and (unflushed or not one.flags & FUA):
                cached += 1
                if random.random() < 0.5:
                    gone += 1
                    continue
                if one.sectors > 1 and random.random() < 0.1:
                    torn += 1
                    data = data[: SECTOR * random.randrange(1, one.sectors)]
            target.seek(one.sector * SECTOR)
            target.write(data)
    return Cut(cached, gone, torn)


def make_disk(image: Path, megabytes: int) -> None:
    """Make an empty disk for the agent's state."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(megabytes * 1024**2)
    # Nothing is left for the kernel to do lazily, so the record has the agent's writes and few others.
    options = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-b", "4096", "-L", "gatepost-data", "-E", options, str(image)], check=True
    )


def extract(image: Path, folder: Path) -> str:
    """Repair the file system of a disk as a booting machine does, and copy its files out.

    Returns:
        `ok` where the journal was enough, else what e2fsck(8) came to.
    """
    said = "ok"
    # As a booting machine does: replay the journal, put small things right; 4 and more means that a person is wanted.
    if _e2fsck("-fp", image) >= 4:
        said = f"repaired, status {_e2fsck('-fy', image)}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["debugfs", "-R", f"rdump / {folder}", str(image)], check=True, capture_output=True)
    return said


def _e2fsck(mode: str, image: Path) -> int:
    return subprocess.run(["e2fsck", mode, str(image)], check=False, capture_output=True).returncode
