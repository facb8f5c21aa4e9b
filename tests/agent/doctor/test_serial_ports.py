"""Serial ports, on a tree with real pseudo-terminals behind its names, and held by a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import serial
from support.fake_machines import FakeMachine, anna, case, of
from support.waiting import until

from agent.doctor import serial_ports
from agent.doctor.findings import Level
from agent.doctor.machine import Machine
from agent.doctor.processes import Processes
from agent.doctor.running import Running
from agent.needs import SerialPort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.case import Case
    from agent.doctor.findings import Finding

ADAPTER = "/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0"


@pytest.fixture
def terminal() -> Iterator[str]:
    """The name of a pseudo-terminal that nobody has open, but for the end that keeps it there."""
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    os.close(theirs)
    yield name
    os.close(ours)


@pytest.fixture
def machine(tmp_path: Path, terminal: str) -> FakeMachine:
    """A machine with one adapter."""
    machine = FakeMachine(tmp_path)
    machine.link("/dev/ttyUSB0", terminal)
    machine.link(ADAPTER, "../../ttyUSB0")
    return machine


def look(found: Case, path: str = ADAPTER) -> list[Finding]:
    return list(serial_ports.examine(SerialPort(path), found))


def test_a_port_that_is_there_and_free_is_fine_under_the_name_of_its_adapter(
    machine: FakeMachine, terminal: str
) -> None:
    (found,) = look(case(machine))
    assert found.level is Level.OK
    assert found.what == f"{ADAPTER} ({terminal}) is there, and no other program holds it"


def test_a_name_that_may_change_is_told_with_the_one_that_stays(machine: FakeMachine) -> None:
    (found,) = of(look(case(machine), "/dev/ttyUSB0"), Level.NOTE)
    assert "may become another adapter's name" in found.what
    assert found.do == f"write port: {ADAPTER}"


def test_a_port_that_is_missing_is_told_with_those_that_are_there(machine: FakeMachine) -> None:
    machine.write("/dev/ttyACM3")
    (found,) = look(case(machine), "/dev/ttyUSB7")
    assert (found.level, found.what) == (Level.FAULT, "there is no /dev/ttyUSB7")
    assert found.do == f"plug it in, or write another port; there are: {ADAPTER}, /dev/ttyACM3"


def test_a_machine_without_any_adapter_is_told_as_one(tmp_path: Path) -> None:
    (found,) = look(case(FakeMachine(tmp_path)))
    assert found.do == "plug it in; this machine has no serial adapter at all now"


def test_a_plain_file_is_no_port(machine: FakeMachine) -> None:
    machine.write("/dev/ttyUSB1")
    (found,) = look(case(machine), "/dev/ttyUSB1")
    assert found.what == "/dev/ttyUSB1 is not a serial port"


def test_a_user_who_may_not_open_it_is_told_the_group(machine: FakeMachine, terminal: str) -> None:
    Path(terminal).chmod(0o660)
    owner = Path(terminal).stat()
    (found,) = of(look(case(machine, user=anna())), Level.FAULT)
    assert found.what.startswith(f"anna may not open {ADAPTER}, which belongs to the group ")
    assert found.do.startswith("sudo usermod -aG ")
    assert " anna, then " in found.do
    assert not of(look(case(machine, user=anna(owner.st_gid))), Level.FAULT), "in that group, anna may"


def test_a_port_that_a_process_holds_is_told_with_its_number_and_program(
    tmp_path: Path, terminal: str
) -> None:
    script = "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, terminal], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        real = Machine()
        here = case(FakeMachine(tmp_path))._replace(machine=real, processes=Processes(real))
        held = look(here, terminal)
        ours = look(here._replace(agent=Running(pid=holder.pid)), terminal)
        holder.communicate()
    (found,) = of(held, Level.FAULT)
    assert f"{terminal} is held by {sys.executable} -c import os" in found.what
    assert f"(process {holder.pid}), too" in found.what
    assert f"sudo kill {holder.pid}" in found.do
    assert [each.level for each in ours] == [Level.OK], "held by the running agent"
    until(lambda: not Processes(real).holding(terminal), "nobody holds it any more")
    assert [each.level for each in look(here._replace(processes=Processes(real)), terminal)] == [Level.OK]


@pytest.mark.parametrize(
    ("program", "tip"),
    [("/usr/sbin/ModemManager", "disable --now ModemManager"), ("/sbin/agetty -o -p", "no login shell")],
)
def test_a_program_that_is_known_to_take_ports_is_told_with_how_to_keep_it_away(
    machine: FakeMachine, terminal: str, program: str, tip: str
) -> None:
    machine.process(812, program, "/dev/null", terminal)
    (found,) = of(look(case(machine)), Level.FAULT)
    assert f"is held by {program} (process 812), too" in found.what
    assert tip in found.do


def test_the_kernels_console_is_told(tmp_path: Path, terminal: str) -> None:
    machine = FakeMachine(tmp_path)
    machine.link("/dev/serial0", terminal)
    machine.write("/sys/class/tty/console/active", f"tty1 {terminal.removeprefix('/dev/')}\n")
    (found,) = look(case(machine), "/dev/serial0")
    assert found.level is Level.FAULT
    assert "is the kernel's console" in found.what


def test_no_port_is_opened(machine: FakeMachine, terminal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    truly = os.open

    def noted(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened.append(str(path))
        return truly(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", noted)
    monkeypatch.setattr(serial, "Serial", None)
    before = Path(terminal).stat()
    look(case(machine))
    assert not [path for path in opened if "tty" in path or "pts" in path]
    after = Path(terminal).stat()
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)
