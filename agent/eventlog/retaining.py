"""Decides when events go from the log's file, and has them deleted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from agent.eventlog import retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.eventlog.logfile import LogFile
    from agent.eventlog.settings import Settings
    from agent.eventlog.shedding import Losses
    from agent.events import Lane

EVERY: Final = 60.0
"""Seconds between looks for events that may go by age."""

AFTER_JUMP: Final = 3600.0
"""Seconds for which nothing goes by age after the clock has jumped: it may have been a mistake."""

REJECTED_FOR: Final = 30 * 86_400
"""Seconds that rejected events are kept at least, however short `retain` is."""


class Retaining:
    """Keeps one log's file within its bounds.

    Attributes:
        refusal: Why new readings must not be written: it is full, and `when_full` says `newest`; None where they may.
    """

    def __init__(
        self,
        file: LogFile,
        settings: Settings,
        clock: Clock,
        passed: Callable[[], dict[Lane, int]],
        losses: Losses,
    ) -> None:
        self.refusal: str | None = None
        self._file = file
        self._settings = settings
        self._clock = clock
        self._passed = passed
        self._losses = losses
        self._wanted = asyncio.Event()
        self._thinned_upto = 0
        self._jumped_at: float | None = None

    def on_jump(self) -> None:
        """Note that the clock has jumped."""
        self._jumped_at = self._clock.monotonic()

    def on_usage(self, usage: retention.Usage) -> None:
        """Look, after a commit, whether it has become too full."""
        limit = self._limit(usage)
        too_full = usage.used > limit
        self.refusal = self._reason(limit) if too_full and self._settings.when_full == "newest" else None
        if too_full:
            self._wanted.set()

    def _limit(self, usage: retention.Usage) -> int:
        return retention.limit(usage, self._settings.max_size, self._settings.min_free)

    async def wait(self) -> bool:
        """Wait until it is time to look again; always true."""
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVERY):
                await self._wanted.wait()
        return True

    async def retain(self) -> None:
        """Delete what may or must go.

        Raises:
            sqlite3.Error: The disk refuses.
        """
        call, passed = self._file.retain, self._passed()
        if self._may_go_by_age():
            now = self._clock.wall()
            while await call(retention.delete_older, now - _micros(self._settings.retain), passed):
                passed = self._passed()
            if self._settings.max_age is not None:
                await self._drop_older(now - _micros(self._settings.max_age))
            await call(retention.forget_rejected, now - _micros(max(self._settings.retain, REJECTED_FOR)))
        await call(retention.forget_runs)
        usage = await call(retention.usage, self._file.path)
        while usage.used > (limit := self._limit(usage)):
            if not await self._make_room(limit):
                break
            usage = await call(retention.usage, self._file.path)
        self.on_usage(usage)
        self._wanted.clear()
        await call(retention.give_back, usage)

    def _may_go_by_age(self) -> bool:
        """By a clock that is not set, or has just jumped, nothing is old."""
        jumped = self._jumped_at
        return self._clock.is_set() and (jumped is None or self._clock.monotonic() - jumped >= AFTER_JUMP)

    async def _drop_older(self, before: int) -> None:
        while (freed := await self._file.retain(retention.undelivered_older, before, self._passed())).rows:
            self._note(freed, f"older than {self._settings.max_age}")

    async def _make_room(self, limit: int) -> bool:
        policy = self._settings.when_full
        freed = await self._file.retain(retention.make_room, policy, self._passed(), self._thinned_upto)
        if policy == "thin":  # a pass from the oldest to the newest, then the next one
            self._thinned_upto = freed.last
        self._note(freed, self._reason(limit))
        return freed.rows > 0

    def _reason(self, limit: int) -> str:
        if limit < self._settings.max_size:
            return f"less than {self._settings.min_free} of the disk is free"
        return f"the log has reached {self._settings.max_size}"

    def _note(self, freed: retention.Freed, reason: str) -> None:
        if freed.lost:
            self._losses.note(freed.first, freed.last, freed.lost, reason)


def _micros(seconds: float) -> int:
    return round(float(seconds) * 1e6)
