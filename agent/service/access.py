"""What of the machine's hardware the service may use: from what the drivers of a configuration say they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent import needs
from agent.needs import File, GpioLine, Need, SerialPort

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.config import Config

_MODULES: Final = {"ttyUSB": "usbserial", "ttyACM": "cdc_acm"}
"""By the class of a device, the kernel module that brings it. A class is allowed only if the kernel has it already when
the service starts, so that without this an adapter that is plugged in later would stay closed."""

_BUSES: Final = {"i2c": ("char-i2c", "i2c", "i2c-dev"), "spidev": ("char-spi", "spi", "spidev")}
"""By the beginning of a bus's device file: its class, group and kernel module."""

_HEADER_PORTS: Final = ("ttyAMA", "ttyS")
"""What /dev/serial0 may be, on the different models of Raspberry Pi."""


class Access(msgspec.Struct, frozen=True, order=True):
    """One class of devices.

    Attributes:
        devices: As systemd names it, such as char-gpiochip: see DeviceAllow in systemd.resource-control(5).
        group: The group that its device files belong to.
        module: The kernel module that has to be there first; "" for none.
    """

    devices: str
    group: str
    module: str = ""


def needs_of(config: Config) -> Iterator[Need]:
    """Return what the devices of a configuration need."""
    for device in config.devices.values():
        yield from needs.needs_of(device.settings)


def access_to(wanted: Iterable[Need]) -> list[Access]:
    """Return the classes of devices that are needed, each once, in a fixed order.

    They are whole classes and not single devices: the number of an adapter changes as it is plugged, and systemd would
    have to know it when the service starts.
    """
    found: set[Access] = set()
    for need in wanted:
        match need:
            case SerialPort(path):
                found |= {Access(f"char-{kind}", "dialout", _MODULES.get(kind, "")) for kind in _kinds(path)}
            case GpioLine():
                found.add(Access("char-gpiochip", "gpio"))
            case File(path, group) if path.startswith("/dev/"):
                found.add(_of_file(path, group))
    return sorted(found)


def _of_file(path: str, group: str) -> Access:
    """Return what a device file is: a bus by its class, for its kernel module may come late; another by its name."""
    for bus, (name, usual, module) in _BUSES.items():
        if re.fullmatch(rf"/dev/{bus}-?[\d.]+", path):
            return Access(name, group or usual, module)
    return Access(path, group)


def _kinds(port: str) -> Iterable[str]:
    """Return the classes of serial port that a path may stand for: a link, for whatever it may lead to."""
    for path in (port, str(Path(port).resolve())):
        if found := re.fullmatch(r"/dev/(tty[A-Za-z]+)\d+", path):
            return [found[1]]
    if re.fullmatch(r"/dev/serial\d", port):
        return _HEADER_PORTS
    return _MODULES if port.startswith("/dev/") and not port.startswith("/dev/pts/") else ()
