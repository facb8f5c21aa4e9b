"""Reads the rows of an SQLite database file without SQLite, page by page: what is damaged costs only itself.

SQLite finds a row by going down from a root page, so that one damaged page may hide thousands of good ones, and it
refuses a file whose first page is gone. Here every page is looked at for itself, and every cell of it; what makes no
sense is skipped and counted. The format is that of https://www.sqlite.org/fileformat2.html, whose section numbers are
given below.

What SQLite no longer shows may come too: a page that was freed keeps its rows until it is used again, the -wal has
older versions of pages, and the rest of a transaction that was never finished. A row may so come several times; of two
with the same key, the later is the one to believe. The file has no checksums of its own: a value that was overwritten
with something that looks like a value cannot be told from it.
"""

from __future__ import annotations

import contextlib
import os
import struct
from array import array
from typing import TYPE_CHECKING, Final

from agent.eventlog.cells import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.eventlog.cells import Record

PAGE_SIZES: Final = (4096, 512, 1024, 2048, 8192, 16384, 32768, 65536)
"""What a page may have (section 1.3.2), in bytes; first what our files have."""

SAMPLES: Final = 8
"""Places of a file by which its page size is found."""

READ: Final = 256 * 1024
"""Bytes read at once, at least."""

WAL_MAGIC: Final = frozenset({0x377F0682, 0x377F0683})
"""How a -wal begins; the last bit says in which order of bytes the checksums take their numbers."""

_MASK: Final = 0xFFFFFFFF


def records(path: Path) -> Iterator[Record]:
    """Yield every row that can be read from a database file and its -wal: see `PageReader`.

    Raises:
        OSError: The file cannot be opened.
    """
    for rows in PageReader(path).pages():
        yield from rows


PAGES_MAX: Final = 2**24
"""More pages than any log has; a header that tells of more is damaged itself."""


class PageReader:
    """One database file and its -wal; neither need be there.

    Attributes:
        page_size: In bytes; 0 before the first reading has found it.
        read: Pages read, those of the -wal included.
        blank: Pages of zeros among them: freed by an SQLite that wipes them, or lost.
        senseless: Pages that are no page of a database, or could not be read.
        cells: Cells that made no sense, on pages that did.
        missing: Pages that the header speaks of and that are not there: the file was cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.page_size = 0
        self.read = self.blank = self.senseless = self.cells = self.missing = 0

    def pages(self) -> Iterator[list[Record]]:
        """Yield the rows of each page that has any, the surest last; may be called again.

        First come the frames of the -wal that no finished transaction vouches for, then the database file, then the
        other frames, each in order.

        Raises:
            OSError: A file cannot be opened. What cannot be read of it is counted.
        """
        self.read = self.blank = self.senseless = self.cells = 0
        with contextlib.ExitStack() as files:
            main = self._open(files, self._path)
            log = self._open(files, self._path.with_name(self._path.name + "-wal"))
            self.page_size = size = self.page_size or _page_size(main, log)
            self.missing = max(0, _told_pages(main) - -(-main.size // size))
            wal = _Wal(log, size)
            decoder = Decoder(size)

            def of_main(number: int) -> bytes:
                return main.bytes_at((number - 1) * size, size) if number else b""

            if wal.page_size == size:
                yield from self._frames(decoder, wal, wal.trusted, wal.end, of_main)
            for index, page in enumerate(main.pieces(0, size)):
                yield from self._rows(decoder, page, index + 1, of_main)
            if wal.page_size == size:
                yield from self._frames(decoder, wal, 0, wal.trusted, of_main)

    @staticmethod
    def _open(files: contextlib.ExitStack, path: Path) -> _File:
        try:
            opened = files.enter_context(path.open("rb", buffering=0))
        except FileNotFoundError:
            return _File(-1, 0)
        return _File(opened.fileno(), os.fstat(opened.fileno()).st_size)

    def _frames(
        self, decoder: Decoder, wal: _Wal, first: int, end: int, of_main: Callable[[int], bytes]
    ) -> Iterator[list[Record]]:
        for number, page, latest in wal.frames(first, end):

            def current(wanted: int, latest: dict[int, int] = latest) -> bytes:
                return wal.page(latest[wanted]) if wanted in latest else of_main(wanted)

            yield from self._rows(decoder, page, number, current)

    def _rows(
        self, decoder: Decoder, page: bytes, number: int, overflow: Callable[[int], bytes]
    ) -> Iterator[list[Record]]:
        self.read += 1
        rows = decoder.rows(page, 100 if number == 1 else 0, overflow)
        self.cells += decoder.bad
        if rows:
            yield rows
        elif rows is None:
            # An overflow page or one of the free list begins with a page's number, which is never that large.
            if not page or (page[0] and not self._is_map(page, number)):
                self.senseless += 1
            elif page.count(0) == len(page):
                self.blank += 1

    def _is_map(self, page: bytes, number: int) -> bool:
        """Whether it is a pointer map: of an auto-vacuum file the second page, and one after all that it tells of."""
        return page[0] in range(1, 6) and (number - 2) % (self.page_size // 5 + 1) == 0


class _File:
    """Bytes of a file, of which none or some can be read."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Return what can be read there, at most `size` bytes."""
        if not 0 <= offset < self.size:
            return b""
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError:
            return b""

    def pieces(self, offset: int, size: int) -> Iterator[bytes]:
        """Yield the file from an offset on in pieces of one size, empty where it cannot be read; the last may be short."""
        many = max(1, READ // size)
        while offset < self.size:
            block = self.bytes_at(offset, many * size)
            expected = min(many * size, self.size - offset)
            if len(block) == expected:
                for start in range(0, expected, size):
                    yield block[start : start + size]
            else:  # some of it cannot be read
                for start in range(0, expected, size):
                    yield self.bytes_at(offset + start, size)
            offset += expected


def _told_pages(main: _File) -> int:
    """Return how many pages the header says that there are; 0 where it says nothing that can be true (SQLite, Database File Format, 1.3.8)."""
    header = main.bytes_at(0, 100)
    if not header.startswith(b"SQLite format 3\0") or header[24:28] != header[92:96]:
        return 0
    told = int.from_bytes(header[28:32], "big")
    return told if told <= PAGES_MAX else 0


def _page_size(main: _File, log: _File) -> int:
    """Return the size at which a sample of the pages makes the most sense; what a header says wins a draw."""
    block = PAGE_SIZES[-1]
    step = max(block, main.size // SAMPLES // block * block)
    sample = [main.bytes_at(offset, block) for offset in range(0, main.size, step)]

    def score(size: int) -> int:
        pages = (piece[start : start + size] for piece in sample for start in range(0, len(piece), size))
        return sum(map(Decoder(size).sound_cells, pages))

    said = [_said_by_main(main), _said_by_wal(log), *PAGE_SIZES]
    return max((size for size in said if size), key=score)  # of equals, the first


def _said_by_main(main: _File) -> int:
    """Return the page size as the header of the database file says (section 1.3.2); 0 where that is none."""
    size = int.from_bytes(main.bytes_at(16, 2), "big")
    size = 65536 if size == 1 else size
    return size if size in PAGE_SIZES else 0


def _said_by_wal(log: _File) -> int:
    """Return the page size as the header of the -wal says (section 4.1); 0 where it has none."""
    magic, _, size = struct.unpack(">3I", log.bytes_at(0, 12).ljust(12, b"\0"))
    return size if magic in WAL_MAGIC and size in PAGE_SIZES else 0


class _Wal:
    """The frames of a -wal (section 4): pages in the order in which they were written.

    Attributes:
        page_size: In bytes.
        numbers: For each frame the page that it is a version of; 0 where its header is damaged, or of an earlier use.
        end: Frames of this use of the file: those after the last that has its salts are of an earlier one.
        trusted: Frames at the beginning that are whole, up to the end of a transaction: what SQLite would go by.
    """

    def __init__(self, file: _File, page_size: int) -> None:
        self._file = file
        header = file.bytes_at(0, 32)
        said = _said_by_wal(file)
        self.page_size = said or page_size
        self.numbers = array("I")
        self._ends = bytearray()
        self.end = 0
        self.trusted = 0
        order = ">" if header[3:4] == b"\x83" else "<"
        salt = struct.unpack(">2I", header[16:24].ljust(8, b"\0")) if said else self._find_salt()
        state = _checksum(order, header[:24], (0, 0)) if said else None
        for frame in file.pieces(32, 24 + self.page_size):
            number, commit, salt_1, salt_2, *written = struct.unpack(">6I", frame[:24].ljust(24, b"\0"))
            is_ours = (salt_1, salt_2) == salt
            if not is_ours:
                number, commit, state = 0, 0, None
            self.numbers.append(number)
            self._ends.append(commit != 0)
            if is_ours:
                self.end = len(self.numbers)
            if state is not None:
                state = _checksum(order, frame[24:], _checksum(order, frame[:8], state))
                if len(frame) < 24 + self.page_size or state != tuple(written):
                    state = None
                elif commit:
                    self.trusted = len(self.numbers)

    def _find_salt(self) -> tuple[int, ...]:
        """Without the header: the salts of the first two frames in a row that agree."""
        last: tuple[int, ...] = (0, 0)
        for frame in self._file.pieces(32, 24 + self.page_size):
            salt = struct.unpack(">2I", frame[8:16].ljust(8, b"\0"))
            if salt == last != (0, 0):
                break
            last = salt
        return last

    def page(self, frame: int) -> bytes:
        """Return the page in a frame."""
        return self._file.bytes_at(32 + frame * (24 + self.page_size) + 24, self.page_size)

    def frames(self, first: int, end: int) -> Iterator[tuple[int, bytes, dict[int, int]]]:
        """Yield number and content of the frames from `first` to before `end`, and by page its frame at that time."""
        latest: dict[int, int] = {}
        start = 0
        while start < end:
            after = self._ends.find(1, start) + 1 or len(self.numbers)
            latest.update((self.numbers[frame], frame) for frame in range(start, after))
            for frame in range(max(start, first), min(after, end)):
                yield self.numbers[frame], self.page(frame), latest
            start = after


def _checksum(order: str, data: bytes, state: tuple[int, int]) -> tuple[int, int]:
    """Return the cumulative checksum of a -wal after some more bytes (section 4.2)."""
    one, two = state
    for first, second in struct.iter_unpack(f"{order}II", data[: len(data) // 8 * 8]):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two
