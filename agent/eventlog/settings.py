"""What may be written under `log:`."""

from __future__ import annotations

from typing import Literal

from agent import contracts
from agent.quantities import Duration, Size

DropPolicy = Literal["oldest", "newest", "thin"]


class Settings(contracts.Settings, frozen=True):
    """What may be written under `log:`.

    Attributes:
        path: The database file; by default events.db in the state folder.
        commit: A power cut may cost that much of the readings not yet delivered; 0 commits before sending.
        retain: How long delivered events stay readable; 0 keeps them off the disk altogether.
        max_size: How large the file may grow; then readings go, as when_full says, and alarms last.
        max_age: Events older than that go although they are not delivered; without it they wait for ever.
        min_free: While less of the disk is free, the log does not grow, as if it had reached max_size.
        when_full: Which undelivered readings go: the oldest, the newest, or every second one (thin).
    """

    path: str | None = None
    commit: Duration = Duration(1)
    retain: Duration = Duration(7 * 86_400)
    max_size: Size = Size(512 * 1024**2)
    max_age: Duration | None = None
    min_free: Size = Size(64 * 1024**2)
    when_full: DropPolicy = "oldest"
