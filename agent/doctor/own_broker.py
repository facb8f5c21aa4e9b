"""The broker that the agent itself runs, where the configuration asks for one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from agent.doctor import files
from agent.doctor.findings import Finding, fault, ok, said
from agent.needs import Library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import BrokerSettings
    from agent.doctor.case import Case

PATIENCE: Final = 0.5
"""Seconds to wait for whoever may listen on our port."""


def examine(broker: BrokerSettings, case: Case) -> Iterator[Finding]:
    """Look whether it can run, or how it is."""
    yield from files.examine_library(Library("iotcore", "pip install 'gatepost[broker]'"))
    part = case.agent.part("brokers", "embedded")
    if part is not None and part["health"] == "up":
        yield ok("it runs")
    elif part is not None:
        yield said(part.get("reason", "it does not run"), "see: gatepost status")
    elif not case.agent.is_there:
        for port in (broker.port, broker.port_v5):
            yield _port(broker.host, port)


def _port(host: str, port: int) -> Finding:
    """Say whether a port is free, from whether somebody answers there."""
    near = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104 -- compared, not bound
    try:
        with socket.create_connection((near, port), PATIENCE):
            return fault(
                f"port {port} is taken by another program",
                f"see which (sudo ss -ltnp 'sport = :{port}') and stop it, or write another port under `broker:`",
            )
    except OSError:
        return ok(f"port {port} is free")
