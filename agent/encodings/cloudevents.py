"""CloudEvents 1.0, so that standard tools take the events as they are.

`structured` puts all in one JSON object (media type application/cloudevents+json). `binary` puts the data in the payload
and the attributes beside it, as MQTT 5 user properties; on MQTT 3.1.1 only `structured` exists (CloudEvents MQTT protocol
binding 1.0.2, section 3). The extensions `sequence` and, for alarms, `severitytext` are those of the CloudEvents
documented extensions, as is `recordedtime`, said where it is over a second after `time`. Only where it is so, `delivery` is
`historical` (it waited for a connection) or `replayed`, and `clock` is `unset` (the clock had not been set, so `time` is
wrong). A batch is that of the JSON event format (application/cloudevents-batch+json).

Sample::

    forward:
      site:
        mqtt: {host: broker.local}
        encoding: {cloudevents: {mode: binary}}
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from agent import contracts
from agent.clock import from_iso, iso
from agent.contracts import Message
from agent.events import Delivery, Event, EventType, Quality

STRUCTURED: Final = "application/cloudevents+json"
JOINED: Final = "application/cloudevents-batch+json"
_PREFIX: Final = "gatepost."
_encode = msgspec.json.Encoder().encode


class Settings(contracts.Settings, frozen=True):
    """What may be written under `cloudevents:`.

    Attributes:
        mode: structured (one JSON object) or binary (attributes beside the payload; needs MQTT 5).
    """

    mode: Literal["structured", "binary"] = "structured"


class Encoding(contracts.Encoding[Settings]):
    """Encodes and decodes."""

    @property
    def needs_attributes(self) -> bool:
        """Whether the attributes travel beside the payload."""
        return self.settings.mode == "binary"

    @property
    def joined_type(self) -> str | None:
        """The batch of the JSON event format; in binary mode there is none."""
        return JOINED if self.settings.mode == "structured" else None

    def encode(self, event: Event, delivery: Delivery = Delivery.LIVE) -> Message:
        """Encode one event."""
        attributes = {
            "specversion": "1.0",
            "id": event.id,
            "source": f"/gatepost/{self.gateway.name}",
            "type": _PREFIX + event.type,
            "subject": event.source,
            "time": iso(event.time),
            "datacontenttype": "application/json",
            "sequence": f"{event.seq:016d}",  # its order is that of text
        }
        if "severity" in event.values and event.type != EventType.READING:
            attributes["severitytext"] = str(event.values["severity"])
        if event.recorded is not None:
            attributes["recordedtime"] = iso(event.recorded)
        if delivery is not Delivery.LIVE:
            attributes["delivery"] = delivery.value
        if event.clock_unset:
            attributes["clock"] = "unset"
        data: dict[str, Any] = event.values
        if event.type == EventType.READING:
            data = {"values": event.values}
            if event.quality:
                data["quality"] = event.quality
        if self.settings.mode == "structured":
            return Message(_encode({**attributes, "data": data}), STRUCTURED)
        # In binary mode the media type of the data is the message's own content type.
        return Message(_encode(data), attributes.pop("datacontenttype"), attributes)

    def decode(self, message: Message) -> Event:
        """Read an event back.

        Raises:
            ValueError: It is not one that `encode` wrote.
        """
        body: dict[str, Any] = msgspec.json.decode(message.payload, type=dict[str, Any])
        attributes: dict[str, Any] = (
            body if message.attributes is None else {**message.attributes, "data": body}
        )
        try:
            run, seq = map(int, attributes["id"].split("-"))
            kind, source = attributes["type"].removeprefix(_PREFIX), attributes["subject"]
            time, data = from_iso(attributes["time"]), attributes["data"]
            recorded = from_iso(attributes["recordedtime"]) if "recordedtime" in attributes else None
            is_unset = attributes.get("clock") == "unset"
            if kind == EventType.READING:
                quality = {name: Quality(said) for name, said in data.get("quality", {}).items()} or None
                return Event(run, seq, kind, source, time, data["values"], quality, recorded, is_unset)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is not a CloudEvent of gatepost: {error!r}") from error
        return Event(run, seq, kind, source, time, data, None, recorded, is_unset)
