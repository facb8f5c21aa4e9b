"""What it is held against: paho-mqtt alone, publishing the payloads that the agent would, with nothing else to do.

Run as `python -m benchmarks._paho_alone PORT COUNT RATE`. MQTT 5, QoS 1, driven by asyncio, at most `WINDOW` messages not
acknowledged. The payloads are made beforehand, but for those of a steady rate, which carry the moment of publishing.
It waits for a line on its standard input, and prints when it began and ended and what processor time that took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks._writer import temperature

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

WINDOW: Final = 100
TOPIC: Final = "gatepost/bench/line"


def payload(number: int, seq: int) -> bytes:
    """Return the payload that the agent's plain `json` encoding gives for a reading."""
    return (
        f'{{"id":"1-{seq}","time":"2026-11-23T10:15:00.{seq % 1_000_000:06d}Z","gateway":"bench","device":"line",'
        f'"values":{{"n":{number},"temperature":{temperature(seq):.1f}}}}}'
    ).encode()


class Publisher:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.connected = self.loop.create_future()
        self.in_flight = 0
        self.room = asyncio.Event()
        self.client = client = paho.Client(
            CallbackAPIVersion.VERSION2, "paho-alone", protocol=MQTTProtocolVersion.MQTTv5
        )
        client.max_inflight_messages_set(0)
        client.max_queued_messages_set(0)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        client.connect("127.0.0.1", port)

    def publish(self, data: bytes) -> None:
        """Put one message on its way."""
        self.in_flight += 1
        self.client.publish(TOPIC, data, 1)

    async def wait_below(self, limit: int) -> None:
        """Wait until fewer than `limit` messages are on their way."""
        while self.in_flight >= limit:
            self.room.clear()
            await self.room.wait()

    def _on_connect(self, *_: Any) -> None:
        self.connected.set_result(None)

    def _on_publish(self, *_: Any) -> None:
        self.in_flight -= 1
        self.room.set()

    def _on_socket_open(self, client: paho.Client, _: Any, sock: SocketLike) -> None:
        self.loop.add_reader(sock, client.loop_read)

    def _on_register_write(self, client: paho.Client, _: Any, sock: SocketLike) -> None:
        self.loop.add_writer(sock, client.loop_write)

    def _on_unregister_write(self, _: paho.Client, __: Any, sock: SocketLike) -> None:
        self.loop.remove_writer(sock)


async def main(port: int, count: int, rate: float) -> None:
    """Publish, and say when that was."""
    publisher = Publisher(port)
    await publisher.connected
    payloads = [] if rate else [payload(index, index) for index in range(count)]
    print(json.dumps({"ready": True}), flush=True)
    await publisher.loop.run_in_executor(None, sys.stdin.readline)
    processor = time.process_time()
    began = time.monotonic_ns()
    for data in payloads:
        if publisher.in_flight >= WINDOW:
            await publisher.wait_below(WINDOW)
        publisher.publish(data)
    for index in range(count if rate else 0):
        await asyncio.sleep(max(0.0, began / 1e9 + index / rate - time.monotonic()))
        publisher.publish(payload(time.monotonic_ns(), index))
    await publisher.wait_below(1)
    ended = time.monotonic_ns()
    print(json.dumps({"began": began, "ended": ended, "cpu": time.process_time() - processor}), flush=True)
    publisher.client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
