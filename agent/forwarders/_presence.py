"""What the retained status topic says of a gateway, and when it is said again: `figures: 5m` has it carry a few."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from agent.clock import Clock, iso

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.contracts import Gateway


class Presence:
    """That of one forwarder."""

    def __init__(self, gateway: Gateway, every: float | None) -> None:
        """Take what it says of whom.

        Args:
            gateway: Who we are.
            every: Seconds between the times that it is said with figures; None for never.
        """
        self._gateway = gateway
        self._every = every
        self._since = ""
        self._timer: asyncio.TimerHandle | None = None

    def said(self, state: str, figures: Callable[[], Mapping[str, Any]] | None) -> bytes:
        """Return the payload for a state: online, stopped, or offline."""
        now = iso(Clock().wall())
        said: dict[str, Any] = {
            "state": state, "gateway": self._gateway.name, "version": self._gateway.version, "run": self._gateway.run,
        }  # fmt: skip
        if state == "online":
            said["since"] = self._since = self._since or now
            if figures is not None and self._every is not None:
                said["figures"] = {"time": now, **figures()}
        elif state != "offline":  # the broker says that for us, nobody knows when
            said["since"] = now
        return msgspec.json.encode(said)

    def begin(self, say: Callable[[], Any]) -> None:
        """Have it said that we are online, now and whenever figures are due, until `end`."""
        self.end()
        say()
        if self._every is not None:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._repeat, say)

    def _repeat(self, say: Callable[[], Any]) -> None:
        assert self._every is not None  # noqa: S101 -- or there is no timer
        say()
        self._timer = asyncio.get_running_loop().call_later(self._every, self._repeat, say)

    def end(self) -> None:
        """Say nothing more by itself."""
        self._since = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
