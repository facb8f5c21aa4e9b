"""One plain JSON object an event, easy to read and to take apart in any language.

A kept reading: `{"id": "3-1041", "time": "2026-11-23T10:15:00.123456Z", "gateway": "greenhouse-1", "device": "air",
"values": {"temperature": 21.5}}`, with `quality` only for channels where it is not good. Any other event has `type` and
`source` in place of `device`, and its facts beside them: `{"id": …, "time": …, "gateway": …, "type": "alarm.raised",
"source": "too-hot", "severity": "critical", "of": "air.temperature", "value": 36.1, "limit": "above 35", "message": …}`.

Only where it is so: `"delivery": "historical"` (it waited for a connection) or `"replayed"`, `"clock": "unset"` (the clock had
not been set, so `time` is wrong), `"recorded"` (when it was logged, if over a second after `time`). A batch is a JSON array.

Sample::

    forward:
      site:
        mqtt: {host: broker.local}
        encoding: json
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent import contracts
from agent.clock import from_iso, iso
from agent.contracts import Message
from agent.events import Delivery, Event, EventType, Quality

if TYPE_CHECKING:
    from agent.events import Value

CONTENT_TYPE: Final = "application/json"
_encode = msgspec.json.Encoder().encode


class Settings(contracts.Settings, frozen=True):
    """There is nothing to set."""


class _Reading(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    id: str
    time: str
    gateway: str
    device: str
    values: dict[str, Any]
    quality: dict[str, Quality] | None = None
    delivery: str | None = None
    recorded: str | None = None
    clock: str | None = None


class Encoding(contracts.Encoding[Settings]):
    """Encodes and decodes."""

    @property
    def joined_type(self) -> str:
        """An array of such objects."""
        return CONTENT_TYPE

    def encode(self, event: Event, delivery: Delivery = Delivery.LIVE) -> Message:
        """Encode one event."""
        said = None if delivery is Delivery.LIVE else delivery.value
        recorded = None if event.recorded is None else iso(event.recorded)
        clock = "unset" if event.clock_unset else None
        if event.type == EventType.READING:
            body: Any = _Reading(
                event.id, iso(event.time), self.gateway.name, event.source, event.values, event.quality,
                said, recorded, clock,
            )  # fmt: skip
        else:
            body = {
                "id": event.id, "time": iso(event.time), "gateway": self.gateway.name, "type": event.type,
                "source": event.source, **event.values,
            }  # fmt: skip
            extra = {"delivery": said, "recorded": recorded, "clock": clock}
            body |= {name: value for name, value in extra.items() if value is not None}
        return Message(_encode(body), CONTENT_TYPE)

    def decode(self, message: Message) -> Event:
        """Read an event back.

        Raises:
            ValueError: It is not one that `encode` wrote.
        """
        body: dict[str, Any] = msgspec.json.decode(message.payload, type=dict[str, Any])
        try:
            run, seq = map(int, body.pop("id").split("-"))
            time = from_iso(body.pop("time"))
            del body["gateway"]
            body.pop("delivery", None)
            recorded = from_iso(body.pop("recorded")) if "recorded" in body else None
            is_unset = body.pop("clock", None) == "unset"
            if "device" in body:
                quality = {name: Quality(said) for name, said in body.get("quality", {}).items()} or None
                return Event(
                    run,
                    seq,
                    EventType.READING,
                    body["device"],
                    time,
                    body["values"],
                    quality,
                    recorded,
                    is_unset,
                )
            kind, source = body.pop("type"), body.pop("source")
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is not an event: {error!r}") from error
        facts: dict[str, Value] = body
        return Event(run, seq, kind, source, time, facts, None, recorded, is_unset)
