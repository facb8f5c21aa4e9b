"""What takes events somewhere else, and what makes bytes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from agent.contracts.settings import S
from agent.events import Delivery

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from agent.events import Event, Request


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
        figures: Set by who runs it, before `connect`: returns a few figures of the gateway, for a far side that is to have them.
    """

    window: int = 100
    on_request: Callable[[Request], None] | None = None
    figures: Callable[[], Mapping[str, Any]] | None = None

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
