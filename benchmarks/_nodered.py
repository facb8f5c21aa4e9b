"""The other system of `outage`: Node-RED, from npm, with its usual flow from a serial port to MQTT.

serial in (a message for each line) → csv → mqtt out (QoS 1), everything else as Node-RED has it by default. It keeps no
messages while the broker is away, so there is a second flow with a queue before mqtt out, which the status of mqtt out
opens and closes, and which is kept in Node-RED's documented persistent store (`contextStorage: localfilesystem`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from benchmarks._harness import free_port, progress
from benchmarks._programs import Program

PACKAGES: Final = ("node-red@4", "node-red-node-serialport@2", "node-red-contrib-queue-gate@1")
FLUSH: Final = 1
"""Seconds between two writes of the persistent store: as often as `commit`; its default is 30."""

_SETTINGS: Final = """
module.exports = {{
    flowFile: "flows.json", uiHost: "127.0.0.1", uiPort: {port}, mqttReconnectTime: 15000, serialReconnectTime: 15000,
    contextStorage: {{
        default: {{module: "memory"}},
        disk: {{module: "localfilesystem", config: {{flushInterval: {flush}}}}},
    }},
}};
"""
"""The reconnect times are those of the settings file that Node-RED comes with."""


def missing() -> str:
    """Return why Node-RED cannot be run here; empty where it can."""
    lacking = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"{' and '.join(lacking)} not installed" if lacking else ""


def install() -> Path:
    """Install it into the cache folder, where it is not there yet, and return the folder.

    Raises:
        RuntimeError: npm fails; with what it says.
    """
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatepost-benchmarks" / "node-red"
    )
    done = cache / "installed"
    if not done.exists():
        progress(f"outage: installing Node-RED into {cache}")
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(cache), *PACKAGES]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"npm could not install Node-RED: {ran.stderr[-2000:]}")
        done.touch()
    return cache


def version(cache: Path) -> str:
    """Return the version that is installed."""
    package = cache / "node_modules" / "node-red" / "package.json"
    return str(json.loads(package.read_text(encoding="utf-8"))["version"])


class NodeRed(Program):
    """Node-RED with a flow of its own."""

    def __init__(self, place: Path, cache: Path, port: str, broker_port: int, *, keeps: bool) -> None:
        """Start it.

        Args:
            place: Where it keeps its flow and its state.
            cache: Where it is installed.
            port: The serial port.
            broker_port: Where the broker listens.
            keeps: Queue what cannot be sent, on the disk.
        """
        place.joinpath("flows.json").write_text(json.dumps(_flow(port, broker_port, keeps=keeps)))
        settings = place / "settings.js"
        settings.write_text(_SETTINGS.format(port=free_port(), flush=FLUSH))
        red = cache / "node_modules" / "node-red" / "red.js"
        command = ["node", str(red), "--userDir", str(place), "--settings", str(settings)]
        super().__init__(command, place / "node-red.log", place)


def _flow(port: str, broker_port: int, *, keeps: bool) -> list[dict[str, Any]]:
    first = "queue" if keeps else "out"
    flow: list[dict[str, Any]] = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {"id": "port", "type": "serial-port", "serialport": port, "serialbaud": "9600", "databits": "8",
         "parity": "none", "stopbits": "1", "newline": "\\n", "bin": "false", "out": "char", "addchar": ""},
        {"id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1", "port": str(broker_port), "clientid": "",
         "autoConnect": True, "usetls": False, "protocolVersion": "4", "keepalive": "60", "cleansession": True,
         "birthTopic": "gatepost/bench/status", "birthQos": "0", "birthPayload": '{"state":"online"}'},
        _node("in", "serial in", ["csv"], serial="port"),
        _node("csv", "csv", [first], sep=",", hdrin=False, multi="one", temp="n,temperature", skip="0", strings=True),
        _node("out", "mqtt out", [], topic="gatepost/bench/line", qos="1", retain="false", broker="broker"),
    ]  # fmt: skip
    return flow + _queue() if keeps else flow


def _queue() -> list[dict[str, Any]]:
    """Return the queue, and what opens it while mqtt out is connected."""
    commands = (
        "open",
        "close",
        "toggle",
        "queue",
        "default",
        "trigger",
        "flush",
        "reset",
        "peek",
        "drop",
        "status",
    )
    named = {f"{command}Cmd": command for command in commands}
    steer = 'return {topic: "control", payload: msg.status.fill === "green" ? "open" : "queue"};'
    return [
        _node("queue", "q-gate", ["out"], controlTopic="control", defaultState="queueing", maxQueueLength="0",
              keepNewest=False, qToggle=False, persist=True, storeName="disk", **named),
        _node("watch", "status", ["steer"], scope=["out"]),
        _node("steer", "function", ["queue"], func=steer, outputs=1),
    ]  # fmt: skip


def _node(name: str, kind: str, then: list[str], **settings: Any) -> dict[str, Any]:
    """Return a node of the tab; one without a place on it would be taken for a configuration."""
    wires = [then] if then else []
    return {"id": name, "type": kind, "z": "tab", "x": 100, "y": 100, "wires": wires, **settings}
