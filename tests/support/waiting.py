"""Waiting for a condition with a deadline, and finding free ports: the only place in the tests that sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

DEADLINE: Final = 20.0
"""Seconds after which what should have happened long ago is taken as missing."""

LOOK: Final = 0.02
"""Seconds between two looks."""


def until(
    condition: Callable[[], T], what: str | Callable[[], str], timeout: float = DEADLINE, look: float = LOOK
) -> T:
    """Wait until a condition is true and return what it returned.

    Args:
        condition: Looked at again and again.
        what: What is waited for, or what tells it when it did not come.
        timeout: Seconds to wait at most.
        look: Seconds between two looks, where a look costs something.
    """
    end = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(look)
    return found


async def eventually(condition: Callable[[], T], what: str) -> T:
    """Wait, in an event loop, until a condition is true and return what it returned."""
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE:g} s: {what}")
        await asyncio.sleep(LOOK)
    return found


def ticks(every: float, during: float) -> Iterator[int]:
    """Yield 0, 1, 2, … at a steady pace, in seconds: an instrument's rhythm, not a wait for anything."""
    began = time.monotonic()
    for number in range(int(during / every)):
        time.sleep(max(0.0, began + number * every - time.monotonic()))
        yield number


def freeze(pid: int) -> None:
    """Let a process stand still, and return when it does."""
    os.kill(pid, signal.SIGSTOP)

    def stands_still() -> bool:
        states = [
            task.read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").glob("*/stat")
        ]
        return set(states) == {"T"}

    until(stands_still, f"process {pid} stands still")


def free_port() -> int:
    """Return a port on which nothing listens.

    Not one of the ephemeral range that binding port 0 gives: a client that tries such a port again and again while
    nothing listens there is sooner or later given it as its own, and talks to itself.
    """
    while True:
        port = random.randint(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    """Whether something accepts connections on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
