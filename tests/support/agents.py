"""The real program as a process, with a configuration and a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from support.waiting import DEADLINE, freeze, until

from agent import app
from agent.api import client
from agent.eventlog import EventStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.events import Event

ROOT: Final = Path(__file__).parents[2]

WARNINGS: Final = "error,ignore:unclosed <ssl.SSLSocket:ResourceWarning"
"""Every warning is an error, but that paho-mqtt leaves a socket to the garbage collector when a TLS handshake fails."""


class Agent:
    """`gatepost run` as its user would run it: started, stopped, killed and started again.

    Attributes:
        path: The configuration file.
        program: The command that the arguments of `gatepost` are added to; a test may put another in its place.
    """

    def __init__(
        self, folder: Path, configuration: Mapping[str, Any] | str, *arguments: str, **environment: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "gateway.yaml"
        self.program = [sys.executable, "-m", "agent"]
        self.configure(configuration)
        self._folder = folder
        self._arguments = arguments
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GATEPOST_", "STATE_DIR", "JOURNAL_", "NOTIFY_", "WATCHDOG_", "COV"))
        }
        self._environment |= {
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONWARNINGS": WARNINGS,
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, configuration: Mapping[str, Any] | str) -> None:
        """Write the configuration file."""
        text = configuration if isinstance(configuration, str) else yaml.safe_dump(dict(configuration))
        self.path.write_text(text)

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, without waiting for anything."""
        assert self._process is None
        with self._file("stdout").open("ab") as out, self._file("stderr").open("ab") as err:
            self._process = subprocess.Popen(
                [*self.program, "run", *self._arguments, str(self.path)],
                cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    def start_and_wait(self) -> None:
        """Begin, and wait until it answers and every device had 50 ms to be joined: see drivers/serial_lines.py."""
        self.start()
        self.wait_status(
            lambda said: all(
                part["health"] == "down" or (part["health"] == "up" and part["for"] >= 0.2)
                for part in said["devices"].values()
            ),
            "every device is up or down",
        )

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def wait_end(self, timeout: float = DEADLINE) -> int:
        """Wait until it ends by itself and return its exit status."""
        assert self._process is not None
        process, self._process = self._process, None
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the agent did not end within {timeout:g} s\n{self.said()}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end and return its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait_end()

    def kill(self) -> None:
        """End it as a power cut would, without a chance to do anything."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(10)

    def freeze(self) -> None:
        """Let it stand still."""
        freeze(self.pid)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    # --- what it says ---------------------------------------------------------------------------------------------

    def _file(self, stream: str) -> Path:
        return self._folder / f"{stream}.txt"

    def said(self) -> str:
        """Return its messages of all runs: the standard error."""
        return self._file("stderr").read_text(errors="replace")

    def printed(self) -> str:
        """Return its output of all runs."""
        return self._file("stdout").read_text(errors="replace")

    def lines(self, *parts: str) -> list[str]:
        """Return its messages that contain all of some texts."""
        return [line for line in self.said().splitlines() if all(part in line for part in parts)]

    def wait_said(self, *parts: str, count: int = 1, timeout: float = DEADLINE) -> list[str]:
        """Wait until it has said something so often, and return those lines."""
        until(
            lambda: len(self.lines(*parts)) >= count,
            lambda: f"{count} lines with {parts}\n{self.said()}",
            timeout,
        )
        return self.lines(*parts)

    # --- what it knows --------------------------------------------------------------------------------------------

    @property
    def log(self) -> Path:
        """Its event log."""
        name = "events-simulated.db" if "--simulate" in self._arguments else "events.db"
        gateway = re.search(
            r"^gateway: *(\S+)", self.path.read_text(), re.MULTILINE
        )  # it may have tags of ours
        assert gateway is not None
        return self._folder / "state" / "gatepost" / gateway[1] / name

    def status(self) -> dict[str, Any] | None:
        """Return what the running agent says of itself; None while it does not answer."""
        assert self.is_running, f"the agent has ended\n{self.said()}"
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(5)
            connection.connect(str(client.answering(app.socket_paths(self.log))))
            connection.sendall(b'{"get": "status"}\n')
            with connection.makefile("rb") as stream:
                said: dict[str, Any] = json.loads(stream.readline())
                return said
        return None

    def wait_status(
        self, condition: Callable[[dict[str, Any]], bool], what: str, timeout: float = DEADLINE
    ) -> dict[str, Any]:
        """Wait until its status fulfils a condition, and return it."""
        found: list[dict[str, Any]] = []

        def holds() -> bool:
            said = self.status()
            if said is None:
                return False
            found[:] = [said]
            return condition(said)

        until(holds, lambda: f"{what}\n{json.dumps(found, indent=1)}\n{self.said()}", timeout)
        return found[0]

    def wait_delivered(self, forwarder: str, timeout: float = DEADLINE) -> None:
        """Wait until a forwarder has delivered all that is in the log."""
        self.wait_status(
            lambda said: said["forwarders"][forwarder]["waiting"] == 0,
            f"{forwarder} waits for nothing",
            timeout,
        )

    @contextlib.contextmanager
    def copied(self) -> Iterator[EventStore]:
        """Open a copy of the log's file: it is left as it is, and what is only in memory is not in it."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for suffix in ("", "-wal"):
            file = Path(f"{self.log}{suffix}")
            if file.exists():
                shutil.copy(file, copy)
        store = EventStore(copy / self.log.name)
        store.open_writer()
        try:
            yield store
        finally:
            store.close()

    def committed(self) -> list[Event]:
        """Return what is in the log's file."""
        with self.copied() as store:
            return store.read(None, 0, None, 10_000_000)


def gatepost(*arguments: str, folder: Path, timeout: float = DEADLINE, **environment: str) -> Result:
    """Run one command of `gatepost` to its end, with the state folder that an `Agent` in `folder` has."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT, timeout=timeout, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), "PYTHONWARNINGS": WARNINGS, **environment},
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


class Result:
    """How a command ended.

    Attributes:
        status: Its exit status.
        out: What it printed.
        err: What it said.
    """

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err
