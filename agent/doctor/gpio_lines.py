"""GPIO lines: their chip there and ours to open, the line held by nobody else. None is taken: the kernel is only asked.

The questions are those of the GPIO character device, ABI v2 (Documentation/userspace-api/gpio/gpio-v2-get-lineinfo-ioctl.rst).
lgpio is not asked, for it makes its pipes in the working folder as soon as it is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor import users
from agent.doctor.findings import Finding, fault, note, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.case import Case
    from agent.doctor.machine import Machine
    from agent.needs import GpioLine


def examine(need: GpioLine, case: Case) -> Iterator[Finding]:
    """Look at the line that a device needs."""
    machine = case.machine
    number = header_chip(machine) if need.chip is None else need.chip
    device = f"/dev/gpiochip{number}"
    what = f"{need.name} (line {need.offset} of {device})"
    file = machine.at(device)
    if not file.exists():
        yield fault(f"{need.name} needs {device}, which is not there", _other_chips(machine))
        return
    if not case.user.may(file, write=True):
        group = users.group_name(file.stat().st_gid)
        yield fault(
            f"{case.user.name} may not open {device}, which belongs to the group {group}",
            users.join(case.user, file, "gpio"),
        )
    try:
        chip = machine.chip(device)
        if need.offset >= chip.lines:
            yield fault(
                f"{device} ({chip.label}) has no line {need.offset}, only 0 to {chip.lines - 1}",
                f"choose another pin; {_other_chips(machine)}",
            )
            return
        line = machine.line(device, need.offset)
    except PermissionError:
        if case.user.may(file, write=True):
            yield note(f"whether {what} is free, is not for us to see", "call this again with sudo")
    except OSError as error:
        yield fault(f"{device} does not tell about {need.name}: {error.strerror}", "is it a GPIO chip?")
    else:
        if line.is_used:
            name = machine.resolved(device).removeprefix("/dev/")
            yield _held(what, name, need.offset, line.consumer, case)
        else:
            yield ok(f"{what} is free")


def _held(what: str, chip: str, offset: int, consumer: str, case: Case) -> Finding:
    """Say who has a line, as far as the kernel tells it."""
    named = f", which calls itself {consumer!r}" if consumer else ""
    holders = case.processes.holding_line(chip, offset)
    if case.agent.pid in {each.pid for each in holders}:
        return ok(f"{what} is held by the running agent")
    if holders:
        return fault(
            f"{what} is held by {holders[0]}{named}", f"{_end(holders[0].pid)}, or choose another pin"
        )
    untold = case.processes.holding_some_line()
    if case.agent.is_there and (not untold or case.agent.pid in {each.pid for each in untold}):
        return ok(f"{what} is in use{named}, by the running agent as it seems")
    for each in untold:
        if consumer and consumer in each.program:
            return fault(f"{what} is held by {each}, as it seems", f"{_end(each.pid)}, or choose another pin")
    if case.processes.unseen:
        return fault(f"{what} is in use{named}", "call this again with sudo to see by which program")
    overlay = "look for a dtoverlay= or dtparam= in /boot/firmware/config.txt that takes it"
    if untold:
        programs = " or ".join(str(each) for each in untold)
        return fault(
            f"{what} is in use by the kernel or a program{named}", f"{overlay}; else it may be {programs}"
        )
    return fault(f"{what} is in use by the kernel{named}", f"{overlay}, or choose another pin")


def _end(pid: int) -> str:
    return f"end that program (sudo kill {pid}, or systemctl stop where it is a service)"


def header_chip(machine: Machine) -> int:
    """Return the number of the chip of the board's header, as gpiozero finds it."""
    is_pi_5 = machine.text("/proc/device-tree/model").startswith("Raspberry Pi 5 ")
    return 4 if is_pi_5 and machine.at("/dev/gpiochip4").exists() else 0


def _other_chips(machine: Machine) -> str:
    there = machine.names("/dev/gpiochip*")
    if not there:
        return "this machine has no GPIO chip: is it a Raspberry Pi or a like board? `gatepost run --simulate` needs none"
    named = []
    for device in there:
        try:
            named.append(f"{device} ({machine.chip(device).label})")
        except OSError:
            named.append(device)
    return f"write `chip:`; there are {', '.join(named)}"
