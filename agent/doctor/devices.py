"""Each device: what its driver says that it needs, and what the running agent says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor import files, gpio_lines, serial_ports
from agent.doctor.findings import Finding, Level, counted, note, ok, said
from agent.needs import File, GpioLine, Library, SerialPort, needs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Device
    from agent.doctor.case import Case
    from agent.needs import Need


def examine(device: Device, case: Case) -> Iterator[Finding]:
    """Look at one device."""
    is_faulty = is_said = False
    for need in needs_of(device.settings):
        for finding in _examine_need(need, case):
            is_faulty |= finding.level is Level.FAULT
            is_said = True
            yield finding
    part = case.agent.part("devices", device.name)
    if part is not None and part["health"] == "down" and not is_faulty:
        yield said(part.get("reason", "it is down"), "see: gatepost status")
    elif part is not None and part["health"] == "up":
        bad = f", {part['bad']} of them bad" if part["bad"] else ""
        yield ok(f"it is up in the running agent, with {counted(part['readings'], 'reading')}{bad}")
    elif case.agent.status is not None and part is None:
        yield note(
            "the running agent does not know it", "start the agent again: its configuration has changed"
        )
    elif not is_said:
        yield ok(f"{device.driver} needs nothing that could be missing")


def _examine_need(need: Need, case: Case) -> Iterator[Finding]:
    match need:
        case SerialPort():
            yield from serial_ports.examine(need, case)
        case GpioLine():
            yield from gpio_lines.examine(need, case)
        case File():
            yield from files.examine(need, case)
        case Library():
            yield from files.examine_library(need)
        case _:
            yield note(f"nobody here knows how to look at {need}", "see the driver's documentation")
