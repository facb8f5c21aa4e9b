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
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent import contracts
from agent.clock import Clock, iso
from agent.errors import Disconnected, Rejected
from agent.events import Event, EventType
from agent.quantities import Duration, Secret, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from agent.contracts import Encoding, Gateway, Message

logger = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds to wait for the broker to answer while connecting."""

FIXED_HEADER: Final = 5 + 2 + 2 + 4
"""Bytes of a PUBLISH packet beside topic, payload and properties, at most (MQTT 5.0, section 3.3)."""


class Tls(contracts.Settings, frozen=True):
    """TLS to the broker.

    Attributes:
        ca: File with the certificates to trust, PEM; the system's own where it is not said.
        certificate: File with our own certificate, PEM, where the broker asks for one.
        key: File with the private key of our certificate, PEM.
        verify: false trusts any certificate: for a trial only.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        if (self.certificate is None) is not (self.key is None):
            raise ValueError("certificate and key are expected together")


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

    def land(self) -> None:
        """Note that one message is settled."""
        self.missing -= 1
        self.settle()

    def refuse(self, seq: int, reason: str) -> None:
        """Note that the broker will never take an event."""
        self.refused.append(seq)
        self.reason = reason

    def settle(self) -> None:
        """Tell the courier, where nothing is missing any more."""
        if self.missing == 0 and not self.done.done():
            if self.refused:
                self.done.set_exception(Rejected(self.reason, self.refused))
            else:
                self.done.set_result(None)


class Forwarder(contracts.Forwarder[Settings]):
    """One connection at a time; each begins with a fresh client, so nothing is left over from the last."""

    def __init__(self, settings: Settings, gateway: Gateway, encoding: Encoding[Any]) -> None:
        super().__init__(settings, gateway, encoding)
        self.window = settings.window
        self._port = settings.port or (8883 if settings.tls is not None else 1883)
        self._version = (
            MQTTProtocolVersion.MQTTv311 if settings.version == "3.1.1" else MQTTProtocolVersion.MQTTv5
        )
        self._client: paho.Client | None = None
        self._connected = False
        self._answer: asyncio.Future[Any] | None = None  # the broker's ReasonCode
        self._lost: asyncio.Future[Any] | None = None  # why, as text
        self._waiting: dict[int, tuple[_Batch, int]] = {}  # by message id: the batch, and the event's seq
        self._largest: int | None = None
        self._topics: dict[tuple[str, str], str] = {}
        self._properties: dict[str, Properties] = {}
        self._misc: asyncio.TimerHandle | None = None
        self._writer_on = False

    @property
    def _address(self) -> str:
        return f"{self.settings.host}:{self._port}"

    # --- connecting -----------------------------------------------------------------------------------------------

    async def connect(self, state: Sequence[Event]) -> None:
        """Connect, with MQTT 5 or else 3.1.1, and publish the retained state.

        Raises:
            Disconnected: The broker is not there, or refuses us.
        """
        if self.settings.version != "auto" or self._version == MQTTProtocolVersion.MQTTv311:
            await self._connect()
        else:
            try:
                await self._connect()
            except _Unspoken as error:
                await self.close()
                self._version = MQTTProtocolVersion.MQTTv311
                try:
                    await self._connect()
                except Disconnected:
                    self._version = MQTTProtocolVersion.MQTTv5
                    raise
                logger.info("%s speaks MQTT 3.1.1, not 5 (%s)", self._address, error)
        if self.encoding.needs_attributes and self._version != MQTTProtocolVersion.MQTTv5:
            raise Disconnected(
                f"the broker {self._address} does not speak MQTT 5, which cloudevents in binary mode needs; "
                f"write mode: structured"
            )
        self._publish(
            self._topic(EventType.AGENT_STARTED, "agent", self.settings.topics.status), self._status("online")
        )
        for start in range(0, len(state), self.window):
            await self.send(state[start : start + self.window])

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._answer, self._lost = loop.create_future(), loop.create_future()
        client = self._client = self._new_client()
        try:
            # Looking up the name, connecting and TLS block, so not in the event loop.
            await loop.run_in_executor(
                None, client.connect, self.settings.host, self._port, round(self.settings.keepalive)
            )
        except (OSError, ValueError) as error:
            raise Disconnected(self._explain(error)) from error
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_socket_register_write
        loop.add_reader(client.socket(), self._read)  # type: ignore[arg-type]  # it is connected
        self._misc = loop.call_later(1, self._on_misc)
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait({self._answer, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise Disconnected(
                f"{self._address} did not answer within {PATIENCE:g} s; is it an MQTT broker?"
            ) from None
        if not self._answer.done():
            raise _Unspoken(f"{self._address} closed the connection without an answer; does it expect TLS?")
        reason = self._answer.result()
        if reason.is_failure:
            said = str(reason)
            if said == "Unsupported protocol version":
                raise _Unspoken(f"the broker {self._address} does not speak this version of MQTT")
            who = f"user {self.settings.username!r}" if self.settings.username else "us without a user name"
            raise Disconnected(
                f"the broker {self._address} refuses {who}: {said.lower()}; check username, password and client_id"
            )
        self._connected = True

    def _new_client(self) -> paho.Client:
        five = self._version == MQTTProtocolVersion.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.settings.client_id or f"gatepost-{self.gateway.name}",
            clean_session=None if five else True,
            protocol=self._version,
        )
        client.connect_timeout = PATIENCE
        client.max_inflight_messages_set(0)  # the courier keeps the window
        client.max_queued_messages_set(0)
        if self.settings.username is not None:
            client.username_pw_set(self.settings.username, self.settings.password)
        if self.settings.tls is not None:
            client.tls_set_context(self._tls(self.settings.tls))
        status = self._topic(EventType.AGENT_STARTED, "agent", self.settings.topics.status)
        client.will_set(status, self._status("offline"), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def _tls(self, tls: Tls) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=tls.ca)
        except (OSError, ssl.SSLError) as error:
            raise Disconnected(f"tls.ca: cannot read certificates from {tls.ca}: {error}") from error
        if tls.certificate is not None:
            try:
                context.load_cert_chain(tls.certificate, tls.key)
            except (OSError, ssl.SSLError) as error:
                raise Disconnected(
                    f"tls.certificate: cannot use {tls.certificate} with the key {tls.key}: {error}"
                ) from error
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _explain(self, error: Exception) -> str:
        """Say what is wrong and what to do about it."""
        where = f"the broker {self._address}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{where} shows a certificate that is not trusted: {error.verify_message}; check tls.ca, host and the clock"
        if isinstance(error, ssl.SSLError):
            return f"TLS with {where} failed: {error.reason or error}; is it a TLS port, and does it want our certificate?"
        if isinstance(error, ConnectionRefusedError):
            return f"{where} refuses connections; is it running, and is the port right?"
        if isinstance(error, TimeoutError):
            return f"{where} does not answer; check the network and the host"
        return f"cannot reach {where}: {error}"

    def _status(self, state: str) -> bytes:
        said = {
            "state": state,
            "gateway": self.gateway.name,
            "version": self.gateway.version,
            "run": self.gateway.run,
        }
        return msgspec.json.encode({**said, "since": iso(Clock().wall())} if state != "offline" else said)

    # --- sending --------------------------------------------------------------------------------------------------

    def send(self, batch: Sequence[Event]) -> asyncio.Future[None]:
        """Publish a batch at QoS 1 and return without waiting."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._connected:
            done.set_exception(Disconnected("not connected"))
            return done
        flight = _Batch(done)
        for event in batch:
            if self.settings.split and event.type == EventType.READING and len(event.values) > 1:
                for part in _split(event):
                    self._send_one(flight, part)
            else:
                self._send_one(flight, event)
        flight.settle()
        return done

    def _send_one(self, flight: _Batch, event: Event) -> None:
        message = self.encoding.encode(event)
        topic = self._topics.get((event.type, event.source)) or self._topic_of(event)
        if self._largest is not None and len(message.payload) + len(topic) > self._largest - FIXED_HEADER:
            size = _size(topic, message)
            if size > self._largest:
                flight.refuse(
                    event.seq, f"{size} bytes are more than the {self._largest} that the broker takes"
                )
                return
        retain = event.type in _RETAINED
        info = self._publish(topic, message.payload, self._properties_of(message), retain=retain)
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            flight.missing += 1
            self._waiting[info.mid] = (flight, event.seq)
        elif not flight.done.done():
            flight.done.set_exception(Disconnected(str(paho.error_string(info.rc))))

    def _publish(
        self, topic: str, payload: bytes, properties: Properties | None = None, *, retain: bool = True
    ) -> paho.MQTTMessageInfo:
        assert self._client is not None  # noqa: S101 -- only called between connect and close
        return self._client.publish(topic, payload, 1, retain, properties)

    def _properties_of(self, message: Message) -> Properties | None:
        if self._version != MQTTProtocolVersion.MQTTv5:
            return None
        if message.attributes:
            return _Packed(message)
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

    # --- what paho tells us ---------------------------------------------------------------------------------------

    def _on_connect(
        self, client: paho.Client, _: Any, __: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if client is not self._client or self._answer is None or self._answer.done():
            return
        self.window = min(self.settings.window, getattr(properties, "ReceiveMaximum", 65535))
        said = getattr(properties, "MaximumPacketSize", None)
        self._largest = min(
            (limit for limit in (said, self.settings.max_packet) if limit is not None), default=None
        )
        self._answer.set_result(reason)

    def _on_publish(self, client: paho.Client, _: Any, mid: int, reason: ReasonCode, __: Any) -> None:
        if client is not self._client:
            return
        flight, seq = self._waiting.pop(mid, (None, 0))
        if flight is not None:
            if reason.is_failure:
                flight.refuse(seq, f"the broker says: {str(reason).lower()}")
            flight.land()

    def _on_disconnect(self, client: paho.Client, _: Any, __: Any, reason: ReasonCode, ___: Any) -> None:
        if client is self._client:
            self._lose(str(reason).lower())

    def _on_socket_close(self, client: paho.Client, _: Any, sock: Any) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, OSError):
            loop.remove_reader(sock)
            loop.remove_writer(sock)
        if client is self._client:
            self._writer_on = False

    def _on_socket_register_write(self, _: paho.Client, __: Any, ___: Any) -> None:
        # All that is published in this turn of the loop leaves in one go.
        asyncio.get_running_loop().call_soon(self._write)

    # --- driving paho ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        client = self._client
        if client is None:
            return
        client.loop_read()
        # What TLS has already decrypted wakes no selector.
        while isinstance(sock := client.socket(), ssl.SSLSocket) and sock.pending():
            client.loop_read()

    def _write(self) -> None:
        client = self._client
        if client is None or (sock := client.socket()) is None:
            return
        client.loop_write()
        if client.want_write() is not self._writer_on and client.socket() is not None:
            self._writer_on = not self._writer_on
            loop = asyncio.get_running_loop()
            if self._writer_on:
                loop.add_writer(sock, self._write)
            else:
                loop.remove_writer(sock)

    def _on_misc(self) -> None:
        """Let paho send its pings and notice a silent broker."""
        if self._client is not None:
            self._client.loop_misc()
            self._misc = asyncio.get_running_loop().call_later(1, self._on_misc)

    # --- the end of a connection ----------------------------------------------------------------------------------

    def _lose(self, reason: str) -> None:
        self._connected = False
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    async def wait_lost(self) -> None:
        """Wait until the connection is lost, then raise.

        Raises:
            Disconnected: Always.
        """
        assert self._lost is not None  # noqa: S101 -- only called after connect
        reason = await asyncio.shield(self._lost)
        raise Disconnected(f"the connection to the broker {self._address} was lost: {reason}")

    async def close(self) -> None:
        """Say that we stopped, where there is a connection, and end it."""
        client = self._client
        if client is not None and self._connected:
            flight = _Batch(asyncio.get_running_loop().create_future())
            status = self._topic(EventType.AGENT_STARTED, "agent", self.settings.topics.status)
            info = self._publish(status, self._status("stopped"))
            flight.missing = 1
            self._waiting[info.mid] = (flight, 0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.wait(
                        [flight.done, self._lost or flight.done], return_when=asyncio.FIRST_COMPLETED
                    )
            client.disconnect()
            client.loop_write()
        self._connected = False
        if self._misc is not None:
            self._misc.cancel()
        if client is not None and (sock := client.socket()) is not None:
            self._on_socket_close(client, None, sock)
            sock.close()
        self._client = None
        waiting, self._waiting = self._waiting, {}
        for flight, _ in waiting.values():
            if not flight.done.done():
                flight.done.set_exception(Disconnected("the connection has ended"))


class _Unspoken(Disconnected):
    """The broker does not speak this version of MQTT, or no MQTT at all."""


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


def _size(topic: str, message: Message) -> int:
    """Return the bytes of a PUBLISH packet, at most."""
    return FIXED_HEADER + len(topic.encode()) + len(message.payload) + len(_Packed(message).pack())
