from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.quantities import HEADER_TO_GPIO, Change, Duration, Pin, Quantity, Secret, Size

KINDS = [Duration, Size, Change, Pin, Secret]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("7d", 604_800),
        ("1.5s", 1.5),
        ("1s500ms", 1.5),
        (0, 0),
    ],
)
def test_a_duration_is_read_in_seconds(written: object, seconds: float) -> None:
    assert Duration.parse(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (10, "10 has no unit"),
        (1.5, "1.5 has no unit"),
        ("10", "'10' is not a duration"),
        ("", "'' is not a duration"),
        ("5 minutes", "'5 minutes' is not a duration"),
        ("1 0s", "'1 0s' is not a duration"),
        ("1.2.3s", "'1.2.3s' is not a duration"),
        ("30m1h", "'30m1h' is not a duration"),
        ("-5s", "'-5s' is not a duration"),
        ("٣s", "'٣s' is not a duration"),
        (True, "True is not a duration"),
        (None, "None is not a duration"),
        ("40000d", "'40000d' is longer than a century"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(written: object, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        Duration.parse(written)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (0.5, "500ms"), (0.0005, "0.5ms"), (90, "1m30s"), (86_400, "1d"), (3661.25, "1h1m1.25s")],
)
def test_a_duration_is_said_as_a_person_writes_it(seconds: float, said: str) -> None:
    assert str(Duration(seconds)) == said


@given(st.floats(0, 3e9))
def test_a_duration_that_is_said_is_read_as_the_same(seconds: float) -> None:
    assert Duration.parse(str(Duration(seconds))) == pytest.approx(seconds, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512KiB", 524_288),
        ("64MB", 64_000_000),
        ("1GiB", 2**30),
        ("4.35GB", 4_350_000_000),
        ("12 kB", 12_000),
        (0, 0),
    ],
)
def test_a_size_is_read_in_bytes(written: object, size: int) -> None:
    assert Size.parse(written) == size


@pytest.mark.parametrize("written", [500, "500", "1TB", "-1MB", "", "1e3MB", True, None, "9" * 400 + "GB"])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"has no unit|is not a size|is larger than any disk"):
        Size.parse(written)


@given(st.integers(0, 2**50))
def test_a_size_that_is_said_is_read_as_the_same(size: int) -> None:
    assert Size.parse(str(Size(size))) == size


def test_a_change_is_absolute_relative_or_any() -> None:
    assert Change.parse(0.2) == Change(0.2)
    assert Change.parse("5%") == Change(0.05, relative=True)
    assert Change.parse("any") == Change(0)
    assert [str(Change.parse(each)) for each in (0.2, "5%", "any", 3)] == ["0.2", "5%", "any", "3"]
    assert len({Change(1), Change(1.0), Change(1, relative=True)}) == 2


@pytest.mark.parametrize("written", [-1, "5", "% 5", "five", True, None, float("inf"), "9" * 400 + "%"])
def test_what_is_no_change_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not an amount of change"):
        Change.parse(written)


def test_a_pin_is_a_gpio_number_or_a_place_on_the_header() -> None:
    assert [Pin.parse(each) for each in (17, "GPIO17", "gpio17", "BOARD11")] == [17, 17, 17, 17]
    assert str(Pin(17)) == "GPIO17"
    assert sorted(HEADER_TO_GPIO.values()) == list(range(28))


@pytest.mark.parametrize("written", [28, -1, "GPIO28", "BOARD1", "BOARD41", "17", "GPIO", 1.0, True, None])
def test_what_is_no_pin_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"pin|GPIO"):
        Pin.parse(written)


def test_a_secret_is_a_text_that_does_not_show() -> None:
    secret = Secret.parse("open sesame")
    assert secret == "open sesame"
    assert "sesame" not in repr(secret)
    with pytest.raises(ValueError, match="not a text but int"):
        Secret.parse(1234)


@pytest.mark.parametrize("kind", KINDS)
@given(
    written=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())
    )
)
def test_anything_is_read_or_refused(kind: type[Quantity], written: Any) -> None:
    try:
        value = kind.parse(written)
    except ValueError:
        return
    assert isinstance(value, kind)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Duration, ["500ms", "1h30m", "1h 30m", 0], [10, "", "10", "fast"]),
        (Size, ["512KiB", "64 MB", 0], [10, "", "1TB"]),
        (Change, [0.2, "5%", "any"], [-1, "5"]),
        (Pin, [17, "GPIO17", "BOARD11"], [28, "17", "D4"]),
        (Secret, ["text"], [5]),
    ],
)
def test_the_schema_of_a_quantity_tells_good_from_bad(
    kind: type[Quantity], good: list[object], bad: list[object]
) -> None:
    validator = jsonschema.Draft202012Validator(kind.schema)
    assert [each for each in good if not validator.is_valid(each)] == []
    assert [each for each in bad if validator.is_valid(each)] == []
