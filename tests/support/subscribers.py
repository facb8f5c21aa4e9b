"""A client of the broker that writes down what it receives, in order."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.waiting import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Received(NamedTuple):
    """A message as it came.

    Attributes:
        topic: Where it was published.
        payload: The bytes.
        retain: Whether the broker had kept it from before we subscribed.
        repeated: Whether the broker says that it may have sent us this one before.
        content_type: As MQTT 5 says it; None where it does not.
        attributes: The user properties of MQTT 5.
        expiry: Seconds for which the broker would have kept it, as MQTT 5 says it; None where it does not.
        correlation: The correlation data of MQTT 5; None where there is none.
    """

    topic: str
    payload: bytes
    retain: bool
    repeated: bool
    content_type: str | None
    attributes: dict[str, str]
    expiry: int | None = None
    correlation: bytes | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The payload, read as a JSON object."""
        return msgspec.json.decode(self.payload, type=dict[str, Any])


def _without_delay(_: paho.Client, __: Any, sock: Any) -> None:
    """Send acknowledgements at once, or the broker waits 40 ms for every twenty messages."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _kept_for_ever() -> Properties:
    """Return the properties of a CONNECT that ask for a session that outlives the connection."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0xFFFFFFFF
    return properties


class Subscriber:
    """Subscribed to everything from when it is made; `connect` again after the broker was gone.

    With a `name` the broker (MQTT 5) keeps for it what comes while it is not connected.

    Attributes:
        received: All messages of all connections, oldest first. May be read at any time.
    """

    def __init__(
        self,
        port: int,
        *,
        version: str = "5",
        user: tuple[str, str] | None = None,
        ca: Path | None = None,
        topic: str = "#",
        name: str = "",
    ) -> None:
        self.received: list[Received] = []
        self._bodies: list[dict[str, Any]] = []  # of the messages so far, read once
        self._port = port
        self._version = MQTTProtocolVersion.MQTTv5 if version == "5" else MQTTProtocolVersion.MQTTv311
        self._user = user
        self._ca = ca
        self._topic = topic
        self._name = name
        self._client: paho.Client | None = None
        self.connect()

    def connect(self) -> None:
        """Connect anew and subscribe; return when the broker has confirmed it."""
        self.close()
        until(self._try, f"a subscription at port {self._port}")

    def _try(self) -> bool:
        subscribed = threading.Event()
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, self._name, protocol=self._version)
        client.reconnect_delay_set(3600, 3600)  # only `connect` connects
        if self._user is not None:
            client.username_pw_set(*self._user)
        if self._ca is not None:
            client.tls_set(str(self._ca))
        client.on_socket_open = _without_delay
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        try:
            if self._name:
                client.connect("127.0.0.1", self._port, 60, clean_start=False, properties=_kept_for_ever())
            else:
                client.connect("127.0.0.1", self._port, 60)
        except OSError:
            self._client = None
            return False
        client.loop_start()
        if subscribed.wait(2):
            return True
        self.close()
        return False

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(self._topic, 1)

    def _on_message(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        said = message.properties
        self.received.append(
            Received(
                message.topic,
                bytes(message.payload),
                message.retain,
                message.dup,
                getattr(said, "ContentType", None),
                dict(getattr(said, "UserProperty", [])),
                getattr(said, "MessageExpiryInterval", None),
                getattr(said, "CorrelationData", None),
            )
        )

    def close(self) -> None:
        """End the connection, where there is one."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            assert client.loop_stop() in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_INVAL}

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 1,
        retain: bool = False,
        **properties: Any,
    ) -> None:
        """Publish a message, with properties of MQTT 5 as paho-mqtt names them; return when the broker has it."""
        assert self._client is not None
        said = None
        if properties:
            said = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in properties.items():
                setattr(said, name, value)
        self._client.publish(topic, payload, qos, retain, said).wait_for_publish(DEADLINE)

    # --- what came ------------------------------------------------------------------------------------------------

    def on(self, topic: str) -> list[Received]:
        """Return what came on one topic."""
        return [message for message in list(self.received) if message.topic == topic]

    def bodies(self, topic: str) -> list[dict[str, Any]]:
        """Return what came on one topic, read as JSON."""
        received = list(self.received)
        self._bodies += [message.body for message in received[len(self._bodies) :]]
        return [body for message, body in zip(received, self._bodies, strict=True) if message.topic == topic]

    def wait(self, condition: Callable[[], object], what: str, timeout: float = DEADLINE) -> None:
        """Wait until a condition is true."""
        until(condition, lambda: f"{what}; {self._newest()}", timeout)

    def _newest(self) -> str:
        lines = (f"  {each.topic} {each.payload.decode(errors='replace')}" for each in self.received[-20:])
        return "\n".join([f"{len(self.received)} messages:", *lines])

    def wait_for(self, topic: str, count: int = 1, timeout: float = DEADLINE) -> list[dict[str, Any]]:
        """Wait until so many messages came on one topic, and return them, read as JSON."""
        self.wait(lambda: len(self.on(topic)) >= count, f"{count} messages on {topic}", timeout)
        return self.bodies(topic)
