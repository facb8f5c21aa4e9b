"""Tells systemd ready, alive, reloading, stopping (sd_notify(3)); does nothing where no systemd listens."""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

logger = logging.getLogger(__name__)

PATIENCE: Final = 0.5
"""Seconds that systemd may take to hear us: one that is busy must not stop a gateway."""


def notify(*lines: str) -> None:
    """Send assignments such as `READY=1` or `STATUS=3 devices` to the service manager."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(address)
            sock.sendall("\n".join(lines).encode())
    except OSError as error:
        logger.warning("systemd at %s could not be told %s: %s", address, lines[0], error)


def watchdog_interval() -> float | None:
    """Return how often, in seconds, systemd wants to hear `WATCHDOG=1`: half of its limit; None where it does not."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    if not limit.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(limit) / 2e6
