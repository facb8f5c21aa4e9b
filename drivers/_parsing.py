"""A line of text to values by channel: JSON, CSV, `name=value` pairs or a regular expression.

Shared by all drivers that read lines. Each parser is chosen once, from the settings, and is then a plain function
from the line's bytes to its values; it raises ValueError with the reason where the line makes no sense.
"""

from __future__ import annotations

import json as stdlib_json
import re
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent import contracts
from agent.events import Value, number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Parser = Callable[[bytes], dict[str, Value]]
"""What reads one line. It raises ValueError, with the reason, where the line makes no sense."""

MOST_CHANNELS: Final = 64
MOST_NAMES: Final = 256
SKIP: Final = "_"
"""The name of a CSV column that is not wanted."""
_CHANNEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_PAIR_SEPARATORS: Final = re.compile(r"[,;\s]+")


class Csv(contracts.Settings, frozen=True):
    """Columns with a separator other than the comma.

    Attributes:
        names: The channel of each column; `_` for a column that is not wanted.
        separator: What stands between two columns.
    """

    names: list[str]
    separator: str = ","

    def __post_init__(self) -> None:
        """Refuse columns that could not be told apart."""
        wanted = [name for name in self.names if name != SKIP]
        for name in wanted:
            check_channel(name)
        if not wanted or len(set(wanted)) < len(wanted):
            raise ValueError("csv needs the name of each column, each name once")
        if not self.separator:
            raise ValueError("separator is empty")


class KeyValue(contracts.Settings, frozen=True):
    """Pairs with separators of their own.

    Attributes:
        pair_separator: What stands between two pairs; commas, semicolons and white space where it is not said.
        value_separator: What stands between a name and its value.
    """

    pair_separator: str | None = None
    value_separator: str = "="

    def __post_init__(self) -> None:
        """Refuse separators that separate nothing."""
        if not self.value_separator or self.pair_separator in {"", self.value_separator}:
            raise ValueError("pair_separator and value_separator must be two different texts")


class Parse(contracts.Settings, frozen=True):
    r"""How a line becomes values: exactly one of these.

    Attributes:
        json: Each line is a JSON object; objects inside it become `outer.inner`.
        csv: The channel of each column, or `{names: [...], separator: ';'}`.
        key_value: Each line is `name=value` pairs; `{pair_separator: ..., value_separator: ...}` for others.
        regex: A regular expression that is looked for in the line; each named group is a channel. A repetition within a
            repetition, such as `(\d+)+`, may take for ever over a line that does not match.
    """

    json: bool = False
    csv: list[str] | Csv | None = None
    key_value: bool | KeyValue = False
    regex: str | None = None

    def __post_init__(self) -> None:
        """Refuse none or several ways, and names that no channel can have."""
        said = [field for field in self.__struct_fields__ if getattr(self, field) not in (None, False)]
        if len(said) != 1:
            raise ValueError(f"parse needs exactly one of {', '.join(self.__struct_fields__)}")
        if self.csv is not None:
            self.columns()
        if self.regex is not None:
            for name in self.groups():
                check_channel(name)

    def columns(self) -> Csv:
        """Return the columns of `csv`, also where only their names are written."""
        return self.csv if isinstance(self.csv, Csv) else Csv(names=self.csv or [])

    def groups(self) -> list[str]:
        """Return the named groups of `regex`, in its order."""
        try:
            found = list(re.compile(self.regex or "").groupindex)
        except re.error as error:
            raise ValueError(f"regex is not a regular expression: {error}") from None
        if not found:
            raise ValueError("regex has no named group, such as (?P<weight>[-0-9.]+)")
        return found

    def channels(self) -> list[str] | None:
        """Return the names that the settings tell; None where only the device knows."""
        if self.csv is not None:
            return [name for name in self.columns().names if name != SKIP]
        return self.groups() if self.regex is not None else None


@lru_cache(maxsize=1024)
def check_channel(name: str) -> str:
    """Return the name of a channel as it is.

    Raises:
        ValueError: No channel can have this name.
    """
    if not _CHANNEL.fullmatch(name):
        raise ValueError(f"{name[:64]!r} cannot be the name of a channel")
    return name


def parser(parse: Parse, numeric: Collection[str], encoding: str) -> Parser:
    """Choose the function that reads a line.

    Args:
        parse: How it is written.
        numeric: The channels that must hold numbers; others may hold text.
        encoding: The encoding of its text.
    """
    numeric = frozenset(numeric)
    if parse.json:
        return _bounded(_json_parser(numeric, encoding))
    if parse.csv is not None:
        return _csv_parser(parse.columns(), numeric, encoding)
    if parse.key_value:
        style = parse.key_value if isinstance(parse.key_value, KeyValue) else KeyValue()
        return _bounded(_key_value_parser(style, numeric, encoding))
    return _regex_parser(re.compile(parse.regex or ""), numeric, encoding)


def scalar(text: str) -> Value:
    """Return what a piece of text holds: a number where it is one, None where it is empty or not finite."""
    try:
        value = float(text)
    except ValueError:
        return text.strip() or None
    if not isfinite(value):
        return None
    if "_" in text:  # Python reads 1_0 as ten; no instrument means that
        return text.strip()
    if value.is_integer() and _INTEGER.fullmatch(text.strip()):
        return number(int(text))
    return value


def _values(items: Iterable[tuple[str, Value]], numeric: frozenset[str]) -> dict[str, Value]:
    """Return the values by channel, refusing text where a number must be."""
    values = dict(items)
    if len(values) > MOST_CHANNELS:
        raise ValueError(f"more than {MOST_CHANNELS} channels in one line")
    for name, value in values.items():
        if value.__class__ is str and name in numeric:
            raise ValueError(f"{name} is not a number")
    return values


def _bounded(parse: Parser) -> Parser:
    """Refuse ever new channels: each is remembered, here, in the log and by receivers."""
    known: set[str] = set()

    def bounded(line: bytes) -> dict[str, Value]:
        values = parse(line)
        if not values.keys() <= known:
            together = known | values.keys()
            if len(together) > MOST_NAMES:
                raise ValueError(f"more than {MOST_NAMES} different channels since the start")
            known.update(together)
        return values

    return bounded


def _csv_parser(columns: Csv, numeric: frozenset[str], encoding: str) -> Parser:
    names, separator = columns.names, columns.separator
    width = len(names)
    skips = SKIP in names

    def parse(line: bytes) -> dict[str, Value]:
        fields = line.decode(encoding).split(separator)
        if len(fields) != width:
            raise ValueError(f"{len(fields)} columns where {width} were expected")
        values = _values(zip(names, map(scalar, fields), strict=True), numeric)
        if skips:
            del values[SKIP]
        return values

    return parse


def _key_value_parser(style: KeyValue, numeric: frozenset[str], encoding: str) -> Parser:
    separator, between = style.value_separator, style.pair_separator

    def parse(line: bytes) -> dict[str, Value]:
        text = line.decode(encoding)
        pairs = _PAIR_SEPARATORS.split(text.strip()) if between is None else text.split(between)
        items = []
        for pair in pairs:
            name, found, value = pair.partition(separator)
            if found:
                items.append((check_channel(name.strip()), scalar(value)))
            elif pair.strip():
                raise ValueError(f"{pair[:64]!r} has no {separator!r}")
        if not items:
            raise ValueError("no pairs")
        return _values(items, numeric)

    return parse


def _regex_parser(pattern: re.Pattern[str], numeric: frozenset[str], encoding: str) -> Parser:
    search = pattern.search

    def parse(line: bytes) -> dict[str, Value]:
        match = search(line.decode(encoding))
        if match is None:
            raise ValueError("the regex does not match")
        groups = match.groupdict()
        # A group that took no part in the match is not in this line, rather than there without a value.
        return _values([(name, scalar(text)) for name, text in groups.items() if text is not None], numeric)

    return parse


def _json_parser(numeric: frozenset[str], encoding: str) -> Parser:
    decode = msgspec.json.Decoder().decode
    plain_utf8 = encoding.lower().replace("-", "") in {"utf8", "ascii"}

    def parse(line: bytes) -> dict[str, Value]:
        try:
            found = decode(line if plain_utf8 else line.decode(encoding).encode())
        except ValueError:
            found = _lenient_json(line.decode(encoding))
        except RecursionError:
            raise ValueError("nested too deep") from None
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return _values(_flat(found), numeric)

    return parse


def _lenient_json(text: str) -> object:
    """Read JSON as small devices write it, with NaN and numbers out of range, which become infinite."""
    try:
        found: object = stdlib_json.loads(text)
        # Half a surrogate pair is no text that can be kept.
        stdlib_json.dumps(found, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    return found


def _flat(found: Mapping[str, Any]) -> Iterable[tuple[str, Value]]:
    """Yield the channels of a JSON object; those of an object inside it are named `outer.inner`."""
    for name, value in found.items():
        if value.__class__ is dict:
            for inner, held in value.items():
                yield check_channel(f"{name}.{inner}"), _json_scalar(inner, held)
        else:
            yield check_channel(name), _json_scalar(name, value)


def _json_scalar(name: str, value: object) -> Value:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, int):
        try:
            return number(value)
        except ValueError:
            return None
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{name[:64]!r} holds a {'list' if isinstance(value, list) else 'nested object'}")
