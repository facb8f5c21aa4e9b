"""Remembers what was carried out, by the ids that senders give, so that a repeat is not carried out again.

Each id is a state of its own in the log, written with the event of its command in one transaction: whatever ends the agent,
both are known or neither is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.eventlog.journal import Journal

KEPT: Final = 500
"""Ids that are remembered; some 100 bytes of memory and of the disk each."""

PREFIX: Final = "command:"


class Ids:
    """The ids of the last commands that were carried out."""

    def __init__(self, log: Journal) -> None:
        self._log = log
        self._known: dict[str, None] = {}  # the oldest first
        self._number = 0

    def restore(self) -> None:
        """Take in what earlier runs have saved."""
        found: list[tuple[int, str]] = []
        for part in self._log.saved_parts():
            if part.startswith(PREFIX):
                saved = (self._log.state(part) or {}).get("n")
                found.append((saved if isinstance(saved, int) else 0, part.removeprefix(PREFIX)))
        found.sort()
        self._known = dict.fromkeys(name for _, name in found)
        self._number = found[-1][0] if found else 0

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def note(self, name: str) -> None:
        """Remember one, and forget the oldest where they are too many."""
        self._number += 1
        self._known[name] = None
        self._log.put_state(PREFIX + name, {"n": self._number})
        while len(self._known) > KEPT:
            self.forget(next(iter(self._known)))

    def forget(self, name: str) -> None:
        """Forget one: it was not carried out after all."""
        if name in self._known:
            del self._known[name]
            self._log.put_state(PREFIX + name, None)
