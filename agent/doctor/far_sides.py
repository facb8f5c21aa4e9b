"""Each forwarder: its far side, our credentials, and whether it takes what we publish.

Where an agent runs, it is asked: a second connection with its client id would end its own (MQTT 5.0, section 3.1.4). Else
the forwarder itself is tried out, so that what it would find is found.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent import app
from agent.clock import Clock
from agent.contracts import Gateway
from agent.doctor import endpoints
from agent.doctor.findings import Finding, Level, counted, fault, note, ok, said
from agent.errors import Disconnected, Rejected
from agent.events import Event
from agent.needs import CanTryOut, Endpoint, needs_of
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import ForwardEntry
    from agent.doctor.case import Case

CHECKED: Final = "agent.checked"
"""The type of the one event that is published; its source is `agent`, its run 0, and it is in no log."""

PATIENCE: Final = 8.0
"""Seconds for connecting and publishing."""

_HERE: Final = ("127.0.0.1", "localhost", "::1")


def examine(entry: ForwardEntry, case: Case) -> Iterator[Finding]:
    """Look at one forwarder."""
    found = [need for need in needs_of(entry.settings) if isinstance(need, Endpoint)]
    if not case.agent.is_there and any(is_own_broker(need, case) for need in found):
        yield ok("its far side is this gateway's own broker, which runs when the agent does")
        return
    is_reached = True
    for need in found:
        for finding in endpoints.examine(need):
            is_reached &= finding.level is not Level.FAULT
            yield finding
    part = case.agent.part("forwarders", entry.name)
    if part is not None:
        yield from _as_told(part, case, is_reached=is_reached)
    elif case.agent.status is not None:
        yield note(
            "the running agent does not know it", "start the agent again: its configuration has changed"
        )
    elif case.agent.is_there:
        do = "see what is said of the agent" if case.agent.is_hung else "call this again with sudo"
        yield note("whether it takes what we publish, only the running agent knows", do)
    elif case.secrets:
        yield note(
            f"it was not tried with our credentials: {case.secrets}",
            "the service may have that secret from systemd: start it, and call this again",
        )
    elif is_reached:
        yield _tried(entry, case)


def is_own_broker(need: Endpoint, case: Case) -> bool:
    """Whether a far side is the broker that the agent itself runs."""
    broker = case.config.broker
    return broker is not None and need.host in _HERE and need.port in {broker.port, broker.port_v5}


def _as_told(part: dict[str, object], case: Case, *, is_reached: bool) -> Iterator[Finding]:
    """Say what the running agent says of a forwarder."""
    since = Duration(round(float(str(part["for"]))))
    if part["health"] == "up":
        yield ok(
            f"the running agent is connected for {since}: {part['delivered']} delivered, {part['waiting']} waiting"
        )
    elif part["health"] == "starting":
        yield note(f"the running agent is still connecting, for {since}", "call this again in a minute")
    elif is_reached:  # else it was just said
        what, _, todo = str(part.get("reason", "")).partition("; ")
        yield fault(f"the running agent is not connected for {since}: {what}", todo or "see: gatepost status")
    if part["rejected"]:
        yield note(
            f"refused in this run: {counted(int(str(part['rejected'])), 'event')}",
            f"gatepost events --rejected {case.config.path}",
        )


def _tried(entry: ForwardEntry, case: Case) -> Finding:
    gateway = Gateway(case.config.gateway, app.version(), 0)
    now = Clock().wall()
    event = Event(0, now, CHECKED, "agent", now, {"by": "gatepost doctor"})
    forwarder = app.forwarder_of(entry, gateway)
    if not isinstance(forwarder, CanTryOut):
        return note(f"{entry.kind} cannot be tried out", "run the agent, and see: gatepost status")

    async def try_out(forwarder: CanTryOut = forwarder) -> str:
        async with asyncio.timeout(PATIENCE):
            return await forwarder.try_out(event)

    try:
        return ok(asyncio.run(try_out()))
    except Rejected as error:
        return fault(str(error), "let our user publish there, at the broker (its access control list)")
    except Disconnected as error:
        return said(error)
    except TimeoutError:
        return fault(
            f"there is no answer within {PATIENCE:g} s", "look at the broker and the network on the way to it"
        )
