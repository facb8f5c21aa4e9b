from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
import yaml

from agent import contracts, registry, reporter
from agent.config import schema
from agent.quantities import Duration

CONFIG = Path(__file__).parents[2] / "config"


class Base(contracts.Settings, frozen=True):
    """What all have.

    Attributes:
        every: How often,
            at most.
        name: Its name.
    """

    every: Duration = Duration(1)
    name: str = ""


class Settings(Base, frozen=True, kw_only=True):
    """One of them.

    Text that is not about fields.

    Attributes:
        name: Its full name: first and last.
        for_: How long.

    Raises:
        Nothing: At all.
    """

    count: Annotated[int, msgspec.Meta(ge=1, le=9)]
    for_: Duration | None = msgspec.field(name="for", default=None)
    mode: Literal["auto", "5"] = "auto"
    tags: Annotated[list[str], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=list)
    pair: tuple[float, float] | None = None


def valid(document: Any) -> bool:
    return jsonschema.Draft202012Validator(schema.schema()).is_valid(document)


def devices(**device: Any) -> Any:
    return {"devices": {"one": device}}


@pytest.fixture
def fake_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("fake", "A thing.\n\nMore.")
    fake.Settings = Settings  # type: ignore[attr-defined]
    fake.Driver = contracts.Driver  # type: ignore[attr-defined]
    real = registry.module

    def module(role: str, kind: str) -> ModuleType:
        if kind == "broken":
            raise registry.MissingLibrary("'broken' needs something")
        return fake if (role, kind) == ("drivers", "fake") else real(role, kind)

    monkeypatch.setattr(registry, "module", module)
    monkeypatch.setattr(registry, "kinds", lambda role: ["broken", "fake"] if role == "drivers" else [])


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())


def test_the_file_for_editors_is_current() -> None:
    assert (CONFIG / "gatepost.schema.json").read_text() == schema.text(), (
        "write it again: python -c 'from agent.config import schema; print(schema.text(), end=\"\")' > config/gatepost.schema.json"
    )


def test_the_starting_configuration_keeps_to_the_schema() -> None:
    jsonschema.validate(yaml.safe_load((CONFIG / "gatepost.yaml").read_text()), schema.schema())


def test_what_the_loader_takes_the_schema_takes() -> None:
    assert valid({})
    assert valid({"devices": None, "rules": None, "forward": None, "log": None, "broker": None})
    assert valid(devices(driver="heartbeat", every="10s", report={"change": "5%"}, simulate=False))
    assert valid(devices(driver="heartbeat", every="${EVERY:-10s}"))
    assert valid(devices(driver="gpio_output", pin="BOARD11", safe=False, description="fan"))
    assert valid(
        {"rules": {"hot": {"threshold": {"of": "a.b", "above": 3, "for": "5m"}, "severity": "major"}}}
    )
    assert valid({"forward": {"site": {"mqtt": {"host": "b", "version": 5}, "encoding": {"json": None}}}})


def test_what_the_loader_refuses_the_schema_refuses() -> None:
    assert not valid({"device": {}})
    assert not valid({"devices": {"agent": {"driver": "heartbeat"}}})
    assert not valid({"devices": {"front door": {"driver": "heartbeat"}}})
    assert not valid(devices(every="10s"))
    assert not valid(devices(driver="heartbeat", evry="10s"))
    assert not valid(devices(driver="heartbeat", every=10))
    assert not valid(devices(driver="heartbeet"))
    assert not valid(devices(driver="gpio_input"))
    assert not valid({"rules": {"hot": {"severity": "major"}}})
    assert not valid({"forward": {"site": {"mqtt": {"host": "b", "port": 70000}}}})
    assert not valid({"forward": {"site": {"mqtt": {"host": "b"}, "encoding": "xml"}}})


@pytest.mark.usefixtures("fake_driver")
def test_a_kind_is_described_by_its_docstrings_and_types() -> None:
    [case] = schema.schema()["properties"]["devices"]["additionalProperties"]["allOf"]
    own = case["then"]["properties"]
    assert case["then"]["required"] == ["count"]
    assert own["for"]["description"] == "How long."
    assert own["name"] == {"type": "string", "description": "Its full name: first and last.", "default": ""}
    assert own["every"]["default"] == "1s"
    assert own["count"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert own["mode"]["anyOf"][0] == {"enum": ["auto", "5", 5]}
    assert own["tags"] == {"type": "array", "items": {"type": "string"}, "minItems": 1}
    assert own["pair"]["anyOf"][0]["maxItems"] == 2
    assert own["simulate"]["type"] == "boolean"


def test_only_outputs_have_what_is_said_of_outputs() -> None:
    cases = schema.schema()["properties"]["devices"]["additionalProperties"]["allOf"]
    with_output = [case["if"] for case in cases if "output" in case["then"]["properties"]]
    assert [case["properties"]["driver"]["const"] for case in with_output] == ["gpio_output"]


@pytest.mark.usefixtures("fake_driver")
def test_kinds_that_lack_a_library_are_left_out() -> None:
    drivers = schema.schema()["properties"]["devices"]["additionalProperties"]["properties"]["driver"]
    assert drivers["anyOf"] == [{"const": "fake", "description": "A thing."}]


def test_attributes_are_read_from_the_docstrings_of_a_class_and_its_bases() -> None:
    assert schema.attributes(Settings) == {
        "every": "How often, at most.",
        "name": "Its full name: first and last.",
        "for_": "How long.",
    }
    assert list(schema.attributes(reporter.Settings)) == ["change", "at_least", "at_most"]
    assert schema.attributes(int) == {}
