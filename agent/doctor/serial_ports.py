"""Serial ports: there, ours to open, held by nobody else, named so that the name stays. None is opened: that would toggle DTR."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from agent.doctor import users
from agent.doctor.findings import Finding, fault, note, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.case import Case
    from agent.doctor.machine import Machine
    from agent.needs import SerialPort

BY_ID: Final = "/dev/serial/by-id/"
CANDIDATES: Final = ("/dev/ttyUSB*", "/dev/ttyACM*", "/dev/ttyAMA*", "/dev/serial[0-9]*")
CHANGING: Final = ("/dev/ttyUSB", "/dev/ttyACM")
"""Names that go to whichever adapter is found first."""

_GRABBERS: Final = {
    "ModemManager": "it tries every port for a modem: sudo systemctl disable --now ModemManager",
    "brltty": "it takes USB adapters for Braille displays: sudo apt remove brltty",
    "agetty": "it offers a login there: sudo raspi-config, Interface Options, Serial Port, no login shell",
}
"""By program, how it is kept away from ports."""


def examine(need: SerialPort, case: Case) -> Iterator[Finding]:
    """Look at the port that a device needs."""
    machine, path = case.machine, need.path
    file = machine.at(path)
    try:
        found = file.stat()
    except OSError:
        yield fault(f"there is no {path}", _missing(machine))
        return
    if not stat.S_ISCHR(found.st_mode):
        yield fault(f"{path} is not a serial port", _missing(machine))
        return
    if not case.user.may(file, write=True):
        group = users.group_name(found.st_gid)
        yield fault(
            f"{case.user.name} may not open {path}, which belongs to the group {group}",
            users.join(case.user, file, "dialout"),
        )
    actual = machine.resolved(path)
    name = path if path == actual else f"{path} ({actual})"
    others = [each for each in case.processes.holding(actual) if each.pid != case.agent.pid]
    for other in others:
        yield fault(
            f"{name} is held by {other}, too; each would get a part of what arrives",
            _end(other.program, other.pid),
        )
    if actual.removeprefix("/dev/") in machine.text("/sys/class/tty/console/active").split():
        yield fault(
            f"{name} is the kernel's console: it writes its messages to the device",
            "sudo raspi-config, Interface Options, Serial Port, no login shell; then reboot",
        )
    elif not others:
        unseen = "" if not case.processes.unseen else ", as far as we may see without sudo"
        yield ok(f"{name} is there, and no other program holds it{unseen}")
    lasting = _lasting(machine, actual)
    if path.startswith(CHANGING) and lasting:
        yield note(
            f"{path} may become another adapter's name when one more is plugged in",
            f"write port: {lasting[0]}",
        )


def _end(program: str, pid: int) -> str:
    for grabber, tip in _GRABBERS.items():
        if grabber.lower() in program.lower():
            return tip
    return (
        f"end that program (sudo kill {pid}, or systemctl stop where it is a service), or choose another port"
    )


def _missing(machine: Machine) -> str:
    there = machine.names(BY_ID + "*")
    named = {machine.resolved(name) for name in there}
    there += [name for name in candidates(machine) if machine.resolved(name) not in named]
    if not there:
        return "plug it in; this machine has no serial adapter at all now"
    return f"plug it in, or write another port; there are: {', '.join(there)}"


def candidates(machine: Machine) -> list[str]:
    """Return the ports that a device may be at, by their short names."""
    return [name for pattern in CANDIDATES for name in machine.names(pattern)]


def _lasting(machine: Machine, actual: str) -> list[str]:
    """Return the names of a port that belong to its adapter."""
    return [name for name in machine.names(BY_ID + "*") if machine.resolved(name) == actual]
