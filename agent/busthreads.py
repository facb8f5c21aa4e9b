"""Threads in which blocking drivers are called.

One for each bus, so that one bus is never used twice at once and none waits for another. A call that never returns costs
its bus, and nothing else: not the agent's end either.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.contracts import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.contracts import BlockingDriver
    from agent.events import Reading

logger = logging.getLogger(__name__)

CLOSING: Final = 3.0
"""Seconds that a device may take to be closed; its driver may be stuck in a call before."""

_T = TypeVar("_T")


class BusThread:
    """Calls functions one after the other. Not a ThreadPoolExecutor: Python's end would wait for a call that never returns."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def call(self, function: Callable[[], _T]) -> _T:
        """Call a function when those before it have returned, and return or raise what it does."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def settle(result: _T | None, error: BaseException | None) -> None:
            if done.done():  # nobody waits for it any more
                return
            if error is None:
                done.set_result(result)  # type: ignore[arg-type]  # it is what the function returned
            else:
                done.set_exception(error)

        def work() -> None:
            if done.cancelled():
                return
            result, error = None, None
            try:
                result = function()
            except BaseException as caught:  # noqa: BLE001 -- raised where it is waited for
                error = caught
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:  # the loop is closed: it came too late for anybody
                return

        self._calls.put(work)
        return await done

    def end(self) -> None:
        """Let the thread end when its last call returns."""
        self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            work()


class BusThreads:
    """The threads of one agent."""

    def __init__(self) -> None:
        self._threads: dict[str, BusThread] = {}

    def of(self, bus: str) -> BusThread:
        """Return the thread of a bus."""
        if bus not in self._threads:
            self._threads[bus] = BusThread(f"bus-{bus}")
        return self._threads[bus]

    def close(self) -> None:
        """Let the threads end when their last call returns."""
        for thread in self._threads.values():
            thread.end()


class Threaded(Driver[Any]):
    """A blocking driver, called in the thread of its bus."""

    def __init__(self, driver: BlockingDriver[Any], threads: BusThreads) -> None:
        super().__init__(driver.settings)
        self._driver = driver
        self._thread = threads.of(driver.bus())

    async def open(self) -> None:
        """Open it."""
        await self._thread.call(self._driver.open)

    async def read(self) -> Sequence[Reading]:
        """Read it."""
        return await self._thread.call(self._driver.read)

    async def close(self) -> None:
        """Close it, or leave it where that takes too long."""
        try:
            async with asyncio.timeout(CLOSING):
                await self._thread.call(self._driver.close)
        except TimeoutError:
            name = type(self._driver).__module__
            logger.warning("%s has not closed its device within %.0f s; it is left as it is", name, CLOSING)
