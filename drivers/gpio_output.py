"""A switch that we turn: relays, lamps, fans, valves, sirens on a GPIO pin.

A pin drives a few milliamperes at 3.3 V: put a relay board or a transistor between. Relay boards that switch on when
the pin is low need `active: low`.

The safe value is put out when the output is opened, without a glitch, when it is closed, and when the agent ends in any
way that lets Python run. Once the agent has ended, however it ended, the kernel makes the pin an input again, and only a
resistor outside holds it: wire 10 kΩ to the level that is safe, to GND for `active: high`, to 3.3 V for `active: low`.

Sample::

    devices:
      fan:
        driver: gpio_output
        pin: 27
        safe: off
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Literal

from gpiozero import DigitalOutputDevice

from agent import contracts
from agent.errors import Disconnected
from agent.events import Reading, Value
from agent.quantities import Pin
from drivers._gpio import FactoryName, is_gpio_error, needs_of_pin, quiet, take

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpiozero.pins import Factory

    from agent.needs import Need

_MOST_WAITING: Final = 1_000
_WORDS: Final = {"on": 1, "off": 0}


class Settings(contracts.Settings, frozen=True):
    """What may be written beside `driver: gpio_output`.

    Attributes:
        pin: The pin: 27, GPIO27 or BOARD13.
        active: The level that switches on what is wired to the pin.
        safe: on or off: what is put out while nobody is in charge.
        chip: The number of the GPIO chip, as in /dev/gpiochip0; the one of the header where it is not said.
        factory: How gpiozero reaches the pins: lgpio, or mock in a simulation.
    """

    pin: Pin
    active: Literal["high", "low"] = "high"
    safe: bool = False
    chip: int | None = None
    factory: FactoryName = "lgpio"

    def claims(self) -> str:
        """Return what only one device may use: the pin."""
        return str(self.pin) if self.chip is None else f"{self.pin} of gpiochip{self.chip}"

    def needs(self) -> Sequence[Need]:
        """Return what must be there before it can be opened."""
        return needs_of_pin(self.pin, self.chip, self.factory)


class Driver(contracts.Output[Settings]):
    """Puts values out, and reports each as a reading."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._device: DigitalOutputDevice | None = None
        self._readings: deque[Reading] = deque(maxlen=_MOST_WAITING)
        self._arrived = asyncio.Event()

    def channels(self) -> Mapping[str, str]:
        """Return the one channel: 1 or 0, without a unit."""
        return {"state": ""}

    async def open(self) -> None:
        """Take the pin with the safe value on it, without a glitch."""
        settings = self.settings

        def make(factory: Factory) -> DigitalOutputDevice:
            return DigitalOutputDevice(
                int(settings.pin),
                active_high=settings.active == "high",
                initial_value=settings.safe,
                pin_factory=factory,
            )

        self._readings.clear()
        self._device = take(make, settings.factory, settings.chip, str(settings.pin))
        atexit.register(self._make_safe)
        self._report(int(settings.safe))

    async def read(self) -> Sequence[Reading]:
        """Return what was put out since the last look, as soon as there is something."""
        if self._device is None:
            raise Disconnected(f"{self.settings.pin} is not open")
        while not self._readings:
            self._arrived.clear()
            await self._arrived.wait()
        readings = list(self._readings)
        self._readings.clear()
        return readings

    def safe(self) -> Mapping[str, Value]:
        """Return what is put out while nobody is in charge."""
        return {"state": int(self.settings.safe)}

    def checked(self, channel: str, value: Value) -> Value:
        """Return 1 or 0 for 1, 0, on, off, true or false.

        Raises:
            ValueError: There is no such channel, or the value is neither on nor off.
        """
        if channel != "state":
            raise ValueError(f"there is no channel {channel!r}; the only one is state")
        state = _WORDS.get(value) if isinstance(value, str) else value
        if state is None or state not in {0, 1}:
            raise ValueError(f"{value!r} is neither on nor off")
        return int(state)

    async def write(self, channel: str, value: Value) -> None:
        """Switch on or off.

        Raises:
            ValueError: There is no such channel, or the value is neither on nor off.
            Disconnected: The output is not there.
        """
        state = self.checked(channel, value)
        if self._device is None:
            raise Disconnected(f"{self.settings.pin} is not open")
        try:
            self._device.value = state
        except Exception as error:
            if is_gpio_error(error):
                raise Disconnected(
                    f"{self.settings.pin} cannot be set: {error}; is its chip still there?"
                ) from error
            raise
        self._report(state)

    async def close(self) -> None:
        """Put the safe value out and give the pin back, if it is taken."""
        atexit.unregister(self._make_safe)
        if self._device is not None:
            self._make_safe()
            device, self._device = self._device, None
            with quiet():
                device.close()

    def _make_safe(self) -> None:
        if self._device is not None:
            with quiet():
                self._device.value = int(self.settings.safe)

    def _report(self, state: Value) -> None:
        self._readings.append(Reading({"state": state}, time.monotonic()))
        self._arrived.set()
