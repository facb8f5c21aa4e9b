"""Brokers that do what the standard allows, or does not, and that no real one does on demand."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agent.contracts import Gateway
from agent.encodings import json as plain_json
from agent.errors import Disconnected
from agent.events import Ask, Event, EventType
from agent.forwarders import _paho, mqtt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ = 1, 3, 8, 12
GATEWAY = Gateway("g", "1.0", 1)


class OddBroker:
    """Takes MQTT 5 apart far enough to answer as a test wants.

    Attributes:
        port: Where it listens.
        reason: The reason code of its PUBACKs; None where it sends none.
        most: How many messages were on their way at once.
        versions: The protocol levels of the CONNECTs so far: 5, or 4 for 3.1.1.
        silent: How many connections it ends without an answer.
        slowness: Seconds from a message to its PUBACK, one after the other.
        suback: The reason code of its SUBACKs.
        filters: What was subscribed to.
    """

    def __init__(self, reason: int | None = 0, receive_maximum: int | None = None) -> None:
        self.port = 0
        self.versions: list[int] = []
        self.silent = 0
        self.suback = 0x87
        self.filters: list[str] = []
        self.slowness = 0.01
        self.reason = reason
        self.most = 0
        self.topics: list[str] = []
        self._receive_maximum = receive_maximum
        self._waiting: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                kind = (await reader.readexactly(1))[0] >> 4
                length = shift = 0
                while True:
                    byte = (await reader.readexactly(1))[0]
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                body = await reader.readexactly(length)
                if kind == CONNECT:
                    self.versions.append(body[6])
                    if len(self.versions) <= self.silent:
                        writer.close()
                        return
                    if body[6] == 4:  # MQTT 3.1.1 has no properties
                        writer.write(b"\x20\x02\x00\x00")
                        continue
                    limit = (
                        b""
                        if self._receive_maximum is None
                        else b"\x21" + self._receive_maximum.to_bytes(2, "big")
                    )
                    writer.write(bytes([0x20, 3 + len(limit), 0, 0, len(limit)]) + limit)
                elif kind == PUBLISH:
                    end = 2 + int.from_bytes(body[:2], "big")
                    self.topics.append(body[2:end].decode())
                    self._waiting.append(body[end : end + 2])
                    self.most = max(self.most, len(self._waiting))
                    wait = self.slowness * len(self._waiting)
                    asyncio.get_running_loop().call_later(wait, self._settle, writer)
                elif kind == SUBSCRIBE:
                    is_old = self.versions[-1] == 4
                    self.filters.append(body[4 if is_old else 5 : -1].decode())
                    none = b"" if is_old else b"\x00"  # no properties
                    answer = body[:2] + none + bytes([self.suback])
                    writer.write(bytes([0x90, len(answer)]) + answer)
                elif kind == PINGREQ:
                    writer.write(b"\xd0\x00")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    def _settle(self, writer: asyncio.StreamWriter) -> None:
        if self._waiting and self.reason is not None and not writer.is_closing():
            mid = self._waiting.pop(0)
            failed = self.reason >= 0x80 and self.topics[-1] != "gatepost/g/status"
            writer.write(b"\x40\x03" + mid + bytes([self.reason]) if failed else b"\x40\x02" + mid)


@asynccontextmanager
async def listening(broker: OddBroker) -> AsyncIterator[OddBroker]:
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for writer in broker.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def connected(broker: OddBroker, *, split: bool = False) -> AsyncIterator[mqtt.Forwarder]:
    settings = mqtt.Settings(host="127.0.0.1", port=broker.port, version="5", split=split)
    forwarder = mqtt.Forwarder(settings, GATEWAY, plain_json.Encoding(plain_json.Settings(), GATEWAY))
    await forwarder.connect([])
    try:
        yield forwarder
    finally:
        await forwarder.close()


def readings(count: int, channels: int = 1) -> list[Event]:
    values = {f"c{number}": number for number in range(channels)}
    return [Event(1, seq, EventType.READING, "air", 0, dict(values)) for seq in range(1, count + 1)]


async def test_a_quota_passes_so_nothing_is_set_aside_for_it() -> None:
    async with listening(OddBroker(reason=0x97)) as broker, connected(broker) as forwarder:
        with pytest.raises(Disconnected, match="quota exceeded"):
            await forwarder.send(readings(3))
        with pytest.raises(Disconnected, match="quota exceeded"):
            await forwarder.wait_lost()


async def test_a_broker_that_answers_pings_but_no_messages_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_paho, "SETTLED_IN", 0.2)
    monkeypatch.setattr(_paho, "MISC_EVERY", 0.05)
    async with listening(OddBroker(reason=None)) as broker, connected(broker) as forwarder:
        async with asyncio.timeout(5):
            with pytest.raises(Disconnected, match="has not acknowledged a message"):
                await forwarder.send(readings(1))


async def test_a_broker_that_acknowledges_slowly_one_after_the_other_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_paho, "SETTLED_IN", 0.5)
    monkeypatch.setattr(_paho, "MISC_EVERY", 0.05)
    async with listening(OddBroker()) as broker, connected(broker) as forwarder:
        broker.slowness = 0.25
        async with asyncio.timeout(10):
            await forwarder.send(readings(6))


async def test_one_connection_that_ends_without_an_answer_is_no_reason_to_stay_with_an_old_version() -> None:
    async with listening(OddBroker()) as broker:
        broker.silent = 1
        settings = mqtt.Settings(host="127.0.0.1", port=broker.port)
        forwarder = mqtt.Forwarder(settings, GATEWAY, plain_json.Encoding(plain_json.Settings(), GATEWAY))
        for _ in range(2):
            await forwarder.connect([])
            await forwarder.close()
        assert broker.versions == [5, 4, 5]


async def test_a_broker_that_sends_what_no_library_understands_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stumble() -> None:
        raise KeyError("an unknown reason code")

    async with listening(OddBroker()) as broker, connected(broker) as forwarder:
        assert forwarder._connection is not None
        monkeypatch.setattr(forwarder._connection._client, "loop_read", stumble)
        broker.writers[0].write(b"\x40")
        async with asyncio.timeout(5):
            with pytest.raises(Disconnected, match="what makes no sense: KeyError"):
                await forwarder.wait_lost()


@pytest.mark.parametrize("limit", [1, 10])
async def test_the_receive_maximum_holds_for_split_readings_and_our_status_too(limit: int) -> None:
    async with (
        listening(OddBroker(receive_maximum=limit)) as broker,
        connected(broker, split=True) as forwarder,
    ):
        async with asyncio.timeout(10):
            await forwarder.send(readings(5, channels=6))
        assert broker.most <= limit
        assert broker.topics == ["gatepost/g/status"] + [f"gatepost/g/air/c{n}" for n in range(6)] * 5


@pytest.mark.parametrize(("version", "reason"), [("5", 0x87), ("5", 0x80), ("3.1.1", 0x80)])
async def test_a_refused_subscription_is_said_and_events_are_forwarded_all_the_same(
    version: Any, reason: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(OddBroker()) as broker:
        broker.suback = reason
        settings = mqtt.Settings(host="127.0.0.1", port=broker.port, version=version, commands=(Ask.OUTPUTS,))
        forwarder = mqtt.Forwarder(settings, GATEWAY, plain_json.Encoding(plain_json.Settings(), GATEWAY))
        forwarder.on_request = lambda _: None
        async with asyncio.timeout(10):
            await forwarder.connect([])
            await forwarder.send(readings(3))
            await forwarder.close()
        assert broker.filters == ["gatepost/g/command/#"]
        assert "refuses to let us subscribe to gatepost/g/command/#" in caplog.text


async def test_where_no_commands_are_let_in_nothing_is_subscribed_to() -> None:
    async with listening(OddBroker()) as broker:
        settings = mqtt.Settings(host="127.0.0.1", port=broker.port, version="5")
        forwarder = mqtt.Forwarder(settings, GATEWAY, plain_json.Encoding(plain_json.Settings(), GATEWAY))
        forwarder.on_request = lambda _: None
        async with asyncio.timeout(10):
            await forwarder.connect([])
            await forwarder.close()
        assert not broker.filters
