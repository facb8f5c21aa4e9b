"""A contact that opens and closes, wired to one of gpiozero's mock pins.

Sample::

    simulate:
      square: {period: 20s, high_for: 5s}
      faults: {bounce: 5}
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

import msgspec

from agent import contracts
from agent.quantities import Duration
from drivers import gpio_input
from drivers._gpio import pin_factory
from simulators._signals import Square, key, uniform

if TYPE_CHECKING:
    from collections.abc import Iterator


class Faults(contracts.Settings, frozen=True):
    """How a contact goes wrong.

    Attributes:
        bounce: How often the contact bounces back each time it moves, about a millisecond apart.
        stuck_after: From then on it does not move any more.
    """

    bounce: int = 0
    stuck_after: Duration | None = None


class Settings(contracts.Settings, frozen=True):
    """What may be written under `simulate:`: one of square and steps.

    Attributes:
        square: The state is 1 for `high_for` of each `period`, then 0.
        steps: The state from each time on, such as [[0s, 0], [15s, 1]].
        faults: How the contact goes wrong.
    """

    square: Square = Square(period=Duration(10), high_for=Duration(2))
    steps: list[tuple[Duration, float]] | None = None
    faults: Faults = Faults()

    def changes(self) -> Iterator[tuple[float, bool]]:
        """Yield each time, in seconds since the simulation began, with the state from then on."""
        if self.steps is not None:
            yield from ((float(at), bool(state)) for at, state in self.steps)
            return
        for cycle in itertools.count():
            began = cycle * self.square.period
            yield began, True
            yield began + self.square.on_for(), False

    def __post_init__(self) -> None:
        """Refuse steps that are none."""
        if self.steps is not None and (not self.steps or self.steps != sorted(self.steps)):
            raise ValueError("steps needs at least one step, such as [[0s, 0]], and all in order of time")


class Simulator(contracts.Simulator[gpio_input.Settings]):
    """The wire and the contact at its end."""

    def __init__(self, device: gpio_input.Settings, simulate: Settings, seed: int) -> None:
        super().__init__(device, simulate, seed)
        self.simulate: Settings = simulate
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> gpio_input.Settings:
        """Wire the contact to the pin."""
        self._pin = pin_factory("mock", self.device.chip).pin(int(self.device.pin))
        changes = self.simulate.changes()
        self._move(next(changes)[1])
        self._task = asyncio.create_task(self._run(changes))
        return msgspec.structs.replace(self.device, factory="mock")

    async def close(self) -> None:
        """Take the wire off."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            self._pin.drive(None)

    async def _run(self, changes: Iterator[tuple[float, bool]]) -> None:
        """Move the contact in time, bouncing where it is worn."""
        loop, faults = asyncio.get_running_loop(), self.simulate.faults
        began = loop.time()
        for time, state in changes:
            if faults.stuck_after is not None and time > faults.stuck_after:
                return
            await asyncio.sleep(max(0.0, began + time - loop.time()))
            self._move(state)
            for bounce in range(faults.bounce):
                await asyncio.sleep(0.002 * uniform(key(self.seed, "bounce"), bounce))
                self._move(not state)
                self._move(state)

    def _move(self, state: bool) -> None:
        self._pin.drive(state == self.device.active_high())
