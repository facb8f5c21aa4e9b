"""What of the machine the service may use, from its configuration: classes of devices, and where the log is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent import needs
from agent.needs import File, GpioLine, Need, SerialPort
from agent.service.layout import STATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.config import Config

_MODULES: Final = {"ttyUSB": "usbserial", "ttyACM": "cdc_acm"}
"""By the class of a device, the kernel module that brings it. A class is allowed only if the kernel has it already when
the service starts, so that without this an adapter that is plugged in later would stay closed."""

_BUSES: Final = {"i2c": ("char-i2c", "i2c", "i2c-dev"), "spidev": ("char-spi", "spi", "spidev")}
"""By the beginning of a bus's device file: its class, group and kernel module."""

_HEADER_PORTS: Final = ("ttyAMA", "ttyS")
"""What /dev/serial0 may be, on the different models of Raspberry Pi."""


class DeviceClass(msgspec.Struct, frozen=True, order=True):
    """Devices that are allowed together.

    Attributes:
        devices: As systemd names it, such as char-gpiochip: see DeviceAllow in systemd.resource-control(5).
        group: The group that its device files belong to.
        module: The kernel module that has to be there first; "" for none.
    """

    devices: str
    group: str
    module: str = ""


class Access(msgspec.Struct, frozen=True):
    """What a configuration needs.

    Attributes:
        classes: The devices, each class once, in a fixed order.
        log_folder: Where the log is written, if that is not the state folder.
    """

    classes: tuple[DeviceClass, ...] = ()
    log_folder: Path | None = None


def access_of(config: Config) -> Access:
    """Return what a configuration needs."""
    wanted = [need for device in config.devices.values() for need in needs.needs_of(device.settings)]
    # A path without a root is one of the working directory, which is the state folder.
    log = Path(config.log.path or "").parent
    elsewhere = log.is_absolute() and not log.is_relative_to(STATE_FOLDER)
    return Access(tuple(classes_of(wanted)), log if elsewhere else None)


def classes_of(wanted: Iterable[Need]) -> list[DeviceClass]:
    """Return the classes of devices that are needed, each once, in a fixed order.

    They are whole classes and not single devices: the number of an adapter changes as it is plugged, and systemd would
    have to know it when the service starts.
    """
    found: set[DeviceClass] = set()
    for need in wanted:
        match need:
            case SerialPort(path):
                found |= {
                    DeviceClass(f"char-{kind}", "dialout", _MODULES.get(kind, "")) for kind in _kinds(path)
                }
            case GpioLine():
                found.add(DeviceClass("char-gpiochip", "gpio"))
            case File(path, group) if path.startswith("/dev/"):
                found.add(_of_file(path, group))
    return sorted(found)


def _of_file(path: str, group: str) -> DeviceClass:
    """Return what a device file is: a bus by its class, for its kernel module may come late; another by its name."""
    for bus, (name, usual, module) in _BUSES.items():
        if re.fullmatch(rf"/dev/{bus}-?[\d.]+", path):
            return DeviceClass(name, group or usual, module)
    return DeviceClass(path, group)


def _kinds(port: str) -> Iterable[str]:
    """Return the classes of serial port that a path may stand for: a link, for whatever it may lead to."""
    for path in (port, str(Path(port).resolve())):
        if found := re.fullmatch(r"/dev/(tty[A-Za-z]+)\d+", path):
            return [found[1]]
    if re.fullmatch(r"/dev/serial\d", port):
        return _HEADER_PORTS
    return _MODULES if port.startswith("/dev/") and not port.startswith("/dev/pts/") else ()
