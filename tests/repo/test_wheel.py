"""What is built: one wheel with our three packages and nothing else that could get in somebody's way."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {"agent", "drivers", "simulators"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built here from the working tree."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps",
         "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(ROOT)],
        check=True, timeout=120,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel in it; what it depends on is borrowed from ours."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    ours = Path(importlib.util.find_spec("msgspec").origin).parents[1]  # type: ignore[union-attr,arg-type]
    for other in ours.iterdir():
        if other.name not in PACKAGES and "gatepost" not in other.name and other.name != "__pycache__":
            (site / other.name).symlink_to(other)
    return folder / "bin" / "python"


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_it_holds_three_packages_and_its_own_description_at_the_top(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert len(top) == len(PACKAGES) + 1


def test_it_holds_every_module_of_the_working_tree(wheel: Path) -> None:
    ours = {
        path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    assert ours <= set(names(wheel))


def test_it_holds_the_configurations_and_the_units_and_no_tests(wheel: Path) -> None:
    there = names(wheel)
    for file in ("config/gatepost.yaml", "config/demo.yaml", "systemd/gatepost.service"):
        assert f"agent/share/{file}" in there
    for_users = ("agent/ruletests/", "agent/share/config/examples/")
    ours = [name for name in there if not name.startswith(for_users)]
    assert not [name for name in ours if "test" in name or "__pycache__" in name]


def test_its_packages_come_from_gatepost_alone(installed: Path) -> None:
    script = "import importlib.metadata, json; print(json.dumps(importlib.metadata.packages_distributions()))"
    said = subprocess.run(
        [installed, "-I", "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    owners = json.loads(said.stdout)
    for package in PACKAGES:
        assert set(owners[package]) == {"gatepost"}


def test_the_installed_command_shows_and_writes_the_configurations(installed: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = subprocess.run(
            [installed, "-I", "-m", "agent", *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )
        return done.stdout

    where = "import agent, drivers, simulators; print(agent.__file__, drivers.__file__, simulators.__file__)"
    said = subprocess.run(
        [installed, "-I", "-c", where], check=True, capture_output=True, text=True, timeout=60
    )
    assert str(ROOT) not in said.stdout, "not the working tree"
    run("init", "gatepost.yaml")
    assert (tmp_path / "gatepost.yaml").read_text() == (ROOT / "config" / "gatepost.yaml").read_text()
    assert "no faults" in run("check", "gatepost.yaml")
    run("init", "--example", "boiler")
    tests = (tmp_path / "boiler.tests.yaml").read_text()
    assert tests == (ROOT / "config" / "examples" / "boiler.tests.yaml").read_text()
    assert "threshold" in run("list")


def test_it_names_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "gatepost = agent.cli:main" in archive.read(entry).decode()
