"""What of a log is in memory: shared by those who append to it, read it and write it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.eventlog.clocks import Clocks
from agent.eventlog.cursors import Cursors
from agent.eventlog.pending import Ages, Pending
from agent.eventlog.tail import Tails

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.eventlog.identity import Numbers
    from agent.eventlog.opening import Kept
    from agent.eventlog.settings import Settings
    from agent.events import Event, Lane, Value


class Memory:
    """What of one log is in memory.

    Attributes:
        consumers: The names of all that read by a cursor kept here.
        run: Which start of the agent this is; 0 before `begin`.
        first: The sequence number of this run's first event.
        last: The sequence number of the newest event.
        written: The sequence number up to which everything is in the file, or gone.
        taken: The same, and what is on its way to the disk.
        pending: What the next commit writes.
        ages: About when events were appended.
        tails: The newest events, by lane.
        cursors: How far each consumer has come.
        rewinds: How often cursors went back to what a file says that was found late.
        clocks: What events were stamped with.
        states: By part, what it must know after a restart.
        units: By device, the unit by channel.
        listeners: Called whenever there is something new to read.
        wake: Set when there may be something to write.
        sends_unwritten: Whether events are to be read before they are written.
    """

    def __init__(self, settings: Settings) -> None:
        self.consumers: tuple[str, ...] = ()
        self.run = 0
        self.first = 1
        self.last = 0
        self.written = 0
        self.taken = 0
        self.pending = Pending()
        self.ages = Ages(settings.commit / 8)
        self.tails = Tails(0)
        self.cursors = Cursors((), {}, {}, 0)
        self.rewinds = 0
        self.clocks = Clocks()
        self.states: dict[str, dict[str, Value]] = {}
        self.units: dict[str, Mapping[str, str]] = {}
        self.listeners: list[Callable[[], None]] = []
        self.wake = asyncio.Event()
        self.sends_unwritten = bool(settings.commit)

    def begin(self, numbers: Numbers, kept: Kept) -> None:
        """Begin a run, on what is known from earlier ones."""
        self.run, self.first = numbers
        self.last = self.written = self.taken = self.first - 1
        self.tails = Tails(self.written)
        self.cursors = Cursors(self.consumers, kept.cursors, kept.ahead, self.written)
        self.states = kept.states
        self.clocks = kept.clocks

    def rewind(self, kept: Kept) -> None:
        """Go back to what a file says that was found late: its cursors, and the clocks of its events."""
        self.cursors = Cursors(self.consumers, kept.cursors, kept.ahead, self.first - 1)
        self.pending.clocks = self.clocks.join(kept.clocks)
        self.rewinds += 1
        self.notify()

    def notify(self) -> None:
        """Say that there is something new to read."""
        for listener in self.listeners:
            listener()

    def hurry(self) -> None:
        """Have what is pending written at once, and a file that is damaged made anew."""
        self.pending.is_urgent = True
        self.wake.set()

    @property
    def visible(self) -> int:
        """The sequence number up to which events may be delivered."""
        return self.last if self.sends_unwritten else self.written

    def passed(self) -> dict[Lane, int]:
        """By lane, the sequence number up to which every consumer has acknowledged."""
        return self.cursors.passed(self.last)

    def mended(self, events: list[Event]) -> list[Event]:
        """Return events of the tail with the times that are known by now."""
        if not events or events[0].seq > self.clocks.unset_upto:
            return events
        return [self.clocks.mended(event) for event in events]
