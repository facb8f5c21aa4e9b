"""A line to values: each way to parse, and each way in which a line can be wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events import INT64_MAX, Value
from drivers._parsing import Csv, KeyValue, Parse, parser, scalar

JSON = Parse(json=True)
PAIRS = Parse(key_value=True)
WEIGHT = Parse(regex=r"(?P<weight>[-\d.]+) kg")


def read(parse: Parse, line: str, numeric: tuple[str, ...] = (), encoding: str = "utf-8") -> dict[str, Value]:
    return parser(parse, numeric, encoding)(line.encode(encoding))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("21.5", 21.5), ("-3", -3), ("+7", 7), (" 42 ", 42), ("007", 7), ("4.0", 4.0), ("1e3", 1000.0),
        ("", None), ("  ", None), ("nan", None), ("-inf", None), ("1e999", None),
        ("OK", "OK"), (" OK ", "OK"), ("1_000", "1_000"), ("12,5", "12,5"), ("0x1F", "0x1F"),
        (str(INT64_MAX), INT64_MAX), ("9" * 30, 1e30),
    ],
)  # fmt: skip
def test_a_piece_of_text_is_a_number_where_it_is_one(text: str, value: Value) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    ("parse", "line", "values"),
    [
        (JSON, '{"temperature": 21.5, "n": 3, "ok": true, "state": "run"}',
         {"temperature": 21.5, "n": 3, "ok": 1, "state": "run"}),
        (JSON, '{"air": {"temperature": 21.5}, "n": null}', {"air.temperature": 21.5, "n": None}),
        (JSON, '{"a": NaN, "b": -Infinity, "c": 1e400, "d": 1}', {"a": None, "b": None, "c": None, "d": 1}),
        (JSON, '{"a": 1' + "0" * 400 + "}", {"a": None}),
        (JSON, "{}", {}),
        (Parse(csv=["t", "h"]), "21.5,40", {"t": 21.5, "h": 40}),
        (Parse(csv=["t", "_", "h", "_"]), "21.5,x,40,y", {"t": 21.5, "h": 40}),
        (Parse(csv=["t", "h"]), "21.5,", {"t": 21.5, "h": None}),
        (Parse(csv=Csv(names=["t", "h"], separator="; ")), "21.5; nan", {"t": 21.5, "h": None}),
        (PAIRS, "t=21.5 h=40,state=run;", {"t": 21.5, "h": 40, "state": "run"}),
        (PAIRS, "t=", {"t": None}),
        (Parse(key_value=KeyValue(pair_separator="|", value_separator=":")), "t: 21.5|h:40|", {"t": 21.5, "h": 40}),
        (WEIGHT, "ST,GS,  12.5 kg", {"weight": 12.5}),
        (Parse(regex=r"(?P<a>\d+)(?: (?P<b>\d+))?$"), "1", {"a": 1}),
    ],
)  # fmt: skip
def test_a_line_gives_values(parse: Parse, line: str, values: dict[str, Value]) -> None:
    assert read(parse, line) == values


@pytest.mark.parametrize(
    ("parse", "line", "reason"),
    [
        (JSON, "hello", "not JSON"),
        (JSON, "[1, 2]", "not a JSON object"),
        (JSON, '{"name": "\\ud800x", "v": 1}', "not JSON"),
        (JSON, '{"a": [1]}', "'a' holds a list"),
        (JSON, '{"a": {"b": {"c": 1}}}', "'b' holds a nested object"),
        (JSON, '{"a b": 1}', "'a b' cannot be the name of a channel"),
        (JSON, '{"": 1}', "cannot be the name"),
        (JSON, "{" + ", ".join(f'"c{n}": {n}' for n in range(65)) + "}", "more than 64 channels"),
        (Parse(csv=["t", "h"]), "21.5", "1 columns where 2 were expected"),
        (Parse(csv=["t", "h"]), "1,2,3", "3 columns where 2 were expected"),
        (PAIRS, "t=1 nonsense", "'nonsense' has no '='"),
        (PAIRS, "?=1", "cannot be the name"),
        (PAIRS, ",,", "no pairs"),
        (WEIGHT, "ERROR 7", "the regex does not match"),
    ],
)
def test_a_line_that_makes_no_sense_says_why(parse: Parse, line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        read(parse, line)


@pytest.mark.parametrize(
    ("parse", "line"),
    [
        (Parse(csv=["t"]), "2x.5"),
        (PAIRS, "t=2x.5"),
        (JSON, '{"t": "2x.5"}'),
        (Parse(regex="(?P<t>.*)"), "2x.5"),
    ],
)
def test_a_channel_with_a_unit_must_be_a_number(parse: Parse, line: str) -> None:
    assert read(parse, line) == {"t": "2x.5"}
    with pytest.raises(ValueError, match="t is not a number"):
        read(parse, line, numeric=("t",))


def test_text_is_read_in_its_encoding() -> None:
    assert read(PAIRS, "ort=Köln", encoding="latin-1") == {"ort": "Köln"}
    assert read(JSON, '{"ort": "Köln"}', encoding="latin-1") == {"ort": "Köln"}
    with pytest.raises(UnicodeDecodeError):
        parser(PAIRS, (), "utf-8")("ort=Köln".encode("latin-1"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "exactly one of json, csv, key_value, regex"),
        ({"json": True, "regex": "(?P<a>.)"}, "exactly one"),
        ({"json": False}, "exactly one"),
        ({"csv": []}, "each name once"),
        ({"csv": ["a", "a"]}, "each name once"),
        ({"csv": ["_"]}, "each name once"),
        ({"csv": ["a b"]}, "cannot be the name"),
        ({"regex": "("}, "not a regular expression"),
        ({"regex": r"\d+"}, "no named group"),
        ({"regex": r"(?P<größe>\d+)"}, "cannot be the name"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        Parse(**fields)


@pytest.mark.parametrize("fields", [{"value_separator": ""}, {"pair_separator": "="}, {"pair_separator": ""}])
def test_separators_must_separate(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="two different texts"):
        KeyValue(**fields)
    with pytest.raises(ValueError, match="separator is empty"):
        Csv(names=["a"], separator="")


@pytest.mark.parametrize("parse", [JSON, PAIRS, WEIGHT, Parse(csv=["a", "b"])])
@given(line=st.binary(max_size=200))
def test_no_line_does_worse_than_a_value_error(parse: Parse, line: bytes) -> None:
    try:
        values = parser(parse, (), "utf-8")(line)
    except ValueError:
        return
    assert all(value is None or type(value) in {int, float, str} for value in values.values())


@pytest.mark.parametrize("start", ["", '{"a": '])
def test_however_deep_a_line_is_nested_it_is_only_a_bad_line(start: str) -> None:
    with pytest.raises(ValueError, match=r"not JSON|nested too deep"):
        read(JSON, start + "[" * 3000)
