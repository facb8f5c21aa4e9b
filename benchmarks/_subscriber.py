"""A subscriber that costs little: MQTT 3.1.1 on a plain socket, in a process of its own.

Run as `python -m benchmarks._subscriber '{"port": 1883, …}'` with the fields of `Wanted`. It prints a line of JSON for
each thing that it was to notice: `ready`, `online` (the agent's status), `event` (the first event of any kind), `reading`
(the first reading), and at the end, or when it is told to stop by SIGTERM, what it has received. A payload may be one
event or a JSON array of them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x82, 0x90
KEEPALIVE: Final = 36_000
"""Seconds. Longer than any measure, so that no ping is needed; 0, for never, is more than the embedded broker takes."""
CHUNK: Final = 1 << 18
_ALARM: Final = re.compile(rb'"value":([-0-9.]+)')


class Wanted(msgspec.Struct):
    """What to subscribe to and what to look at.

    Attributes:
        port: Of the broker on this machine.
        count: Readings after which it ends.
        key: The member of the payload to look at.
        meaning: `sequence` (0, 1, 2, …), `stamp` (nanoseconds of the monotonic clock) or `count` (anything).
        qos: The QoS of the subscription.
        session: Keep the session while disconnected, and connect again.
        mark: Also say when so many readings had come.
        alarms: Also say when each alarm came, by the value that tripped it.
        absent: Also say which numbers below the highest one did not come.
    """

    port: int
    count: int
    key: str = "n"
    meaning: str = "sequence"
    qos: int = 0
    session: bool = False
    mark: int = 0
    alarms: bool = False
    absent: bool = False


class Sequence:
    """Checks numbers that should be 0, 1, 2, … each once.

    Attributes:
        next: The number after the highest one seen.
        missing: The numbers below `next` that were not seen.
        repeats: How many came again.
        disordered: How many came after a higher one.
    """

    def __init__(self) -> None:
        self.next = 0
        self.missing: set[int] = set()
        self.repeats = 0
        self.disordered = 0

    def add(self, number: int) -> None:
        """Take in the next one that came."""
        if number == self.next:
            self.next += 1
        elif number > self.next:
            self.missing.update(range(self.next, number))
            self.next = number + 1
        elif number in self.missing:
            self.missing.remove(number)
            self.disordered += 1
        else:
            self.repeats += 1


class Subscriber:
    """Receives and counts."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.received = 0
        self.sequence = Sequence()
        self.latencies: list[int] = []
        self.first = self.last = self.marked = 0
        self.alarms: list[tuple[float, int]] = []  # the value, and when it came
        self._noticed: set[str] = set()
        self._pattern = re.compile(rb'"%s":([-0-9.]+)' % wanted.key.encode())

    def say(self, what: str, **facts: Any) -> None:
        """Print one line for the harness."""
        print(json.dumps({"what": what, "at": time.monotonic_ns(), **facts}), flush=True)

    def run(self) -> None:
        """Receive until all that was wanted is there."""
        while not self._done():
            try:
                self._receive()
            except OSError:
                if not self.wanted.session:
                    raise
                time.sleep(0.1)
        self.report()

    def report(self) -> None:
        """Say what was received."""
        sequence = self.sequence
        self.say(
            "received", count=self.received, unique=sequence.next - len(sequence.missing), first=self.first,
            last=self.last, missing=len(sequence.missing), repeats=sequence.repeats,
            disordered=sequence.disordered, latencies=self.latencies, marked=self.marked, alarms=self.alarms,
            highest=sequence.next - 1, absent=sorted(sequence.missing) if self.wanted.absent else [],
        )  # fmt: skip

    def _done(self) -> bool:
        if self.wanted.meaning == "sequence":
            return self.sequence.next - len(self.sequence.missing) >= self.wanted.count
        return self.received >= self.wanted.count

    def _receive(self) -> None:
        with socket.create_connection(("127.0.0.1", self.wanted.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(_connect(clean=not self.wanted.session))
            rest = b""
            while not self._done():
                chunk = connection.recv(CHUNK)
                if not chunk:
                    raise ConnectionError
                now = time.monotonic_ns()
                data = rest + chunk
                end = 0
                acknowledge = bytearray()
                for head, start, end in _packets(data):
                    if head & 0xF0 == PUBLISH:
                        acknowledge += self._take(head, data[start:end], now)
                    elif head == CONNACK:
                        connection.sendall(_subscribe(self.wanted.qos))
                    elif head == SUBACK:
                        self._notice("ready")
                rest = data[end:]
                if acknowledge:
                    connection.sendall(acknowledge)

    def _take(self, head: int, body: bytes, now: int) -> bytes:
        """Look at a message; return its acknowledgement where it wants one."""
        after_topic = 2 + int.from_bytes(body[:2])
        payload = after_topic + (2 if head & 0x06 else 0)
        if body[payload : payload + 1] == b"[":
            for number in self._pattern.findall(body, payload):
                self._count(number, now)
        elif (found := self._pattern.search(body, payload)) is not None:
            self._count(found[1], now)
        elif b'"online"' in body:
            self._notice("online")
        if "event" not in self._noticed and b'{"id":"' in body:
            self._notice("event")
        if self.wanted.alarms and b'"alarm.raised"' in body:
            self.alarms += [(float(value), now) for value in _ALARM.findall(body, payload)]
        return b"\x40\x02" + body[after_topic:payload] if head & 0x06 else b""

    def _count(self, number: bytes, now: int) -> None:
        """Take in what a reading holds under the key."""
        if not self.received:
            self.first = now
            self._notice("reading")
        self.received += 1
        self.last = now
        if self.received == self.wanted.mark:
            self.marked = now
        if self.wanted.meaning == "sequence":
            self.sequence.add(int(number))
        elif self.wanted.meaning == "stamp":
            self.latencies.append(now - int(number))

    def _notice(self, what: str) -> None:
        if what not in self._noticed:
            self._noticed.add(what)
            self.say(what)


def _packets(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the first byte, the start of the body and its end of each packet that is there as a whole."""
    position, length = 0, len(data)
    while position + 2 <= length:
        head, remaining, start, shift = data[position], data[position + 1] & 0x7F, position + 2, 7
        while data[start - 1] & 0x80:
            if start >= length:
                return
            remaining |= (data[start] & 0x7F) << shift
            start, shift = start + 1, shift + 7
        position = start + remaining
        if position > length:
            return
        yield head, start, position


def _connect(*, clean: bool) -> bytes:
    name = f"benchmark-{os.getpid()}".encode()
    body = b"\x00\x04MQTT\x04" + bytes([2 if clean else 0]) + struct.pack("!HH", KEEPALIVE, len(name)) + name
    return bytes([CONNECT, len(body)]) + body


def _subscribe(qos: int) -> bytes:
    topic = b"gatepost/#"
    body = b"\x00\x01" + struct.pack("!H", len(topic)) + topic + bytes([qos])
    return bytes([SUBSCRIBE, len(body)]) + body


def main(said: str) -> None:
    """Receive what is wanted."""
    subscriber = Subscriber(msgspec.json.decode(said, type=Wanted))

    def stop(_: int, __: object) -> None:
        subscriber.report()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    subscriber.run()


if __name__ == "__main__":
    main(sys.argv[1])
