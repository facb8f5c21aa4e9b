"""Where events are published and commands are taken: the templates, and the topics that are made of them."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from agent import contracts
from agent.events import ALARMS, Delivery, Event, EventType

ALARM: Final = "alarm"
"""What stands below the command topic for the alarms; no device has this name."""


class Topics(contracts.Settings, frozen=True):
    """Where events are published; {gateway}, {source} (device or rule), {channel} and {type} are filled in.

    Attributes:
        reading: Kept readings of a device.
        channel: One channel of a kept reading, with `split: true`.
        historical: Readings that waited for a connection or are replayed; where it is not said, as the others.
        alarm: An alarm's transitions, retained.
        about: What a device's channels are, retained.
        status: Whether the gateway is online, retained.
        event: Any other event.
        command: Below it commands are taken, where `commands` lets any be: …/<device>/<channel>, …/alarm/<rule>. Only
            {gateway} is filled in.
    """

    reading: str = "gatepost/{gateway}/{source}"
    channel: str = "gatepost/{gateway}/{source}/{channel}"
    historical: str | None = None
    alarm: str = "gatepost/{gateway}/alarm/{source}"
    about: str = "gatepost/{gateway}/{source}/about"
    status: str = "gatepost/{gateway}/status"
    event: str = "gatepost/{gateway}/{source}/{type}"
    command: str = "gatepost/{gateway}/command"

    def __post_init__(self) -> None:
        try:
            below = self.command.format(gateway="g") + "/"
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError(f"command expects only {{gateway}} in braces, not {self.command!r}") from None
        if below.startswith("/") or below.endswith("//") or set(below) & set("+#\0"):
            raise ValueError(
                f"command expects a topic without wildcards and without a slash at its end, not {self.command!r}"
            )
        for name in self.__struct_fields__:
            template = getattr(self, name)
            if template is None or name == "command":
                continue
            try:
                topic = template.format(gateway="g", source="s", channel="c", type="t")
            except (KeyError, IndexError, ValueError, AttributeError):
                raise ValueError(
                    f"{name} expects only {{gateway}}, {{source}}, {{channel}} and {{type}} in braces, not {template!r}"
                ) from None
            if not topic or set(topic) & set("+#\0"):
                raise ValueError(f"{name} expects a topic without wildcards, not {template!r}")
            if f"{topic}/".startswith(below):
                raise ValueError(
                    f"command expects a topic below which nothing is published, but {name} is {template!r}"
                )


def target_of(topic: str, command: str) -> tuple[Literal["device", "alarm"], tuple[str, ...]] | None:
    """Return what a command on a topic is for, and its device and channel, or its rule; None where it is no such topic.

    Args:
        topic: The topic that it came on.
        command: The topic below which commands are taken.
    """
    prefix = f"{command}/"
    if not topic.startswith(prefix):
        return None
    parts = tuple(topic[len(prefix) :].split("/"))
    return (ALARM, parts[1:]) if parts[0] == ALARM else ("device", parts)


class TopicBook:
    """Makes topics, and remembers them."""

    def __init__(self, topics: Topics, gateway: str, *, split: bool) -> None:
        self._topics = topics
        self._gateway = gateway
        self._split = split
        self._known: dict[tuple[str, str, bool], str] = {}

    @property
    def command(self) -> str:
        """Below which commands are taken."""
        return self._topics.command.format(gateway=self._gateway)

    @property
    def status(self) -> str:
        """Where the gateway's own status is published."""
        return self._made(self._topics.status, EventType.AGENT_STARTED, "agent")

    def of(self, event: Event, delivery: Delivery) -> str:
        """Return where an event is published; with `split`, an event has one channel."""
        key = (event.type, event.source, delivery is Delivery.LIVE)
        topic = self._known.get(key)
        if topic is None:
            topic = self._made(self._template(event, delivery), event.type, event.source, *event.values)
            if not (self._split and event.type == EventType.READING):
                self._known[key] = topic
        return topic

    def _template(self, event: Event, delivery: Delivery) -> str:
        topics = self._topics
        match event.type:
            case EventType.READING:
                if topics.historical is not None and delivery is not Delivery.LIVE:
                    return topics.historical
                return topics.channel if self._split else topics.reading
            case kind if kind in ALARMS:
                return topics.alarm
            case EventType.DEVICE_ABOUT:
                return topics.about
        return topics.event

    def _made(self, template: str, kind: str, source: str, channel: str = "", *_: str) -> str:
        return template.format(gateway=self._gateway, source=source, channel=channel, type=kind)


def split(event: Event) -> list[Event]:
    """Return an event for each channel of a reading, any other as it is."""
    if event.type != EventType.READING:
        return [event]
    return [
        msgspec.structs.replace(
            event,
            values={channel: value},
            quality={channel: event.quality[channel]} if event.quality and channel in event.quality else None,
        )
        for channel, value in event.values.items()
    ]
