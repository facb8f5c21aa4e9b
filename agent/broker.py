"""Runs an embedded MQTT broker beside the agent, for a demo, a test or a gateway that is its own site.

The broker is rumqttd, as the package iotcore brings it (extra `broker`), in a process of its own that ends with ours. It
has a listener for MQTT 3.1.1 and one for MQTT 5, both for programs of this machine unless `host` says otherwise. It keeps
nothing over a restart and asks for no password: a real site runs Mosquitto.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.errors import Disconnected

if TYPE_CHECKING:
    from agent.supervisor import Part

logger = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds to wait until it listens."""

_CONFIGURATION: Final = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
[v5.1]
name = "v5-1"
listen = "{host}:{port_v5}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""

_CHILD: Final = "import sys; from iotcore.iotcore import IotCoreBroker; IotCoreBroker(config_path=sys.argv[1]).run_forever()"


class EmbeddedBroker:
    """The broker's process, run until cancelled."""

    def __init__(self, host: str, port: int, port_v5: int) -> None:
        self.host = host
        self.port = port
        self.port_v5 = port_v5

    async def run(self, part: Part) -> None:
        """Start the broker and wait until it ends.

        Raises:
            Disconnected: It cannot be started, or ended by itself.
        """
        if importlib.util.find_spec("iotcore") is None:
            raise Disconnected(
                "the embedded broker needs iotcore; install it with: pip install 'gatepost[broker]'"
            )
        for port in (self.port, self.port_v5):
            if _answers(self.host, port):
                raise Disconnected(
                    f"port {port} is taken by another program; stop it, or write another port under `broker:`"
                )
        with tempfile.TemporaryDirectory(prefix="gatepost-broker-") as folder:
            path = Path(folder) / "broker.toml"
            path.write_text(_CONFIGURATION.format(host=self.host, port=self.port, port_v5=self.port_v5))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", _CHILD, str(path),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                preexec_fn=_end_with_parent,
            )  # fmt: skip
            try:
                await self._wait_listening(process)
                part.up()
                code = await process.wait()
                raise Disconnected(f"the embedded broker ended by itself (status {code})")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()  # it holds nothing that could be lost
                await process.wait()

    async def _wait_listening(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while process.returncode is None:
                    if _answers(self.host, self.port) and _answers(self.host, self.port_v5):
                        return
                    await asyncio.sleep(0.02)
        raise Disconnected(f"the embedded broker did not begin to listen (status {process.returncode})")


def _answers(host: str, port: int) -> bool:
    """Whether something listens there."""
    near = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104 -- compared, not bound
    try:
        with socket.create_connection((near, port), timeout=0.5):
            return True
    except OSError:
        return False


def _end_with_parent() -> None:
    """Have the kernel end this child when the agent dies, however it dies (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes  # noqa: PLC0415 -- in the child only

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.setpgid(0, 0)  # Ctrl-C is for the agent, which then ends the broker
