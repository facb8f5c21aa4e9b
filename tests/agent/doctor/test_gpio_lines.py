"""GPIO lines: what the kernel answers is read as its header says, and told so that one can act."""

from __future__ import annotations

import fcntl
import struct
from typing import TYPE_CHECKING

import pytest
from support.fake_machines import FakeMachine, anna, case, of

from agent.doctor import gpio_lines
from agent.doctor.findings import Level
from agent.doctor.machine import Chip, Line, Machine
from agent.doctor.running import Running
from agent.needs import GpioLine, needs_of
from agent.quantities import Pin
from drivers import gpio_input, gpio_output

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.case import Case
    from agent.doctor.findings import Finding

DOOR = GpioLine("GPIO17", 17)


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """A machine with one chip."""
    machine = FakeMachine(tmp_path)
    machine.write("/dev/gpiochip0").chmod(0o660)
    return machine


def look(found: Case, need: GpioLine = DOOR) -> list[Finding]:
    return list(gpio_lines.examine(need, found))


def used(machine: FakeMachine, consumer: str) -> None:
    machine.lines["/dev/gpiochip0", 17] = Line("GPIO17", consumer, is_used=True, is_output=False)


def holder(machine: FakeMachine, pid: int, offset: int) -> None:
    """Let a process hold a line, as newer kernels tell it."""
    machine.process(pid, "/usr/bin/python3 door.py", "anon_inode:gpio-line")
    machine.write(
        f"/proc/{pid}/fdinfo/3",
        f"pos:\t0\nflags:\t02\ngpio-chip:\tgpiochip0\ngpio-line:\t4\ngpio-line:\t{offset}\n",
    )


def test_a_line_that_nobody_has_is_free(machine: FakeMachine) -> None:
    (found,) = look(case(machine))
    assert (found.level, found.what) == (Level.OK, "GPIO17 (line 17 of /dev/gpiochip0) is free")


def test_a_line_that_a_process_has_is_told_with_its_number_and_program(machine: FakeMachine) -> None:
    used(machine, "lg")
    holder(machine, 977, 17)
    (found,) = look(case(machine))
    assert found.level is Level.FAULT
    assert found.what.endswith("is held by /usr/bin/python3 door.py (process 977), which calls itself 'lg'")
    assert "sudo kill 977" in found.do


def test_a_line_of_the_running_agent_is_fine(machine: FakeMachine) -> None:
    used(machine, "lg")
    holder(machine, 977, 17)
    (found,) = look(case(machine, agent=Running(pid=977)))
    assert (found.level, found.what.endswith("is held by the running agent")) == (Level.OK, True)


def test_a_line_of_another_process_is_a_fault_also_while_an_agent_runs(machine: FakeMachine) -> None:
    used(machine, "lg")
    holder(machine, 977, 17)
    (found,) = look(case(machine, agent=Running(pid=555)))
    assert found.level is Level.FAULT


@pytest.mark.parametrize("handle", ["gpio-linehandle", "gpio-event", "gpio-line"])
def test_a_process_whose_lines_the_kernel_does_not_tell_may_have_it(
    machine: FakeMachine, handle: str
) -> None:
    """As with ABI v1, and with kernels before they told it."""
    used(machine, "gpioset")
    machine.process(977, "gpioset --mode=signal gpiochip0 17=1", "/dev/gpiochip0", f"anon_inode:{handle}")
    machine.write("/proc/977/fdinfo/4", "pos:\t0\nflags:\t02\n")
    (found,) = look(case(machine))
    assert found.level is Level.FAULT
    assert found.what.endswith("is held by gpioset --mode=signal gpiochip0 17=1 (process 977), as it seems")
    (found,) = look(case(machine, agent=Running(pid=977)))
    assert (found.level, found.what.endswith("by the running agent as it seems")) == (Level.OK, True)
    used(machine, "onewire@0")
    (found,) = look(case(machine))
    assert found.what.endswith("is in use by the kernel or a program, which calls itself 'onewire@0'")
    assert "sudo kill" not in found.do, "it may well be innocent"
    assert found.do.endswith("else it may be gpioset --mode=signal gpiochip0 17=1 (process 977)")


def test_a_line_that_no_process_has_is_the_kernels(machine: FakeMachine) -> None:
    used(machine, "onewire@0")
    holder(machine, 977, 18)
    (found,) = look(case(machine))
    assert (found.level, found.what) == (
        Level.FAULT,
        "GPIO17 (line 17 of /dev/gpiochip0) is in use by the kernel, which calls itself 'onewire@0'",
    )
    assert "dtoverlay=" in found.do


def test_a_chip_that_is_missing_is_told_with_those_that_are_there(machine: FakeMachine) -> None:
    (found,) = look(case(machine), GpioLine("GPIO17", 17, chip=4))
    assert (found.level, found.what) == (Level.FAULT, "GPIO17 needs /dev/gpiochip4, which is not there")
    assert found.do == "write `chip:`; there are /dev/gpiochip0 (pinctrl-bcm2711)"


def test_a_line_that_the_chip_does_not_have_is_told(machine: FakeMachine) -> None:
    (found,) = look(case(machine), GpioLine("GPIO90", 90))
    assert found.what == "/dev/gpiochip0 (pinctrl-bcm2711) has no line 90, only 0 to 57"


def test_a_user_who_may_not_open_the_chip_is_told_the_group(machine: FakeMachine) -> None:
    (found,) = of(look(case(machine, user=anna())), Level.FAULT)
    assert found.what.startswith("anna may not open /dev/gpiochip0")
    assert found.do.startswith("sudo usermod -aG ")


def test_a_chip_that_only_the_user_may_ask_is_a_note(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> Chip:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine, "chip", refuse)
    (found,) = look(case(machine))
    assert (found.level, found.do) == (Level.NOTE, "call this again with sudo")
    (found,) = look(case(machine, user=anna()))
    assert (found.level, found.what.startswith("anna may not open")) == (Level.FAULT, True)


def test_a_file_that_is_no_chip_is_a_fault(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "chip", Machine(machine.root).chip)
    (found,) = look(case(machine))
    assert found.level is Level.FAULT
    assert "does not tell about GPIO17" in found.what


@pytest.mark.parametrize(
    ("model", "has_chip_4", "number"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0\0", True, 4),
        ("Raspberry Pi 5 Model B Rev 1.0\0", False, 0),
        ("Raspberry Pi 4 Model B Rev 1.4\0", True, 0),
        ("", False, 0),
    ],
)
def test_the_chip_of_the_header_is_the_one_that_the_driver_takes(
    tmp_path: Path, model: str, has_chip_4: bool, number: int
) -> None:
    machine = FakeMachine(tmp_path)
    machine.write("/proc/device-tree/model", model)
    if has_chip_4:
        machine.write("/dev/gpiochip4")
    assert gpio_lines.header_chip(machine) == number


def test_the_kernels_answers_are_read_as_linux_gpio_h_lays_them_out(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, from include/uapi/linux/gpio.h: the numbers of the requests hold the sizes of what they carry."""
    asked: list[tuple[int, bytes]] = []

    def answer(_: int, request: int, question: bytes) -> bytes:
        asked.append((request, question))
        raw = bytearray(len(question))
        if request == 0x8044B401:  # GPIO_GET_CHIPINFO_IOCTL, 0x44 = 68 bytes
            raw[32:47], raw[64:68] = b"pinctrl-bcm2711", struct.pack("=I", 58)
        else:
            raw[0:6], raw[32:34], raw[64:68] = b"GPIO17", b"lg", question[64:68]
            raw[72:80] = struct.pack("=Q", 0b1001)  # GPIO_V2_LINE_FLAG_USED, GPIO_V2_LINE_FLAG_OUTPUT
        return bytes(raw)

    monkeypatch.setattr(fcntl, "ioctl", answer)
    real = Machine(machine.root)
    assert real.chip("/dev/gpiochip0") == Chip("pinctrl-bcm2711", 58)
    assert real.line("/dev/gpiochip0", 17) == Line("GPIO17", "lg", is_used=True, is_output=True)
    (_, chip), (request, line) = asked
    assert len(chip) == 0x44
    assert request == 0xC100B405  # GPIO_V2_GET_LINEINFO_IOCTL, 0x100 = 256 bytes
    assert (len(line), line[64:68], line.count(0)) == (256, struct.pack("=I", 17), 255)


def test_the_drivers_say_which_line_they_need_and_mock_pins_need_none() -> None:
    for module in (gpio_input, gpio_output):
        _, line = needs_of(module.Settings(pin=Pin(17), chip=2))
        assert line == GpioLine("GPIO17", 17, 2)
        assert not needs_of(module.Settings(pin=Pin(17), factory="mock"))
