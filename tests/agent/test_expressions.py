"""Expressions: what they come to, what nothing can be said of, and what is refused however it is dressed up."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.conditions.expressions import DEEPEST, LONGEST, Expression
from agent.events import INT64_MAX

if TYPE_CHECKING:
    from agent.events import Value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("air.temperature - outside.temperature", 20.5),
        ("air.temperature - outside.temperature > 15", 1),
        ("air.temperature - outside.temperature > 21", 0),
        ("air.temperature", 25.5),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("7 // 2 + 7 % 4", 6),
        ("10 - 4 - 3", 3),
        ("0 < air.temperature < 26", 1),
        ("not air.temperature > 30", 1),
        ("1 > 2 or 2 > 1 and 3 > 4", 0),
        ("door == on and fan == off", 1),
        ("door == true", 1),
        ("door if fan else 7", 7),
        ("max(air.temperature, outside.temperature, 30)", 30),
        ("abs(outside.temperature - air.temperature)", 20.5),
        ("round(air.temperature / 7, 2)", 3.64),
        ("sqrt(16) + exp(0) + log(8, 2)", 8),
        ("reader.card == 'on'", 0),
        ('reader.card == "7-a"', 1),
        ("reader.card", "7-a"),
        ("reader.card == 7", 0),
        ("0x10 + 1e1", 26),
        (r"reader.card == '\d'", 0),
    ],
)
def test_it_comes_to_a_value(text: str, value: Value) -> None:
    known: dict[str, Value] = {
        "air.temperature": 25.5, "outside.temperature": 5, "door": 1, "fan": 0, "reader.card": "7-a",
    }  # fmt: skip
    assert Expression.parse(text).evaluate(known) == value


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tank-1.level - 5", ("tank-1.level",)),
        ("tank-1.level-5", ("tank-1.level-5",)),
        ("5-tank-1.level", ("tank-1.level",)),
        ("b.x + a.x + b.x", ("b.x", "a.x")),
        ("door", ("door",)),
        ("door.on == on", ("door.on",)),
        ("onset.level > offset.level", ("onset.level", "offset.level")),
        ("min(min.max, 3)", ("min.max",)),
        ("reader.card == 'air.temperature'", ("reader.card",)),
        ("1e5 > 2", ()),
        ("_0 + a", ("_0", "a")),  # never the name that stands for another inside
    ],
)
def test_it_knows_the_channels_that_it_names(text: str, names: tuple[str, ...]) -> None:
    assert Expression.parse(text).names == names


def test_a_name_with_a_minus_sign_is_one_name() -> None:
    expression = Expression.parse("tank-1.level-low - tank-1.level")
    assert expression.evaluate({"tank-1.level-low": 7, "tank-1.level": 5}) == 2


def test_it_is_renamed_everywhere_but_in_texts_and_stays_as_it_was_written_otherwise() -> None:
    expression = Expression.parse("door == on  and reader.card != 'door' and door-2")
    full = expression.renamed({"door": "door.state"})
    assert full == "door.state == on  and reader.card != 'door' and door-2"
    assert full.names == ("door.state", "reader.card", "door-2")


def test_it_may_grow_longer_than_can_be_written_when_it_is_renamed() -> None:
    expression = Expression.parse("+".join(["door"] * 40) + " " * 300)
    assert len(expression.renamed({"door": "door.state"})) > LONGEST


@pytest.mark.parametrize("missing", [{}, {"a.x": None}, {"a.x": 1}, {"a.x": 1, "b.x": None}])
def test_nothing_can_be_said_while_a_value_is_missing(missing: dict[str, Value]) -> None:
    assert Expression.parse("a.x > 0 or b.x > 0").evaluate(missing) is None


@pytest.mark.parametrize(
    "text",
    [
        "a.x / b.x", "a.x // b.x", "a.x % b.x", "a.x + c.x", "a.x > c.x", "-c.x", "abs(c.x)", "min(a.x, c.x)", "c.x * 2",
        "c.x + c.x", "c.x % a.x", "'%9999999999d' % a.x", "'a' * 99999 * 99999", "sqrt(-1)", "log(b.x)", "(-8) ** 0.5",
        "1e308 * 10", "1e400", "exp(1000)", "9 ** 9 ** 9", "9 ** 4000000", "4000000 ** 4000000", "1e400 - 1e400",
        f"{INT64_MAX} + 1", "99999999999999999999 * 9", "round(a.x, 1e400)", "round(c.x)",
    ],
)  # fmt: skip
def test_nothing_can_be_said_where_it_comes_to_no_number(text: str) -> None:
    assert Expression.parse(text).evaluate({"a.x": 1, "b.x": 0, "c.x": "text"}) is None


def test_a_number_with_a_billion_digits_taken_off_costs_nothing() -> None:
    assert Expression.parse("round(a.x, -999999999)").evaluate({"a.x": 5}) == 0


def test_a_longer_and_longer_number_stays_within_what_can_be_kept() -> None:
    squares = Expression.parse("*".join(["a.x"] * 60))
    assert squares.evaluate({"a.x": 2}) == 2**60
    assert squares.evaluate({"a.x": INT64_MAX}) is None
    assert squares.evaluate({"a.x": 1e300}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not an expression"),
        ("1 if", "is not an expression"),
        ("a.x >", "is not an expression"),
        ("a.x b.x", "is not an expression"),
        ("a.x = 1", "(equal is written ==)"),
        ("a.x == 1 && b.x", "(and is written and)"),
        ("a.x || b.x", "(or is written or)"),
        ("!a.x", "(not is written not)"),
        ("a.x <> 1", "(unequal is written !=)"),
        ("a.x == '=' b.x", "invalid syntax"),
        ("'open", "is not an expression"),
        ("f'{a}'", "is not an expression"),
        ("b'x' == a", "is not an expression"),
        ("lambda: 1", "is not an expression"),
        ("a.b.c > 1", "has a name of three parts"),
        ("a.x-b.x > 1", "a subtraction needs spaces around its minus"),
        ("(1).real", "has a name of three parts"),
        ("'x'.join(a)", "calls the unknown function ''"),
        ("__import__('os')", "calls the unknown function '__import__'"),
        ("open('x')", "known are abs, min, max, round, sqrt, exp, log"),
        ("mean(a.x, b.x)", "calls the unknown function 'mean'"),
        ("abs(1)(2)", "calls the unknown function ''"),
        ("max()", "max expects two values or more"),
        ("min(a.x)", "min expects two values or more"),
        ("abs(1, 2)", "abs expects one value"),
        ("round()", "round expects one value or two"),
        ("min(1, 2, key=abs(1))", "min expects"),
        ("max(*'ab')", "max expects"),
        ("a[0]", "cannot have (Subscript)"),
        ("[a, b]", "cannot have (List)"),
        ("{1: 2}", "cannot have (Dict)"),
        ("a.x, b.x", "cannot have (Tuple)"),
        ("a.x @ b.x", "cannot have (MatMult)"),
        ("a.x | 1", "cannot have (BitOr)"),
        ("1 << 99", "cannot have (LShift)"),
        ("~a.x", "cannot have (Invert)"),
        ("(a := 1)", "cannot have (NamedExpr)"),
        ("1j", "neither a number nor a text"),
        ("...", "neither a number nor a text"),
        ("-" * (DEEPEST + 2) + "1", "nests too deep"),
        ("not " * (DEEPEST + 2) + "a", "nests too deep"),
        ("1" + "+1" * (DEEPEST + 2), "nests too deep"),
        ("abs(" * 90 + "1" + ")" * 90, "nests too deep"),
        ("(" * 249 + "1" + ")" * 249, "is not an expression"),
        ("1" * (LONGEST + 1), "characters are too many"),
        ("1" * 400 + "." * 5, "is not an expression"),
    ],
)
def test_it_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Expression.parse(text)


@pytest.mark.parametrize("raw", [1, True, None, 1.5])
def test_what_is_no_text_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="is no expression"):
        Expression.parse(raw)


def test_the_deepest_that_may_be_written_is_worked_out() -> None:
    assert Expression.parse("-" * DEEPEST + "1").evaluate({}) == 1
    assert Expression.parse("1" + "+1" * DEEPEST).evaluate({}) == DEEPEST + 1


PIECES: Any = st.lists(
    st.sampled_from([
        "a.x", "b.x", "door", "1", "0", "2.5", "1e308", "'text'", "on", "off", " + ", " - ", " * ", " / ", " % ", " // ",
        " ** ", " < ", " == ", " and ", " or ", "not ", "(", ")", ",", "min(", "round(", "sqrt(", " if ", " else ", ".", "-",
        "__class__", "\\", "\n", "#", "'", "\x00", "é",
    ]),
    max_size=25,
).map("".join)  # fmt: skip


@given(text=PIECES, one=st.sampled_from([None, 0, -1, 2.5, 1e308, INT64_MAX, "text"]))
def test_whatever_is_written_is_a_value_or_refused(text: str, one: Value) -> None:
    try:
        expression = Expression.parse(text)
    except ValueError:
        return
    for value in (
        expression.evaluate(dict.fromkeys(expression.names, one)),
        expression.evaluate({name: index for index, name in enumerate(expression.names)}),
    ):
        assert value is None or isinstance(value, str | int | float)
        assert not isinstance(value, bool | float) or (value is not True and math.isfinite(value))
