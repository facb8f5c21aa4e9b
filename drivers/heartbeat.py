"""Beats every so often: the smallest complete driver, the example to copy.

A heartbeat that arrives at the far side shows that the agent, its log and its forwarders work, with nothing wired.

Sample::

    devices:
      pulse:
        driver: heartbeat
        every: 10s
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import contracts
from agent.events import Reading
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Settings(contracts.Settings, frozen=True):
    """What may be written beside `driver: heartbeat`.

    Attributes:
        every: How often it beats.
    """

    every: Duration = Duration(10)


class Driver(contracts.Driver[Settings]):
    """Counts beats since it was opened, from 1."""

    def channels(self) -> Mapping[str, str]:
        """Return the one channel, which has no unit."""
        return {"beat": ""}

    async def open(self) -> None:
        """Begin to count."""
        self._beats = 0

    async def read(self) -> Sequence[Reading]:
        """Return the next beat; the runner calls this once every `every`."""
        self._beats += 1
        return [Reading({"beat": self._beats})]

    async def close(self) -> None:
        """Hold nothing, so give nothing back."""
