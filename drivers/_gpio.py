"""What the GPIO drivers share: one pin factory per chip and process, and errors that say what to do.

gpiozero reaches the pins through a pin factory: `lgpio` for real ones, `mock` for those of a simulation.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from gpiozero import GPIOPinInUse, GPIOZeroError, PinUnknownPi
from gpiozero.pins.mock import MockFactory, MockPin

from agent.errors import Disconnected

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpiozero import Device
    from gpiozero.pins import Factory

FactoryName = Literal["lgpio", "mock"]

_GENERIC_BOARD: Final = 0x902120
"""A board whose header pins 0 to 27 are lines 0 to 27 of the chip (Zero 2 W): how any other board is addressed."""


class WiredPin(MockPin):  # type: ignore[misc]  # gpiozero has no types
    """A mock pin to which something may be wired: a wire is stronger than the pull resistor inside the chip."""

    wired: bool | None = None

    def drive(self, level: bool | None) -> None:
        """Put a level on the wire; None for a wire that hangs loose."""
        self.wired = level
        if self._function == "input":
            self._set_pull(self._pull)

    def _set_pull(self, value: str) -> None:
        super()._set_pull(value)
        self._follow()

    def _follow(self) -> None:
        if self.wired is not None:
            (self.drive_high if self.wired else self.drive_low)()


@cache
def pin_factory(name: FactoryName, chip: int | None) -> Factory:
    """Return the factory of a chip's pins: always the same one, so that two devices cannot take the same pin."""
    if name == "mock":
        return MockFactory(pin_class=WiredPin)
    from gpiozero.pins.lgpio import LGPIOFactory  # noqa: PLC0415 -- lgpio is not installed everywhere

    class AnyBoardFactory(LGPIOFactory):  # type: ignore[misc]  # gpiozero has no types
        """The pins of one chip, on a Raspberry Pi or on any other board with a GPIO character device."""

        def __init__(self, chip: int | None) -> None:
            super().__init__(chip)
            # gpiozero keeps one table for the whole process, as if there were one chip only.
            self.pins: dict[Any, Any] = {}
            self._reservations: defaultdict[Any, list[Any]] = defaultdict(list)

        def _get_revision(self) -> int:
            try:
                return int(super()._get_revision())
            except PinUnknownPi:
                return _GENERIC_BOARD

    return AnyBoardFactory(chip)


def take(make: Callable[[Factory], Device], name: FactoryName, chip: int | None, pin: str) -> Device:
    """Make a gpiozero device.

    Raises:
        Disconnected: The pin cannot be had; the text says what to do.
    """
    try:
        return make(pin_factory(name, chip))
    except ImportError as error:
        raise Disconnected(
            "GPIO needs the Python library lgpio, which is not installed; "
            "install it with: pip install 'gatepost[gpio]'"
        ) from error
    except GPIOPinInUse as error:
        raise Disconnected(f"{pin} is in use by another device of this gateway") from error
    except Exception as error:
        # lgpio's own error is a bare Exception, and its module may not be there to name it.
        if isinstance(error, GPIOZeroError | OSError) or type(error).__module__ == "lgpio":
            raise Disconnected(_cannot_take(pin, chip, error)) from error
        raise


def _cannot_take(pin: str, chip: int | None, error: Exception) -> str:
    """Say why a pin cannot be had, from the words of lgpio, which has no error numbers."""
    said = str(error).strip("'")
    device = f"/dev/gpiochip{chip or 0}"
    if "open gpiochip" in said:
        return (
            f"cannot open {device}: `gpiodetect` lists the chips there are (`chip:` chooses one); "
            "without permission, add the user to its group: sudo usermod -aG gpio gatepost"
        )
    if "busy" in said.lower():
        return f"{pin} is in use by another program or by the kernel; `gpioinfo` names it"
    if isinstance(error, FileNotFoundError) and ".lgd-nfy" in said:
        return "lgpio writes its pipes to the working directory, which is not writable; start in one that is"
    return f"cannot take {pin} of {device}: {said}"
