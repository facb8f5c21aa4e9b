"""A heartbeat has no hardware, so its simulator has nothing to put in its place: the smallest complete one.

Sample::

    simulate: {}
"""

from __future__ import annotations

from agent import contracts
from drivers import heartbeat


class Settings(contracts.Settings, frozen=True):
    """A heartbeat's simulation has nothing to shape."""


class Simulator(contracts.Simulator[heartbeat.Settings]):
    """The real driver itself."""

    async def open(self) -> heartbeat.Settings:
        """Return the settings as they are: there is no address to replace."""
        return self.device

    async def close(self) -> None:
        """Hold nothing, so give nothing back."""
