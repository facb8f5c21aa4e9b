"""What a broker delivers below the command topic: taken in no faster than it can be judged, and answered where that is asked for.

A message is acknowledged only when it was handed over, so a broker that keeps to the receive maximum holds a flood back
itself. Beyond the rate messages wait, up to a number, and those above it are dropped and counted. At QoS 0 nobody holds
anything back, and what acknowledges our events would have to wait in line: a flood ends the subscription for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.errors import Rejected
from agent.events import LARGEST_REQUEST, Ask, Request
from agent.forwarders._flights import Batch, Sent
from agent.forwarders._topics import target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from paho.mqtt.client import MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.forwarders._denials import Denials
    from agent.forwarders._paho import Connection

logger = logging.getLogger(__name__)

LARGEST_PACKET: Final = 4 * LARGEST_REQUEST
"""Bytes of a message at most, with topic and properties, as MQTT 5 lets us say to the broker (3.1.2.11.4)."""

AT_ONCE: Final = 20
"""Messages that the broker may send before we have acknowledged the first (MQTT 5.0, 3.1.2.11.3)."""

RATE: Final = 50.0
"""Messages a second that are handed over, over any longer time."""

BURST: Final = 50
"""Messages that are handed over at once after a quiet time."""

WAITING: Final = 100
"""Messages that may wait for their turn; more are dropped."""

TELL_EVERY: Final = 60.0
"""Seconds between messages about what was dropped."""

FLOOD, FLOOD_WITHIN = 500, 10.0
"""Messages dropped, and seconds, from which on it is a flood, and nothing is taken in for a while."""

PAUSE: Final = 30.0
"""Seconds without a subscription after a flood."""

TOPIC: Final = 1000
"""Characters of a response topic at most."""

CORRELATION: Final = 1024
"""Bytes of correlation data at most."""

REFUSED: Final = 3
"""Answers that the broker may refuse within `QUIET` before no more are given."""

QUIET: Final = 600.0
"""Seconds without answers after that."""


def connect_properties() -> Properties:
    """Return those of a CONNECT of MQTT 5 that bound what the broker sends."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = AT_ONCE
    properties.MaximumPacketSize = LARGEST_PACKET
    return properties


class Subscription:
    """The subscription over one connection."""

    def __init__(
        self,
        connection: Connection,
        version: MQTTProtocolVersion,
        command: str,
        allowed: Collection[Ask],
        take: Callable[[Request], None],
        answers: Answers,
    ) -> None:
        """Store what it is made of.

        Args:
            connection: The connection; it ends with that.
            version: The version of MQTT that it speaks.
            command: The topic below which commands are taken.
            allowed: What may be asked for.
            take: Called with each request.
            answers: Publishes answers.
        """
        self._connection = connection
        self._is_v5 = version == MQTTProtocolVersion.MQTTv5
        self._command = command
        self._allowed = frozenset(allowed)
        self._take = take
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        # By QoS, with the time that each came. Those of QoS 1 are held back by the broker, and go first: a flood at QoS 0,
        # which nobody holds back, drops none of them.
        self._waiting: dict[int, deque[tuple[MQTTMessage, float]]] = {1: deque(), 0: deque()}
        self._turn: asyncio.Handle | None = None
        self._tokens = float(BURST)
        self._counted_at = 0.0
        self._dropped = 0
        self._told_at: float | None = None
        self._flood = (0.0, 0)  # since when drops are counted, and how many there were
        self._pause: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Subscribe; the connection is up, or was."""
        self._pause = None
        if not self._connection.is_up:
            return
        # What is retained says nothing about when it was asked for: the broker need not send it, and says which it is.
        options = SubscribeOptions(1, noLocal=True, retainAsPublished=True, retainHandling=2)
        self._connection.subscribe(
            f"{self._command}/#", options if self._is_v5 else None, self._on_message, self._on_answer
        )

    def end(self) -> None:
        """Forget what still waits: the broker forgets it too."""
        for handle in (self._turn, self._pause):
            if handle is not None:
                handle.cancel()
        self._turn = self._pause = None
        for waiting in self._waiting.values():
            waiting.clear()

    def _on_answer(self, reason: ReasonCode) -> None:
        if reason.is_failure:
            logger.error(
                "the broker refuses to let us subscribe to %s/# (%s), so no commands come that way; events are forwarded "
                "all the same",
                self._command, str(reason).lower(),
            )  # fmt: skip

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _on_message(self, message: MQTTMessage) -> None:
        """Let a message wait for its turn: this is inside paho, where nothing may be sent."""
        waiting = self._waiting[min(message.qos, 1)]
        if len(waiting) >= WAITING:
            self._drop(message)
            return
        if len(message.payload) > LARGEST_REQUEST:
            message.payload = message.payload[: LARGEST_REQUEST + 1]  # enough to be refused for its length
        waiting.append((message, self._loop.time()))
        if self._turn is None:
            self._turn = self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Hand over what waits, as far as the rate allows."""
        self._turn = None
        now = self._loop.time()
        self._tokens = min(float(BURST), self._tokens + (now - self._counted_at) * RATE)
        self._counted_at = now
        while self._tokens >= 1 and (waiting := self._next()):
            self._tokens -= 1
            message, came = waiting.popleft()
            request = self._request(message, now - came)
            if request is not None:
                self._take(request)
            self._connection.acknowledge(message)
        if self._next():
            self._turn = self._loop.call_later((1 - self._tokens) / RATE, self._hand_over)

    def _next(self) -> deque[tuple[MQTTMessage, float]] | None:
        """Return the queue whose first message is the next one; None where nothing waits."""
        return next((waiting for waiting in self._waiting.values() if waiting), None)

    def _drop(self, message: MQTTMessage) -> None:
        self._dropped += 1
        self._loop.call_soon(self._connection.acknowledge, message)
        now = self._loop.time()
        if self._told_at is None or now - self._told_at >= TELL_EVERY:
            logger.warning(
                "more commands come below %s than %g a second; %d were dropped since the last such line",
                self._command, RATE, self._dropped,
            )  # fmt: skip
            self._told_at, self._dropped = now, 0
        since, count = self._flood
        self._flood = (since, count + 1) if now - since < FLOOD_WITHIN else (now, 1)
        if self._flood[1] >= FLOOD and self._pause is None:
            logger.error(
                "a flood of commands below %s would keep events waiting: none are taken for %g s",
                self._command,
                PAUSE,
            )
            self._loop.call_soon(self._connection.unsubscribe, f"{self._command}/#")
            self._pause = self._loop.call_later(PAUSE, self.begin)

    def _request(self, message: MQTTMessage, waited: float) -> Request | None:
        try:
            found = target_of(message.topic, self._command)
        except UnicodeDecodeError:
            found = None
        if found is None:  # the broker sends what we have not subscribed to
            return None
        expiry: int | None = getattr(message.properties, "MessageExpiryInterval", None)
        return Request(
            *found,
            bytes(message.payload),
            self._allowed,
            is_retained=message.retain,
            good_for=None if expiry is None else expiry - waited,
            answer=self._answering(message),
        )

    # --- answers --------------------------------------------------------------------------------------------------------

    def _answering(self, message: MQTTMessage) -> Callable[[bytes], None] | None:
        """Return what publishes an answer where the message asks for one (MQTT 5.0, section 4.10)."""
        topic: str = getattr(message.properties, "ResponseTopic", "")
        correlation: bytes = getattr(message.properties, "CorrelationData", b"")
        if not topic or len(topic) > TOPIC or len(correlation) > CORRELATION or set(topic) & set("+#\0"):
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        if correlation:
            properties.CorrelationData = correlation
        return partial(self._answer, topic, properties)

    def _answer(self, topic: str, properties: Properties, payload: bytes) -> None:
        self._answers.publish(self._connection, topic, payload, properties)


class Answers:
    """Publishes answers, over one connection after the other.

    Who may ask may name any topic for the answer, also one that the broker denies us, and some brokers close the connection
    for that. So a topic that was denied is let be for a while, and after a few of them no answer is given for a while.
    """

    def __init__(self, denied: Denials) -> None:
        """Store which topics are not to be tried."""
        self._denied = denied
        self._refused: deque[float] = deque(maxlen=REFUSED)  # when the last ones were

    def publish(self, connection: Connection, topic: str, payload: bytes, properties: Properties) -> None:
        """Publish an answer where that does no harm, and the connection is still there."""
        now = asyncio.get_running_loop().time()
        size = len(topic.encode()) + len(payload) + CORRELATION
        if not connection.is_up or (connection.largest is not None and size > connection.largest):
            return
        if topic in self._denied:
            return
        if len(self._refused) == REFUSED and now - self._refused[0] < QUIET:
            return
        flight = Batch(asyncio.get_running_loop().create_future())
        flight.missing = 1
        flight.done.add_done_callback(self._on_done)
        connection.publish(Sent(flight, (0,), topic), topic, payload, properties, retain=False)
        connection.flush()

    def _on_done(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and isinstance(fault := done.exception(), Rejected):
            self._refused.append(asyncio.get_running_loop().time())
            logger.warning("an answer to a command was refused: %s", fault)
