"""What the GPIO drivers share: one pin factory per chip and process, and errors that say what to do.

gpiozero reaches the pins through a pin factory: `lgpio` for real ones, `mock` for those of a simulation.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gpiozero import GPIOPinInUse, GPIOZeroError, PinUnknownPi
from gpiozero.pins.mock import MockFactory, MockPin

from agent.errors import Disconnected
from agent.needs import GpioLine, Library
from drivers._permissions import join_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpiozero import Device
    from gpiozero.pins import Factory

    from agent.needs import Need
    from agent.quantities import Pin

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
    import lgpio  # noqa: PLC0415 -- lgpio is not installed everywhere
    from gpiozero.pins.lgpio import LGPIOFactory, LGPIOPin  # noqa: PLC0415

    class SteadyPin(LGPIOPin):  # type: ignore[misc]  # gpiozero has no types
        """A pin that becomes an output with its level on it: gpiozero's is low first, which a relay can hear."""

        def output_with_state(self, state: Any) -> None:
            if self._callback is not None:  # type: ignore[has-type]  # gpiozero has no types
                self._callback.cancel()  # type: ignore[has-type]
                self._callback = None
            lgpio.gpio_claim_output(self.factory._handle, self._number, int(bool(state)))  # noqa: SLF001

    class AnyBoardFactory(LGPIOFactory):  # type: ignore[misc]  # gpiozero has no types
        """The pins of one chip, on a Raspberry Pi or on any other board with a GPIO character device."""

        def __init__(self, chip: int | None) -> None:
            super().__init__(chip)
            self.pin_class = SteadyPin
            # gpiozero keeps one table for the whole process, as if there were one chip only.
            self.pins: dict[Any, Any] = {}
            self._reservations: defaultdict[Any, list[Any]] = defaultdict(list)

        def _get_revision(self) -> int:
            try:
                return int(super()._get_revision())
            except PinUnknownPi:
                return _GENERIC_BOARD

    return AnyBoardFactory(chip)


def needs_of_pin(pin: Pin, chip: int | None, factory: FactoryName) -> Sequence[Need]:
    """Return what a pin needs: lgpio and the line of the chip; a mock pin needs nothing."""
    if factory == "mock":
        return []
    return [Library("lgpio", "pip install 'gatepost[gpio]'"), GpioLine(str(pin), int(pin), chip)]


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
            f"install it with: {sys.executable} -m pip install lgpio"
        ) from error
    except GPIOPinInUse as error:
        raise Disconnected(f"{pin} is in use by another device of this gateway") from error
    except Exception as error:
        if is_gpio_error(error):
            raise Disconnected(_cannot_take(pin, chip, error)) from error
        raise


def is_gpio_error(error: Exception) -> bool:
    """Tell whether GPIO is at fault: lgpio's own error is a bare Exception, and its module may not be there to name it."""
    return isinstance(error, GPIOZeroError | OSError) or type(error).__module__ == "lgpio"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Pass over errors of GPIO while a pin is given back: it may be gone with its chip."""
    try:
        yield
    except Exception as error:
        if not is_gpio_error(error):
            raise


def _cannot_take(pin: str, chip: int | None, error: Exception) -> str:
    """Say why a pin cannot be had, from the words of lgpio, which has no error numbers."""
    said = str(error).strip("'")
    device = f"/dev/gpiochip{chip or 0}"
    if "open gpiochip" in said:
        if not Path(device).exists():
            return f"there is no {device}: `gpiodetect` lists the chips there are; `chip:` chooses one"
        if not os.access(device, os.R_OK | os.W_OK):
            return f"cannot open {device}: permission denied; {join_group(device, 'gpio')}"
    if "busy" in said.lower():
        return f"{pin} is in use by another program or by the kernel; `gpioinfo` names it"
    if isinstance(error, FileNotFoundError) and ".lgd-nfy" in said:
        return "lgpio writes its pipes to the working directory, which is not writable; start in one that is"
    return f"cannot take {pin} of {device}: {said}"
