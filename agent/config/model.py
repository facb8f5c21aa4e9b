"""A whole configuration as typed, frozen settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent import contracts, courier, eventlog, reporter, supervisor
from agent.outcome import RuleOutcome
from agent.outputs.settings import Settings as OutputSettings

SECTIONS: Final = ("devices", "rules", "forward")
TOP_KEYS: Final = ("gateway", *SECTIONS, "log", "broker")
DEVICE_KEYS: Final = ("driver", "report", "output", "simulate", "description")
CARRIED_KEYS: Final = courier.Settings.__struct_fields__
FORWARD_KEYS: Final = ("encoding", "reconnect", *CARRIED_KEYS)
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]*"
RESERVED: Final = ("agent", "alarm", "status", "command")
"""Names that no device may have: MQTT topics use them."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Device(msgspec.Struct, frozen=True):
    """One entry under `devices:`.

    Attributes:
        name: Its name.
        driver: The kind of driver.
        settings: The driver's own settings.
        report: Which of its readings are kept.
        output: What may be done to it, where it is an output.
        simulate: What shapes its simulation; None where `simulate: false` keeps the device real.
        description: Free text.
    """

    name: str
    driver: str
    settings: contracts.Settings
    report: reporter.Settings
    output: OutputSettings
    simulate: contracts.Settings | None
    description: str


class RuleEntry(msgspec.Struct, frozen=True):
    """One entry under `rules:`.

    Attributes:
        name: Its name.
        kind: The kind of rule.
        settings: The rule's own settings, its channels named in full.
        outcome: What follows from it; its outputs are named in full.
    """

    name: str
    kind: str
    settings: contracts.Settings
    outcome: RuleOutcome


class ForwardEntry(msgspec.Struct, frozen=True):
    """One entry under `forward:`.

    Attributes:
        name: Its name.
        kind: The kind of forwarder.
        settings: The forwarder's own settings.
        encoding: The kind of encoding.
        encoding_settings: The encoding's own settings.
        reconnect: How long it waits before it tries again.
        carried: How its backlog is carried.
    """

    name: str
    kind: str
    settings: contracts.Settings
    encoding: str
    encoding_settings: contracts.Settings
    reconnect: supervisor.Backoff
    carried: courier.Settings


class BrokerSettings(contracts.Settings, frozen=True):
    """What may be written under `broker:`, which runs an MQTT broker beside the agent.

    Attributes:
        host: The address that it listens on.
        port: The port for MQTT 3.1.1.
        port_v5: The port for MQTT 5.
    """

    host: str = "127.0.0.1"
    port: Port = 1883
    port_v5: Port = 1884

    def __post_init__(self) -> None:
        if self.port == self.port_v5:
            raise ValueError(f"port and port_v5 are both {self.port}, expected two ports")


class Config(msgspec.Struct, frozen=True):
    """A whole configuration.

    Attributes:
        path: The main file.
        gateway: The gateway's name.
        devices: The devices by name.
        rules: The rules by name.
        forward: The forwarders by name.
        log: The event log's settings.
        broker: The embedded broker's settings, None where there is none.
    """

    path: Path
    gateway: str
    devices: dict[str, Device]
    rules: dict[str, RuleEntry]
    forward: dict[str, ForwardEntry]
    log: eventlog.Settings
    broker: BrokerSettings | None

    @property
    def counted(self) -> str:
        """How many there are of what, for a person: `3 devices, 1 rule, 1 forwarder`."""
        counts = ((self.devices, "device"), (self.rules, "rule"), (self.forward, "forwarder"))
        return ", ".join(f"{len(things)} {word}{'' if len(things) == 1 else 's'}" for things, word in counts)
