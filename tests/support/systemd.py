"""What systemd is to a service: a socket that it is told things on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

WATCHDOG: Final = "WATCHDOG=1"


class ServiceManager:
    """Listens to what a service says by sd_notify(3), and when.

    Attributes:
        environment: What it gives the service.
        heard: Each assignment that was said, with the time of the monotonic clock at which it was read.
    """

    def __init__(self, folder: Path, watchdog: float) -> None:
        self.heard: list[tuple[float, str]] = []
        path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0.1)
        self._socket.bind(str(path))
        self._is_closed = threading.Event()
        self._listening = threading.Thread(target=self._listen, name="service manager")
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(round(watchdog * 1e6))}

    def __enter__(self) -> Self:
        """Listen."""
        self._listening.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        self._is_closed.set()
        self._listening.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._is_closed.is_set():
            with contextlib.suppress(TimeoutError):
                said = self._socket.recv(65536)
                self.heard += [(time.monotonic(), line) for line in said.decode().splitlines()]

    def times(self, what: str) -> list[float]:
        """Return when something was said."""
        return [at for at, line in self.heard if line == what]

    def said(self, what: str) -> bool:
        """Whether something was said, or something that begins so."""
        return any(line.startswith(what) for _, line in self.heard)

    def wait_fed(self, times: int) -> None:
        """Wait until the watchdog was fed so many times more."""
        before = len(self.times(WATCHDOG))
        until(lambda: len(self.times(WATCHDOG)) >= before + times, lambda: f"fed {times} times: {self.heard}")

    def wait_hungry(self, seconds: float) -> None:
        """Wait until the watchdog has not been fed for so long."""
        began = time.monotonic()

        def is_hungry() -> bool:
            return time.monotonic() - max([began, *self.times(WATCHDOG)]) > seconds

        until(is_hungry, lambda: f"not fed for {seconds:g} s: {self.heard}")
