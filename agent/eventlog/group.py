"""What one transaction writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.events import INT64_MAX

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

    def storable(self) -> tuple[Group, list[Event]]:
        """Return it without what no file can hold, such as what a faulty driver made up; and those events."""
        bad = [event for event in self.events if not _is_storable(event)]
        seqs = {event.seq for event in bad}
        rest = self._replace(
            events=[event for event in self.events if event.seq not in seqs],
            rejections=[each for each in self.rejections if _is_storable(each.event)],
            states={
                part: state
                for part, state in self.states.items()
                if all(map(_is_value, [part, *(state or {}), *(state or {}).values()]))
            },
        )
        return rest, bad


def _is_storable(event: Event) -> bool:
    texts = [event.type, event.source, *event.values, *(event.quality or ())]
    times = (event.time, event.recorded or 0)
    return all(map(_is_value, [*texts, *event.values.values(), *times]))


def _is_value(value: object) -> bool:
    """Whether something is what a channel can hold, and SQLite and JSON too."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return -INT64_MAX <= value <= INT64_MAX
    return value is None or isinstance(value, float)
