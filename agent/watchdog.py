"""Feeds systemd's watchdog as long as everything that should move by itself does; what makes it stop is in docs/operations.md.

Each part says when it will next move by itself (`due`), or that it waits for others: for a driver, a far side, a disk
that is known to fail. Such waits are no fault of ours, and a restart would not end them. A part that lets its own time
pass, again and again, is stuck: that is a bug in gatepost, and what helps is to begin anew. An event loop that is
blocked feeds nobody anyway.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from agent.sdnotify import notify, watchdog_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.clock import Clock
    from agent.commander import Commander
    from agent.courier import Courier
    from agent.eventlog import EventLog
    from agent.intake import Intake
    from agent.rulebook import Rulebook
    from agent.supervisor import Part

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 15.0
"""Seconds between looks, where systemd does not say how often it wants to hear."""

PATIENCE: Final = 30.0
"""Seconds for which a part is seen to let its time pass, before it counts as stuck."""

LOOKS: Final = 3
"""Looks at least at which it was seen so: after a machine that stood still, all are late at the first."""


class _Late:
    """What one part owes, and how long that has been seen."""

    def __init__(self, due: float, now: float) -> None:
        self.due = due
        self.seen = now
        self.looks = 1


class Judge:
    """Tells from what parts say, look by look, which of them are stuck. It never looks at a clock."""

    def __init__(self) -> None:
        self._late: dict[str, _Late] = {}

    def look(self, now: float, dues: Iterable[tuple[str, float | None]]) -> list[str]:
        """Return the names of those that are stuck.

        Args:
            now: The time, in seconds of the monotonic clock.
            dues: By the name of each part, when it will next move by itself, on the same clock; None where it waits for
                others. One that is no longer there is forgotten.
        """
        known, self._late = self._late, {}
        for name, due in dues:
            if due is None or due > now:
                continue
            late = known.get(name)
            if late is None or late.due != due:  # it has moved since
                late = _Late(due, now)
            else:
                late.looks += 1
            self._late[name] = late
        return [
            name for name, late in self._late.items() if late.looks >= LOOKS and now - late.seen >= PATIENCE
        ]


def dues(
    parts: Iterable[Part],
    intakes: Mapping[str, Intake],
    couriers: Mapping[str, Courier],
    log: EventLog,
    rulebook: Rulebook,
    commander: Commander,
) -> Iterator[tuple[str, float | None]]:
    """Return what all parts of an agent say now."""
    for part in parts:
        yield f"trying {part} again", part.retry_at
    for name, intake in intakes.items():
        yield f"the intake of {name}", intake.due
    for name, courier in couriers.items():
        yield f"the courier to {name}", courier.due
    yield "the writer of the log", log.writer.due
    yield "the rules' time", rulebook.deadline
    yield "the outputs' time", commander.due


class Watchdog:
    """Looks at all parts, and feeds systemd's watchdog while none is stuck.

    Attributes:
        stuck: The names of the parts that are stuck.
    """

    def __init__(self, clock: Clock, ask: Callable[[], Iterable[tuple[str, float | None]]]) -> None:
        self.stuck: list[str] = []
        self._clock = clock
        self._ask = ask
        self._judge = Judge()

    async def feed(self) -> None:
        """Look as often as systemd wants to hear, until cancelled."""
        interval = watchdog_interval()
        while True:
            await asyncio.sleep(interval or LOOK_EVERY)
            self.look()
            if interval and not self.stuck:
                notify("WATCHDOG=1")

    def look(self) -> None:
        """Look once, and say what has become stuck, and what goes on."""
        before, self.stuck = self.stuck, self._judge.look(self._clock.monotonic(), self._ask())
        for name in self.stuck:
            if name not in before:
                logger.critical(
                    "%s has stood still for %.0f s: a bug in gatepost; please report it", name, PATIENCE
                )
                notify(f"STATUS={name} stands still")
        for name in before:
            if name not in self.stuck:
                logger.warning("%s goes on", name)
                notify(f"STATUS={name} goes on")
