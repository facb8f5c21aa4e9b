"""Every module explains itself with a sample that works, and none is where it would shadow another."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from agent import config, registry
from agent.config.schema import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("agent", "drivers", "simulators")
ENVIRONMENT: Final = {"GATEPOST_SECRET_MQTT": "sesame"}
MODULES: Final = [(role, kind) for role in registry.ROLES for kind in registry.kinds(role)]
OURS: Final = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

with_each_module = pytest.mark.parametrize(("role", "kind"), MODULES)


def sample(role: str, kind: str) -> dict[str, Any]:
    """Return what stands after `Sample::` at the end of a module's docstring."""
    about, marker, text = inspect.cleandoc(registry.module(role, kind).__doc__ or "").partition("Sample::\n")
    assert marker, f"{role}/{kind}.py: the docstring has no line that reads Sample::"
    assert about.strip(), f"{role}/{kind}.py: the docstring only has a sample"
    read: dict[str, Any] = yaml.load(inspect.cleandoc("\n" + text), Loader=_Loader)
    return read


class _Loader(yaml.SafeLoader):
    """Reads `!secret NAME` as it is written."""


class _Secret(str):
    __slots__ = ()


_Loader.add_constructor("!secret", lambda _, node: _Secret(node.value))


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` has read."""


_Dumper.add_representer(_Secret, lambda dumper, text: dumper.represent_scalar("!secret", text))


def wrapped(role: str, kind: str) -> dict[str, Any]:
    """Return a whole configuration around a sample: what the rules of the sample watch and set is there."""
    found = sample(role, kind)
    if role == "simulators":
        (device,) = sample("drivers", kind)["devices"].values()
        return {"gateway": "test", "devices": {"it": device | found}}
    if role == "rules":
        air = {
            "driver": "serial_lines",
            "port": "/dev/ttyUSB0",
            "parse": "json",
            "units": {"temperature": "Cel"},
        }
        found["devices"] = {"air": air, "fan": {"driver": "gpio_output", "pin": 27}} | found.get(
            "devices", {}
        )
    return {"gateway": "test", **found}


@with_each_module
def test_its_sample_loads(role: str, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "sample.yaml"
    file.write_text(yaml.dump(wrapped(role, kind), Dumper=_Dumper))
    read = config.load(file, ENVIRONMENT)
    named = {
        "drivers": [device.driver for device in read.devices.values()],
        "simulators": [device.driver for device in read.devices.values()],
        "rules": [rule.kind for rule in read.rules.values()],
        "forwarders": [forwarder.kind for forwarder in read.forward.values()],
        "encodings": [forwarder.encoding for forwarder in read.forward.values()],
    }
    assert kind in named[role]


@with_each_module
def test_its_class_is_named_after_its_role(role: str, kind: str) -> None:
    module = registry.module(role, kind)
    assert inspect.isclass(getattr(module, registry.ROLES[role][1]))
    assert module.__name__ == f"{registry.ROLES[role][0]}.{kind}"


@with_each_module
def test_its_settings_are_documented(role: str, kind: str) -> None:
    settings = config.loading.settings_of(registry.module(role, kind))
    for field in settings.__struct_fields__:
        assert attributes(settings).get(field), f"{role}/{kind}: {field} is not documented"


def test_every_driver_has_a_simulator_and_every_simulator_a_driver() -> None:
    assert registry.kinds("drivers") == registry.kinds("simulators")


CONFIGURATIONS = [
    file for file in sorted((ROOT / "config").rglob("*.yaml")) if not file.name.endswith(".tests.yaml")
]


@pytest.mark.parametrize("file", CONFIGURATIONS, ids=lambda path: path.name)
def test_the_configurations_that_come_with_it_load(file: Path) -> None:
    secrets = {f"GATEPOST_SECRET_{name}": "sesame" for name in _secrets(file)}
    assert config.load(file, secrets).gateway


def _secrets(file: Path) -> Iterator[str]:
    for line in file.read_text().splitlines():
        _, found, rest = line.partition("!secret ")
        if found and not line.lstrip().startswith("#"):
            yield rest.split(",")[0].strip(" }").upper().replace("-", "_")


def test_folders_that_hold_no_package_have_no_init() -> None:
    for folder in ("config", "systemd", "tests", "docs", "benchmarks"):
        assert not list((ROOT / folder).rglob("__init__.py")), folder


def test_no_module_shadows_one_of_the_standard_library_or_of_another_package() -> None:
    taken = sys.stdlib_module_names | {"serial", "gpiozero", "paho", "yaml", "msgspec", "aiosqlite", "lgpio"}
    assert not set(PACKAGES) & taken
    for path in OURS:
        # Inside a package of ours that has no modules of its own beside kinds, a kind may be called `json`.
        if path.parent.name not in {"encodings", "forwarders", "rules"}:
            assert path.stem not in taken or path.stem.startswith("__"), path


def test_no_file_of_the_agent_is_longer_than_400_lines() -> None:
    long = {path.name: count for path in OURS if (count := len(path.read_text().splitlines())) > 400}
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    for path in OURS:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_imports_are_absolute_and_none_is_of_the_tests() -> None:
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}"
                assert (node.module or "").partition(".")[0] not in {"tests", "support", "contracts"}, path


def test_no_test_sleeps_for_luck() -> None:
    """A sleep is for looking again at a condition, in a loop; or it is `sleep(0)`, one turn of the event loop."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.parent.name != "support"
        for line in _lucky_sleeps(ast.parse(path.read_text()))
    ]
    assert not found


def _lucky_sleeps(tree: ast.AST, *, looping: bool = False) -> Iterator[int]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep":
            nothing = isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            if not nothing and not looping:
                yield node.lineno
        in_loop = isinstance(node, ast.While) or (
            looping and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        yield from _lucky_sleeps(node, looping=in_loop)
