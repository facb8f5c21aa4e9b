"""Carries out commands on outputs, safely: each is logged, and so is its result."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from agent.errors import Disconnected
from agent.events import EventType

if TYPE_CHECKING:
    from agent.contracts import Output
    from agent.eventlog import EventLog
    from agent.events import Value

logger = logging.getLogger(__name__)


class Commander:
    """Sets outputs, one command after the other for each output, without any network."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._outputs: dict[str, Output[Any]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._wanted: dict[tuple[str, str], tuple[Value, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str, output: Output[Any]) -> None:
        """Take an output in charge, before any command to it."""
        self._outputs[name] = output
        self._turns[name] = asyncio.Lock()

    def set(self, target: str, value: Value | bool, cause: str) -> None:
        """Begin to set an output and return without waiting.

        Args:
            target: The output's device and channel, such as `fan.state`.
            value: What to set it to; a switch becomes 0 or 1, as its readings are.
            cause: Who wants it, for the log: the name of a rule.
        """
        device, _, channel = target.partition(".")
        value = int(value) if isinstance(value, bool) else value
        self._wanted[device, channel] = (value, cause)
        self._start(device, channel, value, cause)

    def on_up(self, device: str) -> None:
        """Set an output that has come (back) up with its safe value to what was last wanted of it."""
        for (name, channel), (value, cause) in self._wanted.items():
            if name == device:
                self._start(device, channel, value, cause)

    def _start(self, device: str, channel: str, value: Value, cause: str) -> None:
        task = asyncio.create_task(self._carry_out(device, channel, value, cause), name=f"command {device}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, device: str, channel: str, value: Value, cause: str) -> None:
        facts: dict[str, Value] = {"channel": channel, "value": value, "cause": cause}
        self._log.append(EventType.COMMAND, device, facts)
        async with self._turns[device]:
            try:
                await self._outputs[device].write(channel, value)
            except (Disconnected, ValueError) as error:
                logger.warning("%s could not be set to %s: %s", device, value, error)
                self._log.append(EventType.COMMAND_FAILED, device, facts | {"reason": str(error)})
            else:
                self._log.append(EventType.COMMAND_DONE, device, facts)
