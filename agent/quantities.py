"""The typed scalars of a configuration: durations, sizes, shares, pins and secrets.

Each is read from what a person writes and knows how to say what it expected. They are plain numbers and strings
in all other respects, so no code has to unwrap them.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile(
    rf"(?:(?P<d>{_NUMBER})d)?\s*(?:(?P<h>{_NUMBER})h)?\s*(?:(?P<m>{_NUMBER})m)?\s*"
    rf"(?:(?P<s>{_NUMBER})s)?\s*(?:(?P<ms>{_NUMBER})ms)?"
)
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SIZE = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>B|kB|KB|MB|GB|KiB|MiB|GiB)")
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}

_LONGEST = 100 * 366 * 86_400.0
_LARGEST = 2**63 - 1

HEADER_TO_GPIO = {
    3: 2, 5: 3, 7: 4, 8: 14, 10: 15, 11: 17, 12: 18, 13: 27, 15: 22, 16: 23, 18: 24, 19: 10, 21: 9, 22: 25,
    23: 11, 24: 8, 26: 7, 27: 0, 28: 1, 29: 5, 31: 6, 32: 12, 33: 13, 35: 19, 36: 16, 37: 26, 38: 20, 40: 21,
}  # fmt: skip
"""GPIO number by pin of the 40-pin header (Raspberry Pi documentation, "GPIO and the 40-pin header")."""


class Quantity:
    """A scalar that is read from what a person writes.

    Attributes:
        expected: What a person may write, as the end of a sentence.
        schema: The JSON schema of what a person may write.
    """

    expected: ClassVar[str]
    schema: ClassVar[dict[str, Any]]

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read what a person wrote.

        Raises:
            ValueError: What it is instead; the caller adds `expected`.
        """
        raise NotImplementedError


class Duration(Quantity, float):
    """A length of time, in seconds: `500ms`, `10s`, `5m`, `1h30m`, `7d`."""

    expected = "a duration such as 500ms, 10s, 5m, 1h30m or 7d"
    schema: ClassVar[dict[str, Any]] = {
        "type": ["string", "integer"],
        "pattern": r"^(?=.)([\d.]+d)?\s*([\d.]+h)?\s*([\d.]+m)?\s*([\d.]+s)?\s*([\d.]+ms)?$",
        "description": "a duration: 500ms, 10s, 5m, 1h30m, 7d",
        "minimum": 0,
        "maximum": 0,
    }

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read a duration; a bare 0 needs no unit."""
        if raw == 0 and not isinstance(raw, bool):
            return cls(0)
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            raise ValueError(f"{raw} has no unit")
        match = _DURATION.fullmatch(raw.strip()) if isinstance(raw, str) else None
        if match is None or not any(match.groupdict().values()):
            raise ValueError(f"{raw!r} is not a duration")
        seconds = sum(float(amount) * _SECONDS[unit] for unit, amount in match.groupdict("0").items())
        if seconds > _LONGEST:
            raise ValueError(f"{raw!r} is longer than a century")
        return cls(seconds)

    def __str__(self) -> str:
        seconds = float(self)
        if 0 < seconds < 1:
            return f"{_plainly(seconds * 1000)}ms"
        said = ""
        for unit in ("d", "h", "m"):
            whole, seconds = divmod(seconds, _SECONDS[unit])
            said += f"{int(whole)}{unit}" if whole else ""
        rest = _plainly(seconds)
        return said if said and rest == "0" else f"{said}{rest}s"


class Size(Quantity, int):
    """An amount of bytes: `512KiB`, `64MB`, `1GiB`."""

    expected = "a size such as 512KiB, 64MB or 1GiB"
    schema: ClassVar[dict[str, Any]] = {
        "type": ["string", "integer"],
        "pattern": r"^\d+(\.\d+)?\s*(B|[kK]B|MB|GB|KiB|MiB|GiB)$",
        "description": "a size: 512KiB, 64MB, 1GiB",
        "minimum": 0,
        "maximum": 0,
    }

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read a size; a bare 0 needs no unit."""
        if raw == 0 and not isinstance(raw, bool):
            return cls(0)
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            raise ValueError(f"{raw} has no unit")
        match = _SIZE.fullmatch(raw.strip()) if isinstance(raw, str) else None
        if match is None:
            raise ValueError(f"{raw!r} is not a size")
        size = float(match["number"]) * _BYTES[match["unit"]]
        if size > _LARGEST:
            raise ValueError(f"{raw!r} is larger than any disk")
        return cls(round(size))

    def __str__(self) -> str:
        for unit in ("GiB", "GB", "MiB", "MB", "KiB", "kB"):
            if self and int(self) % _BYTES[unit] == 0:
                return f"{int(self) // _BYTES[unit]}{unit}"
        return f"{int(self)}B"


class Change(Quantity):
    """How much a value must move to count as changed: `0.2` (absolute), `5%` (of the last kept value), `any`."""

    expected = "an amount such as 0.2, a share such as 5%, or any"
    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": r"^(any|\d+(\.\d+)?\s*%)$"},
        ],
        "description": "an absolute amount (0.2), a share of the last kept value (5%), or any",
    }

    def __init__(self, amount: float, *, relative: bool = False) -> None:
        self.amount = amount
        self.relative = relative

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read an amount of change."""
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            if not 0 <= raw <= _LARGEST:
                raise ValueError(f"{raw} is not an amount of change")
            return cls(float(raw))
        if raw == "any":
            return cls(0.0)
        match = re.fullmatch(rf"({_NUMBER})\s*%", raw.strip()) if isinstance(raw, str) else None
        if match is None:
            raise ValueError(f"{raw!r} is not an amount of change")
        share = float(match[1]) / 100
        if share > _LARGEST:
            raise ValueError(f"{raw!r} is not an amount of change")
        return cls(share, relative=True)

    def __str__(self) -> str:
        if self.relative:
            return f"{self.amount * 100:g}%"
        return f"{self.amount:g}" if self.amount else "any"

    def __repr__(self) -> str:
        return f"Change({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Change) and (self.amount, self.relative) == (other.amount, other.relative)

    def __hash__(self) -> int:
        return hash((self.amount, self.relative))


class Pin(Quantity, int):
    """A GPIO line by its number, `17` or `GPIO17`, or by its place on the 40-pin header, `BOARD11`."""

    expected = "a GPIO number from 0 to 27, such as 17 or GPIO17, or a header pin such as BOARD11"
    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 27},
            {"type": "string", "pattern": r"^(GPIO\d{1,2}|BOARD\d{1,2})$"},
        ],
        "description": "a GPIO line: 17, GPIO17, or its pin on the 40-pin header, BOARD11",
    }

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read a pin."""
        if isinstance(raw, str) and (match := re.fullmatch(r"(GPIO|BOARD)([0-9]{1,2})", raw.strip().upper())):
            number = int(match[2])
            if match[1] == "BOARD":
                if number not in HEADER_TO_GPIO:
                    raise ValueError(f"{raw} is not a GPIO pin of the 40-pin header")
                return cls(HEADER_TO_GPIO[number])
            raw = number
        if isinstance(raw, int) and not isinstance(raw, bool):
            if not 0 <= raw <= 27:
                raise ValueError(f"there is no GPIO{raw} on the 40-pin header")
            return cls(raw)
        raise ValueError(f"{raw!r} is not a pin")

    def __str__(self) -> str:
        return f"GPIO{int(self)}"


class Secret(Quantity, str):
    """A text that is never printed."""

    __slots__ = ()
    expected = "a text, or !secret NAME"
    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "description": "a secret; better said as !secret NAME",
    }

    @classmethod
    def parse(cls, raw: object) -> Self:
        """Read a secret."""
        if not isinstance(raw, str):
            raise ValueError(f"this is not a text but {type(raw).__name__}")
        return cls(raw)

    def __repr__(self) -> str:
        return "Secret('***')"


def _plainly(number: float) -> str:
    """Return a number with up to six decimals and no exponent."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
