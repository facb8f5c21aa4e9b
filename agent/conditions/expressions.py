"""Expressions over channels, such as `air.temperature - outside.temperature > 15`: simpleeval's, never `eval`.

Names are those of the configuration. A name may hold a minus sign, as devices may, so operators have spaces around them:
`tank-1.level - 5`. `on` and `true` are 1, `off` and `false` are 0, as switches are. Texts can be compared, and that is
all: what an expression costs is bounded by its length, whatever it says.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from agent.events import INT64_MAX
from agent.quantities import Quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simpleeval import SimpleEval

    from agent.events import Value


def _round(value: float, digits: float = 0) -> float:
    """Round a float: of a whole number, a billion digits less would take for ever."""
    return round(float(value), int(digits))


FUNCTIONS: Final[Mapping[str, Callable[..., float]]] = {
    "abs": abs, "min": min, "max": max, "round": _round, "sqrt": math.sqrt, "exp": math.exp, "log": math.log,
}  # fmt: skip
"""What may be called."""

_ARGUMENTS: Final[Mapping[str, tuple[int, int]]] = {
    "min": (2, 100),
    "max": (2, 100),
    "round": (1, 2),
    "log": (1, 2),
}
"""How many values a function takes, at least and at most; one where it is not said."""

_COUNTS: Final = {(1, 1): "one value", (1, 2): "one value or two", (2, 100): "two values or more"}

LONGEST: Final = 500
"""Characters of an expression, at most."""

DEEPEST: Final = 60
"""How deep operators, functions and comparisons may nest: `a + b + c` is two deep."""

_WORDS: Final = {
    "and": "and",
    "or": "or",
    "not": "not",
    "if": "if",
    "else": "else",
    "on": "1",
    "true": "1",
    "off": "0",
    "false": "0",
}
_TOKEN: Final = re.compile(
    r"(?P<text>'[^']*'|\"[^\"]*\")|(?<![\w.])(?P<name>[A-Za-z_](?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)?)(?P<call>\s*\()?"
)
_DIGIT_FIRST: Final = re.compile(r"(?<![\w.])[0-9][\w-]*(?:\.[A-Za-z_][\w-]*|(?<=[A-Za-z_]))")
_FOREIGN: Final = (
    (re.compile(r"(?<![=!<>:])=(?!=)"), "equal is written =="),
    (re.compile(r"&&"), "and is written and"),
    (re.compile(r"\|\|"), "or is written or"),
    (re.compile(r"!(?!=)"), "not is written not"),
    (re.compile(r"<>"), "unequal is written !="),
)
_ALLOWED: Final = (
    ast.Expression, ast.BoolOp, ast.boolop, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.Compare, ast.cmpop,
    ast.IfExp, ast.Call, ast.Constant, ast.Name, ast.Load,
)  # fmt: skip
_REFUSED: Final = (
    ast.MatMult,
    ast.BitOr,
    ast.BitAnd,
    ast.BitXor,
    ast.LShift,
    ast.RShift,
    ast.Invert,
    ast.Is,
    ast.IsNot,
    ast.In,
    ast.NotIn,
)


def _of_numbers(operate: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator that takes numbers alone: with texts, `*` and `%` could make longer and longer ones."""

    def checked(*operands: object) -> Any:
        if not all(isinstance(each, int | float) for each in operands):
            raise TypeError("a text where a number must be")
        return operate(*operands)

    return checked


_OPERATORS: Final[Mapping[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),
    ast.Pow: _of_numbers(math.pow),  # of floats, so that a huge power is an error and no huge number
    ast.USub: _of_numbers(operator.neg),
    ast.UAdd: _of_numbers(operator.pos),
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}


class Expression(Quantity, str):  # noqa: SLOT000 -- it keeps what it has parsed
    """An expression as it is written, which knows the channels that it names.

    Attributes:
        names: The channels, as they are written, each once, in order.
    """

    expected = "an expression such as `air.temperature - outside.temperature > 15`"
    schema: ClassVar[dict[str, Any]] = {"type": "string", "maxLength": LONGEST}
    names: tuple[str, ...]

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read what a person wrote.

        Raises:
            ValueError: It cannot be understood; says where.
        """
        if not isinstance(raw, str):
            raise ValueError(f"{raw!r} is no expression")
        if len(raw) > LONGEST:
            raise ValueError(
                f"{len(raw)} characters are too many for an expression, which has {LONGEST} at most"
            )
        return cls._read(raw)

    @classmethod
    def _read(cls, raw: str) -> Self:
        made = cls(raw)
        made.names, code = _named(raw)
        try:
            tree = _parsed(code)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = f"{getattr(error, 'msg', error)}{_tip(raw)}"
            raise ValueError(f"{raw!r} is not an expression: {reason}") from None
        _check(tree, raw)
        return made

    @property
    def tree(self) -> tuple[ast.expr, Mapping[str, str]]:
        """What it says as a tree of Python's, and the channels by the names that stand for them there."""
        names, code = _named(self)
        return _parsed(code).body, {f"_{index}": name for index, name in enumerate(names)}

    def renamed(self, full: Mapping[str, str]) -> Expression:
        """Return it with its channels named in full."""
        return Expression._read(_TOKEN.sub(lambda found: _renamed(found, full), self))

    @cached_property
    def _evaluator(self) -> tuple[SimpleEval, Any, type[Exception]]:
        import simpleeval  # noqa: PLC0415 -- for those who have rules with expressions

        evaluator = simpleeval.SimpleEval(operators=dict(_OPERATORS), functions=dict(FUNCTIONS))
        return evaluator, self.tree[0], simpleeval.InvalidExpression

    def evaluate(self, values: Mapping[str, Value]) -> Value:
        """Return what it comes to, or None where that cannot be said: a value is missing, or is text where a number must be.

        Args:
            values: By channel, named as the expression names it.
        """
        evaluator, parsed, invalid = self._evaluator
        names = evaluator.names = {}
        for index, name in enumerate(self.names):
            value = values.get(name)
            if value is None:
                return None
            names[f"_{index}"] = value
        try:
            result = evaluator.eval("", previously_parsed=parsed)
        except (ArithmeticError, TypeError, ValueError, invalid):  # of these values, not of the expression
            return None
        if isinstance(result, bool):
            return int(result)
        if isinstance(result, str):
            return result
        if isinstance(result, float) and math.isfinite(result):
            return result
        return result if isinstance(result, int) and abs(result) <= INT64_MAX else None


def _named(text: str) -> tuple[tuple[str, ...], str]:
    """Return the names in an expression, and the same with `_0`, `_1`, … in their place."""
    names: dict[str, int] = {}

    def put(found: re.Match[str]) -> str:
        name = found["name"]
        if found["text"] or found["call"]:
            return found[0] if name not in _WORDS else _WORDS[name] + (found["call"] or "")
        if name in _WORDS:
            return _WORDS[name]
        return f"_{names.setdefault(name, len(names))}"

    code = _TOKEN.sub(put, text)
    return tuple(names), code


def _parsed(code: str) -> ast.Expression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of a text with a backslash
        return ast.parse(code.strip(), mode="eval")


def _tip(text: str) -> str:
    """Return what to add to the reason: an operator of other languages, or a name that begins with a digit."""
    bare = _TOKEN.sub(lambda found: "" if found["text"] else found[0], text)
    for wrong, right in _FOREIGN:
        if wrong.search(bare):
            return f" ({right})"
    for found in _DIGIT_FIRST.finditer(text):
        try:
            float(found[0])
        except ValueError:
            device = found[0].partition(".")[0]
            return f" (a device that begins with a digit, such as {device!r}, cannot be named in an expression: rename it)"
    return ""


def _renamed(found: re.Match[str], full: Mapping[str, str]) -> str:
    name = found["name"]
    if found["text"] or found["call"] or name in _WORDS:
        return found[0]
    return full.get(name, name)


def _check(tree: ast.AST, raw: str) -> None:
    """Refuse what simpleeval would only refuse when it comes to it, and what no rule needs.

    Raises:
        ValueError: There is such a thing.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name not in FUNCTIONS:
                raise ValueError(
                    f"{raw!r} calls the unknown function {name!r}, known are {', '.join(FUNCTIONS)}"
                )
            least, most = _ARGUMENTS.get(name, (1, 1))
            if node.keywords or not least <= len(node.args) <= most:
                raise ValueError(f"{raw!r}: {name} expects {_COUNTS[least, most]}")
        if isinstance(node, ast.Attribute):
            raise ValueError(
                f"{raw!r} has a name of three parts, expected device.channel; a subtraction needs spaces around its minus"
            )
        if not isinstance(node, _ALLOWED) or isinstance(node, _REFUSED):
            raise ValueError(f"{raw!r} holds what an expression cannot have ({type(node).__name__})")
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
            raise ValueError(f"{raw!r} holds {node.value!r}, which is neither a number nor a text")
    if _depth(tree) > DEEPEST:
        raise ValueError(f"{raw!r} nests too deep, {DEEPEST} levels are the most")


def _depth(tree: ast.AST) -> int:
    """Return how deep a tree is, without going down it by recursion."""
    depth, level = -1, [tree]
    while level := [
        child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)
    ]:
        depth += 1
    return depth
