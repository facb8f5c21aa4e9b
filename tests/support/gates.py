"""A gate on the way between two programs: shut, nobody gets through and who was inside is thrown out."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Final

from support.waiting import free_port

_CHUNK: Final = 65_536


class Gate:
    """Passes TCP connections on to another port of this machine while it is open.

    Attributes:
        port: Where it listens while it is open; nothing listens there while it is shut.
        accepted: How many connections it has let in.
    """

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self.accepted = 0
        self._to = to
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._peers: dict[socket.socket, socket.socket] = {}
        self._waker, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"gate-{self.port}", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Let connections through."""
        with self._lock:
            if self._listener is None:
                listener = self._listener = socket.socket()
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", self.port))
                listener.listen()
                self._selector.register(listener, selectors.EVENT_READ)
                self._waker.send(b".")

    def shut(self) -> None:
        """Refuse connections and cut those that are there."""
        with self._lock:
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None
            for end in list(self._peers):
                self._cut(end)
            self._waker.send(b".")

    def end(self) -> None:
        """Shut it for good."""
        self.shut()
        self._ended = True
        self._waker.send(b".")
        self._thread.join(10)
        self._selector.close()
        self._waker.close()
        self._woken.close()

    def _run(self) -> None:
        while not self._ended:
            ready = self._selector.select()
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._woken:
                        self._woken.recv(_CHUNK)
                    elif key.fileobj is self._listener:
                        self._accept(self._listener)
                    elif key.fileobj in self._peers:
                        self._pass_on(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._to), timeout=1)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        self.accepted += 1
        for end, other in ((near, far), (far, near)):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each window waits 40 ms for an ACK
            self._peers[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        try:
            data = end.recv(_CHUNK)
            if data:
                self._peers[end].sendall(data)
                return
        except OSError:
            pass
        self._cut(end)

    def _cut(self, end: socket.socket) -> None:
        other = self._peers.pop(end, None)
        for each in (end, other):
            if each is not None:
                self._peers.pop(each, None)
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(each)
                each.close()
