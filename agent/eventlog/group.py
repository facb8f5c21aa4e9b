"""What one transaction writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.eventlog.clocks import Stretch
    from agent.eventlog.cursors import Ahead, Key
    from agent.events import Event, Value


class Rejection(NamedTuple):
    """An event that a far side has refused for good.

    Attributes:
        event: The event.
        consumer: The forwarder.
        time: When it was refused, in microseconds since 1970-01-01 UTC.
        reason: Why.
    """

    event: Event
    consumer: str
    time: int
    reason: str


class Group(NamedTuple):
    """What one transaction writes.

    Attributes:
        events: Events, oldest first.
        cursors: By consumer and lane, up to which sequence number all is acknowledged.
        ahead: The stretches beyond that are acknowledged.
        states: By part, what it must know after a restart; None where that is forgotten.
        units: By device, the unit by channel.
        rejections: Events that were refused for good.
        clocks: Stretches of the clock that are new or corrected.
    """

    events: Sequence[Event]
    cursors: Mapping[Key, int]
    ahead: Mapping[Key, Sequence[Ahead]]
    states: Mapping[str, Mapping[str, Value] | None]
    units: Mapping[str, Mapping[str, str]]
    rejections: Sequence[Rejection] = ()
    clocks: Sequence[Stretch] = ()
