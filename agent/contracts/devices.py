"""What is wired to the gateway: drivers, outputs, and the simulators that stand in for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from agent.contracts.settings import S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Reading, Value


class Driver(ABC, Generic[S]):
    """One device. Called only from the agent's event loop, one call at a time.

    A polled driver's settings have a field `every: Duration`, and the runner calls `read` that often. Without that
    field the driver is event-driven: `read` returns when something happened.
    """

    blocking: ClassVar[bool] = False
    """True where `open`, `read` and `close` are plain functions that may block: see `BlockingDriver`."""

    tells_state: ClassVar[bool] = False
    """True where the first reading after `open` is the present state, as of a contact; `gatepost test` must know."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def channels(self) -> Mapping[str, str] | None:
        """Return the unit by channel, as far as the settings tell; None where only the device knows.

        Called at any time, also before `open`. A unit is its UCUM or usual symbol (`Cel`, `%`, `V`), "" where there
        is none.
        """
        return None

    @abstractmethod
    async def open(self) -> None:
        """Take the device.

        Raises:
            Disconnected: It is not there, or not ours to take; the runner tries again after backoff.
        """

    @abstractmethod
    async def read(self) -> Sequence[Reading]:
        """Return the next readings, oldest first; never none for a polled driver. May be cancelled while it waits.

        Raises:
            Disconnected: The device is gone; the runner closes and opens again.
            BadReading: Something arrived that makes no sense; the runner keeps the evidence and reads on.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give the device back. Never raises."""


class BlockingDriver(ABC, Generic[S]):
    """A polled device behind a library that blocks: the same three verbs as plain functions.

    The runner calls them in one thread per bus, so one bus is never used twice at once, and one dead device never
    stalls those of another bus.
    """

    blocking: ClassVar[bool] = True

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def channels(self) -> Mapping[str, str] | None:
        """Return the unit by channel, as far as the settings tell: see `Driver.channels`."""
        return None

    def bus(self) -> str:
        """Return the name of what may be used by one thread only, such as `i2c-1` or `/dev/ttyS0`."""
        return f"device-{id(self)}"

    @abstractmethod
    def open(self) -> None:
        """Take the device: see `Driver.open`."""

    @abstractmethod
    def read(self) -> Sequence[Reading]:
        """Return the next readings: see `Driver.read`."""

    @abstractmethod
    def close(self) -> None:
        """Give the device back: see `Driver.close`."""


class Output(Driver[S]):
    """A driver that can also write. It puts its safe value out in `open` and in `close`.

    What it writes it reports as a reading, so the log shows what an output did.
    """

    @abstractmethod
    def safe(self) -> Mapping[str, Value]:
        """Return the safe value by channel, of every channel that can be set. Called at any time, also before `open`."""

    def checked(self, channel: str, value: Value) -> Value:
        """Return a value as the channel's readings have it, such as 1 for `on`. Touches no device.

        Raises:
            ValueError: There is no such channel, or it cannot have this value.
        """
        if channel not in self.safe():
            raise ValueError(f"there is no channel {channel!r}; there is {', '.join(self.safe())}")
        return int(value) if isinstance(value, bool) else value

    @abstractmethod
    async def write(self, channel: str, value: Value) -> None:
        """Set a channel. One that takes longer than 10 s is cancelled, and has failed.

        Raises:
            ValueError: There is no such channel, or it cannot have this value.
            Disconnected: The output is not there.
        """


class Simulator(ABC, Generic[S]):
    """A device that isn't there, behind a real address. The driver cannot tell.

    A simulator module may have its own `Settings`: what the operator may write under `simulate:` of the device.
    """

    def __init__(self, device: S, simulate: Any, seed: int) -> None:
        """Store the driver's settings, the simulator's own `Settings`, and the seed of all its randomness."""
        self.device = device
        self.simulate = simulate
        self.seed = seed

    @abstractmethod
    async def open(self) -> S:
        """Bring the device up and return the driver's settings with the address replaced."""

    @abstractmethod
    async def close(self) -> None:
        """Take it down. Never raises."""
