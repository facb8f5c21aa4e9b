"""Finds the expressions in settings, names their channels in full, and holds the units in them against each other.

Units are compared where it is plain that they should be the same: in sums, differences, comparisons, min and max of two
channels whose units are known. A product or quotient has a unit of its own, and a number may stand for any.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import structs

from agent.conditions.expressions import Expression
from agent.config.decoding import join

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def found(value: Any, path: str) -> Iterator[tuple[str, Expression]]:
    """Yield the expressions in a value, in structs, lists and maps, each with the path where it is written."""
    if isinstance(value, Expression):
        yield path, value
    elif isinstance(value, msgspec.Struct):
        for field in structs.fields(value):
            yield from found(getattr(value, field.name), join(path, field.encode_name))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from found(each, join(path, str(key)))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from found(each, f"{path}[{index}]")


def renamed(value: Any, full: Mapping[str, str]) -> Any:
    """Return a value with the channels of all its expressions named in full."""
    if isinstance(value, Expression):
        return value.renamed(full)
    if isinstance(value, msgspec.Struct):
        before = {name: getattr(value, name) for name in value.__struct_fields__}
        after = {name: renamed(each, full) for name, each in before.items()}
        changed = {name: each for name, each in after.items() if each != before[name]}
        return structs.replace(value, **changed) if changed else value
    if isinstance(value, dict):
        return {key: renamed(each, full) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(renamed(each, full) for each in value)
    return value


def subtractions(name: str) -> Iterator[tuple[str, str]]:
    """Yield what a name could be where a minus sign in it was meant as a subtraction."""
    for index, each in enumerate(name):
        if each == "-" and name[:index] and name[index + 1 :]:
            yield name[:index], name[index + 1 :]


def compared_words(expression: Expression) -> set[str]:
    """Return the names without a dot that are held against something with == or !=, so that they could be texts."""
    tree, names = expression.tree
    return {
        names[side.id]
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Name) and "." not in names[side.id]
    }


class _Unit(NamedTuple):
    """A unit, and the channel that it is of."""

    unit: str
    channel: str


class _ClashError(ValueError):
    """Two units do not fit together."""


def clash(expression: Expression, units: Mapping[str, str]) -> str | None:
    """Return which two channels do not fit together, None where all do.

    Args:
        expression: What names the channels in full.
        units: By channel; those without one, or with an unknown one, are left out.
    """
    tree, names = expression.tree
    known = {short: _Unit(units[name], name) for short, name in names.items() if units.get(name)}
    try:
        _unit(tree, known)
    except _ClashError as error:
        return str(error)
    return None


def _unit(node: ast.expr, known: Mapping[str, _Unit]) -> _Unit | None:
    """Return the unit of what a part of an expression comes to, None where that is not known.

    Raises:
        _ClashError: Two parts of it do not fit together.
    """
    match node:
        case ast.Name():
            return known.get(node.id)
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            return _same([node.left, node.right], known)
        case ast.Compare():
            _same([node.left, *node.comparators], known)
            return None
        case ast.IfExp():
            _unit(node.test, known)
            return _same([node.body, node.orelse], known)
        case ast.Call(func=ast.Name(id="min" | "max")):
            return _same(node.args, known)
        case ast.Call(func=ast.Name(id="abs" | "round")):
            return _unit(node.args[0], known)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            return _unit(node.operand, known)
        case _:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    _unit(child, known)
            return None


def _same(nodes: Sequence[ast.expr], known: Mapping[str, _Unit]) -> _Unit | None:
    """Return the unit that all of them share.

    Raises:
        _ClashError: Two of them have different ones.
    """
    first: _Unit | None = None
    for node in nodes:
        other = _unit(node, known)
        if first is None:
            first = other
        elif other is not None and other.unit != first.unit:
            raise _ClashError(
                f"{first.channel} is in {first.unit}, {other.channel} in {other.unit}, expected the same unit"
            )
    return first
