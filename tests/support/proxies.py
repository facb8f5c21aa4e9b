"""A bad network between two programs: slow, late, cut in the middle of a packet, or silent without being closed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Final

from support.waiting import free_port

_CHUNK: Final = 4096


class Weather:
    """How bad the network is at present; the proxy looks at it for each piece that it passes on.

    Attributes:
        delay: Seconds by which each piece comes later.
        rate: Bytes a second in each direction; None for as fast as it goes.
        up, down: Whether what clients send, and what they are sent, gets through. What does not is lost, and its
            connection stays silent for good, as TCP would have it: only a new one can be better.
        slams: Whether connections are accepted and closed at once.
    """

    def __init__(self) -> None:
        self.fair()

    def fair(self) -> None:
        """Be a good network."""
        self.delay = 0.0
        self.rate: float | None = None
        self.up = True
        self.down = True
        self.slams = False


class Proxy:
    """Passes TCP connections on to a port of this machine, as far as the weather lets it.

    Attributes:
        port: Where it listens.
        to: Where new connections are passed on to.
        weather: How bad it is; may be changed at any time.
        accepted: How many connections it took.
    """

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self.to = to
        self.weather = Weather()
        self.accepted = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def cut(self, after: int = 0) -> None:
        """End all connections when so many more bytes were passed on, in the middle of a packet or not; or now."""
        with self._lock:
            for link in self._links:
                link.cut(after)

    def end(self) -> None:
        """End for good."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for link in self._links:
            link.end()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                self.accepted += 1
                if self.weather.slams:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.to), timeout=1)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                with self._lock:
                    self._links.append(_Link(near, far, self.weather, self._ended))


class _Link:
    """One connection: two threads, one for each direction."""

    def __init__(
        self, near: socket.socket, far: socket.socket, weather: Weather, ended: threading.Event
    ) -> None:
        self._near = near
        self._far = far
        self._weather = weather
        self._ended = ended
        self._left: int | None = None  # bytes until it is cut
        self._threads = [
            threading.Thread(target=self._pass_on, args=ends, daemon=True)
            for ends in ((near, far), (far, near))
        ]
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for thread in self._threads:
            thread.start()

    def cut(self, after: int) -> None:
        """End when so many more bytes have been passed on, or now."""
        self._left = after
        if after == 0:
            self._close()

    def end(self) -> None:
        """End now, and wait for its threads."""
        self._close()
        for thread in self._threads:
            thread.join(10)
        for end in (self._near, self._far):
            end.close()

    def _close(self) -> None:
        for end in (self._near, self._far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        is_lost = False
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                is_lost = is_lost or not (self._weather.up if source is self._near else self._weather.down)
                if is_lost:
                    continue
                self._hold_up(len(data))
                if self._left is not None:
                    data, self._left = data[: self._left], max(0, self._left - len(data))
                sink.sendall(data)
                if self._left == 0:
                    break
        if not is_lost:  # whom nothing reaches does not hear of the end either
            self._close()

    def _hold_up(self, count: int) -> None:
        due = time.monotonic() + self._weather.delay
        if self._weather.rate is not None:
            due += count / self._weather.rate
        self._ended.wait(max(0.0, due - time.monotonic()))
