"""Whether an agent runs on the log, and what it says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent import app
from agent.api import client
from agent.doctor.findings import Finding, fault, note, ok
from agent.errors import GatepostError
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.doctor.processes import Processes

PATIENCE: Final = 3.0
"""Seconds that a running agent may take to say how it is."""


class Running(msgspec.Struct, frozen=True):
    """An agent on the log, or none.

    Attributes:
        pid: Its process; None where none runs, or it is not known.
        status: What it says of itself; None where it does not.
        trouble: Why it does not answer; "" where it does, or where none runs.
        is_hung: Whether it takes a question and does not answer.
    """

    pid: int | None = None
    status: dict[str, Any] | None = None
    trouble: str = ""
    is_hung: bool = False

    @property
    def is_there(self) -> bool:
        """Whether an agent runs, or may."""
        return self.pid is not None or self.status is not None or bool(self.trouble)

    def part(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return what it says of one of its parts; None where it does not."""
        said: dict[str, Any] | None = (self.status or {}).get(kind, {}).get(name)
        return said


def look(log: Path, processes: Processes) -> Running:
    """Look for an agent that runs on a log, without disturbing it."""
    pid = processes.locking(log.with_name(log.name + ".lock"))
    try:
        path = client.answering(app.socket_paths(log))
        with client.ask(path, {"get": "status"}, PATIENCE) as answer:
            if answer is None:
                trouble = "" if pid is None else "it has no socket that answers"
                return Running(pid, None, trouble)
            status = json.loads(next(answer, b"null"))
    except TimeoutError:
        return Running(pid, None, f"it does not answer within {PATIENCE:g} s", is_hung=True)
    except (OSError, ValueError):
        return Running(pid, None, "it hung up without an answer")
    except GatepostError:
        return Running(pid, None, "it answers only its own user and root")
    if not isinstance(status, dict) or "pid" not in status:
        return Running(pid, None, "it says nothing of itself")
    return Running(status["pid"], status)


def examine(running: Running, log: Path) -> Iterator[Finding]:
    """Say whether an agent runs."""
    who = f"an agent (process {running.pid or 'unknown'})"
    if running.status is not None:
        up = Duration(round(running.status["uptime"]))
        yield ok(f"an agent (process {running.pid}) runs on {log}, for {up}")
        if running.status["simulated"]:
            yield note("the running agent simulates its devices", "start it without --simulate")
        if why := running.status["log"]["fault"]:
            yield fault(f"the running agent cannot write its log: {why}", "see what is said of the log below")
    elif running.is_hung:
        yield fault(
            f"{who} runs on {log}, but {running.trouble}",
            "look at its messages (journalctl -u gatepost -n 50), then: sudo systemctl restart gatepost",
        )
    elif running.trouble:
        yield note(f"{who} runs on {log}, but {running.trouble}", "call this again with sudo")
    else:
        yield ok(f"no agent runs on {log}")
