"""What may be written under `log:`."""

from __future__ import annotations

from agent import contracts
from agent.quantities import Duration, Size


class Settings(contracts.Settings, frozen=True):
    """What may be written under `log:`.

    Attributes:
        path: The database file; by default events.db in the state folder.
        commit: A power cut may cost that much of the readings not yet delivered; 0 commits before sending.
        retain: How long delivered events stay readable; 0 keeps them off the disk altogether.
        max_size: How large the file may grow; then the oldest readings go first, alarms last.
    """

    path: str | None = None
    commit: Duration = Duration(1)
    retain: Duration = Duration(7 * 86_400)
    max_size: Size = Size(512 * 1024**2)
