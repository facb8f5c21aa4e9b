"""The lines of an instrument that is not there: written by the operator, or derived from the driver's `parse`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drivers._parsing import SKIP, KeyValue, Parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FIELD: Final = re.compile(r"\{(?P<name>[A-Za-z_][\w.-]*)(?::(?P<spec>[^{}]*))?\}")
_CLASSES: Final = {"s": " ", "d": "0", "w": "a", "t": "\t", "b": "", "A": "", "Z": "", "r": "", "n": ""}
"""By letter after a backslash, a text that a regular expression would accept there."""
_FORMATS: Final = ("", ".0f", ".1f", ".3f", "06.2f")
"""The ways to write a number that are tried, so that a group accepts it."""


class Template:
    """A line with the channels in braces, `{weight}` or `{weight:8.2f}`; other braces stand for themselves."""

    def __init__(self, text: str, channels: Sequence[str]) -> None:
        self._literals: list[str] = []
        self._fields: list[tuple[str, str]] = []
        end = 0
        for field in _FIELD.finditer(text):
            if field["name"] not in channels:
                raise ValueError(f"line names {field['name']!r}; the channels are {', '.join(channels)}")
            self._literals.append(text[end : field.start()])
            self._fields.append((field["name"], field["spec"] or ""))
            end = field.end()
        self._rest = text[end:]

    def written(self, values: Mapping[str, float]) -> dict[str, str]:
        """Return the text of each channel that the line shows."""
        return {name: format(values[name], spec) for name, spec in self._fields}

    def line(self, values: Mapping[str, float]) -> str:
        """Return the line that shows these values."""
        fields = (format(values[name], spec) for name, spec in self._fields)
        return "".join(map("".join, zip(self._literals, fields, strict=True))) + self._rest


def derive(parse: Parse, channels: Sequence[str], sample: Mapping[str, float]) -> str:
    """Return a template that the driver can read.

    Raises:
        ValueError: The regular expression is too clever for that.
    """
    if parse.json:
        return "{" + ", ".join(f'"{name}": {{{name}}}' for name in channels) + "}"
    if parse.csv is not None:
        columns = parse.columns()
        return columns.separator.join("0" if name == SKIP else f"{{{name}}}" for name in columns.names)
    if parse.key_value:
        style = parse.key_value if isinstance(parse.key_value, KeyValue) else KeyValue()
        pairs = (f"{name}{style.value_separator}{{{name}}}" for name in channels)
        return (style.pair_separator or ",").join(pairs)
    return _from_regex(parse.regex or "", sample)


def _from_regex(pattern: str, sample: Mapping[str, float]) -> str:
    """Return a template that a plain regular expression matches: texts, classes and named groups side by side.

    It may come out wrong where the expression is not plain; the caller tries the result on the driver's parser.
    """
    written: list[str] = []
    place = 0
    while place < len(pattern):
        end = _end_of_piece(pattern, place)
        piece = pattern[place:end]
        quantifier = re.compile(r"[?*+]\??|\{(\d+)[^}]*\}\??").match(pattern, end)
        if quantifier is not None:
            end = quantifier.end()
        if quantifier is None or pattern[quantifier.start()] == "+":
            written.append(_example(piece, sample))
        elif quantifier[1]:
            written.append(_example(piece, sample) * int(quantifier[1]))
        place = end
    return "".join(written)


def _end_of_piece(pattern: str, place: int) -> int:
    """Return where the piece of a regular expression that begins at a place ends."""
    if pattern[place] == "\\":
        return place + 2
    if pattern[place] == "[":
        found = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]").match(pattern, place)
        return found.end() if found else place + 1
    if pattern[place] == "(":
        end = place + 1
        while end < len(pattern) and pattern[end] != ")":
            end = _end_of_piece(pattern, end)
        return end + 1
    return place + 1


def _example(piece: str, sample: Mapping[str, float]) -> str:
    """Return a text that one piece of a regular expression accepts."""
    if piece.startswith("(?P<"):
        name, _, inner = piece[4:-1].partition(">")
        return _field(name, inner, sample[name])
    if piece.startswith("(?:"):
        return _from_regex(piece[3:-1].split("|", maxsplit=1)[0], sample)
    if piece.startswith("("):
        return "" if piece.startswith("(?") else _from_regex(piece[1:-1].split("|", maxsplit=1)[0], sample)
    if piece.startswith("["):
        return _from_regex(piece[1:-1][: 2 if piece[1] == "\\" else 1], sample)
    if piece.startswith("\\"):
        return _CLASSES.get(piece[1:], piece[1:])
    return {"^": "", "$": "", ".": "x"}.get(piece, piece)


def _field(name: str, inner: str, value: float) -> str:
    """Return what stands for a named group: its channel, or a word where the group does not accept numbers."""
    for spec in _FORMATS:
        if re.fullmatch(inner, format(value, spec)):
            return f"{{{name}:{spec}}}" if spec else f"{{{name}}}"
    return _from_regex(inner.split("|", maxsplit=1)[0], {})
