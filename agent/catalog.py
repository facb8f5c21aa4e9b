"""What can be configured, told from the modules themselves: nobody keeps a list."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
from msgspec import structs

from agent import contracts, courier, registry, reporter, supervisor
from agent.config import schema, wording
from agent.outcome import RuleOutcome
from agent.outputs.settings import Settings as OutputSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

LISTED: Final = ("drivers", "rules", "forwarders", "encodings")
"""The roles that a person chooses kinds of; a simulator goes with its driver."""

Kind = dict[str, str]
Page = dict[str, Any]
Setting = dict[str, Any]


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


def text(page: Page, width: int = 100) -> str:
    """Return a page for a person, in lines of at most `width` columns where words allow it."""
    lines = [f"{page['kind']} ({page['role'].removesuffix('s')})", "", page["about"]]
    lines += ["", "Sample", "", *(f"  {line}".rstrip() for line in page["sample"].splitlines())]
    every = {
        "drivers": "Every device also takes",
        "rules": "Every rule also takes",
        "forwarders": "Every forwarder also takes",
    }
    sections = (
        ("Settings", page["settings"]),
        ("Under simulate:", page.get("simulate", [])),
        (every.get(page["role"], ""), _common(page["role"], page["kind"])),
    )
    for title, settings in sections:
        if settings:
            lines += [
                "",
                title,
                *(line for setting in settings for line in _setting_lines(setting, 2, width)),
            ]
    return "\n".join(lines)


def _common(role: str, kind: str) -> list[Setting]:
    """Return what may be written beside every kind of a role."""
    if role == "rules":
        return _settings(RuleOutcome)
    if role == "drivers":
        report = _settings(reporter.Settings)
        output: list[Setting] = []
        if issubclass(registry.module(role, kind).Driver, contracts.Output):
            about = "What rules and people may do to it, and what keeps it safe."
            output.append(
                {
                    "name": "output",
                    "takes": "a map",
                    "default": "",
                    "about": about,
                    "holds": _settings(OutputSettings),
                }
            )
        return [
            *output,
            {"name": "report", "takes": "a map", "default": "", "about": "Which readings are kept; all by default.", "holds": report},
            {"name": "simulate", "takes": "a map, or false", "default": "",
             "about": "What shapes the simulated device; false keeps it real under --simulate.", "holds": []},
            {"name": "description", "takes": "a text", "default": "", "about": "Told to the far side.", "holds": []},
        ]  # fmt: skip
    if role == "forwarders":
        encodings = wording.one_of(registry.kinds("encodings"))
        return [
            {"name": "encoding", "takes": encodings, "default": "json", "about": "How an event becomes bytes.", "holds": []},
            {"name": "reconnect", "takes": "a map", "default": "", "about": "How long it waits before it tries again.",
             "holds": _settings(supervisor.Backoff)},
            *_settings(courier.Settings),
        ]  # fmt: skip
    return []


def _setting_lines(setting: Setting, indent: int, width: int) -> Iterator[str]:
    margin = " " * indent
    required = " (required)" if setting["default"] is None else ""
    default = f" (default {setting['default']})" if setting["default"] else ""
    yield f"{margin}{setting['name']}{required}{default}"
    takes = "" if setting["holds"] else f"Takes {setting['takes']}."
    said = " ".join(part for part in (setting["about"], takes) if part)
    yield from textwrap.wrap(said, width, initial_indent=margin + "    ", subsequent_indent=margin + "    ")
    for inner in setting["holds"]:
        yield from _setting_lines(inner, indent + 4, width)


def _page(role: str, kind: str) -> Page:
    module = registry.module(role, kind)
    about, sample = _document(module)
    page: Page = {
        "role": role,
        "kind": kind,
        "about": about,
        "sample": sample,
        "settings": _settings(module.Settings),
    }
    if role == "drivers" and kind in registry.kinds("simulators"):
        page["simulate"] = _settings(registry.module("simulators", kind).Settings)
    return page


def _settings(cls: type[msgspec.Struct]) -> list[Setting]:
    """Return what may be written for a class of settings, and within each what it holds."""
    said = schema.attributes(cls)
    return [
        {
            "name": field.encode_name,
            "takes": wording.expected(field.type),
            "default": None if field.required else _default(field),
            "about": said.get(field.name, ""),
            "holds": [inner for each in dict.fromkeys(_structs(field.type)) for inner in _settings(each)],
        }
        for field in structs.fields(cls)
    ]


def _structs(type_: Any) -> Iterator[type[msgspec.Struct]]:
    """Return the classes of settings that a type is made of."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
    for argument in get_args(type_):
        yield from _structs(argument)


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


def shared_file(name: str, folder: str = "config") -> str:
    """Return the text of a file of `config/` or `systemd/`: of the clone, or of the installed package."""
    for place in _shared_folders(folder):
        if (place / name).is_file():
            return (place / name).read_text(encoding="utf-8")
    raise FileNotFoundError(f"{folder}/{name} is not part of this installation")


def examples() -> list[str]:
    """Return the names of the set-ups that come with gatepost."""
    found = (file for folder in _shared_folders("config") for file in folder.glob("examples/*.yaml"))
    return sorted({file.stem for file in found if not file.stem.endswith(".tests")})


def example(name: str) -> tuple[str, str]:
    """Return the configuration of a set-up and the tests of its rules, with their schema beside them."""
    configuration = shared_file(f"examples/{name}.yaml").replace("=../", "=", 1)
    return configuration, shared_file(f"examples/{name}.tests.yaml")


def _shared_folders(folder: str) -> tuple[Path, Path]:
    here = Path(__file__).parent
    return here / "share" / folder, here.parent / folder
