"""Asks a running agent over its Unix socket."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent.errors import GatepostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def ask(path: Path, request: dict[str, Any]) -> Iterator[Iterator[bytes] | None]:
    """Send a request, as `agent.api.local` describes them, and give the lines of the answer; None where no agent runs."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            yield None
            return
        with connection.makefile("rb") as stream:
            yield iter(stream)


def answers(path: Path) -> bool:
    """Whether an agent listens there.

    Raises:
        GatepostError: One may, but not for us.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except PermissionError as error:
            raise GatepostError(
                f"{path} answers only the user whose agent it is, and root; try sudo"
            ) from error
        except OSError:
            return False
        return True
