"""What can be configured, told from the modules themselves: nobody keeps a list."""

from __future__ import annotations

import difflib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import structs

from agent import registry
from agent.config import schema, wording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

LISTED: Final = ("drivers", "rules", "forwarders", "encodings")
"""The roles that a person chooses kinds of; a simulator goes with its driver."""

Kind = dict[str, str]
Page = dict[str, Any]


def kinds(role: str | None = None) -> list[Kind]:
    """Return role, kind and summary of all kinds, or of one role's; `needs` where a library is missing."""
    found = []
    for each in LISTED if role is None else (role,):
        for kind in registry.kinds(each):
            try:
                found.append({"role": each, "kind": kind, "summary": _summary(registry.module(each, kind))})
            except registry.MissingLibrary as error:
                found.append({"role": each, "kind": kind, "summary": "", "needs": str(error)})
    return found


def table(found: list[Kind]) -> Iterator[str]:
    """Return kinds as lines for a person, under a heading for each role."""
    width = max((len(kind["kind"]) for kind in found), default=0)
    role = ""
    for kind in found:
        if kind["role"] != role:
            if role:
                yield ""
            role = kind["role"]
            yield role
        yield f"  {kind['kind']:<{width}}  {kind['summary'] or kind['needs']}"
    if found:
        yield ""
        yield "See one, with its settings and a sample: gatepost show " + found[0]["kind"]


def pages(kind: str) -> list[Page]:
    """Return what there is to know of a kind, once for each role that has it.

    Raises:
        registry.MissingLibrary: It needs a library that is not installed.
    """
    return [_page(role, kind) for role in LISTED if kind in registry.kinds(role)]


def nearest(kind: str) -> str | None:
    """Return the kind whose name is nearest to one that does not exist."""
    known = [each for role in LISTED for each in registry.kinds(role)]
    return next(iter(difflib.get_close_matches(kind, known, n=1)), None)


def text(page: Page) -> str:
    """Return a page for a person."""
    lines = [f"{page['kind']} ({page['role'].removesuffix('s')})", "", page["about"]]
    for title, settings in (("Settings", page["settings"]), ("Under simulate:", page.get("simulate", []))):
        if settings:
            lines += ["", title, *(line for setting in settings for line in _setting_lines(setting))]
    if page["role"] == "drivers":
        lines += ["", "Every device also takes", *(line for each in _COMMON for line in _setting_lines(each))]
    lines += ["", "Sample", "", *(f"  {line}".rstrip() for line in page["sample"].splitlines())]
    return "\n".join(lines)


_COMMON: Final = (
    {"name": "report", "default": "every reading", "about": "which readings are kept: {change: 0.2, at_least: 5m, at_most: 1s}"},
    {"name": "simulate", "default": "{}", "about": "what shapes the simulated device; false keeps it real under --simulate"},
    {"name": "description", "default": "", "about": "free text, told to the far side"},
)  # fmt: skip


def _setting_lines(setting: dict[str, str]) -> Iterator[str]:
    default = f" (default {setting['default']})" if setting.get("default") else ""
    required = " (required)" if setting.get("default") is None else ""
    yield f"  {setting['name']}{required}{default}"
    if setting["about"]:
        yield f"      {setting['about']}"
    if setting.get("takes"):
        yield f"      takes {setting['takes']}"


def _page(role: str, kind: str) -> Page:
    module = registry.module(role, kind)
    about, sample = _document(module)
    page: Page = {"role": role, "kind": kind, "about": about, "sample": sample, "settings": _settings(module)}
    if role == "drivers" and kind in registry.kinds("simulators"):
        page["simulate"] = _settings(registry.module("simulators", kind))
    return page


def _settings(module: ModuleType) -> list[dict[str, str | None]]:
    cls: type[msgspec.Struct] = module.Settings
    said = schema.attributes(cls)
    found: list[dict[str, str | None]] = []
    for field in structs.fields(cls):
        default = None if field.required else _default(field)
        about = said.get(field.name, "")
        found.append(
            {
                "name": field.encode_name,
                "takes": wording.expected(field.type),
                "default": default,
                "about": about,
            }
        )
    return found


def _default(field: structs.FieldInfo) -> str:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None or value in ({}, [], ()) or isinstance(value, msgspec.Struct):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _document(module: ModuleType) -> tuple[str, str]:
    """Return a module's docstring, and the sample at its end."""
    about, _, sample = inspect.cleandoc(module.__doc__ or "").partition("Sample::")
    return about.strip(), inspect.cleandoc(sample)


def _summary(module: ModuleType) -> str:
    return re.split(r"(?<=[.:])\s", _document(module)[0].replace("\n", " "), maxsplit=1)[0].rstrip(".:")


def shared_file(name: str) -> str:
    """Return the text of a file of `config/`: of the clone, or of the installed package."""
    here = Path(__file__).parent
    for folder in (here / "share" / "config", here.parent / "config"):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8")
    raise FileNotFoundError(f"config/{name} is not part of this installation")
