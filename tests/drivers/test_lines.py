"""Bytes to readings: whatever way they arrive, the same lines come out, in order, and no good one is lost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadReading
from agent.events import Quality, Reading
from drivers._lines import Lines, printable
from drivers._parsing import Parse, parser

NUMBERS = parser(Parse(csv=["n"]), ("n",), "utf-8")

streams = st.lists(
    st.one_of(
        st.integers(0, 999).map(lambda number: b"%d\n" % number),
        st.sampled_from([b"\n", b"\r\n", b"12\r\n", b"x\n", b"\xff\xfe\n", b" " * 30 + b"\n", b"9" * 20 + b"\r\n"]),
        st.binary(max_size=40),
    ),
    max_size=20,
).map(b"".join)  # fmt: skip


def taken(lines: Lines) -> list[Reading | tuple[str, str]]:
    """Return all that is pending, in order and without its grouping."""
    found: list[Reading | tuple[str, str]] = []
    for each in lines.pending:
        found += [(each.reason, each.evidence)] if isinstance(each, BadReading) else each
    return found


def read(*chunks: bytes, longest: int = 16) -> list[Reading | tuple[str, str]]:
    lines = Lines(NUMBERS, longest)
    for chunk in chunks:
        lines.feed(chunk, 1.0)
    return taken(lines)


def number(value: int | None) -> Reading:
    return Reading({"n": value}, 1.0, {"n": Quality.BAD} if value is None else None)


@given(stream=streams, cuts=st.lists(st.integers(0, 400)))
def test_any_chunking_gives_the_same_readings(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert b"".join(chunks) == stream
    assert read(*chunks) == read(stream)


def test_byte_by_byte_gives_the_same_readings() -> None:
    stream = b"1\n2\r\n\nfour\n" + b"5" * 40 + b"\n6\n"
    assert read(*(bytes([each]) for each in stream)) == read(stream)


def test_a_line_without_its_end_is_kept_until_it_comes() -> None:
    lines = Lines(NUMBERS, 16)
    lines.feed(b"1", 1.0)
    assert not lines.pending
    lines.feed(b"2\n3", 2.0)
    assert taken(lines) == [Reading({"n": 12}, 2.0)]


def test_a_bad_line_costs_neither_good_ones_nor_their_order() -> None:
    assert read(b"1\n2\nx\n3\n\xff\n4\n") == [
        number(1), number(2), ("n is not a number", "x"), number(3), ("not utf-8", "\\xff"), number(4),
    ]  # fmt: skip


def test_good_lines_come_together_and_bad_ones_alone() -> None:
    lines = Lines(NUMBERS, 16)
    lines.feed(b"1\n2\nx\ny\n3\n", 1.0)
    assert [len(each) if isinstance(each, list) else "bad" for each in lines.pending] == [2, "bad", "bad", 1]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_is_too_long_is_dropped_up_to_its_end(end: bytes) -> None:
    long = b"7" * 500
    assert read(b"1\n" + long + end + b"2\n", longest=100) == [
        number(1), ("line longer than 100 bytes", "7" * 80), number(2),
    ]  # fmt: skip


def test_a_line_that_never_ends_takes_no_memory() -> None:
    lines = Lines(NUMBERS, 100)
    for _ in range(1000):
        lines.feed(b"7" * 60, 1.0)
    assert len(lines.pending) == 1
    assert len(lines._partial) <= 160


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_a_line_ends_with_cr_lf_or_both(end: bytes) -> None:
    assert read(end.join([b"1", b"2", b"3", b""])) == [number(1), number(2), number(3)]


def test_a_first_line_that_makes_no_sense_was_joined_midway() -> None:
    assert read(b"kg\n12\nkg\n") == [number(12), ("n is not a number", "kg")]
    assert read(b"\xff\xff\n12\n") == [number(12)]


def test_what_began_before_is_dropped_even_where_it_could_be_read() -> None:
    lines = Lines(NUMBERS, 16)
    lines.join_midway()
    lines.feed(b"2", 1.0)
    lines.feed(b"1\n42\nx\n", 1.0)
    assert taken(lines) == [number(42), ("n is not a number", "x")]


def test_what_is_no_value_is_bad() -> None:
    assert read(b"1\nnan\n") == [number(1), number(None)]


@given(st.binary(max_size=400))
def test_evidence_is_short_and_printable(line: bytes) -> None:
    assert printable(line, 200).isprintable()
    assert len(printable(line, 200)) <= 200
