"""Starts what is measured, as a process: the agent with a configuration of its own, or another program."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from benchmarks._harness import PATIENCE, ROOT, folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks._harness import Subscriber

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a process has used so far.

    Attributes:
        cpu: Seconds of a core, all threads, user and system.
        written: Bytes that it made the kernel write to the disk, by whole pages of 4 KiB.
        passed: Bytes that it passed to write(2) and the like, sockets included.
        rss: Resident memory, bytes.
        pss: The same, with what is shared divided among those who share it.
    """

    cpu: float
    written: int
    passed: int
    rss: int
    pss: int

    def since(self, before: Usage) -> Usage:
        """Return the difference."""
        return Usage(
            *(
                mine - theirs
                for mine, theirs in zip(asdict(self).values(), asdict(before).values(), strict=True)
            )
        )


class Program:
    """A gateway as a process, whichever it is.

    Attributes:
        started: When, in nanoseconds of the monotonic clock.
    """

    def __init__(
        self, command: Sequence[str], messages: Path, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            command: The words of the command line.
            messages: The file that takes what it says.
            cwd: The folder that it runs in.
            environment: Its variables; ours where it is not said.
        """
        self._messages = messages
        self.started = time.monotonic_ns()
        with messages.open("ab") as output:
            self._process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self, subscriber: Subscriber, what: str) -> dict[str, Any]:
        """Wait until the subscriber has noticed a thing, and return what it says.

        Raises:
            TimeoutError: It has not; with what the program says.
        """
        try:
            return subscriber.wait(what)
        except TimeoutError as error:
            raise TimeoutError(f"the subscriber saw no {what!r}:\n{self.messages()}") from error

    def wait_open(self, path: str, settle: float = 0.3) -> None:
        """Wait until it has opened a file, and `settle` seconds longer: a port is joined midway.

        Raises:
            TimeoutError: It does not.
        """
        links = Path(f"/proc/{self._process.pid}/fd")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if any(str(link.readlink()) == path for link in links.iterdir()):
                    time.sleep(settle)
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.005)
        raise TimeoutError(f"it did not open {path}:\n{self.messages()}")

    def usage(self) -> Usage:
        """Return what it has used so far."""
        place = Path(f"/proc/{self._process.pid}")
        stat = place.joinpath("stat").read_text().rpartition(")")[2].split()
        io = _fields(place / "io")
        status = _fields(place / "status")
        with contextlib.suppress(OSError):  # of an ended process there is none
            status |= _fields(place / "smaps_rollup")
        return Usage(
            cpu=(int(stat[11]) + int(stat[12])) / _TICKS,
            written=io["write_bytes"],
            passed=io["wchar"],
            rss=status.get("VmRSS", 0) * 1024,
            pss=status.get("Pss", 0) * 1024,
        )

    def stop(self) -> Usage:
        """End it cleanly and return what it has used in all."""
        self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"it does not stop:\n{self.messages()}")
            time.sleep(0.02)
        usage = self.usage()  # it has ended, but the kernel still knows
        if self._process.wait() != 0:
            raise RuntimeError(f"it ended with status {self._process.returncode}:\n{self.messages()}")
        return usage

    def kill(self) -> Usage:
        """End it as a crash does (SIGKILL), and return what it had used."""
        used = self.usage()
        self._process.kill()
        self._process.wait()
        return used

    def messages(self) -> str:
        """Return the last that it said."""
        return self._messages.read_text(encoding="utf-8", errors="replace")[-2000:]


class Agent(Program):
    """The program itself."""

    def __init__(self, place: Path, config: str, *arguments: str) -> None:
        settings = place / "gatepost.yaml"
        settings.write_text(f"gateway: bench\n{config}\n", encoding="utf-8")
        command = [sys.executable, "-m", "agent", "run", "--no-events", *arguments, str(settings)]
        super().__init__(command, place / "agent.log", ROOT)


def _fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file of `name: number` lines."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if (number := value.split()[:1]) and number[0].isdigit():
            found[name] = int(number[0])
    return found


def one_line(
    port: str,
    broker_port: int,
    place: Path,
    *,
    parse: str = "{csv: [n, temperature]}",
    log: str = "",
    forward: str = "",
) -> str:
    """Return the configuration that most measures use: a line, a threshold rule, the log, a forwarder.

    Args:
        port: The serial port.
        broker_port: Where the broker listens.
        place: The folder of the log.
        parse: How a line becomes values.
        log: What else is written under `log:`, after a comma.
        forward: What else is written for the forwarder, after a comma.
    """
    return f"""
devices:
  line: {{driver: serial_lines, port: {port}, parse: {parse}}}
rules:
  too-hot:
    threshold: {{of: line.temperature, above: 50, clear: 48}}
forward:
  broker: {{mqtt: {{host: 127.0.0.1, port: {broker_port}}}{forward}}}
log: {{path: {place}/events.db{log}}}
"""


def accepts(config: str) -> bool:
    """Whether the agent has all settings that a configuration names."""
    with folder() as place:
        settings = place / "gatepost.yaml"
        settings.write_text(f"gateway: bench\n{config}\n", encoding="utf-8")
        command = [sys.executable, "-m", "agent", "check", str(settings)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
