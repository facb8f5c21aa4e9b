"""What the scalars of a configuration stand for: `${VARIABLE}`, `${VARIABLE:-default}` and `!secret NAME`.

A secret is looked up among systemd's credentials, then in the environment, then in `secrets.yaml` beside the
configuration. What it holds is remembered here, so that no message repeats it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from agent import secrecy
from agent.config import documents
from agent.errors import Fault
from agent.events import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")
_SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FLOAT = re.compile(r"[-+]?(?=\.?[0-9])[0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")
_SWITCHES = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
NOWHERE: Final = "is missing, expected it in $CREDENTIALS_DIRECTORY"
"""What is said of a secret that is nowhere: systemd may give it to the service alone."""

MAX_SHOWN: Final = 60


class Text(NamedTuple):
    """What a scalar stands for.

    Attributes:
        text: The text, with variables and secrets filled in.
        plain: Whether it is a number or a switch where it looks like one; not so for what is in quotes.
        filled: Whether a variable or a secret was filled in; a message then repeats only what is written.
        shown: How a message may call it.
    """

    text: str
    plain: bool
    filled: bool
    shown: str

    @property
    def nothing(self) -> bool:
        """Whether nothing is written, or null."""
        return self.plain and not self.filled and self.text in {"", "~", "null", "Null", "NULL"}

    def value(self) -> bool | float | str | None:
        """Return it as what it looks like.

        Of the numbers of YAML 1.1, octal ones as 010 and sexagesimal ones as 10:30 stay text: who writes them
        means something else.
        """
        if not self.plain:
            return self.text
        text = self.text.strip()
        if text in {"", "~", "null", "Null", "NULL"}:
            return None
        if text in {text.lower(), text.upper(), text.capitalize()} and text.lower() in _SWITCHES:
            return _SWITCHES[text.lower()]
        try:
            if text.isascii() and abs(number := int(text, 0)) <= INT64_MAX:
                return number
        except ValueError:
            pass
        if {".", "e", "E"} & set(text) and _FLOAT.fullmatch(text):
            try:
                fraction = float(text)
            except ValueError:
                return self.text
            return fraction if math.isfinite(fraction) else self.text
        return self.text


UNREAD: Final = "unread"
"""What stands for a secret where secrets are not looked up: a text like any other, so that what is beside it can be read."""


class Variables:
    """The environment and the secrets of one run of the loader."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, with_secrets: bool = True) -> None:
        self._with_secrets = with_secrets
        self.faults: list[Fault] = []
        self._secrets_file = folder / "secrets.yaml"
        self._environment = environment
        self._in_file: dict[str, str] | None = None
        self._hidden: set[str] = set()

    def text(self, node: yaml.ScalarNode) -> Text:
        """Return what a scalar stands for.

        Raises:
            ValueError: A variable or a secret is not there.
        """
        written = str(node.value)
        if node.tag == documents.SECRET_TAG:
            secret = UNREAD
            if self._with_secrets:
                secret = self._secret(written)
                self.hide(secret)
            return Text(secret, plain=True, filled=True, shown=f"what !secret {written} holds")
        text = _VARIABLE.sub(self._variable, written)
        if any(match["name"] for match in _VARIABLE.finditer(written)):
            return Text(text, plain=True, filled=True, shown=f"what {shorten(written)} holds")
        found = Text(text, plain=node.style is None, filled=False, shown=shorten(text))
        if not found.plain and not isinstance(found._replace(plain=True).value(), str):
            return found._replace(shown=f"the text {shorten(text)}")
        return found

    def hide(self, secret: str) -> None:
        """Remember a text that no message may repeat."""
        if secret:
            self._hidden |= {secret, repr(secret)[1:-1]}
            secrecy.hide(secret)

    def shows_secret(self, message: str) -> bool:
        """Whether a message that others wrote repeats a secret."""
        return any(secret in message for secret in self._hidden)

    def _variable(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            raise ValueError(
                "this variable has no end, expected ${NAME} or ${NAME:-default}, or $${ for a plain ${"
            )
        value = self._environment.get(name) or default
        if value is None:
            if name in self._environment:
                return ""
            raise ValueError(
                f"the variable {name} is not set, expected it set or a default: ${{{name}:-default}}"
            )
        if not documents.storable(value):
            raise ValueError(f"the variable {name} does not hold text in UTF-8")
        return value

    def _secret(self, name: str) -> str:
        if not _SECRET_NAME.fullmatch(name):
            raise ValueError(
                "this is no name of a secret, expected letters, digits, '_', '-' and '.': !secret mqtt-password"
            )
        if folder := self._environment.get("CREDENTIALS_DIRECTORY"):
            try:
                return Path(folder, name).read_bytes().decode().removesuffix("\n")
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
                raise ValueError(f"the credential {name!r} cannot be read: {reason}") from None
        variable = f"GATEPOST_SECRET_{name.upper().replace('-', '_').replace('.', '_')}"
        if variable in self._environment:
            return self._environment[variable]
        if self._in_file is None:
            self._in_file = self._read_file()
        if name in self._in_file:
            return self._in_file[name]
        raise ValueError(
            f"the secret {name!r} {NOWHERE}/{name}, in the variable {variable} or in {self._secrets_file}"
        )

    def _read_file(self) -> dict[str, str]:
        """Return what `secrets.yaml` holds, nothing where there is none."""
        path, name = self._secrets_file, str(self._secrets_file)
        try:
            mode = path.stat().st_mode
        except OSError:
            return {}
        if mode & 0o077:
            what = f"others may read this file, expected it to be private: chmod 600 {name}"
            self.faults.append(Fault(name, 0, 0, "", what))
        root = documents.read(path, name, self.faults)
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            self.faults.append(Fault(name, 1, 1, "", "expected a map of name: text"))
            return {}
        secrets: dict[str, str] = {}
        for key, value in root.value:
            if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
                mark = value.start_mark
                self.faults.append(Fault(name, mark.line + 1, mark.column + 1, "", "expected name: text"))
            elif key.value in secrets:
                mark = key.start_mark
                self.faults.append(
                    Fault(name, mark.line + 1, mark.column + 1, "", f"duplicate key {key.value!r}")
                )
            else:
                secrets[key.value] = value.value
        return secrets


def plain(text: str) -> Text:
    """Return a text as if it were written without quotes, variables or secrets: a key is."""
    return Text(text, plain=True, filled=False, shown=shorten(text))


def shorten(text: str) -> str:
    """Return a text in quotes, as a message can show it."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
