"""How far each consumer has come in each lane, and what was delivered to it out of turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.events import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STRETCHES: Final = 64
"""Stretches ahead of a cursor that are remembered; what is forgotten is delivered again."""

Key = tuple[str, Lane]
Ahead = tuple[int, int]
"""A stretch that was delivered ahead of a cursor: its first and its last sequence number."""


class Cursors:
    """One cursor for each consumer and lane. Live events that overtook a backlog lie in stretches ahead of it.

    Attributes:
        at: By consumer and lane, the sequence number up to which everything is acknowledged.
        ahead: By consumer and lane, the stretches beyond that are acknowledged too, in order and apart.
        is_dirty: Whether they must be saved soon: they have moved over what is in the file.
    """

    def __init__(
        self,
        consumers: Iterable[str],
        saved: Mapping[Key, int],
        ahead: Mapping[Key, list[Ahead]],
        newest: int,
    ) -> None:
        """Take up saved cursors.

        Args:
            consumers: Those who read; new ones begin after `newest`.
            saved: The saved cursors, also of consumers that are gone.
            ahead: The saved stretches.
            newest: The newest sequence number in the log.
        """
        keys = [(name, lane) for name in consumers for lane in Lane]
        self.at: dict[Key, int] = {key: saved.get(key, newest) for key in keys}
        self.ahead: dict[Key, list[Ahead]] = {key: list(ahead[key]) for key in keys if ahead.get(key)}
        self.is_dirty = self.at != saved
        self._saved: dict[Key, int] = {}

    def unsaved(self) -> dict[Key, int]:
        """Return the cursors that stand elsewhere than they were last saved."""
        return {key: seq for key, seq in self.at.items() if self._saved.get(key) != seq}

    def note_saved(self, cursors: Mapping[Key, int]) -> None:
        """Note that cursors are in the file."""
        self._saved.update(cursors)

    def forget_saved(self) -> None:
        """Have all saved again, for another file."""
        self._saved.clear()
        self.is_dirty = True

    def acknowledge(self, key: Key, after: int, upto: int) -> bool:
        """Note that everything with `after` < seq <= `upto` is delivered; whether that was news."""
        at = self.at[key]
        if upto <= at:
            return False
        if after > at:
            stretches = self.ahead.setdefault(key, [])
            stretches.append((after + 1, upto))
            stretches.sort()
            merged = [stretches[0]]
            for first, last in stretches[1:]:
                if first <= merged[-1][1] + 1:
                    merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
                else:
                    merged.append((first, last))
            self.ahead[key] = merged[-STRETCHES:]
            return True
        at = upto
        if stretches := self.ahead.get(key, []):
            while stretches and stretches[0][0] <= at + 1:
                at = max(at, stretches.pop(0)[1])
            if not stretches:
                del self.ahead[key]
        self.at[key] = at
        return True

    def undelivered(self, key: Key) -> list[tuple[int, int | None]]:
        """Return what is not delivered, oldest first: `after` < seq <= `upto`, the last one without an end."""
        found: list[tuple[int, int | None]] = []
        after = self.at[key]
        for first, last in self.ahead.get(key, []):
            found.append((after, first - 1))
            after = last
        return [*found, (after, None)]

    def passed(self, newest: int) -> dict[Lane, int]:
        """By lane, the sequence number up to which every consumer has acknowledged; `newest` where there is none."""
        return {
            lane: min((seq for (_, of), seq in self.at.items() if of is lane), default=newest)
            for lane in Lane
        }
