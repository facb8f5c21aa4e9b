"""What every encoding must do, whatever it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from contracts.devices import sample
from hypothesis import given
from hypothesis import strategies as st

from agent import config, contracts, registry
from agent.contracts import Gateway
from agent.events import INT64_MAX, Event, EventType, Quality

if TYPE_CHECKING:
    from pathlib import Path

KINDS = registry.kinds("encodings")
pytestmark = pytest.mark.parametrize("kind", KINDS)

GATEWAY = Gateway("greenhouse-1", "1.0", 3)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,15}", fullmatch=True)
NUMBERS = st.one_of(
    st.integers(-INT64_MAX, INT64_MAX), st.floats(allow_nan=False, allow_infinity=False, width=64)
)
VALUES = st.one_of(NUMBERS, st.text(max_size=20))
TIMES = st.integers(0, 4_102_444_800_000_000)
SEQS = st.integers(1, 2**53)
OTHER_TYPES = sorted(
    value for name, value in vars(EventType).items() if name.isupper() and value != EventType.READING
)


@st.composite
def readings(draw: st.DrawFn) -> Event:
    values: dict[str, Any] = draw(st.dictionaries(NAMES, VALUES, min_size=1, max_size=6))
    quality: dict[str, Quality] = {}
    for channel in values:
        match draw(st.sampled_from(["good", "good", "uncertain", "bad"])):
            case "uncertain":
                quality[channel] = Quality.UNCERTAIN
            case "bad":
                quality[channel] = Quality.BAD
                values[channel] = None
    return Event(draw(SEQS), draw(SEQS), EventType.READING, draw(NAMES), draw(TIMES), values, quality or None)


@st.composite
def other_events(draw: st.DrawFn) -> Event:
    facts = {
        "severity",
        "of",
        "value",
        "limit",
        "message",
        "duration",
        "reason",
        "count",
        "version",
        "channel",
    }
    values: dict[str, Any] = draw(st.dictionaries(st.sampled_from(sorted(facts)), VALUES, max_size=6))
    if "severity" in values:
        values["severity"] = draw(st.sampled_from(["warning", "minor", "major", "critical"]))
    kind = draw(st.sampled_from(OTHER_TYPES))
    return Event(draw(SEQS), draw(SEQS), kind, draw(NAMES), draw(TIMES), values)


EVENTS = st.one_of(readings(), other_events())


def variants(kind: str) -> list[Any]:
    """Return an encoding of a kind with each of its settings that changes what it writes."""
    module = registry.module("encodings", kind)
    settings = [module.Settings()]
    if "mode" in module.Settings.__struct_fields__:
        settings = [module.Settings(mode=mode) for mode in ("structured", "binary")]
    return [module.Encoding(each, GATEWAY) for each in settings]


def test_it_has_the_names_that_the_registry_looks_for(kind: str) -> None:
    module = registry.module("encodings", kind)
    assert issubclass(module.Encoding, contracts.Encoding)
    assert issubclass(module.Settings, contracts.Settings)


def test_its_sample_is_a_configuration(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "sample.yaml"
    file.write_text("gateway: test\n" + sample("encodings", kind))
    (forwarder,) = config.load(file).forward.values()
    assert forwarder.encoding == kind


@given(event=EVENTS)
def test_what_it_writes_it_can_read_back(kind: str, event: Event) -> None:
    for encoding in variants(kind):
        again = encoding.decode(encoding.encode(event))
        assert again == event
        assert {name: type(value) for name, value in again.values.items()} == {
            name: type(value) for name, value in event.values.items()
        }


@given(event=EVENTS)
def test_the_same_event_gives_the_same_bytes(kind: str, event: Event) -> None:
    for one, other in zip(variants(kind), variants(kind), strict=True):
        assert one.encode(event) == one.encode(event) == other.encode(event)


@given(event=EVENTS)
def test_it_says_its_content_type_and_its_attributes_are_texts(kind: str, event: Event) -> None:
    for encoding in variants(kind):
        message = encoding.encode(event)
        assert isinstance(message.payload, bytes)
        assert "/" in message.content_type
        assert encoding.needs_attributes is (message.attributes is not None)
        for name, value in (message.attributes or {}).items():
            assert type(name) is type(value) is str


@given(event=EVENTS)
def test_it_leaves_the_event_as_it_is(kind: str, event: Event) -> None:
    before = (dict(event.values), dict(event.quality or {}))
    for encoding in variants(kind):
        encoding.encode(event)
        assert (dict(event.values), dict(event.quality or {})) == before


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b'{"id": "1-1"}', b'{"id": 7}']
)
def test_what_is_no_event_is_a_value_error(kind: str, payload: bytes) -> None:
    for encoding in variants(kind):
        written = encoding.encode(Event(1, 2, EventType.READING, "air", 0, {"t": 1}))
        attributes: dict[str, str] | None = {} if written.attributes is not None else None
        with pytest.raises(ValueError, match=r"\S"):
            encoding.decode(contracts.Message(payload, written.content_type, attributes))
