"""Keeps parts running: backoff, health, said once per change."""

from __future__ import annotations

import asyncio
import logging
import random
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent import contracts
from agent.errors import Disconnected
from agent.quantities import Duration
from agent.secrecy import without_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.clock import Clock

logger = logging.getLogger(__name__)


SHORTEST_WAIT: Final = Duration(0.1)
"""Seconds between tries, below which trying again would be a storm."""


class Backoff(contracts.Settings, frozen=True):
    """How long to wait before trying again: doubled each time, with full jitter.

    Attributes:
        min: The first wait at most.
        max: Any wait at most.
    """

    min: Duration = Duration(1)
    max: Duration = Duration(30)

    def __post_init__(self) -> None:
        if self.min < SHORTEST_WAIT:
            raise ValueError(f"min expects {SHORTEST_WAIT} or longer, not {self.min}")
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is shorter than min ({self.min})")


class Health(StrEnum):
    """How a part is."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"


class Part:
    """Something that must keep running: a device, a forwarder.

    Attributes:
        kind: What it is: `device`, `forwarder`.
        name: Its name in the configuration.
        health: How it is.
        reason: Why it is down; "" where it is not.
        since: Since when it is so, in seconds of the monotonic clock.
        tries: How often it was tried since it last stayed up for a while.
        was_down: Whether it was down before it is what it is now.
        retry_at: When it is tried again, in seconds of the monotonic clock; None while it is being tried.
    """

    def __init__(self, kind: str, name: str, clock: Clock, on_change: Callable[[Part, float], None]) -> None:
        self.kind = kind
        self.name = name
        self.health = Health.STARTING
        self.reason = ""
        self.since = clock.monotonic()
        self.tries = 0
        self.was_down = False
        self.retry_at: float | None = None
        self._said: set[str] = set()
        self._clock = clock
        self._on_change = on_change

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def up(self) -> None:
        """Note that it works."""
        if self.health is not Health.UP:
            if self.health is Health.DOWN:
                logger.info(
                    "%s is up again after %.0f s", self, self._clock.monotonic() - self.since,
                    extra={"facts": {self.kind: self.name}},
                )  # fmt: skip
            self._become(Health.UP, "")

    def has_been_up_for(self, seconds: float) -> bool:
        """Whether it works, and has done so for a while."""
        return self.health is Health.UP and self._clock.monotonic() - self.since >= seconds

    def down(self, reason: str) -> None:
        """Note that it does not work, and why, in words that help to mend it."""
        reason = without_secrets(reason)  # it is also told in events and in the status
        facts = {self.kind: self.name, "reason": reason}
        if self.health is not Health.DOWN:
            logger.warning("%s is down: %s; trying again", self, reason, extra={"facts": facts})
            self._become(Health.DOWN, reason)
            self._said = {reason}
        elif reason not in self._said:  # each reason is said once an outage, also where two take turns
            logger.warning("%s is still down: %s", self, reason, extra={"facts": facts})
            self._said.add(reason)
        self.reason = reason

    def rests_for(self, seconds: float) -> None:
        """Note that it is left alone for a while."""
        self.retry_at = self._clock.monotonic() + seconds

    def _become(self, health: Health, reason: str) -> None:
        lasted = self._clock.monotonic() - self.since
        self.was_down = self.health is Health.DOWN
        self.health, self.reason, self.since = health, reason, self._clock.monotonic()
        self._on_change(self, lasted)


async def keep_running(part: Part, run: Callable[[], Awaitable[None]], backoff: Backoff) -> None:
    """Run a part for ever: whenever it ends, wait and run it again.

    `run` calls `part.up()` when it works. Whatever it raises but Disconnected is a bug: said loudly, and still only
    that part stands still.
    """
    while True:
        reason = "it ended by itself"
        try:
            await run()
        except Disconnected as error:
            reason = str(error)
        except Exception as error:
            logger.exception(
                "%s has failed on a bug in gatepost; please report it",
                part,
                extra={"facts": {part.kind: part.name}},
            )
            reason = f"{type(error).__name__}: {error}"
        if part.has_been_up_for(backoff.max):
            part.tries = 0  # not before, or a connection that comes and goes would be tried without end
        part.down(reason)
        limit = min(backoff.max, backoff.min * 2 ** min(part.tries, 16))
        part.tries += 1
        wait = random.uniform(limit / 10, limit)  # noqa: S311 -- full jitter, but never a busy loop
        part.rests_for(wait)
        logger.debug("%s is tried again in %.1f s, for the %d. time", part, wait, part.tries)
        await asyncio.sleep(wait)
        part.retry_at = None
