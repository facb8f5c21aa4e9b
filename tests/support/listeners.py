"""A peer that accepts connections and treats them as a test wants: silent, rude or talking nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from support.waiting import free_port

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener:
    """Accepts connections and treats each with a function, in a thread."""

    def __init__(self, treat: Callable[[socket.socket], None]) -> None:
        self.port = free_port()
        self.accepted = 0
        self._treat = treat
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._connection = socket.socket()
        self._connection.close()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.accepted += 1
                self._connection = connection
                with connection, contextlib.suppress(OSError):
                    self._treat(connection)

    def close(self) -> None:
        """Listen no longer."""
        for each in (self._socket, self._connection):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.close()
