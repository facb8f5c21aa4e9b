"""Ways to spoil a file, as failing cards, power cuts and people do it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

PAGE: Final = 4096


def overwrite_the_beginning(file: Path, chance: random.Random) -> None:
    """Write noise over the first page, and what tells what the file is."""
    _overwrite(file, 0, chance.randbytes(PAGE))


def truncate(file: Path, chance: random.Random) -> None:
    """Cut off the end, at any byte but the first."""
    os.truncate(file, chance.randrange(1, file.stat().st_size))


def make_empty(file: Path, _: random.Random) -> None:
    """Leave nothing but the name."""
    os.truncate(file, 0)


def overwrite_all(file: Path, chance: random.Random) -> None:
    """Write noise over everything."""
    _overwrite(file, 0, chance.randbytes(file.stat().st_size))


def zero_pages(file: Path, chance: random.Random) -> None:
    """Write zeros over some pages."""
    for page in _some_pages(file, chance):
        _overwrite(file, page * PAGE, bytes(PAGE))


def overwrite_pages(file: Path, chance: random.Random) -> None:
    """Write noise over some pages."""
    for page in _some_pages(file, chance):
        _overwrite(file, page * PAGE, chance.randbytes(PAGE))


def flip_bits(file: Path, chance: random.Random) -> None:
    """Flip some bits anywhere."""
    data = bytearray(file.read_bytes())
    for _ in range(chance.randint(1, 50)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    _overwrite(file, 0, bytes(data))


WAYS: Final[dict[str, Callable[[Path, random.Random], None]]] = {
    way.__name__: way
    for way in (
        overwrite_the_beginning,
        truncate,
        make_empty,
        overwrite_all,
        zero_pages,
        overwrite_pages,
        flip_bits,
    )
}
"""Every way by its name."""


def _some_pages(file: Path, chance: random.Random) -> list[int]:
    pages = range(max(1, file.stat().st_size // PAGE))
    return chance.sample(pages, min(len(pages), chance.randint(1, 4)))


def _overwrite(file: Path, offset: int, data: bytes) -> None:
    """Write into a file without changing which file it is."""
    with file.open("r+b", buffering=0) as open_file:
        open_file.seek(offset)
        open_file.write(data)
        os.fsync(open_file.fileno())
