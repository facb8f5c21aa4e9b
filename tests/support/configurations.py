"""Pieces of configurations that tests put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from support.instruments import HEAVY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.instruments import SerialInstrument

SOON: Final = {"min": "200ms", "max": "500ms"}
"""How long forwarders of tests wait before they try again."""

ALARM: Final = {"heavy": {"threshold": {"of": "scale.weight", "above": HEAVY - 1}, "severity": "critical"}}
"""A rule for the heavy lines of a counting scale."""


def gateway(
    devices: Mapping[str, Any], forward: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a configuration of the gateway `g`."""
    return {"gateway": "g", "devices": dict(devices), "forward": dict(forward or {}), **more}


def scale(instrument: SerialInstrument, **more: Any) -> dict[str, Any]:
    """Return a scale that writes lines such as `7,12.5`: a count and a weight."""
    return {
        "driver": "serial_lines",
        "port": str(instrument.port),
        "parse": {"csv": ["n", "weight"]},
        "units": {"n": "", "weight": "kg"},
        **more,
    }


def mqtt(port: int, **settings: Any) -> dict[str, Any]:
    """Return a forwarder to a broker on this machine."""
    return {"mqtt": {"host": "127.0.0.1", "port": port, **settings}, "reconnect": SOON}
