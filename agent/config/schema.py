"""The JSON schema of the configuration, for editors, made from the same settings that the loader reads.

It cannot say everything: what must fit together, and which channels there are, only `gatepost check` knows.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import structs

from agent import contracts, courier, eventlog, quantities, registry, reporter, supervisor
from agent.config import loading, model
from agent.config.variables import plain
from agent.outcome import RuleOutcome
from agent.outputs.settings import Settings as OutputSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

Schema = dict[str, Any]

_SCALARS: Final[dict[Any, Schema]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    Any: {},
}
_VARIABLE: Final[Schema] = {
    "type": "string",
    "pattern": r"\$\{\w+(:-.*)?\}",
    "description": "${VARIABLE} or ${VARIABLE:-default}",
}
_LIMITS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
_LENGTHS: Final = {"string": "Length", "array": "Items", "object": "Properties"}
_NAMES: Final[Schema] = {"pattern": f"^{model.NAME}$"}


def schema() -> Schema:
    """Return the schema of a whole configuration, with every kind whose libraries are installed."""
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of gatepost",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "gateway": {"type": "string", "description": "The gateway's name; by default the host's."},
            "devices": _section("What is wired to the gateway, by name.", _device(), list(model.RESERVED)),
            "rules": _section("What raises alarms and sets outputs, by name.", _rule()),
            "forward": _section("Where events are sent, by name.", _forwarder()),
            "log": _of_struct(eventlog.Settings) | {"description": "The durable record of events."},
            "broker": _of_struct(model.BrokerSettings)
            | {"description": "An MQTT broker to run beside the agent."},
        },
    }
    return whole | {"$defs": {"variable": _VARIABLE, **_definitions()}}


def text() -> str:
    """Return the schema as it stands in `config/gatepost.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def attributes(cls: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say about each field under `Attributes:`."""
    said: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        section = re.search(
            r"^Attributes:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(each.__doc__ or ""), re.MULTILINE
        )
        name = ""
        for line in inspect.cleandoc(section[1]).splitlines() if section else []:
            if start := re.match(r"(\w+)(?: \(.*\))?: *(.*)", line):
                name = start[1]
                said[name] = start[2]
            elif name and line.strip():
                said[name] = f"{said[name]} {line.strip()}"
    return said


# --- sections -----------------------------------------------------------------------------------------------------


def _section(description: str, entry: Schema, reserved: list[str] | None = None) -> Schema:
    names = _NAMES | ({"not": {"enum": reserved}} if reserved else {})
    return {
        "description": description,
        "type": ["object", "null"],
        "propertyNames": names,
        "additionalProperties": entry,
    }


def _device() -> Schema:
    """Return the schema of a device: the driver says which other keys there are."""
    common = {
        "description": {"type": "string", "description": "Free text."},
        "report": _of_struct(reporter.Settings)
        | {"description": "Which readings are kept; all where it is not said."},
    }
    output = _of_struct(OutputSettings) | {"description": "What rules and people may do to it."}
    kinds = dict(_modules("drivers"))
    simulators = dict(_modules("simulators"))
    drivers: Schema = {
        "anyOf": [{"const": kind, "description": _summary(module)} for kind, module in kinds.items()]
    }
    cases = []
    for kind, module in kinds.items():
        own = _of_struct(module.Settings)
        simulate: Schema = {"type": "boolean"}
        if kind in simulators:
            simulate = {"anyOf": [simulate, _of_struct(loading.settings_of(simulators[kind]))]}
        simulate |= {"description": "What shapes its simulation; false keeps it real."}
        own["properties"] = {"driver": {"const": kind}, **own["properties"], **common, "simulate": simulate}
        if issubclass(module.Driver, contracts.Output):
            own["properties"]["output"] = output
        cases.append(
            {
                "if": {"properties": {"driver": {"const": kind}}, "required": ["driver"]},
                "then": own | {"type": "object"},
            }
        )
    return {
        "type": "object",
        "properties": {"driver": drivers | {"description": "The kind of driver."}},
        "required": ["driver"],
        "allOf": cases,
    }


def _rule() -> Schema:
    """Return the schema of a rule: one key is its kind."""
    return _one_kind("rules", _of_struct(RuleOutcome)["properties"])


def _forwarder() -> Schema:
    """Return the schema of a forwarder: one key is its kind."""
    kinds = dict(_modules("encodings"))
    encoding = {
        "anyOf": [
            {"enum": list(kinds)},
            {
                "type": "object",
                "properties": {
                    kind: _of_struct(loading.settings_of(module)) for kind, module in kinds.items()
                },
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
        "description": "How events are written.",
        "default": "json",
    }
    reconnect = _of_struct(supervisor.Backoff) | {"description": "How long to wait before trying again."}
    carried = _of_struct(courier.Settings)["properties"]
    return _one_kind("forwarders", {"encoding": encoding, "reconnect": reconnect, **carried})


def _one_kind(role: str, common: Schema) -> Schema:
    kinds = {
        kind: _of_struct(loading.settings_of(module)) | {"description": _summary(module)}
        for kind, module in _modules(role)
    }
    return {
        "type": "object",
        "properties": {**kinds, **common},
        "additionalProperties": False,
        "oneOf": [{"required": [kind]} for kind in kinds],
    }


def _modules(role: str) -> Iterator[tuple[str, ModuleType]]:
    """Yield the kinds of a role and their modules, without those that lack a library."""
    for kind in registry.kinds(role):
        try:
            yield kind, registry.module(role, kind)
        except registry.MissingLibrary:
            continue


def _summary(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")


# --- types --------------------------------------------------------------------------------------------------------


def _of_struct(cls: type[msgspec.Struct]) -> Schema:
    """Return the schema of a map; nothing written is an empty one, where that is enough."""
    said = attributes(cls)
    properties: Schema = {}
    required = []
    for field in structs.fields(cls):
        described = _of(field.type)
        if said.get(field.name):
            described |= {"description": said[field.name]}
        default = field.default_factory() if callable(field.default_factory) else field.default
        if field.required:
            required.append(field.encode_name)
        elif (written := _written(default)) is not None:
            described |= {"default": written}
        properties[field.encode_name] = described
    kind: Schema = {"type": "object", "required": required} if required else {"type": ["object", "null"]}
    return {**kind, "properties": properties, "additionalProperties": False}


def _of(type_: Any) -> Schema:
    """Return the schema of what may be written for a type."""
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        described = _of(arguments[0])
        for meta in arguments[1:]:
            if isinstance(meta, msgspec.Meta):
                described = _limited(described, meta)
        return described
    if origin in (Union, types.UnionType):
        return {"anyOf": _flat(map(_of, arguments))}
    if origin is dict or type_ is dict:
        return {"type": ["object", "null"], "additionalProperties": _of(arguments[1]) if arguments else True}
    if (origin or type_) in (list, tuple, set, frozenset):
        return _of_list(type_)
    if _is(type_, msgspec.Struct) or _is(type_, quantities.Secret):
        return _reference(type_)
    if type_ in (str, Any, type(None)):
        return dict(_SCALARS[type_])
    return {"anyOf": _flat([_of_scalar(type_, origin, arguments), {"$ref": "#/$defs/variable"}])}


def _reference(cls: type) -> Schema:
    """Return a pointer to what is said once, under `$defs`."""
    return {"$ref": f"#/$defs/{cls.__module__}.{cls.__name__}"}


def _definitions() -> Schema:
    """Return the schemas of all quantities, and of all maps inside the settings of any kind."""
    roots: list[type[msgspec.Struct]] = [
        model.BrokerSettings,
        eventlog.Settings,
        reporter.Settings,
        OutputSettings,
        RuleOutcome,
        supervisor.Backoff,
        courier.Settings,
    ]
    roots += [loading.settings_of(module) for role in registry.ROLES for _, module in _modules(role)]
    found: dict[str, Schema] = {}
    waiting: list[Any] = [field.type for root in roots for field in structs.fields(root)]
    while waiting:
        type_ = waiting.pop()
        waiting += get_args(type_)
        name = f"{type_.__module__}.{type_.__name__}" if isinstance(type_, type) else ""
        if name in found:
            continue
        if _is(type_, quantities.Quantity):
            found[name] = dict(type_.schema)
        elif _is(type_, msgspec.Struct):
            found[name] = _of_struct(type_)
            waiting += [field.type for field in structs.fields(type_)]
    return dict(sorted(found.items()))


def _of_scalar(type_: Any, origin: Any, arguments: tuple[Any, ...]) -> Schema:
    if _is(type_, quantities.Quantity):
        return _reference(type_)
    if origin is Literal or _is(type_, enum.Enum):
        choices = list(arguments) or [each.value for each in type_]
        # A choice such as "5" may be written without its quotes.
        bare = [plain(each).value() for each in choices if isinstance(each, str)]
        return {"enum": [*choices, *(each for each in bare if not isinstance(each, str | None))]}
    return dict(_SCALARS[type_])


def _of_list(type_: Any) -> Schema:
    arguments = get_args(type_) or (Any, ...)
    if (get_origin(type_) or type_) is tuple and Ellipsis not in arguments:
        size = len(arguments)
        items = [_of(each) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": size, "maxItems": size}
    return {"type": "array", "items": _of(arguments[0])}


def _flat(choices: Iterable[Schema]) -> list[Schema]:
    """Return the choices of a union, without unions inside and without repeats."""
    flat: list[Schema] = []
    for choice in choices:
        inner = choice.get("anyOf", [choice])
        flat += [each for each in inner if each not in flat]
    return flat


def _limited(described: Schema, meta: msgspec.Meta) -> Schema:
    """Add limits to the schema of a type."""
    if "anyOf" in described:
        first, *others = described["anyOf"]
        return described | {"anyOf": [_limited(first, meta), *others]}
    limits = {
        there: getattr(meta, here) for here, there in _LIMITS.items() if getattr(meta, here) is not None
    }
    kind = described.get("type", "string")
    of = _LENGTHS.get(kind[0] if isinstance(kind, list) else kind, "")
    for here, there in (("min_length", f"min{of}"), ("max_length", f"max{of}")):
        if getattr(meta, here) is not None:
            limits[there] = getattr(meta, here)
    return described | limits


def _is(type_: Any, base: type) -> bool:
    return isinstance(type_, type) and issubclass(type_, base)


def _written(value: Any) -> Any:
    """Return a default as a person would write it, None where there is nothing to write."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, quantities.Quantity):
        return str(value)
    return value if isinstance(value, bool | int | float | str) else None
