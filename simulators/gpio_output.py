"""One of gpiozero's mock pins, with nothing wired to it.

Sample::

    simulate: {}
"""

from __future__ import annotations

import msgspec

from agent import contracts
from drivers import gpio_output


class Settings(contracts.Settings, frozen=True):
    """An output has nothing to shape: it does what it is told."""


class Simulator(contracts.Simulator[gpio_output.Settings]):
    """The pin alone."""

    async def open(self) -> gpio_output.Settings:
        """Return the settings with mock pins in place of the real ones."""
        return msgspec.structs.replace(self.device, factory="mock")

    async def close(self) -> None:
        """Hold nothing, so give nothing back."""
