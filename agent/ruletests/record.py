"""Stands in for the event log: takes events and hands them on, keeps the states of rules over a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.clock import Clock
    from agent.events import Value


class Record:
    """A log in memory that keeps no event."""

    def __init__(self, clock: Clock, hear: Callable[[Event], None]) -> None:
        """Store the clock, and what is called with each event."""
        self._clock = clock
        self._hear = hear
        self._seq = 0
        self._states: dict[str, Mapping[str, Value]] = {}

    def append(
        self,
        event_type: str,
        source: str,
        values: dict[str, Value],
        time: int | None = None,
    ) -> Event:
        """Take an event: see `EventLog.append`."""
        self._seq += 1
        when = self._clock.wall() if time is None else time
        event = Event(1, self._seq, event_type, source, when, values)
        self._hear(event)
        return event

    def put_state(self, part: str, state: Mapping[str, Value] | None) -> None:
        """Keep what a part must know after a restart; None forgets it."""
        if state is None:
            self._states.pop(part, None)
        else:
            self._states[part] = state

    def state(self, part: str) -> dict[str, Value] | None:
        """Return what a part has kept, as it comes back from a file."""
        if part not in self._states:
            return None
        return msgspec.json.decode(
            msgspec.json.encode(self._states[part]), type=dict[str, float | int | str | None]
        )

    def saved_parts(self) -> Iterable[str]:
        """Return the names of the parts that have kept something."""
        return self._states.keys()
