"""What is on its way to a broker, and the properties that go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.errors import Disconnected, Rejected

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from agent.contracts import Message

PLAIN_JSON: Final = "application/json"

PROPERTIES: Final = 100
"""Sets of properties that are remembered; with `expire` a backlog has one for each second."""


class PackedProperties(Properties):
    """MQTT 5 properties that are packed once and sent many times."""

    packed: bytes

    def __init__(self, content_type: str, attributes: Mapping[str, str] | None, expiry: int | None) -> None:
        """Pack them.

        Args:
            content_type: The media type; "" where it is not said.
            attributes: User properties.
            expiry: Seconds for which the broker keeps the message for who is not connected (MQTT 5.0, 3.3.2.3.3).
        """
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if content_type:
            self.ContentType = content_type
        if attributes:
            self.UserProperty = list(attributes.items())
        if expiry is not None:
            self.MessageExpiryInterval = expiry
        # paho's own __setattr__ takes only the names of properties.
        object.__setattr__(self, "packed", super().pack())  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        """Return the packed bytes."""
        return self.packed


class PropertyBook:
    """Packs properties, and remembers them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int | None], PackedProperties] = {}

    def of(self, message: Message, expiry: int | None) -> PackedProperties | None:
        """Return the properties of a message that is kept for so many seconds; None where it needs none."""
        if message.attributes:
            return PackedProperties(message.content_type, message.attributes, expiry)
        # Plain JSON goes as on MQTT 3.1.1: what everybody expects, and 20 bytes less.
        content_type = "" if message.content_type == PLAIN_JSON else message.content_type
        if not content_type and expiry is None:
            return None
        properties = self._known.get((content_type, expiry))
        if properties is None:
            if len(self._known) > PROPERTIES:
                self._known.clear()
            properties = PackedProperties(content_type, None, expiry)
            self._known[content_type, expiry] = properties
        return properties


class Batch:
    """A batch of which some messages are not acknowledged yet."""

    __slots__ = ("done", "missing", "refused")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.missing = 0
        self.refused: dict[int, str] = {}  # by sequence number: why

    def refuse(self, seqs: tuple[int, ...], reason: str) -> None:
        """Note that the broker will never take some events, or parts of them."""
        self.refused |= dict.fromkeys(seqs, reason)

    def lose(self, reason: str) -> None:
        """Note that the connection went before all was settled."""
        if not self.done.done():
            self.done.set_exception(Disconnected(f"the connection was lost: {reason}"))

    def settle(self) -> None:
        """Tell the courier, where nothing is missing any more."""
        if self.missing == 0 and not self.done.done():
            if self.refused:
                self.done.set_exception(Rejected(self.refused))
            else:
                self.done.set_result(None)


class Sent(NamedTuple):
    """A message that is on its way.

    Attributes:
        flight: The batch that it is of.
        seqs: The sequence numbers of its events.
        topic: Where it is published.
    """

    flight: Batch
    seqs: tuple[int, ...]
    topic: str
