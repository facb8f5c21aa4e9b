"""The hand of the board: puts out what it decides, one write at a time for each device, and logs what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from agent.errors import Disconnected
from agent.events import EventType
from agent.outputs.board import Board

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.contracts import Output
    from agent.eventlog import EventLog
    from agent.outputs.puts import Put
    from agent.outputs.settings import Settings

logger = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds after which a write that has not ended counts as failed, for what waits behind it may be a safe value."""

FAREWELL: Final = 1.0
"""Seconds that writes under way get when the agent stops."""

_OVERTAKEN: Final = "overtaken by what is wanted now"
_STOPPING: Final = "the agent stops"


class _Hand:
    """One device that can be set, and what waits to be put out there; behind a slow write the latest for each channel."""

    def __init__(self, output: Output[Any]) -> None:
        self.output = output
        self.waiting: deque[Put] = deque()
        self.is_writing = False
        self.task: asyncio.Task[None] | None = None


class Commander:
    """Sets outputs without any network.

    Attributes:
        board: Decides what is put out.
        due: When it will next move by itself, in seconds of the monotonic clock; None where nothing is due.
        on_command: Called with what carries out a command that somebody has given, as its event is logged.
    """

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._hands: dict[str, _Hand] = {}
        self._changed = asyncio.Event()
        self._is_stopped = False
        self.due: float | None = None
        self.on_command: Callable[[Put], None] | None = None
        self.board = Board(log, clock, self._put)
        self.board.wake = self._changed.set

    def add(self, name: str, output: Output[Any], settings: Settings) -> None:
        """Take an output in charge, before any rule."""
        self._hands[name] = _Hand(output)
        self.board.add(name, settings, output.safe(), output.checked)

    async def close(self) -> None:
        """Put nothing out any more: outputs are about to be closed, with their safe values. What is being written may end."""
        self._is_stopped = True
        for hand in self._hands.values():
            while hand.waiting:
                self._drop(hand.waiting.popleft(), _STOPPING)
        if tasks := [hand.task for hand in self._hands.values() if hand.task is not None]:
            await asyncio.wait(tasks, timeout=FAREWELL)

    async def keep_time(self) -> None:
        """Give the board the time when it wants it, until cancelled."""
        while True:
            self._changed.clear()
            due = self.board.deadline
            now = self._clock.monotonic()
            wait = None if due is None else due - now
            self.due = None if due is None else max(due, now)
            if wait is not None and wait <= 0:
                self.board.on_time(now)
                await asyncio.sleep(0)  # what is always due must not starve the others
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _put(self, put: Put) -> None:
        """Begin to put something out and return without waiting."""
        if self._is_stopped:
            return
        if not put.is_turn:
            self._log.append(EventType.COMMAND, put.device, put.facts)
        if put.command is not None and self.on_command is not None:
            self.on_command(put)
        hand = self._hands[put.device]
        overtaken = [each for each in hand.waiting if hand.is_writing and each.channel == put.channel]
        hand.waiting.append(put)
        for each in overtaken:
            hand.waiting.remove(each)
            self._drop(each, _OVERTAKEN)
        if hand.task is None or hand.task.done():
            hand.task = asyncio.create_task(self._work(hand), name=f"commands {put.device}")

    async def _work(self, hand: _Hand) -> None:
        while hand.waiting and not self._is_stopped:
            put = hand.waiting.popleft()
            fault = await self._written(hand, put)
            try:
                if fault:
                    self._tell_failed(put, fault)
                    self.board.failed(put, fault)
                else:
                    if not put.is_turn:
                        self._log.append(EventType.COMMAND_DONE, put.device, put.facts)
                    self.board.done(put)
            except Exception:  # what waits behind it may be a safe value
                logger.exception(
                    "what followed from setting %s has failed on a bug in gatepost; please report it",
                    put.device,
                )

    @staticmethod
    async def _written(hand: _Hand, put: Put) -> str:
        """Put something out; return why that could not be done, "" where it is."""
        hand.is_writing = True
        try:
            async with asyncio.timeout(PATIENCE) as limit:
                await hand.output.write(put.channel, put.value)
        except Exception as error:
            if limit.expired():
                logger.warning("%s has not taken %s within %g s", put.device, put.value, PATIENCE)
                return f"it has not ended within {PATIENCE:g} s"
            if not isinstance(error, Disconnected | ValueError):
                logger.exception("%s has failed on a bug in its driver; please report it", put.device)
            facts = {"device": put.device, "reason": str(error)}
            logger.warning(
                "%s could not be set to %s: %s", put.device, put.value, error, extra={"facts": facts}
            )
            return str(error) or type(error).__name__
        finally:
            hand.is_writing = False
        return ""

    def _drop(self, put: Put, reason: str) -> None:
        """Let go of something that is not put out any more."""
        if not put.is_turn:
            self._tell_failed(put, reason)
        self.board.overtaken(put, reason)

    def _tell_failed(self, put: Put, reason: str) -> None:
        """Say that something was not put out."""
        self._log.append(EventType.COMMAND_FAILED, put.device, put.facts | {"reason": reason})
