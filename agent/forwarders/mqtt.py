"""Publishes events to an MQTT broker, MQTT 5 or 3.1.1, at QoS 1.

paho-mqtt speaks the protocol, driven by the agent's own event loop. The retained topic `…/status` says `online` while we
are connected, `stopped` after a clean end, and `offline`, published by the broker as our will, after anything else.
`…/<device>/about` says once, retained, what a device's channels are; alarms are retained too, so that who subscribes
later sees what is active. `commands: [outputs, alarms, readings]` lets those who may publish below `…/command` ask for that.

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
import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent import contracts
from agent.clock import Clock
from agent.errors import Disconnected, Rejected
from agent.events import ALARMS, Ask, Delivery, Event, EventType
from agent.forwarders._denials import Denials
from agent.forwarders._flights import Batch, PropertyBook, Sent
from agent.forwarders._joining import joined
from agent.forwarders._paho import Connection, Unspoken
from agent.forwarders._presence import Presence
from agent.forwarders._requests import Answers, Subscription, connect_properties
from agent.forwarders._tls import Shown, Tls
from agent.forwarders._topics import TopicBook, Topics, split
from agent.needs import Endpoint
from agent.quantities import Duration, Secret, Size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from agent.contracts import Encoding, Gateway, Message
    from agent.needs import Need

logger = logging.getLogger(__name__)

NOT_AUTHORIZED: Final = 0x87
"""The reason code of a PUBACK for a topic that is denied (MQTT 5.0, section 3.4.2.1)."""

SHORTEST: Final = Duration(1)
"""Seconds between figures at least."""

FIXED_HEADER: Final = 5 + 2 + 2 + 4
"""Bytes of a PUBLISH packet beside topic, payload and properties, at most (MQTT 5.0, section 3.3)."""


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
        max_packet: The largest message that the broker takes, where it does not say so itself, as with MQTT 3.1.1.
        split: Publish each channel of a reading on a topic of its own.
        expire: Readings older than that are not kept for who is not connected (MQTT 5 message expiry).
        figures: How often the status topic also says a few figures of the gateway; without it never.
        commands: What may be asked for over it: outputs (those that allow it), alarms, readings; by default nothing.
        topics: Where events are published, and commands are taken.
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
    expire: Duration | None = None
    figures: Duration | None = None
    commands: tuple[Ask, ...] = ()
    topics: Topics = Topics()

    def __post_init__(self) -> None:
        if self.password is not None and self.username is None:
            raise ValueError("a password expects a username")
        if "/" in self.host or any(map(str.isspace, self.host)):
            raise ValueError(
                f"host expects a name or an address alone, such as broker.local, not {self.host!r}"
            )
        if self.figures is not None and self.figures < SHORTEST:
            raise ValueError(f"figures expects {SHORTEST} or longer, not {self.figures}")
        if not 5 <= self.keepalive <= 65535:
            raise ValueError(f"keepalive expects 5s to 18h, not {self.keepalive}")

    def claims(self) -> str:
        """Return what only one forwarder may have: a second connection with a client id ends the first (MQTT 5.0, 3.1.4)."""
        who = "the usual client_id" if self.client_id is None else f"the client_id {self.client_id!r}"
        return f"{who} at {self.host}:{self.broker_port}"

    def needs(self) -> Sequence[Need]:
        """Return what must be there before we can connect: the broker."""
        return [Endpoint(self.host, self.broker_port, f"the broker {self.host}:{self.broker_port}", self.tls)]

    @property
    def broker_port(self) -> int:
        """The broker's port, said or usual."""
        return self.port or (8883 if self.tls is not None else 1883)


class Forwarder(contracts.Forwarder[Settings]):
    """One connection at a time, each with a fresh client."""

    def __init__(self, settings: Settings, gateway: Gateway, encoding: Encoding[Any]) -> None:
        super().__init__(settings, gateway, encoding)
        self.window = settings.window
        self._first_version = self._version = (
            MQTTProtocolVersion.MQTTv311 if settings.version == "3.1.1" else MQTTProtocolVersion.MQTTv5
        )
        self._port = settings.broker_port
        self._where = f"the broker {settings.host}:{self._port}"
        self._shown = Shown(settings.host, self._port) if settings.tls is not None else None
        self._connection: Connection | None = None
        self._subscription: Subscription | None = None
        self._denied = Denials()
        self._answers = Answers(self._denied)
        self._largest: int | None = None
        self._topics = TopicBook(settings.topics, gateway.name, split=settings.split)
        self._kept: dict[str, int] = {}  # by topic: the newest state that the broker keeps
        self._properties = PropertyBook()
        self._presence = Presence(gateway, settings.figures)

    # --- connecting -----------------------------------------------------------------------------------------------

    async def connect(self, state: Sequence[Event]) -> None:
        """Connect, with MQTT 5 or else 3.1.1, and publish the retained state.

        Raises:
            Disconnected: The broker is not there, or refuses us.
        """
        await self._reach()
        self._subscribe()  # so that who sees us online may ask
        self._presence.begin(partial(self._say_status, "online"))
        for start in range(0, len(state), self.window):
            try:
                await self.send(state[start : start + self.window])
            except Rejected as error:
                logger.warning("%s refuses to keep what devices are (…/about): %s", self._where, error)

    async def try_out(self, event: Event) -> str:
        """Connect, publish one event that is not retained, and end the connection: see `agent.needs.CanTryOut`."""
        topic = self._topics.of(event, Delivery.LIVE)
        try:
            await self._reach()
            await self.send([event])
        finally:
            # Not `close`, which would say that we stopped.
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        if self._version == MQTTProtocolVersion.MQTTv5:
            return f"{self._where} knows us, and took a message to {topic} (MQTT 5)"
        return f"{self._where} knows us; MQTT 3.1.1 does not tell whether it took a message to {topic}"

    async def _reach(self) -> None:
        """Connect, with MQTT 5 or else 3.1.1.

        Raises:
            Disconnected: The broker is not there, or refuses us.
        """
        self._version = self._first_version
        try:
            await self._connect()
        except Unspoken as error:
            if self.settings.version != "auto" or self._version == MQTTProtocolVersion.MQTTv311:
                raise
            self._version = MQTTProtocolVersion.MQTTv311
            await self._connect()
            logger.info("no MQTT 5, so 3.1.1: %s", error)
            if error.is_said:  # silence may only have been a broker that was about to start or stop
                self._first_version = self._version
        if self.encoding.needs_attributes and self._version != MQTTProtocolVersion.MQTTv5:
            raise Disconnected(
                f"{self._where} does not speak MQTT 5, which cloudevents in binary mode needs; write mode: structured"
            )

    async def _connect(self) -> None:
        self._hang_up()
        connection = Connection(self._client(), self._where, self._on_settled, shown=self._shown)
        self._connection = connection
        properties = (
            connect_properties()
            if self.settings.commands and self._version == MQTTProtocolVersion.MQTTv5
            else None
        )
        await connection.open(self.settings.host, self._port, round(self.settings.keepalive), properties)
        connection.lost.add_done_callback(partial(_give_up, connection))
        self.window = min(self.settings.window, connection.receive_maximum)
        limits = [limit for limit in (connection.largest, self.settings.max_packet) if limit is not None]
        self._largest = min(limits, default=None)

    def _subscribe(self) -> None:
        """Subscribe to commands, where any are taken."""
        if self._connection is not None and self.settings.commands and self.on_request is not None:
            self._subscription = Subscription(
                self._connection, self._version, self._topics.command, self.settings.commands, self.on_request,
                self._answers,
            )  # fmt: skip
            self._subscription.begin()

    def _client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.settings.client_id or f"gatepost-{self.gateway.name}",
            clean_session=None if self._version == MQTTProtocolVersion.MQTTv5 else True,
            protocol=self._version,
            manual_ack=True,  # of commands
        )
        client.max_inflight_messages_set(0)  # the courier keeps the window
        client.max_queued_messages_set(0)
        if self.settings.username is not None:
            client.username_pw_set(self.settings.username, self.settings.password)
        if self.settings.tls is not None:
            client.tls_set_context(self.settings.tls.context())
        client.will_set(self._topics.status, self._presence.said("offline", None), qos=1, retain=True)
        return client

    # --- sending --------------------------------------------------------------------------------------------------

    def send(
        self, batch: Sequence[Event], delivery: Delivery = Delivery.LIVE, *, joined: bool = False
    ) -> asyncio.Future[None]:
        """Publish a batch at QoS 1 and return without waiting."""
        flight = Batch(asyncio.get_running_loop().create_future())
        if self._connection is None or not self._connection.is_up:
            flight.lose("there is none")
            return flight.done
        now = Clock().wall() if self.settings.expire is not None else 0
        events: Iterable[Event] = batch
        if self.settings.split:
            events = [part for event in batch for part in split(event)]
        if joined:
            self._send_joined(flight, events, delivery, now)
        else:
            newest = self._newest_states(batch, delivery)
            for event in events:
                retain = event.type in _RETAINED and event.seq in newest
                message = self.encoding.encode(event, delivery)
                topic = self._topics.of(event, delivery)
                self._publish(flight, (event.seq,), topic, message, self._expiry(event, now), retain=retain)
        self._connection.flush()
        flight.settle()
        return flight.done

    def _newest_states(self, batch: Sequence[Event], delivery: Delivery) -> Collection[int]:
        """Return, by sequence number, the events that the broker is to keep: never one that a newer one has replaced.

        After a lost connection events come again; an old state must not stand as the present one, not even briefly.
        """
        if delivery is Delivery.REPLAYED:
            return ()
        newest = {self._topics.of(e, delivery): e.seq for e in batch if e.type in _RETAINED}
        for topic, seq in newest.items():
            self._kept[topic] = max(seq, self._kept.get(topic, 0))
        return {seq for topic, seq in newest.items() if seq == self._kept[topic]}

    def _send_joined(self, flight: Batch, events: Iterable[Event], delivery: Delivery, now: int) -> None:
        """Publish the events of each topic as JSON arrays, as large as the broker takes."""
        kind = self.encoding.joined_type or ""
        encoded = (
            (self._topics.of(event, delivery), event, self.encoding.encode(event, delivery).payload)
            for event in events
        )
        for topic, parts, payload in joined(encoded, self._largest):
            seqs = tuple(event.seq for event in parts)
            message = contracts.Message(payload, kind)
            self._publish(flight, seqs, topic, message, self._expiry(parts[-1], now), retain=False)

    def _publish(
        self,
        flight: Batch,
        seqs: tuple[int, ...],
        topic: str,
        message: Message,
        expiry: int | None,
        *,
        retain: bool,
    ) -> None:
        is_v5 = self._version == MQTTProtocolVersion.MQTTv5
        properties = self._properties.of(message, expiry) if is_v5 else None
        if self._largest is not None:
            packed = properties.packed if properties is not None else b""
            size = FIXED_HEADER + len(topic.encode()) + len(message.payload) + len(packed)
            if size > self._largest:
                limit = (
                    "max_packet allows" if self._largest == self.settings.max_packet else "the broker takes"
                )
                flight.refuse(seqs, f"{size} bytes are more than the {self._largest:d} that {limit}")
                return
        if topic in self._denied:
            flight.refuse(seqs, _denied(topic))
            return
        if self._connection is not None:
            flight.missing += 1
            self._connection.publish(
                Sent(flight, seqs, topic), topic, message.payload, properties, retain=retain
            )

    def _expiry(self, event: Event, now: int) -> int | None:
        """Return for how many seconds more the broker is to keep a reading for who is not connected."""
        if self.settings.expire is None or event.type != EventType.READING:
            return None
        age = 0 if event.clock_unset else max(0, now - event.time)
        return max(1, math.ceil(self.settings.expire - age / 1e6))

    def _say_status(self, state: str) -> Batch:
        """Publish our status, in a batch of its own."""
        flight = Batch(asyncio.get_running_loop().create_future())
        flight.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._connection is not None:
            flight.missing = 1
            topic = self._topics.status
            sent = Sent(flight, (0,), topic)
            payload = self._presence.said(state, self.figures)
            self._connection.publish(sent, topic, payload, None, retain=True)
            self._connection.flush()
        return flight

    # --- what the connection tells us -----------------------------------------------------------------------------

    def _on_settled(self, sent: Sent, reason: ReasonCode) -> None:
        if reason.value == NOT_AUTHORIZED:
            self._denied.note(sent.topic)
            sent.flight.refuse(sent.seqs, _denied(sent.topic))
        elif reason.is_failure:
            sent.flight.refuse(sent.seqs, f"the broker says to {sent.topic}: {str(reason).lower()}")
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
        self._hang_up()

    def _hang_up(self) -> None:
        self._presence.end()
        if self._subscription is not None:
            self._subscription.end()
            self._subscription = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()


def _give_up(connection: Connection, lost: asyncio.Future[str]) -> None:
    """Tell those who wait for what a lost connection has not settled."""
    for sent in connection.unsettled():
        sent.flight.lose(lost.result())


def _denied(topic: str) -> str:
    return f"the broker does not let us publish to {topic} (not authorized)"


_RETAINED: Final = ALARMS | {EventType.DEVICE_ABOUT}
