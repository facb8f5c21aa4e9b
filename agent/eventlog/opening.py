"""Taking the log's file: one agent at a time; a damaged file is moved out of the way."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from agent.errors import GatepostError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO


class LogInUse(GatepostError):  # noqa: N818
    """Another program writes to this log."""


def lock(path: Path) -> TextIO:
    """Claim a log for this process, until the returned file is closed or the process ends.

    Raises:
        LogInUse: Another process has claimed it.
    """
    held = path.with_name(path.name + ".lock").open("a+")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.seek(0)
        holder = held.read().strip()
        held.close()
        raise LogInUse(
            f"another gatepost (process {holder or 'unknown'}) writes to {path}; "
            f"stop it, or give this one a file of its own with `log: {{path: …}}`"
        ) from None
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held


def set_aside(path: Path, stamp: str) -> Path:
    """Move a damaged log out of the way, under a dated name, with what SQLite keeps beside it; return that name."""
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            os.replace(part, aside.with_name(aside.name + suffix))  # noqa: PTH105 -- atomic, over what may be there
    return aside
