"""Turns YAML nodes into values of a type, and collects every fault on the way instead of stopping at the first.

The type decides how a scalar is read, so `off` is a text where a text belongs and a switch where a switch belongs.
"""

from __future__ import annotations

import enum
import re
import types
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import msgspec
import yaml
from msgspec import structs

from agent import quantities
from agent.config import wording
from agent.config.documents import SECRET_TAG
from agent.config.variables import MAX_SHOWN, plain
from agent.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from yaml.error import Mark

    from agent.config.variables import Text, Variables

INVALID: Final = object()
"""Stands for a value that could not be read; the fault is already collected."""

_PLAIN: Final = {bool, int, float, str, type(None)}
S = TypeVar("S", bound=msgspec.Struct)


class Entry(NamedTuple):
    """One `key: value` of a map."""

    key: str
    mark: Mark
    value: yaml.Node


class Place(NamedTuple):
    """Where a value came from: its key, itself, and what it was read as."""

    key: Mark
    mark: Mark
    value: Any


class Decoder:
    """Reads nodes and collects faults.

    Attributes:
        faults: What is wrong so far.
        places: Where each value came from, by path.
    """

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.faults: list[Fault] = []
        self.places: dict[str, Place] = {}

    def fault(self, mark: Mark, path: str, what: str) -> None:
        """Collect a fault. PyYAML counts from 0, people from 1."""
        self.faults.append(Fault(mark.name, mark.line + 1, mark.column + 1, path, what))

    def fault_of_values(self, mark: Mark, path: str, what: str) -> None:
        """Collect a fault whose text repeats values, unless one of them is a secret."""
        if self.variables.shows_secret(what):
            what = "this does not fit, and the reason cannot be shown without a secret"
        self.fault(mark, path, what)

    def text(self, node: yaml.Node, path: str, expected: str) -> Text | None:
        """Return what a scalar stands for, None where it is no scalar."""
        if not isinstance(node, yaml.ScalarNode):
            self.fault(node.start_mark, path, f"found {_shape(node)}, expected {expected}")
            return None
        try:
            return self.variables.text(node)
        except ValueError as error:
            self.fault(node.start_mark, path, str(error))
            return None

    def entries(self, node: yaml.Node | None, path: str) -> list[Entry] | None:
        """Return the entries of a map, none where nothing is written, None where it is no map.

        Merge keys (`<<`) are filled in; what is written beside them comes first.
        """
        if node is None:
            return []
        if isinstance(node, yaml.ScalarNode):
            text = self.text(node, path, "a map")
            if text is None or text.nothing:
                return None if text is None else []
        if not isinstance(node, yaml.MappingNode):
            self.fault(node.start_mark, path, f"found {_shape(node)}, expected a map")
            return None
        own: dict[str, Entry] = {}
        merged: list[Entry] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == SECRET_TAG:
                self.fault(key.start_mark, path, f"found {_shape(key)} as a key, expected a name")
            elif key.value == "<<" and key.style is None:
                for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    merged += self.entries(base, path) or []
            elif key.value in own:
                first = own[key.value].mark.line + 1
                self.fault(
                    key.start_mark,
                    path,
                    f"duplicate key {wording.key(key.value)}, the first is on line {first}",
                )
            else:
                own[key.value] = Entry(key.value, key.start_mark, value)
        for entry in merged:
            own.setdefault(entry.key, entry)
        return list(own.values())

    def settings(
        self, cls: type[S], node: yaml.Node | None, path: str, mark: Mark, outside: Sequence[str] = ()
    ) -> S | None:
        """Read a map as a struct, None where it has faults; `mark` is where what concerns all of it is said."""
        entries = self.entries(node, path)
        return None if entries is None else self.struct(cls, entries, path, mark, outside=outside)

    def struct(
        self, cls: type[S], entries: Iterable[Entry], path: str, mark: Mark, beside: Sequence[str] = (),
        outside: Sequence[str] = (),
    ) -> S | None:  # fmt: skip
        """Make a struct of the entries of a map; for the messages, `beside` may also be in it, `outside` beside it."""
        before = len(self.faults)
        fields = {field.encode_name: field for field in structs.fields(cls)}
        values: dict[str, Any] = {}
        for entry in entries:
            if (field := fields.get(entry.key)) is None:
                where = f"beside {path.rpartition('.')[2]!r}, not in it" if entry.key in outside else ""
                known = [*beside, *fields]
                self.fault(entry.mark, path, wording.unknown("key", entry.key, known, elsewhere=where))
                continue
            values[field.name] = self.decode(entry.value, field.type, join(path, entry.key), entry.mark)
        for name, field in fields.items():
            if field.required and field.name not in values:
                self.fault(mark, path, f"missing key {name!r}, expected {wording.expected(field.type)}")
        if len(self.faults) > before:
            return None
        try:
            return cls(**values)
        except ValueError as error:
            self.fault_of_values(mark, path, str(error))
            return None

    def decode(self, node: yaml.Node, type_: Any, path: str, mark: Mark | None = None) -> Any:
        """Return the value of a node as a type, or INVALID with the fault collected."""
        mark = mark or node.start_mark
        value = self._decode(node, type_, path, mark)
        self.places[path] = Place(mark, node.start_mark, value)
        return value

    def _decode(self, node: yaml.Node, type_: Any, path: str, mark: Mark) -> Any:
        base, metas = _unwrap(type_)
        if base is Any:
            return self._anything(node, path)
        if get_origin(base) in (Union, types.UnionType):
            return self._union(node, get_args(base), type_, path, mark)
        if _is_struct(base):
            made = self.settings(base, node, path, mark)
            return INVALID if made is None else made
        if get_origin(base) is dict or base is dict:
            return self._limited(self._dict(node, base, path), metas, type_, path, mark)
        if _is_list(base):
            return self._limited(self._list(node, base, path), metas, type_, path, mark)
        text = self.text(node, path, wording.expected(type_))
        return INVALID if text is None else self._scalar(text, [type_], type_, path, node.start_mark)

    def _scalar(self, text: Text, candidates: Sequence[Any], type_: Any, path: str, mark: Mark) -> Any:
        """Return a scalar as the first of the types that takes it."""
        wrong = ""
        for candidate in candidates:
            try:
                return _read(text, candidate, self.variables.hide)
            except ValueError as error:
                wrong = str(error)
        found = "nothing" if text.nothing else text.shown
        generic = f"found {found}, expected {wording.expected(type_)}"
        self.fault(mark, path, wrong if wrong and len(candidates) == 1 else generic)
        return INVALID

    def _union(self, node: yaml.Node, members: Sequence[Any], type_: Any, path: str, mark: Mark) -> Any:
        """Choose among types by what is written: a map, a list or a scalar."""
        bases = {member: _unwrap(member)[0] for member in members}
        maps = [
            each
            for each, base in bases.items()
            if _is_struct(base) or get_origin(base) is dict or base is dict
        ]
        lists = [each for each, base in bases.items() if _is_list(base)]
        if isinstance(node, yaml.ScalarNode):
            text = self.text(node, path, wording.expected(type_))
            if text is None:
                return INVALID
            if text.nothing and not text.text and maps and _is_struct(bases[maps[0]]):
                # A key with nothing after it, such as `tls:`, asks for the defaults; null asks for none.
                return self.decode(node, maps[0], path, mark)
            if text.value() is None and type(None) in members:
                return None
            scalars = [each for each in members if each not in [*maps, *lists, type(None)]]
            if text.nothing and maps:
                return self.decode(node, maps[0], path, mark)
            return self._scalar(text, sorted(scalars, key=_preference), type_, path, node.start_mark)
        fitting = maps if isinstance(node, yaml.MappingNode) else lists
        if not fitting:
            self.fault(node.start_mark, path, f"found {_shape(node)}, expected {wording.expected(type_)}")
            return INVALID
        if len(fitting) > 1 and isinstance(node, yaml.MappingNode):
            keys = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
            fitting.sort(key=lambda each: len(keys & _names(each)), reverse=True)
        return self.decode(node, fitting[0], path, mark)

    def _dict(self, node: yaml.Node, type_: Any, path: str) -> Any:
        entries = self.entries(node, path)
        if entries is None:
            return INVALID
        key_type, value_type = get_args(type_) or (str, Any)
        result: dict[Any, Any] = {}
        for entry in entries:
            text = plain(entry.key)
            key = self._scalar(text, [key_type], key_type, path, entry.mark)
            result[key] = self.decode(entry.value, value_type, join(path, entry.key), entry.mark)
        return INVALID if INVALID in result or INVALID in result.values() else result

    def _list(self, node: yaml.Node, type_: Any, path: str) -> Any:
        container, arguments = get_origin(type_) or type_, get_args(type_) or (Any, ...)
        fixed = container is tuple and Ellipsis not in arguments
        if not isinstance(node, yaml.SequenceNode) or (fixed and len(node.value) != len(arguments)):
            found = (
                f"a list of {len(node.value)}"
                if isinstance(node, yaml.SequenceNode)
                else self._found(node, path)
            )
            if found:
                self.fault(node.start_mark, path, f"found {found}, expected {wording.expected(type_)}")
            return INVALID
        kinds = arguments if fixed else [arguments[0]] * len(node.value)
        values = [
            self.decode(each, kind, f"{path}[{index}]")
            for index, (each, kind) in enumerate(zip(node.value, kinds, strict=True))
        ]
        return INVALID if any(each is INVALID for each in values) else container(values)

    def _anything(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._dict(node, dict[str, Any], path)
        if isinstance(node, yaml.SequenceNode):
            return self._list(node, list[Any], path)
        text = self.text(node, path, "anything")
        return INVALID if text is None else text.value()

    def _found(self, node: yaml.Node, path: str) -> str:
        """Say what was found, "" where that is a fault of its own."""
        if not isinstance(node, yaml.ScalarNode):
            return _shape(node)
        text = self.text(node, path, "")
        return "" if text is None else "nothing" if text.nothing else text.shown

    def _limited(self, value: Any, metas: Sequence[msgspec.Meta], type_: Any, path: str, mark: Mark) -> Any:
        """Hold a map or a list against its limits."""
        if value is INVALID or all(_within(value, meta) for meta in metas):
            return value
        self.fault(mark, path, f"found {len(value)} entries, expected {wording.expected(type_)}")
        return INVALID


def join(path: str, key: str) -> str:
    """Return the path of a key in the map at a path."""
    return f"{path}.{key}" if path else key


def _read(text: Text, type_: Any, hide: Callable[[str], None]) -> Any:
    """Return a scalar as a type.

    Raises:
        ValueError: It is none; the error says what was found and what was expected.
    """
    base, metas = _unwrap(type_)
    is_class = isinstance(base, type)
    if is_class and issubclass(base, quantities.Quantity):
        return _read_quantity(text, base, hide)
    value: Any = text.value()
    if base is str:
        value = text.text
    elif base is float and type(value) is int:
        value = float(value)
    elif get_origin(base) is Literal:
        value = next((each for each in get_args(base) if _is_choice(text, each)), INVALID)
    elif is_class and issubclass(base, enum.Enum):
        value = next((each for each in base if text.text == str(each.value)), INVALID)
    elif base not in _PLAIN:
        raise TypeError(f"settings cannot have a field of type {base}")
    suits = type(value) is base if base in _PLAIN else value is not INVALID
    if text.nothing or not suits or not all(_within(value, meta) for meta in metas):
        found = "nothing" if text.nothing else text.shown
        raise ValueError(f"found {found}, expected {wording.expected(type_)}")
    return value


def _read_quantity(
    text: Text, cls: type[quantities.Quantity], hide: Callable[[str], None]
) -> quantities.Quantity:
    if text.nothing:
        raise ValueError(f"found nothing, expected {cls.expected}")
    value = text.value()
    if issubclass(cls, quantities.Secret):
        hide(text.text)
        value = text.text
    elif value is None or isinstance(value, bool):
        value = text.text
    try:
        return cls.parse(value)
    except ValueError as error:
        # The error of a quantity repeats what it was given; that must be neither a secret nor a whole page.
        said = f"{text.shown} is not right" if text.filled or len(text.text) > MAX_SHOWN else str(error)
        raise ValueError(f"{said}, expected {cls.expected}") from None


def _is_choice(text: Text, choice: object) -> bool:
    """Whether a scalar is one of the values of a Literal."""
    return text.value() is choice if isinstance(choice, bool) else text.text == str(choice)


def _within(value: Any, meta: msgspec.Meta) -> bool:
    """Whether a value keeps the limits of its type."""
    size = len(value) if isinstance(value, str | list | tuple | dict | set | frozenset) else 0
    return all((
        meta.ge is None or value >= meta.ge,
        meta.gt is None or value > meta.gt,
        meta.le is None or value <= meta.le,
        meta.lt is None or value < meta.lt,
        meta.multiple_of is None or value % meta.multiple_of == 0,
        meta.pattern is None or re.search(meta.pattern, value) is not None,
        meta.min_length is None or size >= meta.min_length,
        meta.max_length is None or size <= meta.max_length,
    ))  # fmt: skip


def _unwrap(type_: Any) -> tuple[Any, list[msgspec.Meta]]:
    """Return a type without its limits, and the limits."""
    if get_origin(type_) is not Annotated:
        return type_, []
    base, *metas = get_args(type_)
    return base, [meta for meta in metas if isinstance(meta, msgspec.Meta)]


def _preference(type_: Any) -> int:
    """Return the rank of a type among those that could take one scalar: the stricter first."""
    base, _ = _unwrap(type_)
    order = [bool, int, float]
    if base in order:
        return order.index(base)
    return len(order) + (base is str)


def _names(type_: Any) -> set[str]:
    return {field.encode_name for field in structs.fields(type_)} if _is_struct(type_) else set()


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _is_list(type_: Any) -> bool:
    return (get_origin(type_) or type_) in (list, tuple, set, frozenset)


def _shape(node: yaml.Node) -> str:
    """Say what a node is, without a word of what it holds."""
    if isinstance(node, yaml.MappingNode):
        return "a map"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    # Without the space after a colon, a whole map is one text.
    return "a text without a space after its colon" if re.search(r":\S", str(node.value)) else "a text"
