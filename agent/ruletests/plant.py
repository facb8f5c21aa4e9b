"""The outputs of the gateway as the bench has them: what each holds, and what it reports of itself.

A restart puts all of them to their safe values and, when the agent is back, to what is wanted again. That is no change that
a test has to expect; only what is different afterwards is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.events import Value


class Plant:
    """All outputs.

    Attributes:
        values: What is put out, by channel.
        reports: What outputs say of themselves, to be shown to the rules: device and values.
    """

    def __init__(self, safe: Mapping[str, Value], changed: Callable[[str, Value, str], None]) -> None:
        """Store the safe value by channel, and what is called with a channel, its new value and who wanted it."""
        self.values = dict(safe)
        self.reports: deque[tuple[str, dict[str, Value]]] = deque()
        self._safe = safe
        self._changed = changed
        self._before: dict[str, Value] | None = dict(safe)
        self._causes: dict[str, str] = {}

    def stop(self) -> None:
        """Put everything to its safe value, for the agent has ended; what that changes is told after `start`."""
        self._before = dict(self.values)
        self.values = dict(self._safe)
        self.reports.clear()

    def open(self) -> None:
        """Report all safe values: so does an output that is opened."""
        by_device: dict[str, dict[str, Value]] = {}
        for channel, value in self._safe.items():
            device, _, name = channel.partition(".")
            by_device.setdefault(device, {})[name] = value
        self.reports.extend(by_device.items())

    def reopen(self, device: str) -> None:
        """Put the safe values of a device that is back, and report them."""
        for channel, value in self._safe.items():
            if channel.partition(".")[0] == device:
                self.put(device, channel.partition(".")[2], value, device)

    def put(self, device: str, channel: str, value: Value, cause: str) -> None:
        """Put a value out, and report it."""
        full = f"{device}.{channel}"
        self.reports.append((device, {channel: value}))
        before, self.values[full] = self.values.get(full), value
        self._causes[full] = cause
        if self._before is None and before != value:
            self._changed(full, value, cause)

    def settle(self) -> None:
        """The agent is back and has done all that it does then: tell what is not as it was."""
        before, self._before = self._before, None
        for channel, value in self.values.items():
            if before is not None and before[channel] != value:
                self._changed(channel, value, self._causes.get(channel, "restart"))
