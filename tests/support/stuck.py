"""Runs gatepost with a part that hangs: `python stuck.py WHAT run …`; the watchdog's patience is a second.

WHAT is `driver` (a blocking one never returns from its third read), `loop` (a driver blocks the event loop in its third read),
`courier` (it does not hear of new events after the second delivery), `rules` (nobody gives them the time), `writer` (it does not
hear that anything is to be written), or `nothing`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from agent import cli, rulebook, watchdog
from agent.courier import Courier
from agent.eventlog.writer import Writer
from agent.rulebook import Rulebook
from drivers import heartbeat, system

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.events import Reading


def _hang_driver() -> None:
    looks = itertools.count(1)
    read = system.Driver.read

    def hanging(self: system.Driver) -> Sequence[Reading]:
        if next(looks) > 2:
            threading.Event().wait()
        return read(self)

    system.Driver.read = hanging  # type: ignore[method-assign]


def _block_loop() -> None:
    beats = itertools.count(1)
    read = heartbeat.Driver.read

    async def blocking(self: heartbeat.Driver) -> Sequence[Reading]:
        if next(beats) > 2:
            threading.Event().wait()
        return await read(self)

    heartbeat.Driver.read = blocking  # type: ignore[method-assign]


def _deafen_courier() -> None:
    call = Courier._call

    def deaf(self: Courier) -> None:
        if self.delivered < 2:
            call(self)

    Courier._call = deaf  # type: ignore[method-assign]


async def _for_ever(_: Any) -> None:
    await asyncio.get_running_loop().create_future()


def _stop_rules() -> None:
    Rulebook.keep_time = _for_ever  # type: ignore[method-assign,assignment]
    rulebook.SAVE_EVERY = 1.0  # type: ignore[misc]


def _stop_writer() -> None:
    keep = Writer.keep

    async def once(self: Writer) -> None:
        self.room = lambda: _for_ever(self)  # type: ignore[method-assign]
        self.commit = lambda: _for_ever(self)  # type: ignore[method-assign]
        await keep(self)

    Writer.keep = once  # type: ignore[method-assign]


def _break_nothing() -> None:
    """Leave all as it is."""


PARTS: Final[dict[str, Callable[[], None]]] = {
    "driver": _hang_driver, "loop": _block_loop, "courier": _deafen_courier, "rules": _stop_rules, "writer": _stop_writer,
    "nothing": _break_nothing,
}  # fmt: skip


def main() -> int:
    """Break it and run."""
    PARTS[sys.argv.pop(1)]()
    watchdog.PATIENCE = 1.0  # type: ignore[misc]
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
