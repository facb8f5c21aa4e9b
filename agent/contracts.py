"""What a driver, an output, a rule, a forwarder, an encoding and a simulator must do; no behaviour.

The first file to read. Each kind lives in a module of its own; the module's name is the kind, and the class has the
name of its role: `drivers/gpio_input.py: Driver`. Beside it the module has a frozen `Settings`, and its docstring
ends with a sample in YAML, after a line that reads `Sample::`, which a test loads.

Constructors only store. Resources are taken in `open` or `connect` and given back in `close`, which may be called
at any time, also twice and also half-way. The runner owns time: nothing here sleeps to retry, catches broadly, or
logs a lost connection; it raises one of the errors of `agent.errors`, which say who acts next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from agent.events import Delivery, Severity, Value

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from agent.events import Event, Reading, Request


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator may write for one kind. Subclasses name the fields, in the operator's words.

    A field's documentation is the text under `Attributes:` in the class docstring; it is what `gatepost show` and
    editors show. `__post_init__` may raise ValueError for fields that do not fit together.
    """


S = TypeVar("S", bound=Settings)


# --- devices ------------------------------------------------------------------------------------------------------


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
        """Set a channel.

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


# --- rules --------------------------------------------------------------------------------------------------------


class Transition(msgspec.Struct, frozen=True):
    """What a rule derives: its alarm is raised, cleared or changes its severity, by this value against this limit.

    Attributes:
        active: True where the alarm is raised, or goes on with another severity.
        of: The channel that it is about, such as `air.temperature`.
        value: The value that tripped it.
        limit: What the value was held against, as it is written in the configuration, such as `above 35`.
        since: When the condition began, in seconds of the monotonic clock.
        severity: That of the step, where the rule has limits by severity.
    """

    active: bool
    of: str
    value: Value
    limit: str
    since: float
    severity: Severity | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a rule says to a reading, an event or the time.

    Attributes:
        keep: The reading matters to the rule (a condition began or ended), so the log must keep it.
        transition: The alarm's change of state, if there is one.
    """

    keep: bool = False
    transition: Transition | None = None


class Rule(ABC, Generic[S]):
    """A pure state machine. It never looks at a clock, so the same input gives the same output.

    Attributes:
        message: The text of its alarms where the operator has written none; a kind's own, or that of its settings.
        deadline: When it next wants the time, in seconds of the monotonic clock; None where it does not.
        is_unsaved: Whether `state` would say something new that may be saved within a minute, where it is long within
            some; the rulebook sets it back. What must not be forgotten comes as a verdict.
    """

    message: str = "{of} is {value}, {limit}"
    deadline: float | None = None
    is_unsaved: bool = False

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def watches(self) -> Sequence[str]:
        """Return the channels whose readings it wants, such as `air.temperature`."""

    def follows(self) -> Sequence[str]:
        """Return the rules whose alarms it wants."""
        return ()

    def hears(self) -> Sequence[tuple[str, str]]:
        """Return the events other than readings and alarms that it wants, as type and source: `device.down`, `scale`."""
        return ()

    @abstractmethod
    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:
        """Take in a value of a channel that it watches, seen at a time of the monotonic clock, in seconds.

        None (the usual answer) means that nothing changed. A value of None has no usable quality.
        """

    def note(self, channel: str, value: Value, at: float) -> bool:  # noqa: ARG002
        """Take in a value without judging it, for another of the same reading is about to come to `on_reading`.

        A rule over several channels does, so that it never holds a new value against the old one of the same device.
        False (where each value counts on its own) means that it has not, and `on_reading` is to be called.
        """
        return False

    def show_latest(self, latest: Mapping[str, tuple[Value, float]], at: float) -> Verdict | None:  # noqa: ARG002
        """Take in what its channels said last, before it began to listen: of a rule that is at work at times only.

        A kind that judges how things are judges it, as if it came now. For a kind that counts what happens it is where it
        begins, and nothing that has happened. None where old values say nothing, as here.

        Args:
            latest: By channel the value, and when it was seen.
            at: The present time; all times are of the monotonic clock, in seconds.
        """
        return None

    def on_rule(self, name: str, at: float, *, active: bool) -> Verdict | None:  # noqa: ARG002
        """Take in that the alarm of a rule that it follows is active, or no longer is; of each, too, when the agent begins."""
        return None

    def on_event(self, event: Event, at: float) -> Verdict | None:  # noqa: ARG002
        """Take in an event that it hears, logged at a time of the monotonic clock, in seconds."""
        return None

    def on_local_time(self, ahead: float | None, at: float) -> None:
        """Take in how far local time is ahead of the monotonic clock: after `restore`, and whenever that changes.

        So a rule may know the time of day of any moment, and still looks at no clock.

        Args:
            ahead: The seconds since 1970-01-01 00:00 that a clock on the wall would show, less those of the monotonic
                clock. None, as in the beginning, where the machine does not know the time.
            at: Since when that is so, in seconds of the monotonic clock.
        """

    def on_time(self, now: float) -> Verdict | None:  # noqa: ARG002
        """Take in the time, at or after `deadline`, in seconds of the monotonic clock."""
        return None

    @abstractmethod
    def state(self, now: float) -> Mapping[str, Value]:
        """Return what must survive a restart, at a time of the monotonic clock. Times are ages, in seconds."""

    def learnt(self, now: float) -> Mapping[str, Value]:  # noqa: ARG002
        """Return what of `state` it should know when it begins anew after a pause; nothing, as here, for most kinds."""
        return {}

    @abstractmethod
    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Begin, before anything else: where it was, or anew.

        Args:
            state: What `state` said; empty where nothing is known. May be of another version, or of other settings.
            saved: When that was, in seconds of this run's monotonic clock; time has gone on since.
            now: The present time of the monotonic clock. Between the two nobody listened.
        """


# --- delivery -----------------------------------------------------------------------------------------------------


class Gateway(msgspec.Struct, frozen=True):
    """Who we are, for those who speak to the far side.

    Attributes:
        name: The gateway's name, `gateway:` in the configuration.
        version: The agent's version.
        run: Which start of the agent this is.
    """

    name: str
    version: str
    run: int


class Message(msgspec.Struct, frozen=True, gc=False):
    """An encoded event, without an address.

    Attributes:
        payload: The bytes.
        content_type: Its media type, such as `application/json`.
        attributes: Metadata that travels beside the payload where the protocol can carry it; None where there is none.
    """

    payload: bytes
    content_type: str
    attributes: dict[str, str] | None = None


class Encoding(ABC, Generic[S]):
    """An event to bytes, purely: the same event gives the same bytes."""

    def __init__(self, settings: S, gateway: Gateway) -> None:
        self.settings = settings
        self.gateway = gateway

    @property
    def needs_attributes(self) -> bool:
        """Whether a message is incomplete without its attributes, so that only some protocols can carry it."""
        return False

    @property
    def joined_type(self) -> str | None:
        """The media type of several payloads as one JSON array; None where they cannot be joined."""
        return None

    @abstractmethod
    def encode(self, event: Event, delivery: Delivery = Delivery.LIVE) -> Message:
        """Encode one event, and say how it is delivered where it is not live."""

    @abstractmethod
    def decode(self, message: Message) -> Event:
        """Read back what `encode` wrote.

        Raises:
            ValueError: It is not such a message.
        """


class Forwarder(ABC, Generic[S]):
    """Takes events somewhere else. It never retries, sleeps or buffers: the courier does.

    Attributes:
        window: How many events may be sent and not yet acknowledged. May change with each connection.
        on_request: Set by who runs it, before `connect`: takes what the far side asks for, in the event loop, and returns at
            once. A forwarder that lets nobody ask never calls it.
    """

    window: int = 100
    on_request: Callable[[Request], None] | None = None

    def __init__(self, settings: S, gateway: Gateway, encoding: Encoding[Any]) -> None:
        self.settings = settings
        self.gateway = gateway
        self.encoding = encoding

    @abstractmethod
    async def connect(self, state: Sequence[Event]) -> None:
        """Reach the far side, and tell it the present state (about each device) where it keeps such things.

        Raises:
            Disconnected: It is not there, or refuses us; the courier tries again after backoff.
        """

    @abstractmethod
    def send(
        self, batch: Sequence[Event], delivery: Delivery = Delivery.LIVE, *, joined: bool = False
    ) -> asyncio.Future[None]:
        """Begin to send a batch, at once and in order, and return without waiting.

        What is replayed must not replace what the far side keeps as the present state. With `joined`, which is only
        asked for where the encoding has a `joined_type`, events for one address go out in as few messages as possible.

        The future is done when the far side has acknowledged every event of the batch. It fails with `Rejected`
        where the far side refuses some for good, or with `Disconnected`, and then all that was not yet acknowledged
        is sent again over the next connection.
        """

    @abstractmethod
    async def wait_lost(self) -> None:
        """Wait until the connection is lost, then raise.

        Raises:
            Disconnected: Always, with the reason.
        """

    @abstractmethod
    async def close(self) -> None:
        """End the connection cleanly where there is one, saying so to the far side. Never raises."""
