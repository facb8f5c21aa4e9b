"""A switch on a GPIO pin: door contacts, buttons, motion detectors, float switches, pulse outputs of meters.

Wire a contact between the pin and GND and write `pull: up` (a closed contact is then 1), or between the pin and 3.3 V
and write `pull: down`. Pins stand 3.3 V, never 5 V. GPIO2 and GPIO3 have a pull-up resistor on the board. On boards
other than the Raspberry Pi a pin is the line of that number on `chip`.

The kernel queues each edge with its time, so none is missed between two looks. With `debounce`, a change counts once the contact
has kept still for so long, and its time is that of the first edge, when the contact began to move.

Sample::

    devices:
      door:
        driver: gpio_input
        pin: 17
        pull: up
        debounce: 50ms
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from gpiozero import InputDevice

from agent import contracts
from agent.errors import Disconnected
from agent.events import Reading
from agent.quantities import Duration, Pin
from drivers._gpio import FactoryName, needs_of_pin, quiet, take

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpiozero.pins import Factory

    from agent.needs import Need

_MOST_WAITING: Final = 10_000
_PULLS: Final = {"up": True, "down": False, "none": None}


class Settings(contracts.Settings, frozen=True):
    """What may be written beside `driver: gpio_input`.

    Attributes:
        pin: The pin: 17, GPIO17 or BOARD11.
        pull: The resistor inside the chip that holds the pin while nothing drives it.
        active: The level that counts as 1; low where the pull is up, else high.
        debounce: How long the contact must keep still for a change to count; every edge counts where it is not said.
        chip: The number of the GPIO chip, as in /dev/gpiochip0; the one of the header where it is not said.
        factory: How gpiozero reaches the pins: lgpio, or mock in a simulation.
    """

    pin: Pin
    pull: Literal["up", "down", "none"] = "none"
    active: Literal["high", "low"] | None = None
    debounce: Duration | None = None
    chip: int | None = None
    factory: FactoryName = "lgpio"

    def __post_init__(self) -> None:
        """Refuse a pull that the board does not allow."""
        if self.pin in {2, 3} and self.pull != "up":
            raise ValueError(f"{self.pin} has a pull-up resistor on the board, so its pull can only be up")

    def active_high(self) -> bool:
        """Tell whether the high level counts as 1."""
        return self.active == "high" if self.active else self.pull != "up"

    def claims(self) -> str:
        """Return what only one device may use: the pin."""
        return str(self.pin) if self.chip is None else f"{self.pin} of gpiochip{self.chip}"

    def needs(self) -> Sequence[Need]:
        """Return what must be there before it can be opened."""
        return needs_of_pin(self.pin, self.chip, self.factory)


class Driver(contracts.Driver[Settings]):
    """Takes edges from gpiozero's thread over to the event loop, in order."""

    tells_state: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._device: InputDevice | None = None
        self._readings: deque[Reading] = deque(maxlen=_MOST_WAITING)
        self._arrived = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def channels(self) -> Mapping[str, str]:
        """Return the one channel: 1 or 0, without a unit."""
        return {"state": ""}

    async def open(self) -> None:
        """Take the pin; its present state is the first reading."""
        settings = self.settings
        self._readings.clear()
        self._first_edge: float | None = None
        self._loop = asyncio.get_running_loop()
        self._device = take(self._make, settings.factory, settings.chip, str(settings.pin))
        self._pin = self._device.pin
        self._report(self._look(), time.monotonic())

    def _make(self, factory: Factory) -> InputDevice:
        pull = _PULLS[self.settings.pull]
        # gpiozero takes the active level only where there is no pull, so levels are turned into states here. And
        # not its bounce_time: lgpio's does nothing on kernels since 5.7 (joan2937/lg issue 19), and mock pins have
        # none. Debouncing here is the same everywhere, and keeps the time of the first edge.
        active = True if pull is None else None
        device = InputDevice(int(self.settings.pin), pull_up=pull, active_state=active, pin_factory=factory)
        try:
            device.pin.edges = "both"
            device.pin.when_changed = self._on_edge
        except BaseException:
            device.close()
            raise
        return device

    async def read(self) -> Sequence[Reading]:
        """Return the changes since the last look, as soon as there is one."""
        if self._device is None:
            raise Disconnected(f"{self.settings.pin} is not open")
        while not self._readings:
            self._arrived.clear()
            await self._arrived.wait()
        readings = list(self._readings)
        self._readings.clear()
        return readings

    async def close(self) -> None:
        """Give the pin back, if it is taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._device is not None:
            device, self._device = self._device, None
            with quiet():
                device.pin.when_changed = None
            with quiet():
                device.close()

    # --- in gpiozero's thread ---------------------------------------------------------------------------------------

    def _on_edge(self, ticks: float, level: Any) -> None:
        """Hand an edge to the event loop."""
        now = time.monotonic()
        # The kernel's time of the edge is monotonic since Linux 5.7; older ones give the time of day.
        at = ticks if 0 <= now - ticks < 10 else now
        self._loop.call_soon_threadsafe(self._take_edge, bool(level), at)

    # --- on the event loop ------------------------------------------------------------------------------------------

    def _look(self) -> int:
        return int(bool(self._pin.state) == self.settings.active_high())

    def _take_edge(self, level: bool, at: float) -> None:
        if self._device is None:
            return  # it was on its way while the pin was given back
        debounce = self.settings.debounce
        if not debounce:
            self._report(int(level == self.settings.active_high()), at)
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._first_edge is None:
            self._first_edge = at
        self._timer = self._loop.call_later(debounce, self._settled)

    def _settled(self) -> None:
        """Report the state after the bounces, as the pin has it now: an edge may have got lost among them."""
        at, self._first_edge, self._timer = self._first_edge, None, None
        state = self._look()
        if state != self._state:
            self._report(state, at)

    def _report(self, state: int, at: float | None) -> None:
        self._state = state
        self._readings.append(Reading({"state": state}, at))
        self._arrived.set()
