"""How faults say what was expected: one wording for types, ranges and names, wherever they come from."""

from __future__ import annotations

import difflib
import enum
import types
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from agent import quantities

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCALARS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "nothing",
    Any: "anything",
}


def unknown(what: str, name: str, known: Iterable[str], *, elsewhere: str = "") -> str:
    """Say that a name is not known, with where it belongs, or the nearest one that is, or else all of them."""
    known = list(known)
    if elsewhere:
        return f"{name!r} is out of place, expected it {elsewhere}"
    if ":" in name:
        return f"unknown {what} {key(name)}, expected a space after the colon"
    if near := nearest(name, known):
        return f"unknown {what} {name!r}, did you mean {near!r}?"
    return f"unknown {what} {name!r}, expected {one_of(known)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like another one, "" where none is."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), "")


def key(name: str) -> str:
    """Return a key in quotes, without what follows a colon that lacks its space: it may be a password."""
    head, colon, _ = name.partition(":")
    return f"'{head}:…'" if colon else repr(name)


def one_of(names: Iterable[str]) -> str:
    """Say which names there are to choose from."""
    names = list(names)
    if not names:
        return "none, there are none"
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def expected(type_: Any) -> str:
    """Say what a person may write for a type."""
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return _with_limits(arguments[0], [each for each in arguments[1:] if isinstance(each, msgspec.Meta)])
    if origin in (Union, types.UnionType):
        members = [each for each in arguments if each is not type(None)]
        if set(members) >= {int, float}:
            members.remove(int)
        return " or ".join(dict.fromkeys(map(expected, members)))
    if origin is Literal:
        return one_of(str(each).lower() if isinstance(each, bool) else str(each) for each in arguments)
    if origin is dict or type_ is dict:
        return "a map"
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}: [{', '.join(map(expected, arguments))}]"
    if origin in (list, tuple, set, frozenset) or type_ in (list, tuple, set, frozenset):
        return f"a list, each {expected(arguments[0])}" if arguments else "a list"
    if isinstance(type_, type) and issubclass(type_, quantities.Quantity):
        return type_.expected
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return one_of(str(member.value) for member in type_)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return "a map"
    return _SCALARS[type_]


def _with_limits(type_: Any, metas: list[msgspec.Meta]) -> str:
    """Say what may be written for a type with limits."""
    said = expected(type_)
    for meta in metas:
        if meta.ge is not None and meta.le is not None:
            said += f" from {meta.ge} to {meta.le}"
        elif meta.ge is not None:
            said += f" of at least {meta.ge}"
        elif meta.le is not None:
            said += f" of at most {meta.le}"
        if meta.gt is not None:
            said += f" above {meta.gt}"
        if meta.lt is not None:
            said += f" below {meta.lt}" if meta.gt is None else f" and below {meta.lt}"
        if meta.multiple_of is not None:
            said += f" that is a multiple of {meta.multiple_of}"
        if meta.pattern is not None:
            said += f" that matches {meta.pattern}"
        unit = "characters" if type_ is str else "entries"
        if meta.min_length is not None and meta.max_length is not None:
            said += f" of {meta.min_length} to {meta.max_length} {unit}"
        elif meta.min_length is not None:
            said += " that is not empty" if meta.min_length == 1 else f" of at least {meta.min_length} {unit}"
        elif meta.max_length is not None:
            said += f" of at most {meta.max_length} {unit}"
    return said
