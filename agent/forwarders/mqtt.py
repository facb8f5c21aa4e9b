"""Publishes events to an MQTT broker, MQTT 5 or 3.1.1, at QoS 1.

paho-mqtt speaks the protocol, driven by the agent's own event loop. The retained topic `…/status` says `online` while we
are connected, `stopped` after a clean end, and `offline`, published by the broker as our will, after anything else.
`…/<device>/about` says once, retained, what a device's channels are; alarms are retained too, so that who subscribes
later sees what is active.

Sample::

    forward:
      site:
        mqtt:
          host: broker.local
          tls: {ca: /etc/gatepost/ca.pem}
          username: gw
          password: !secret mqtt
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent import contracts
from agent.clock import Clock, iso
from agent.errors import Disconnected, Rejected
from agent.events import Event, EventType
from agent.forwarders._paho import Connection, Unspoken
from agent.forwarders._tls import Tls
from agent.quantities import Duration, Secret, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from agent.contracts import Encoding, Gateway, Message

logger = logging.getLogger(__name__)

PLAIN_JSON: Final = "application/json"

NOT_AUTHORIZED: Final = 0x87
"""The reason code of a PUBACK for a topic that is denied (MQTT 5.0, section 3.4.2.1)."""

DENIED_FOR: Final = 600.0
"""Seconds for which a denied topic is not tried again: some brokers close the connection for it each time."""

FIXED_HEADER: Final = 5 + 2 + 2 + 4
"""Bytes of a PUBLISH packet beside topic, payload and properties, at most (MQTT 5.0, section 3.3)."""


class Topics(contracts.Settings, frozen=True):
    """Where events are published; {gateway}, {source} (device or rule), {channel} and {type} are filled in.

    Attributes:
        reading: Kept readings of a device.
        channel: One channel of a kept reading, with `split: true`.
        alarm: An alarm's transitions, retained.
        about: What a device's channels are, retained.
        status: Whether the gateway is online, retained.
        event: Any other event.
    """

    reading: str = "gatepost/{gateway}/{source}"
    channel: str = "gatepost/{gateway}/{source}/{channel}"
    alarm: str = "gatepost/{gateway}/alarm/{source}"
    about: str = "gatepost/{gateway}/{source}/about"
    status: str = "gatepost/{gateway}/status"
    event: str = "gatepost/{gateway}/{source}/{type}"

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            template = getattr(self, name)
            try:
                topic = template.format(gateway="g", source="s", channel="c", type="t")
            except (KeyError, IndexError, ValueError, AttributeError):
                raise ValueError(
                    f"{name} expects only {{gateway}}, {{source}}, {{channel}} and {{type}} in braces, not {template!r}"
                ) from None
            if not topic or set(topic) & set("+#\0"):
                raise ValueError(f"{name} expects a topic without wildcards, not {template!r}")


class Settings(contracts.Settings, frozen=True):
    """What may be written under `mqtt:`.

    Attributes:
        host: The broker's name or address.
        port: The broker's port; by default 1883, or 8883 with TLS.
        version: auto (MQTT 5, and 3.1.1 where the broker lacks it), 5 or 3.1.1.
        client_id: By default gatepost-<gateway>.
        username: The user, where the broker asks for one.
        password: The user's password; best as `!secret NAME`.
        tls: Use TLS; `{}` where the system trusts the broker's certificate.
        keepalive: A connection that is silent that long is given up.
        window: How many events may be on their way and not acknowledged yet.
        max_packet: The largest message that the broker takes, where it speaks MQTT 3.1.1 and cannot say so itself.
        split: Publish each channel of a reading on a topic of its own.
        topics: Where events are published.
    """

    host: Annotated[str, msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    version: Literal["auto", "5", "3.1.1"] = "auto"
    client_id: str | None = None
    username: str | None = None
    password: Secret | None = None
    tls: Tls | None = None
    keepalive: Duration = Duration(30)
    window: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 100
    max_packet: Size | None = None
    split: bool = False
    topics: Topics = Topics()

    def __post_init__(self) -> None:
        if self.password is not None and self.username is None:
            raise ValueError("a password expects a username")
        if not 5 <= self.keepalive <= 65535:
            raise ValueError(f"keepalive expects 5s to 18h, not {self.keepalive}")


class _Packed(Properties):
    """MQTT 5 properties that are packed once and sent many times."""

    packed: bytes

    def __init__(self, message: Message) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        self.ContentType = message.content_type
        if message.attributes:
            self.UserProperty = list(message.attributes.items())
        # paho's own __setattr__ takes only the names of properties.
        object.__setattr__(self, "packed", super().pack())  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        """Return the packed bytes."""
        return self.packed


class _Batch:
    """A batch of which some messages are not acknowledged yet."""

    __slots__ = ("done", "missing", "reason", "refused")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.missing = 0
        self.refused: list[int] = []
        self.reason = ""

    def refuse(self, seq: int, reason: str) -> None:
        """Note that the broker will never take an event, or a part of it."""
        if seq not in self.refused:
            self.refused.append(seq)
        self.reason = reason

    def lose(self, reason: str) -> None:
        """Note that the connection went before all was settled."""
        if not self.done.done():
            self.done.set_exception(Disconnected(f"the connection was lost: {reason}"))

    def settle(self) -> None:
        """Tell the courier, where nothing is missing any more."""
        if self.missing == 0 and not self.done.done():
            if self.refused:
                self.done.set_exception(Rejected(self.reason, self.refused))
            else:
                self.done.set_result(None)


class _Sent(NamedTuple):
    """A message that is on its way."""

    flight: _Batch
    seq: int
    topic: str


class Forwarder(contracts.Forwarder[Settings]):
    """One connection at a time, each with a fresh client."""

    def __init__(self, settings: Settings, gateway: Gateway, encoding: Encoding[Any]) -> None:
        super().__init__(settings, gateway, encoding)
        self.window = settings.window
        self._version = (
            MQTTProtocolVersion.MQTTv311 if settings.version == "3.1.1" else MQTTProtocolVersion.MQTTv5
        )
        self._port = settings.port or (8883 if settings.tls is not None else 1883)
        self._where = f"the broker {settings.host}:{self._port}"
        self._connection: Connection | None = None
        self._denied: dict[str, float] = {}  # by topic: until when, in seconds of the event loop's clock
        self._largest: int | None = None
        self._topics: dict[tuple[str, str], str] = {}
        self._properties: dict[str, _Packed] = {}

    # --- connecting -----------------------------------------------------------------------------------------------

    async def connect(self, state: Sequence[Event]) -> None:
        """Connect, with MQTT 5 or else 3.1.1, and publish the retained state.

        Raises:
            Disconnected: The broker is not there, or refuses us.
        """
        try:
            await self._connect()
        except Unspoken as error:
            if self.settings.version != "auto" or self._version == MQTTProtocolVersion.MQTTv311:
                raise
            self._version = MQTTProtocolVersion.MQTTv311
            try:
                await self._connect()
            except Disconnected:
                self._version = MQTTProtocolVersion.MQTTv5
                raise
            logger.info("no MQTT 5, so 3.1.1: %s", error)
        if self.encoding.needs_attributes and self._version != MQTTProtocolVersion.MQTTv5:
            raise Disconnected(
                f"{self._where} does not speak MQTT 5, which cloudevents in binary mode needs; write mode: structured"
            )
        self._say_status("online")
        for start in range(0, len(state), self.window):
            try:
                await self.send(state[start : start + self.window])
            except Rejected as error:
                logger.warning("%s refuses what a device is: %s", self._where, error)

    async def _connect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        uses_tls = self.settings.tls is not None
        connection = Connection(self._client(), self._where, self._on_settled, uses_tls=uses_tls)
        self._connection = connection
        await connection.open(self.settings.host, self._port, round(self.settings.keepalive))
        connection.lost.add_done_callback(partial(_give_up, connection))
        self.window = min(self.settings.window, connection.receive_maximum)
        limits = [limit for limit in (connection.largest, self.settings.max_packet) if limit is not None]
        self._largest = min(limits, default=None)

    def _client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.settings.client_id or f"gatepost-{self.gateway.name}",
            clean_session=None if self._version == MQTTProtocolVersion.MQTTv5 else True,
            protocol=self._version,
        )
        client.max_inflight_messages_set(0)  # the courier keeps the window
        client.max_queued_messages_set(0)
        if self.settings.username is not None:
            client.username_pw_set(self.settings.username, self.settings.password)
        if self.settings.tls is not None:
            client.tls_set_context(self.settings.tls.context())
        client.will_set(self._status_topic, self._status("offline"), qos=1, retain=True)
        return client

    @property
    def _status_topic(self) -> str:
        return self._topic(EventType.AGENT_STARTED, "agent", self.settings.topics.status)

    def _status(self, state: str) -> bytes:
        said = {
            "state": state,
            "gateway": self.gateway.name,
            "version": self.gateway.version,
            "run": self.gateway.run,
        }
        if state != "offline":  # the broker says that for us, nobody knows when
            said["since"] = iso(Clock().wall())
        return msgspec.json.encode(said)

    # --- sending --------------------------------------------------------------------------------------------------

    def send(self, batch: Sequence[Event]) -> asyncio.Future[None]:
        """Publish a batch at QoS 1 and return without waiting."""
        flight = _Batch(asyncio.get_running_loop().create_future())
        if self._connection is None or not self._connection.is_up:
            flight.lose("there is none")
            return flight.done
        for event in batch:
            if self.settings.split and event.type == EventType.READING:
                for part in _split(event):
                    self._send_one(flight, part)
            else:
                self._send_one(flight, event)
        self._connection.flush()
        flight.settle()
        return flight.done

    def _send_one(self, flight: _Batch, event: Event) -> None:
        message = self.encoding.encode(event)
        topic = self._topics.get((event.type, event.source)) or self._topic_of(event)
        properties = self._properties_of(message)
        if self._largest is not None:
            packed = properties.packed if properties is not None else b""
            size = FIXED_HEADER + len(topic.encode()) + len(message.payload) + len(packed)
            if size > self._largest:
                flight.refuse(
                    event.seq, f"{size} bytes are more than the {self._largest} that the broker takes"
                )
                return
        if topic in self._denied:
            if asyncio.get_running_loop().time() < self._denied[topic]:
                flight.refuse(event.seq, f"the broker does not let us publish to {topic}")
                return
            del self._denied[topic]
        if self._connection is not None:
            flight.missing += 1
            retain = event.type in _RETAINED
            sent = _Sent(flight, event.seq, topic)
            self._connection.publish(sent, topic, message.payload, properties, retain=retain)

    def _say_status(self, state: str) -> _Batch:
        """Publish our status, in a batch of its own."""
        flight = _Batch(asyncio.get_running_loop().create_future())
        flight.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._connection is not None:
            flight.missing = 1
            sent = _Sent(flight, 0, self._status_topic)
            self._connection.publish(sent, self._status_topic, self._status(state), None, retain=True)
            self._connection.flush()
        return flight

    def _properties_of(self, message: Message) -> _Packed | None:
        if self._version != MQTTProtocolVersion.MQTTv5:
            return None
        if message.attributes:
            return _Packed(message)
        if message.content_type == PLAIN_JSON:
            return None  # as on MQTT 3.1.1: what everybody expects, and 20 bytes less
        properties = self._properties.get(message.content_type)
        if properties is None:
            properties = self._properties[message.content_type] = _Packed(message)
        return properties

    def _topic_of(self, event: Event) -> str:
        topics = self.settings.topics
        if event.type == EventType.READING:
            if self.settings.split:
                return self._topic(event.type, event.source, topics.channel, next(iter(event.values)))
            template = topics.reading
        elif event.type in (EventType.ALARM_RAISED, EventType.ALARM_CLEARED):
            template = topics.alarm
        elif event.type == EventType.DEVICE_ABOUT:
            template = topics.about
        else:
            template = topics.event
        topic = self._topics[event.type, event.source] = self._topic(event.type, event.source, template)
        return topic

    def _topic(self, kind: str, source: str, template: str, channel: str = "") -> str:
        return template.format(gateway=self.gateway.name, source=source, channel=channel, type=kind)

    # --- what the connection tells us -----------------------------------------------------------------------------

    def _on_settled(self, sent: _Sent, reason: ReasonCode) -> None:
        if reason.is_failure:
            sent.flight.refuse(sent.seq, f"the broker says to {sent.topic}: {str(reason).lower()}")
            if reason.value == NOT_AUTHORIZED:
                self._denied[sent.topic] = asyncio.get_running_loop().time() + DENIED_FOR
        sent.flight.missing -= 1
        sent.flight.settle()

    async def wait_lost(self) -> None:
        """Wait until the connection is lost, then raise.

        Raises:
            Disconnected: Always.
        """
        assert self._connection is not None  # noqa: S101 -- only called after connect
        reason = await asyncio.shield(self._connection.lost)
        raise Disconnected(f"the connection to {self._where} was lost: {reason}")

    async def close(self) -> None:
        """Say that we stopped, where there is a connection, and end it."""
        connection = self._connection
        if connection is None:
            return
        if connection.is_up:
            farewell = self._say_status("stopped")
            ends: set[asyncio.Future[Any]] = {farewell.done, connection.lost}
            await asyncio.wait(ends, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        self._connection = None
        connection.close()


def _give_up(connection: Connection, lost: asyncio.Future[str]) -> None:
    """Tell those who wait for what a lost connection has not settled."""
    for sent in connection.unsettled():
        sent.flight.lose(lost.result())


_RETAINED: Final = frozenset({EventType.ALARM_RAISED, EventType.ALARM_CLEARED, EventType.DEVICE_ABOUT})


def _split(event: Event) -> list[Event]:
    """Return an event for each channel of a reading."""
    return [
        msgspec.structs.replace(
            event,
            values={channel: value},
            quality={channel: event.quality[channel]} if event.quality and channel in event.quality else None,
        )
        for channel, value in event.values.items()
    ]
