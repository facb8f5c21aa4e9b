"""Starts what measures: broker, subscriber, instrument, each as a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from benchmarks._results import mosquitto
from benchmarks._writer import Work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks._subscriber import Wanted

ROOT: Final = Path(__file__).parents[1]
PATIENCE: Final = 30.0

_MOSQUITTO: Final = """
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
log_type error
persistence {persistence}
persistence_location {folder}/
"""


def progress(text: str) -> None:
    """Say on the standard error what goes on; measuring takes minutes."""
    print(f"  … {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a temporary folder on a real disk: /tmp may be in memory, where nothing is ever written."""
    place = "/var/tmp" if Path("/var/tmp").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-", dir=place) as name:
        yield Path(name)


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_listening(port: int) -> None:
    """Wait until something listens on a port.

    Raises:
        TimeoutError: Nothing does.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port}")


class Broker:
    """Mosquitto, or the embedded broker where that is not installed.

    Attributes:
        port: For MQTT 3.1.1.
        port_v5: For MQTT 5.
    """

    def __init__(self, place: Path, *, keeps_sessions: bool = False) -> None:
        self.port = self.port_v5 = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        path = mosquitto()
        if path is not None:
            settings = place / "mosquitto.conf"
            settings.write_text(
                _MOSQUITTO.format(
                    port=self.port, folder=place, persistence="true" if keeps_sessions else "false"
                )
            )
            self._command = [path, "-c", str(settings)]
            if os.geteuid() == 0:
                settings.write_text(settings.read_text() + "user root\n")
        else:
            self.port_v5 = free_port()
            settings = place / "broker.yaml"
            config = f"gateway: broker\nbroker: {{port: {self.port}, port_v5: {self.port_v5}}}\n"
            settings.write_text(config + f"log: {{path: {place}/broker.db}}\ndevices: {{}}\n")
            self._command = [sys.executable, "-m", "agent", "run", str(settings)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_listening(self.port)
        wait_listening(self.port_v5)

    def stop(self) -> None:
        """End it, and wait until it has."""
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            process.wait(PATIENCE)


class Child:
    """A process of this package that speaks JSON, a line for each thing to say."""

    def __init__(self, module: str, *arguments: object, pass_fds: Sequence[int] = ()) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=pass_fds,
        )  # fmt: skip
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._selector.register(self._output, selectors.EVENT_READ)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return the next thing that it says.

        Raises:
            TimeoutError: It says nothing.
        """
        deadline = time.monotonic() + timeout
        while b"\n" not in self._rest:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{self._name} said nothing for {timeout:g} s")
            chunk = os.read(self._output.fileno(), 1 << 16)
            if not chunk:
                raise RuntimeError(f"{self._name} has failed")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def has_said(self) -> bool:
        """Whether there is something to read."""
        return bool(self._rest or self._selector.select(0))

    def go(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def terminate(self) -> None:
        """Ask it to come to an end."""
        self._process.terminate()


class Subscriber(Child):
    """The process that receives and counts."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__("_subscriber", msgspec.json.encode(wanted).decode())
        self.wait("ready")

    def wait(self, what: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return what it says about one thing, over others."""
        while True:
            said = self.read(timeout)
            if said["what"] == what:
                return said

    def received(self, timeout: float) -> dict[str, Any]:
        """Return what it has received: all of it, or what there is when it takes too long."""
        try:
            return self.wait("received", timeout)
        except TimeoutError:
            self.terminate()
            return self.wait("received")


class Line:
    """A pseudo-terminal: the instrument writes to one end, the agent opens the other by its name.

    Attributes:
        port: The name that the agent opens.
    """

    def __init__(self) -> None:
        self._ends = os.openpty()
        tty.setraw(self._ends[1])  # or the kernel would echo the lines back
        self.port = os.ttyname(self._ends[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            os.close(end)

    def release(self) -> None:
        """Let the port be opened again after a crash: exclusive use ends with the last to close it, and we never do."""
        fcntl.ioctl(self._ends[1], termios.TIOCNXCL)

    def writer(
        self,
        form: str,
        count: int,
        rate: float = 0,
        *,
        first: int = 0,
        waits: bool = True,
        tell: bool = False,
    ) -> Child:
        """Return the instrument, ready to write lines: at a rate a second, or as fast as they are taken.

        The other arguments are those of `Work`.
        """
        fd = self._ends[0]
        work = Work(fd, form, count, rate, first, waits, tell)
        child = Child("_writer", msgspec.json.encode(work).decode(), pass_fds=[fd])
        child.read()
        return child
