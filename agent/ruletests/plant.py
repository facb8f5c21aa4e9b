"""The outputs of the gateway as the bench has them: what each holds, and what it reports of itself.

A restart puts all of them to their safe values and, when the agent is back, to what is wanted again; so does a device that
comes back. That is no change that a test has to expect; only what is different afterwards is. What blinks is told when it begins and when it ends.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from agent.ruletests.model import BLINKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.events import Value
    from agent.outputs.puts import Put


class Plant:
    """All outputs.

    Attributes:
        shown: What is put out, by channel: a value, or that it blinks.
        reports: What outputs say of themselves, to be shown to the rules: device and values.
    """

    def __init__(self, safe: Mapping[str, Value], changed: Callable[[str, Value, str], None]) -> None:
        """Store the safe value by channel, and what is called with a channel, what it shows and who wanted it."""
        self.shown = dict(safe)
        self.reports: deque[tuple[str, dict[str, Value]]] = deque()
        self._safe = safe
        self._changed = changed
        self._before: dict[str, Value] | None = dict(safe)
        self._causes: dict[str, str] = {}

    @property
    def is_settled(self) -> bool:
        """Whether each change is told as it comes."""
        return self._before is None

    def pause(self) -> None:
        """Tell no change until `settle`, and then only what is not as it was."""
        if self._before is None:
            self._before = dict(self.shown)

    def stop(self) -> None:
        """Put everything to its safe value, for the agent has ended; what that changes is told by `settle`."""
        self.pause()
        self.shown = dict(self._safe)
        self.reports.clear()

    def open(self, device: str) -> None:
        """Put the safe values of a device out and report them: it is opened."""
        values: dict[str, Value] = {}
        for channel, value in self._safe.items():
            owner, _, name = channel.partition(".")
            if owner == device:
                values[name] = value
                self._show(channel, value, device)
        if values:
            self.reports.append((device, values))

    def put(self, put: Put) -> None:
        """Put a value out, and report it."""
        self.reports.append((put.device, {put.channel: put.value}))
        if not put.is_turn:
            self._show(f"{put.device}.{put.channel}", BLINKING if put.blinks else put.value, put.cause)

    def _show(self, channel: str, value: Value, cause: str) -> None:
        before, self.shown[channel] = self.shown[channel], value
        self._causes[channel] = cause
        if self._before is None and before != value:
            self._changed(channel, value, cause)

    def settle(self) -> None:
        """Who was away is back and has done all that comes of it: tell what is not as it was."""
        before, self._before = self._before, None
        for channel, value in self.shown.items():
            if before is not None and before[channel] != value:
                self._changed(channel, value, self._causes.get(channel, "restart"))
