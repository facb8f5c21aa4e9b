"""Finds the module that a role and a kind stand for; imports no other."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

ROLES: Final = {
    "drivers": ("drivers", "Driver"),
    "simulators": ("simulators", "Simulator"),
    "rules": ("agent.rules", "Rule"),
    "forwarders": ("agent.forwarders", "Forwarder"),
    "encodings": ("agent.encodings", "Encoding"),
}
"""By role: the package that holds our modules, and the name of the class in each."""


class UnknownKind(LookupError):  # noqa: N818
    """There is no module of that name.

    Attributes:
        known: The kinds that there are.
    """

    def __init__(self, role: str, kind: str) -> None:
        self.known = kinds(role)
        super().__init__(f"there is no {role.removesuffix('s')} {kind!r}")


class MissingLibrary(ImportError):  # noqa: N818
    """The kind is there, but not a library that it needs; the text names what to install."""


def kinds(role: str) -> list[str]:
    """Return the names of all kinds of a role, ours and those that other packages register, sorted."""
    package = importlib.import_module(ROLES[role][0])
    ours = {module.name for module in pkgutil.iter_modules(package.__path__)}
    others = {entry.name for entry in entry_points(group=f"gatepost.{role}")}
    return sorted(kind for kind in ours | others if not kind.startswith("_"))


def module(role: str, kind: str) -> ModuleType:
    """Import the module of one kind.

    Raises:
        UnknownKind: There is none of that name.
        MissingLibrary: It needs a library that is not installed.
    """
    name = f"{ROLES[role][0]}.{kind}"
    if not kind.isidentifier() or kind.startswith("_") or importlib.util.find_spec(name) is None:
        found = [entry for entry in entry_points(group=f"gatepost.{role}") if entry.name == kind]
        if not found:
            raise UnknownKind(role, kind)
        name = found[0].value
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise
        raise MissingLibrary(
            f"{kind!r} needs the Python library {error.name!r}, which is not installed; "
            f"install it with: pip install 'gatepost[{kind}]'"
        ) from error
