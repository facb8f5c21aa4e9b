"""The rows on one page of an SQLite database file, decoded so that no damage raises.

The format is that of https://www.sqlite.org/fileformat2.html, whose section numbers are given below. A cell is taken
only if it fits into its place, its record is exactly as long as it says, its text is UTF-8, and its rowid is in order.
"""

from __future__ import annotations

import bisect
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD_MAX: Final = 16 * 1024**2
"""Bytes above which a row's length is taken as garbage."""

LAYOUTS_MAX: Final = 2_000
"""Record headers remembered, one for each combination of types and text lengths."""

FRAGMENTS_MAX: Final = 60
"""Bytes between the cells of a page that are lost for use, at most (section 1.6)."""

_INDEX_INTERIOR: Final = 0x02
_TABLE_INTERIOR: Final = 0x05
_INDEX_LEAF: Final = 0x0A
_TABLE_LEAF: Final = 0x0D

_ZERO: Final = 8
_ONE: Final = 9
_BLOB: Final = 12  # and text, which is odd
_FIXED: Final = {0: "0s", 1: "b", 2: "h", 3: "3s", 4: "i", 5: "6s", 6: "q", 7: "d", _ZERO: "0s", _ONE: "0s"}
"""The content of a column as `struct` knows it, by serial type (section 2.1)."""


class Record(NamedTuple):
    """A row.

    Attributes:
        rowid: None in a table WITHOUT ROWID, and in an index.
        values: As they are stored: an INTEGER PRIMARY KEY is None, columns added after the row was written are missing.
    """

    rowid: int | None
    values: tuple[Any, ...]


class _Layout(NamedTuple):
    """How the body of a record is read, as its header says."""

    size: int
    unpack: Callable[[bytes, int], tuple[Any, ...]]
    conversions: list[tuple[int, Callable[[Any], Any]]]  # by column, what `struct` leaves to do


class Decoder:
    """Pages of one size to rows.

    Attributes:
        bad: Cells of the last page that made no sense.
    """

    def __init__(self, page_size: int) -> None:
        self._usable = page_size  # nothing is reserved at the end of our pages
        self._most_of_table = self._usable - 35
        self._most_of_index = (self._usable - 12) * 64 // 255 - 23
        self._least_local = (self._usable - 12) * 32 // 255 - 23
        self._layouts: dict[bytes, _Layout] = {}
        self.bad = 0

    def rows(self, page: bytes, at: int, overflow: Callable[[int], bytes]) -> list[Record] | None:
        """Return the rows of a page of a b-tree (section 1.6), or None where it is none.

        Args:
            page: Its bytes; those at the end may be missing.
            at: Where its header is.
            overflow: Returns a page by its number, empty where there is none.
        """
        self.bad = 0
        outline = self._outline(page, at)
        if outline is None:
            return None
        kind, content, pointers = outline
        if kind == _TABLE_INTERIOR:
            return []
        ordered = sorted(pointers)
        # A cell ends where the next begins, at the latest.
        ends = dict(zip(ordered, [*ordered[1:], self._usable], strict=True)) if ordered else {}
        if kind == _TABLE_LEAF:
            return self._table_rows(page, content, pointers, ends, overflow)
        return self._index_rows(page, content, pointers, ends, overflow, 4 if kind == _INDEX_INTERIOR else 0)

    def sound_cells(self, page: bytes) -> int:
        """Return how many cells a page has if it is of just this size: if its last cell ends where the page ends."""
        outline = self._outline(page, 0)
        if outline is None or not outline[2]:
            return 0
        kind, content, pointers = outline
        if min(pointers) < content:
            return 0
        try:
            size, end = _varint(
                page, max(pointers) + (4 if kind in {_INDEX_INTERIOR, _TABLE_INTERIOR} else 0)
            )
            if kind == _TABLE_LEAF:
                end = _varint(page, end)[1]
        except IndexError:
            return 0
        if kind != _TABLE_INTERIOR:
            most = self._most_of_table if kind == _TABLE_LEAF else self._most_of_index
            end += size if size <= most else self._local(size, most) + 4
        return len(pointers) if self._usable - FRAGMENTS_MAX <= end <= self._usable else 0

    def _local(self, size: int, most: int) -> int:
        """Return how many bytes of a record that needs overflow pages are in its cell (section 1.6)."""
        local = self._least_local + (size - self._least_local) % (self._usable - 4)
        return local if local <= most else self._least_local

    def _outline(self, page: bytes, at: int) -> tuple[int, int, tuple[int, ...]] | None:
        """Return the kind of a page of a b-tree, where its cells may begin, and where each does; None for no such page."""
        if len(page) < at + 12 or page[at] not in {
            _INDEX_INTERIOR,
            _TABLE_INTERIOR,
            _INDEX_LEAF,
            _TABLE_LEAF,
        }:
            return None
        kind, _, count, content, fragments = struct.unpack_from(">BHHHB", page, at)
        first = at + (8 if kind in {_INDEX_LEAF, _TABLE_LEAF} else 12)
        content = content or 65536
        if (
            not first + 2 * count <= content <= self._usable
            or fragments > FRAGMENTS_MAX
            or first + 2 * count > len(page)
        ):
            return None
        return kind, content, struct.unpack_from(f">{count}H", page, first)

    def _table_rows(
        self,
        page: bytes,
        content: int,
        pointers: tuple[int, ...],
        ends: dict[int, int],
        overflow: Callable[[int], bytes],
    ) -> list[Record]:
        most = self._most_of_table
        rows: list[Record] = []
        last: int | None = None
        ascending = True
        for pointer in pointers:
            try:
                size, body = page[pointer], pointer + 1
                if size >= 0x80:
                    size, body = _varint(page, pointer)
                rowid = page[body]
                body += 1
                if rowid >= 0x80:
                    rowid, body = _varint(page, body - 1)
                if pointer < content:
                    raise ValueError
                if size <= most:
                    values = self._record(page, body, size, ends[pointer])
                else:
                    values = self._long_record(page, body, size, most, ends[pointer], overflow)
            except (ValueError, IndexError, struct.error):
                self.bad += 1
                continue
            if last is not None and rowid <= last:
                ascending = False
            last = rowid
            rows.append(Record(rowid, values))
        if not ascending:
            found = len(rows)
            rows = _ascending(rows)
            self.bad += found - len(rows)
        return rows

    def _index_rows(
        self,
        page: bytes,
        content: int,
        pointers: tuple[int, ...],
        ends: dict[int, int],
        overflow: Callable[[int], bytes],
        skip: int,
    ) -> list[Record]:
        """Return the rows of a page of an index, which a table WITHOUT ROWID is (section 2.4), inner pages too."""
        most = self._most_of_index
        rows = []
        for pointer in pointers:
            try:
                size, body = _varint(page, pointer + skip)
                if pointer < content:
                    raise ValueError
                if size <= most:
                    values = self._record(page, body, size, ends[pointer])
                else:
                    values = self._long_record(page, body, size, most, ends[pointer], overflow)
            except (ValueError, IndexError, struct.error):
                self.bad += 1
                continue
            rows.append(Record(None, values))
        return rows

    def _long_record(
        self, page: bytes, at: int, size: int, most: int, end: int, overflow: Callable[[int], bytes]
    ) -> tuple[Any, ...]:
        """Return the values of a record that goes on on overflow pages (sections 1.6 and 1.7)."""
        if not most < size <= PAYLOAD_MAX:
            raise ValueError
        local = self._local(size, most)
        if at + local + 4 > min(end, len(page)):
            raise ValueError
        parts = [page[at : at + local]]
        left = size - local
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        while left > 0:
            next_page = overflow(following) if following else b""
            part = next_page[4 : 4 + min(left, self._usable - 4)]
            if len(part) < min(left, self._usable - 4) or not any(part):
                raise ValueError  # it is not there, or was wiped
            parts.append(part)
            left -= len(part)
            following = int.from_bytes(next_page[:4], "big")
        if following:
            raise ValueError  # the chain belongs to another row by now
        return self._record(b"".join(parts), 0, size, size)

    def _record(self, data: bytes, at: int, size: int, end: int) -> tuple[Any, ...]:
        """Return the values of a record (section 2.1) that takes exactly `size` bytes.

        Raises:
            ValueError: It makes no sense.
            IndexError, struct.error: It is not all there.
        """
        if at + size > end:
            raise ValueError
        length = data[at]
        if length >= 0x80:
            length = _varint(data, at)[0]
        header = data[at : at + length]
        layout = self._layouts.get(header)
        if layout is None:
            if len(self._layouts) >= LAYOUTS_MAX:
                self._layouts.clear()
            layout = self._layouts[header] = _layout(header)
        if layout.size != size:
            raise ValueError
        values = layout.unpack(data, at + length)
        if layout.conversions:
            changed = list(values)
            for column, convert in layout.conversions:
                changed[column] = convert(changed[column])
            return tuple(changed)
        return values


def _layout(header: bytes) -> _Layout:
    """Return how to read the record of a header (section 2.1).

    Raises:
        ValueError, IndexError: There can be no such record.
    """
    formats = [">"]
    conversions: list[tuple[int, Callable[[Any], Any]]] = []
    length, at = _varint(header, 0)
    if length != len(header):
        raise ValueError
    while at < length:
        kind, at = _varint(header, at)
        column = len(formats) - 1
        if kind >= _BLOB:
            size = (kind - _BLOB) // 2
            if size > PAYLOAD_MAX:
                raise ValueError
            formats.append(f"{size}s")
            if kind % 2:
                conversions.append((column, bytes.decode))
        elif kind in _FIXED:
            formats.append(_FIXED[kind])
            if kind in _CONVERSIONS:
                conversions.append((column, _CONVERSIONS[kind]))
        else:
            raise ValueError
    body = struct.Struct("".join(formats))
    return _Layout(length + body.size, body.unpack_from, conversions)


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


_CONVERSIONS: Final[dict[int, Callable[[Any], Any]]] = {
    0: lambda _: None,
    3: _integer,
    5: _integer,
    _ZERO: lambda _: 0,
    _ONE: lambda _: 1,
}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer (section 1.6), signed, and where it ends.

    Raises:
        IndexError: The data ends before.
    """
    value = 0
    for place in range(at, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64 if value >> 63 else 0), at + 9


def _ascending(rows: list[Record]) -> list[Record]:
    """Return as many of the rows as have ascending rowids, as all of a page have: the others are damaged."""
    ends: list[int] = []  # by length, the smallest rowid that ends such a sequence
    places: list[int] = []
    lengths = []
    for row in rows:
        rowid = row.rowid or 0
        length = bisect.bisect_left(ends, rowid)
        ends[length : length + 1] = [rowid]
        lengths.append(length)
    wanted = len(ends) - 1
    for place in range(len(rows) - 1, -1, -1):
        if lengths[place] == wanted and (
            not places or (rows[place].rowid or 0) < (rows[places[-1]].rowid or 0)
        ):
            places.append(place)
            wanted -= 1
    return [rows[place] for place in reversed(places)]
