"""Payloads of several events put together as JSON arrays, one or more for each topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.events import Event

MOST: Final = 32 * 1024
"""Bytes of joined payloads in one message: a line of 1 kB/s takes that in half a minute, and is not given up meanwhile."""

ROOM: Final = 64
"""Bytes of a message of joined payloads beside those and the topic, at most."""


def joined(
    encoded: Iterable[tuple[str, Event, bytes]], largest: int | None
) -> Iterator[tuple[str, list[Event], bytes]]:
    """Yield the topic, the events and the payload of each message, topic by topic, in order.

    Args:
        encoded: The topic, the event, and its payload alone.
        largest: The largest packet that the broker takes, in bytes; None where it does not say so.
    """
    by_topic: dict[str, list[tuple[Event, bytes]]] = {}
    for topic, event, payload in encoded:
        by_topic.setdefault(topic, []).append((event, payload))
    for topic, parts in by_topic.items():
        most = MOST if largest is None else largest - len(topic.encode()) - ROOM
        start, size = 0, 0
        for index, (_, payload) in enumerate(parts):
            if index > start and size + len(payload) + 1 > most:
                yield topic, *_array(parts[start:index])
                start, size = index, 0
            size += len(payload) + 1
        yield topic, *_array(parts[start:])


def _array(parts: list[tuple[Event, bytes]]) -> tuple[list[Event], bytes]:
    return [event for event, _ in parts], b"[%s]" % b",".join(payload for _, payload in parts)
