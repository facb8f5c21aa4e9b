"""Finds the log that a configuration means, and asks the agent that runs on it."""

from __future__ import annotations

import contextlib
import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent import app, config
from agent.api import client
from agent.console import program
from agent.errors import GatepostError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SERVICE_LOG: Final = Path("/var/lib/gatepost/events.db")
"""The log of the systemd unit, whose StateDirectory only the unit itself is told."""

PATIENCE: Final = 10.0
"""Seconds that a running agent may take for each line of an answer."""


def log_of(options: argparse.Namespace) -> Path:
    """Find the log of a configuration: that of a simulated run where that one is meant or the only one."""
    configuration = config.load(options.config, with_secrets=False)
    real, simulated = (app.log_path(configuration, simulated=answer) for answer in (False, True))
    if options.simulate:
        return simulated
    logs = [real, simulated] if configuration.log.path else [real, SERVICE_LOG, simulated]
    answering = [path for path in logs if client.answers(socket_of(path))]
    there = answering or [path for path in logs if path.exists()]
    if not there:
        raise GatepostError(
            f"there is no event log yet at {real}; start the gateway with: {program()} run {options.config}"
        )
    return there[0]


def socket_of(log: Path) -> Path:
    """Return where the agent answers that runs on a log."""
    return client.answering(app.socket_paths(log))


@contextlib.contextmanager
def asked(
    log: Path, request: dict[str, Any], patience: float | None = PATIENCE
) -> Iterator[Iterator[bytes] | None]:
    """Send a request to the agent that runs on a log, and give the lines of the answer: see `client.ask`.

    Raises:
        GatepostError: A line has not come within `patience` seconds.
    """
    try:
        with client.ask(socket_of(log), request, patience) as answer:
            yield answer
    except TimeoutError:
        raise GatepostError(
            f"the agent on {log} runs, but has not answered within {patience:g} s: it hangs, or its machine is very busy; "
            "its messages (journalctl -u gatepost) may tell why, and where it is a service its watchdog starts it again"
        ) from None


def ask_once(
    options: argparse.Namespace, request: dict[str, Any], patience: float = PATIENCE
) -> dict[str, Any]:
    """Send a request that has one line for an answer.

    Raises:
        GatepostError: No agent runs, it does not answer within `patience` seconds, or it says why it cannot be done.
    """
    log = log_of(options)
    with asked(log, request, patience) as answer:
        said: dict[str, Any] | None = json.loads(next(answer, b"null")) if answer is not None else None
    if said is None:
        raise GatepostError(
            f"no agent runs on {log}; its log can be read with: {program()} events {options.config}"
        )
    if "error" in said:
        raise GatepostError(f"the agent says: {said['error']}")
    return said


def user() -> str:
    """Return who we are, for the log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return "somebody"
