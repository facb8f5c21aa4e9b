"""Asks a running agent over its Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent.errors import GatepostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextmanager
def ask(
    path: Path, request: dict[str, Any], patience: float | None = None
) -> Iterator[Iterator[bytes] | None]:
    """Send a request, as `agent.api.local` describes them, and give the lines of the answer; None where no agent runs.

    With `patience`, in seconds, a line that does not come within that time raises TimeoutError.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
        except BlockingIOError as error:
            raise TimeoutError("it does not take calls any more") from error
        except OSError:
            yield None
            return
        with connection.makefile("rb") as stream:
            yield iter(stream)


def answering(paths: Sequence[Path]) -> Path:
    """Return the first of some sockets at which an agent answers, that belongs to us or root; else the first one.

    Raises:
        GatepostError: One may, but not for us.
    """
    for path in paths:
        with contextlib.suppress(OSError):
            owner = path.stat().st_uid  # in the temporary folder, anybody may have put it there
            if (path == paths[0] or owner == 0 or os.geteuid() in {0, owner}) and answers(path):
                return path
    return paths[0]


def answers(path: Path) -> bool:
    """Whether an agent listens there.

    Raises:
        GatepostError: One may, but not for us.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0)
        try:
            connection.connect(str(path))
        except BlockingIOError:
            return True  # it does not take calls any more
        except PermissionError as error:
            raise GatepostError(
                f"{path} answers only the user whose agent it is, and root; try sudo"
            ) from error
        except OSError:
            return False
        return True
