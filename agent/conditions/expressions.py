"""Expressions over channels, such as `air.temperature - outside.temperature > 15`: simpleeval's, never `eval`.

Names are those of the configuration. A name may hold a minus sign, as devices may, so operators have spaces around them:
`tank-1.level - 5`. `on` and `true` are 1, `off` and `false` are 0, as switches are.
"""

from __future__ import annotations

import ast
import math
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from agent.quantities import Quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simpleeval import SimpleEval

    from agent.events import Value

FUNCTIONS: Final[Mapping[str, Callable[..., float]]] = {
    "abs": abs, "min": min, "max": max, "round": round, "sqrt": math.sqrt, "exp": math.exp, "log": math.log,
}  # fmt: skip
"""What may be called."""

LONGEST: Final = 500
"""Characters of an expression, at most."""

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
    r"(?P<text>'[^']*'|\"[^\"]*\")|(?<![\w.])(?P<name>[A-Za-z](?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)?)(?P<call>\s*\()?"
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
        made = cls(raw)
        made.names, code = _named(raw)
        try:
            tree = ast.parse(code.strip(), mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise ValueError(f"{raw!r} is not an expression: {getattr(error, 'msg', error)}") from None
        _check(tree, raw)
        return made

    def renamed(self, full: Mapping[str, str]) -> Expression:
        """Return it with its channels named in full."""
        return Expression.parse(_TOKEN.sub(lambda found: _renamed(found, full), self))

    @cached_property
    def _evaluator(self) -> tuple[SimpleEval, Any, type[Exception]]:
        import simpleeval  # noqa: PLC0415 -- for those who have rules with expressions

        evaluator = simpleeval.SimpleEval(functions=dict(FUNCTIONS))
        return evaluator, evaluator.parse(_named(self)[1].strip()), simpleeval.InvalidExpression

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
        if isinstance(result, float) and not math.isfinite(result):
            return None
        return int(result) if isinstance(result, bool) else result


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
            if node.keywords or not node.args:
                raise ValueError(f"{raw!r}: {name} expects plain values")
        if not isinstance(node, _ALLOWED) or isinstance(node, _REFUSED):
            raise ValueError(f"{raw!r} holds what an expression cannot have ({type(node).__name__})")
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
            raise ValueError(f"{raw!r} holds {node.value!r}, which is neither a number nor a text")
