"""What every simulator must do: the same seed gives the same device, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from contracts.devices import configured, sample, simulated

from agent import config, contracts, registry

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.events import Reading, Value

KINDS = registry.kinds("simulators")
pytestmark = pytest.mark.parametrize("kind", KINDS)


def simulator(kind: str, folder: Path, seed: int = 1) -> contracts.Simulator[Any]:
    device = configured(kind, folder)
    made: contracts.Simulator[Any] = registry.module("simulators", kind).Simulator(
        device.settings, device.simulate, seed
    )
    return made


async def values(kind: str, folder: Path, seed: int) -> list[dict[str, Value]]:
    """Return what the driver reads first from the simulated device, as far as it is simulated."""
    real: Collection[str] = getattr(registry.module("simulators", kind).Simulator, "not_simulated", ())
    readings: list[Reading] = []
    async with simulated(kind, folder, seed) as device:
        await device.open()
        while len(readings) < 2:
            await device.stir()
            readings += await device.read()
        await device.close()
    return [{name: value for name, value in each.values.items() if name not in real} for each in readings[:2]]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_belongs_to_a_driver(kind: str) -> None:
    module = registry.module("simulators", kind)
    assert kind in registry.kinds("drivers")
    assert issubclass(module.Simulator, contracts.Simulator)
    assert issubclass(module.Settings, contracts.Settings)


def test_nothing_need_be_written_for_it(kind: str) -> None:
    registry.module("simulators", kind).Settings()


def test_its_sample_is_a_configuration(kind: str, tmp_path: Path) -> None:
    devices = yaml.safe_load(sample("drivers", kind))
    (device,) = devices["devices"].values()
    device |= yaml.safe_load(sample("simulators", kind))
    file = tmp_path / "simulated.yaml"
    file.write_text(yaml.safe_dump({"gateway": "test", **devices}))
    (read,) = config.load(file).devices.values()
    assert read.driver == kind
    assert isinstance(read.simulate, registry.module("simulators", kind).Settings)


async def test_the_same_seed_gives_the_same_values(kind: str, tmp_path: Path) -> None:
    assert await values(kind, tmp_path, seed=7) == await values(kind, tmp_path, seed=7)


async def test_it_returns_settings_of_the_driver(kind: str, tmp_path: Path) -> None:
    device = simulator(kind, tmp_path)
    settings = await device.open()
    await device.close()
    assert isinstance(settings, registry.module("drivers", kind).Settings)


async def test_it_can_be_closed_before_opening_and_twice(kind: str, tmp_path: Path) -> None:
    device = simulator(kind, tmp_path)
    await device.close()
    await device.open()
    await device.close()
    await device.close()


async def test_it_leaves_nothing_behind(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    device = simulator(kind, tmp_path)
    before = open_files()
    for _ in range(3):
        await device.open()
        await device.close()
    assert open_files() == before
    assert list(temporary.iterdir()) == []
