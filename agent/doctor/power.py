"""What a Raspberry Pi says of its power supply and its heat.

The bits are those of `vcgencmd get_throttled` (Raspberry Pi documentation, "OS: vcgencmd"); the kernel shows them in sysfs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.doctor.findings import Finding, fault, note, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.machine import Machine

THROTTLED: Final = "/sys/devices/platform/soc*/soc*:firmware/get_throttled"

UNDERVOLTAGE: Final = 1 << 0
CAPPED: Final = 1 << 1
SLOWED: Final = 1 << 2
HOT: Final = 1 << 3
SINCE_BOOT: Final = 16
"""The same bits, so many places higher, say that it has been so since the machine was switched on."""

_SUPPLY: Final = "use the official power supply and a short, thick cable; unplug USB devices that draw much"
_COOL: Final = "give it air or a cooler, and keep it out of the sun"


def examine(machine: Machine) -> Iterator[Finding]:
    """Look at what the board says, where it says something."""
    for file in machine.names(THROTTLED):
        try:
            yield from judge(int(machine.text(file), 16))
        except ValueError:
            continue
        return
    for folder in machine.names("/sys/class/hwmon/hwmon*"):  # kernels without that file
        if machine.text(f"{folder}/name") == "rpi_volt":
            is_low = machine.text(f"{folder}/in0_lcrit_alarm") == "1"
            yield from judge(UNDERVOLTAGE << SINCE_BOOT if is_low else 0)


def judge(bits: int) -> Iterator[Finding]:
    """Say what the bits mean."""
    before = bits >> SINCE_BOOT
    if bits & UNDERVOLTAGE:
        yield fault("the voltage is too low now: the machine may stop, and spoil its card", _SUPPLY)
    elif before & UNDERVOLTAGE:
        yield note("the voltage has been too low since the machine was switched on", _SUPPLY)
    if bits & (SLOWED | HOT | CAPPED) and not bits & UNDERVOLTAGE:
        yield note("the processor is slowed down now: it is too hot", _COOL)
    elif before & (SLOWED | HOT | CAPPED) and not (bits | before) & UNDERVOLTAGE:
        yield note("the processor was slowed down since the machine was switched on: it was too hot", _COOL)
    if not bits & 0x000F_000F:
        yield ok("power supply and temperature were good since the machine was switched on")
