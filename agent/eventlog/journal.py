"""What rules, outputs and requests need of a log, so that they also work without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.events import Event, Value


class Journal(Protocol):
    """Takes events, and keeps what parts must know after a restart: see `EventLog`."""

    def append(
        self, event_type: str, source: str, values: dict[str, Value], time: int | None = None, /
    ) -> Event:
        """Take an event; now, where no time is said, in microseconds since 1970-01-01 UTC."""

    def put_state(self, part: str, state: Mapping[str, Value] | None, /) -> None:
        """Keep what a part must know after a restart; None forgets it."""

    def state(self, part: str, /) -> dict[str, Value] | None:
        """Return what a part has kept."""

    def saved_parts(self) -> Iterable[str]:
        """Return the names of the parts that have kept something."""
