"""Real brokers as processes on ports of their own: Mosquitto where it is installed, and the embedded one."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from support.waiting import free_port, freeze, listens, until

from agent import broker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.certificates import Authority

MOSQUITTO: Final = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
"""The program, None where it is not installed."""


class Broker:
    """A broker's process: ended, begun again on the same port, frozen. It keeps nothing over a restart, unless made to.

    Attributes:
        port: Where it speaks MQTT 5.
        port_v3: Where it speaks MQTT 3.1.1.
    """

    def __init__(self, command: list[str], log: Path, port: int, port_v3: int) -> None:
        self.port = port
        self.port_v3 = port_v3
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, and wait until it listens."""
        assert self._process is None
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

        def ready() -> bool:
            assert process.poll() is None, f"the broker does not start: {self.said()}"
            return listens(self.port) and listens(self.port_v3)

        until(ready, "the broker listens")

    def stop(self) -> None:
        """End it at once; its clients see the connection close."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()  # also where it is frozen
            process.wait(10)

    def shut_down(self) -> None:
        """Ask it to end, and wait until it has: it may keep what it is asked to keep."""
        assert self._process is not None
        process, self._process = self._process, None
        process.terminate()
        process.wait(10)

    def restart(self) -> None:
        """End it and begin again on the same port, with nothing remembered."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it stand still: connections stay open and nothing answers."""
        assert self._process is not None
        freeze(self._process.pid)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def said(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(errors="replace")


def mosquitto(
    folder: Path,
    *,
    port: int | None = None,
    users: Mapping[str, str] | None = None,
    authority: Authority | None = None,
    require_certificate: bool = False,
    options: Mapping[str, str | int] | None = None,
    keeps: bool = False,
) -> Broker:
    """Return a Mosquitto, not started yet.

    Args:
        folder: Where its files may be.
        port: Its port; a free one where it is not said.
        users: Password by user; without it everyone may connect.
        authority: Speak TLS with a certificate of this authority.
        require_certificate: Clients must show a certificate of that authority.
        options: Further lines of mosquitto.conf(5).
        keeps: Whether it keeps sessions and messages over a `shut_down`.
    """
    assert MOSQUITTO is not None
    port = free_port() if port is None else port
    lines = [
        f"listener {port} 127.0.0.1",
        f"persistence {'true' if keeps else 'false'}",
        "log_type all",
        "max_queued_messages 0",
        "set_tcp_nodelay true",
    ]
    if keeps:
        lines += [f"persistence_location {folder}/", f"persistence_file kept-{port}.db"]
    if os.geteuid() == 0:
        lines.append("user root")  # or it could not read its files
    if users is None:
        lines.append("allow_anonymous true")
    else:
        passwords = folder / f"passwords-{port}"
        passwords.write_text("".join(map(_password_line, users.items())))
        passwords.chmod(0o600)
        lines += ["allow_anonymous false", f"password_file {passwords}"]
    if authority is not None:
        pair = authority.issue(f"broker-{port}")
        lines += [f"cafile {authority.file}", f"certfile {pair.certificate}", f"keyfile {pair.key}"]
        if require_certificate:
            lines.append("require_certificate true")
    lines += [f"{name} {value}" for name, value in (options or {}).items()]
    configuration = folder / f"mosquitto-{port}.conf"
    configuration.write_text("\n".join(lines) + "\n")
    return Broker([MOSQUITTO, "-c", str(configuration)], folder / f"mosquitto-{port}.log", port, port)


def _password_line(user: tuple[str, str]) -> str:
    """Return a line of a password file (mosquitto_passwd(1), PBKDF2 with SHA-512)."""
    name, password = user
    salt = os.urandom(12)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(hashed).decode()}\n"


def embedded(folder: Path) -> Broker:
    """Return the embedded broker, as the agent itself would run it, not started yet."""
    port_v3, port = free_port(), free_port()
    configuration = folder / f"embedded-{port}.toml"
    configuration.write_text(broker._CONFIGURATION.format(host="127.0.0.1", port=port_v3, port_v5=port))
    command = [sys.executable, "-I", "-c", broker._CHILD, str(configuration)]
    return Broker(command, folder / f"embedded-{port}.log", port, port_v3)
