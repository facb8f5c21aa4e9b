"""Brings up any kind of device through its simulator, as its own sample describes it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

from agent import config, registry
from agent.contracts import BlockingDriver, Driver, Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.events import Reading

DEADLINE = 10.0
KINDS = registry.kinds("drivers")


def sample(role: str, kind: str) -> str:
    """Return the YAML after `Sample::` at the end of a module's docstring."""
    _, marker, text = inspect.cleandoc(registry.module(role, kind).__doc__ or "").partition("\nSample::\n")
    assert marker, f"{role}/{kind}.py: the docstring has no line that reads Sample::"
    return inspect.cleandoc("\n" + text) + "\n"


def configured(kind: str, folder: Path) -> config.Device:
    """Return the device of a driver's sample as the agent itself reads it."""
    file = folder / "sample.yaml"
    file.write_text("gateway: test\n" + sample("drivers", kind))
    (device,) = config.load(file).devices.values()
    return device


class Device:
    """A driver on a simulated device, whether it blocks or not."""

    def __init__(self, driver: Driver[Any] | BlockingDriver[Any]) -> None:
        self.driver = driver

    async def open(self) -> None:
        await self._call("open")

    async def read(self) -> Sequence[Reading]:
        readings: Sequence[Reading] = await self._call("read")
        return readings

    async def close(self) -> None:
        await self._call("close")

    async def stir(self) -> None:
        """Make sure that there will be something to read: an output reports only what it is told."""
        if isinstance(self.driver, Output):
            for channel in self.driver.channels() or {}:
                await self.driver.write(channel, 1)

    async def _call(self, verb: str) -> Any:
        method = getattr(self.driver, verb)
        async with asyncio.timeout(DEADLINE):
            return await (asyncio.to_thread(method) if self.driver.blocking else method())


@contextlib.asynccontextmanager
async def simulated(kind: str, folder: Path, seed: int = 1) -> AsyncIterator[Device]:
    """Bring up a simulated device with the driver on it, not opened yet."""
    device = configured(kind, folder)
    simulator = registry.module("simulators", kind).Simulator(device.settings, device.simulate, seed)
    try:
        yield Device(registry.module("drivers", kind).Driver(await simulator.open()))
    finally:
        await simulator.close()
