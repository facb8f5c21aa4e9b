"""What every driver must do, whatever it reads; each is opened on its own simulated device."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING

import pytest
import yaml
from contracts.devices import KINDS, configured, sample, simulated
from support.fake_machines import FakeMachine, case

from agent import contracts, registry
from agent.config.schema import attributes
from agent.doctor.devices import examine
from agent.doctor.findings import Level
from agent.errors import Disconnected
from agent.events import Quality, Reading
from agent.needs import Need, needs_of

if TYPE_CHECKING:
    from pathlib import Path

    from contracts.devices import Device

    from agent.events import Value

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def read_some(device: Device, looks: int = 2) -> list[Reading]:
    readings: list[Reading] = []
    for _ in range(looks):
        await device.stir()
        readings += await device.read()
    return readings


def test_it_has_the_names_that_the_registry_looks_for(kind: str) -> None:
    module = registry.module("drivers", kind)
    assert issubclass(module.Driver, contracts.Driver | contracts.BlockingDriver)
    assert issubclass(module.Settings, contracts.Settings)
    assert kind in registry.kinds("simulators"), f"{kind} has no simulator"


def test_its_sample_names_it_and_is_a_configuration(kind: str, tmp_path: Path) -> None:
    (device,) = yaml.safe_load(sample("drivers", kind))["devices"].values()
    assert device["driver"] == kind
    assert configured(kind, tmp_path).driver == kind


def test_all_of_its_settings_are_documented(kind: str) -> None:
    settings = registry.module("drivers", kind).Settings
    for field in settings.__struct_encode_fields__:
        assert attributes(settings).get(field), f"{kind}: {field} is not documented"


def test_constructors_only_store(kind: str, tmp_path: Path) -> None:
    settings = configured(kind, tmp_path).settings  # of the real device, which is not there
    driver = registry.module("drivers", kind).Driver(settings)
    assert driver.settings is settings
    channels = driver.channels()
    assert channels is None or all(isinstance(unit, str) for unit in channels.values())


def test_what_it_needs_is_what_the_doctor_can_look_at(kind: str, tmp_path: Path) -> None:
    device = configured(kind, tmp_path)
    assert all(isinstance(need, Need) for need in needs_of(device.settings))
    here = case(FakeMachine(tmp_path / "machine"))
    for finding in examine(device, here):  # on a machine that has nothing at all
        assert bool(finding.do) is (finding.level is not Level.OK)


async def test_it_reads_values_that_a_channel_can_hold(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        await device.open()
        readings = await read_some(device)
        await device.close()
    assert readings
    for reading in readings:
        assert isinstance(reading, Reading)
        assert reading.values
        for channel, value in reading.values.items():
            assert value is None or type(value) in {int, float, str}, f"{channel} is {value!r}"
            assert not isinstance(value, float) or math.isfinite(value)
            if value is None:
                assert reading.quality is not None
                assert reading.quality[channel] is not Quality.GOOD


async def test_its_channels_are_those_that_it_announces(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        announced = device.driver.channels()
        await device.open()
        for reading in await read_some(device):
            assert announced is None or reading.values.keys() <= announced.keys()
        assert device.driver.channels() == announced
        await device.close()


async def test_times_are_monotonic(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        await device.open()
        times = [reading.at for reading in await read_some(device) if reading.at is not None]
        await device.close()
    assert times == sorted(times)
    assert all(abs(at - asyncio.get_running_loop().time()) < 60 for at in times)


async def test_closing_is_safe_before_opening_and_twice(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        await device.close()
        await device.open()
        await device.close()
        await device.close()


async def test_closing_is_safe_after_the_device_is_gone(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        await device.open()
    await device.close()
    with contextlib.suppress(Disconnected):  # it is gone, where opening it can tell that
        await device.open()
    await device.close()


async def test_it_can_be_opened_again(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        for _ in range(3):
            await device.open()
            assert await read_some(device, looks=1)
            await device.close()


async def test_a_cancelled_read_loses_nothing_but_the_wait(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        await device.open()
        await device.read()
        if not device.driver.blocking:
            waiting = asyncio.create_task(device.read())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])  # done or cancelled, as the device had something to say or not
        await device.stir()
        assert await device.read()
        await device.close()


async def test_an_output_refuses_what_it_cannot_do(kind: str, tmp_path: Path) -> None:
    async with simulated(kind, tmp_path) as device:
        if isinstance(device.driver, contracts.Output):
            with pytest.raises(Disconnected):
                await device.driver.write(next(iter(device.driver.channels() or {})), 1)
            await device.open()
            with pytest.raises(ValueError, match="no channel"):
                await device.driver.write("no-such-channel", 1)
            await device.close()


async def test_an_output_says_its_safe_values_and_puts_them_out_as_it_opens(
    kind: str, tmp_path: Path
) -> None:
    async with simulated(kind, tmp_path) as device:
        if isinstance(device.driver, contracts.Output):
            safe = device.driver.safe()
            assert safe
            assert all(value is not None for value in safe.values())
            assert safe.keys() <= (device.driver.channels() or {}).keys(), "it reports what it puts out"
            await device.open()
            reported: dict[str, Value] = {}
            while reported.keys() < safe.keys():
                for reading in await device.read():
                    reported |= reading.values
            assert {channel: reported[channel] for channel in safe} == safe
            assert device.driver.safe() == safe
            await device.close()


def test_an_output_checks_values_without_a_device_as_it_does_with_one(kind: str, tmp_path: Path) -> None:
    settings = configured(kind, tmp_path).settings  # of the real device, which is not there
    driver = registry.module("drivers", kind).Driver(settings)
    if isinstance(driver, contracts.Output):
        for channel, value in driver.safe().items():
            assert driver.checked(channel, value) == value
            with pytest.raises(ValueError, match="no channel"):
                driver.checked(f"no-{channel}", value)
