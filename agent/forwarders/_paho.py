"""One connection of paho-mqtt, driven by the agent's own event loop: no thread, and nothing left over for the next one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from paho.mqtt.enums import MQTTErrorCode

from agent.errors import Disconnected
from agent.forwarders._tls import explain

if TYPE_CHECKING:
    from collections.abc import Callable

    import paho.mqtt.client as paho
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions

    from agent.forwarders._tls import Shown

PATIENCE: Final = 10.0
"""Seconds to wait for the broker to answer while connecting."""

SETTLED_IN: Final = 60.0
"""Seconds that the broker may take to acknowledge a message; pings alone are no sign that it still takes any."""

QUOTA_EXCEEDED: Final = 0x97
"""The reason code of a PUBACK for a message that may be taken later (MQTT 5.0, section 3.4.2.1)."""

LARGEST_INCOMING: Final = 1024 * 1024
"""Bytes of a packet from the broker at most: with MQTT 3.1.1 nobody but us keeps one of 256 MB out of our memory."""

MISC_EVERY: Final = 1.0
"""Seconds between looks at whether a ping is due, or was not answered."""


class _Held(NamedTuple):
    """A message that waits for room at the broker."""

    token: Any
    topic: str
    payload: bytes
    properties: Properties | None
    retain: bool


class Unspoken(Disconnected):
    """The far side may not speak this version of MQTT, or no MQTT at all."""

    def __init__(self, what: str, *, is_said: bool = False) -> None:
        """Store what to tell, and whether the far side has said so itself rather than nothing at all."""
        super().__init__(what)
        self.is_said = is_said


class Connection:
    """From `open` to `close`, or until it is lost.

    Attributes:
        lost: Done, with the reason as text, when the connection is lost.
        receive_maximum: How many messages the broker takes before it has acknowledged the first (MQTT 5.0, 3.2.2.3.3).
        largest: The largest packet that the broker takes, in bytes, where it says so (MQTT 5.0, 3.2.2.3.6).
    """

    def __init__(
        self,
        client: paho.Client,
        where: str,
        on_settled: Callable[[Any, ReasonCode], None],
        *,
        shown: Shown | None,
    ) -> None:
        """Store what it is made of.

        Args:
            client: Configured, not connected.
            where: The broker, for messages, such as `the broker site:1883`.
            on_settled: Called with the token and the broker's reason for each message that it has settled.
            shown: The broker's certificate, where the client is configured for TLS.
        """
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.receive_maximum = 65535
        self.largest: int | None = None
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._where = where
        self._on_settled = on_settled
        self._shown = shown
        self._answer: asyncio.Future[Any] = self._loop.create_future()  # the broker's ReasonCode
        self._misc: asyncio.TimerHandle | None = None
        self._is_writing = False
        self._is_batching = False
        self._held: deque[_Held] = deque()
        self._sent: dict[int, tuple[Any, float]] = {}  # by message id, oldest first: the token, and when
        self._settled_at = 0.0
        self._is_bounded = False

    @property
    def is_up(self) -> bool:
        """Whether messages may be published."""
        return self._answer.done() and not self.lost.done()

    @property
    def _silence(self) -> str:
        """What to say of a broker that closes the connection instead of answering."""
        wants = "a certificate of ours that it trusts (tls.certificate)" if self._shown is not None else "TLS"
        return f"{self._where} closed the connection without an answer; does it expect {wants}?"

    async def open(self, host: str, port: int, keepalive: int, properties: Properties | None = None) -> None:
        """Connect and wait for the broker's answer.

        Args:
            host: Name or address.
            port: TCP port.
            keepalive: Seconds after which a silent connection is given up.
            properties: Those of the CONNECT, with MQTT 5.

        Raises:
            Unspoken: It may be worth while to try another version of MQTT.
            Disconnected: The broker is not there, or refuses us.
        """
        client = self._client
        client.connect_timeout = PATIENCE
        client.on_connect = self._on_connect
        try:
            # Looking up the name, connecting and TLS block, so not in the event loop.
            connect = partial(client.connect, host, port, keepalive, properties=properties)
            await self._loop.run_in_executor(None, connect)
        except (OSError, ValueError) as error:
            said = await self._loop.run_in_executor(None, explain, error, self._where, self._shown)
            raise Disconnected(said) from error
        sock: Any = client.socket()
        if sock is None:
            raise Unspoken(self._silence)
        # Or what follows would wait for the broker's TCP ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Only now that the thread is done: all callbacks come in the event loop.
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_socket_register_write
        self._loop.add_reader(sock, self._read)
        self._misc = self._loop.call_later(MISC_EVERY, self._on_misc)
        await asyncio.wait({self._answer, self.lost}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            if self.lost.done():
                raise Unspoken(self._silence)
            raise Disconnected(f"{self._where} did not answer within {PATIENCE:g} s; is it an MQTT broker?")
        reason = self._answer.result()
        if str(reason) == "Unsupported protocol version":
            raise Unspoken(f"{self._where} does not speak this version of MQTT", is_said=True)
        if reason.is_failure:
            who = f"user {client.username!r}" if client.username else "us without a user name"
            raise Disconnected(
                f"{self._where} refuses {who}: {str(reason).lower()}; check username, password and client_id"
            )

    def publish(
        self, token: Any, topic: str, payload: bytes, properties: Properties | None, *, retain: bool
    ) -> None:
        """Publish at QoS 1, as soon as the broker has room (MQTT 5.0, section 3.3.4); `flush` makes it leave.

        Args:
            token: Given to `on_settled` when the broker has settled the message.
            topic: The topic.
            payload: The payload.
            properties: Those of MQTT 5.
            retain: Whether the broker keeps it as the topic's last message.
        """
        self._is_batching = True
        if self._held or len(self._sent) >= self.receive_maximum:
            self._held.append(_Held(token, topic, payload, properties, retain))
        else:
            self._publish(token, topic, payload, properties, retain)

    def _publish(
        self, token: Any, topic: str, payload: bytes, properties: Properties | None, retain: bool
    ) -> None:
        info = self._client.publish(topic, payload, 1, retain, properties)
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._sent[info.mid] = (token, self._loop.time())
        else:
            self._held.append(_Held(token, topic, payload, properties, retain))  # it counts as unsettled
            self._lose(info.rc.name)

    def unsettled(self) -> list[Any]:
        """Return the tokens of the messages that the broker has not settled, and forget them."""
        tokens = [token for token, _ in self._sent.values()] + [held.token for held in self._held]
        self._sent.clear()
        self._held.clear()
        return tokens

    def subscribe(
        self,
        topic: str,
        options: SubscribeOptions | None,
        on_message: Callable[[paho.MQTTMessage], None],
        on_answer: Callable[[ReasonCode], None],
    ) -> None:
        """Ask for the messages of a topic, at QoS 1.

        Args:
            topic: The topic, or a filter.
            options: Those of MQTT 5; None with MQTT 3.1.1.
            on_message: Called with each message that comes, which must be given to `acknowledge` then.
            on_answer: Called with what the broker says to it.
        """
        if not self._is_bounded:
            self._bound()
        self._client.on_message = lambda _, __, message: on_message(message)
        self._client.on_subscribe = lambda _, __, ___, reasons, ____: on_answer(reasons[0])
        self._client.subscribe(topic, qos=0 if options is not None else 1, options=options)

    def unsubscribe(self, topic: str) -> None:
        """Ask for the messages of a topic no longer."""
        if self.is_up:
            self._client.unsubscribe(topic)

    def _bound(self) -> None:
        """Have a packet given up that is too large, before it is read."""
        self._is_bounded = True
        client, receive = self._client, self._client._sock_recv  # noqa: SLF001 -- there is no other way to bound it

        def receive_bounded(bufsize: int) -> bytes:
            if bufsize > LARGEST_INCOMING:
                self._lose(f"it sends a message of over {LARGEST_INCOMING} bytes")
                raise OSError("too large")  # paho-mqtt ends the connection
            return receive(bufsize)

        client._sock_recv = receive_bounded  # type: ignore[method-assign]  # noqa: SLF001

    def acknowledge(self, message: paho.MQTTMessage) -> None:
        """Tell the broker that we are done with a message that was subscribed to."""
        if self.is_up:
            self._client.ack(message.mid, message.qos)

    def flush(self) -> None:
        """Let all that was published leave in one go."""
        self._is_batching = False
        self._write()

    def close(self) -> None:
        """End the connection; cleanly, without our will, where it is up. May be called at any time."""
        if self.is_up:
            self._client.disconnect()
            self._client.loop_write()
        if self._misc is not None:
            self._misc.cancel()
        self._close()
        self._lose("closed")

    def _close(self) -> None:
        if (sock := self._client.socket()) is not None:
            self._forget(sock)
            sock.close()

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    # --- driving paho ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            self._client.loop_read()
            # What TLS has already decrypted wakes no selector.
            while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
                self._client.loop_read()
        except Exception as error:  # noqa: BLE001 -- what a broker sends that is no MQTT; the socket would stay readable
            self._lose(f"it sends what makes no sense: {type(error).__name__}: {error}")
            self._close()

    def _write(self) -> None:
        client = self._client
        if client.socket() is None:
            return
        client.loop_write()
        sock = client.socket()
        if sock is not None and client.want_write() is not self._is_writing:
            self._is_writing = not self._is_writing
            if self._is_writing:
                self._loop.add_writer(sock, self._write)
            else:
                self._loop.remove_writer(sock)

    def _on_misc(self) -> None:
        self._client.loop_misc()
        _, oldest = next(iter(self._sent.values()), (None, self._loop.time()))
        # On a thin line many may be on their way for longer, one after the other.
        if self._loop.time() - max(oldest, self._settled_at) > SETTLED_IN:
            self._lose(f"it is there, but has not acknowledged a message for {SETTLED_IN:g} s")
        self._misc = self._loop.call_later(MISC_EVERY, self._on_misc)

    def _forget(self, sock: Any) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
        self._is_writing = False

    # --- what paho tells us ---------------------------------------------------------------------------------------

    def _on_connect(
        self, _: Any, __: Any, ___: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self.receive_maximum = getattr(properties, "ReceiveMaximum", self.receive_maximum)
        self.largest = getattr(properties, "MaximumPacketSize", None)
        if not self._answer.done():
            self._answer.set_result(reason)

    def _on_publish(self, _: Any, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        if reason.value == QUOTA_EXCEEDED:
            self._lose("it says: quota exceeded")  # which passes: nothing may be set aside for it
            return
        token, _when = self._sent.pop(mid, (None, 0.0))
        self._settled_at = self._loop.time()
        if token is not None:
            self._on_settled(token, reason)
        if self._held and len(self._sent) < self.receive_maximum and self.is_up:
            self._publish(*self._held.popleft())

    def _on_disconnect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:
        self._lose(str(reason).lower())

    def _on_socket_close(self, _: Any, __: Any, sock: Any) -> None:
        self._forget(sock)

    def _on_socket_register_write(self, _: Any, __: Any, ___: Any) -> None:
        if not self._is_batching:  # a ping, or what paho sends by itself
            self._loop.call_soon(self._write)
