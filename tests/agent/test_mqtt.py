"""The MQTT forwarder against real brokers: what they limit and refuse, who we are to them, and where events go."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.waiting import eventually

from agent import contracts, registry
from agent.clock import Clock
from agent.contracts import Gateway
from agent.encodings import cloudevents
from agent.encodings import json as plain_json
from agent.errors import Disconnected, Rejected
from agent.events import Delivery, Event, EventType, Quality
from agent.forwarders._flights import Batch
from agent.forwarders._tls import Tls
from agent.forwarders._topics import Topics
from agent.forwarders.mqtt import Forwarder, Settings
from agent.quantities import Duration, Secret, Size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.sites import Site
    from support.subscribers import Received, Subscriber

GATEWAY = Gateway("g", "1.0", 3)
DEADLINE = 15.0


@contextlib.asynccontextmanager
async def connected(
    port: int, state: Sequence[Event] = (), encoding: Any = None, **settings: Any
) -> AsyncIterator[Forwarder]:
    """Give a forwarder that is connected, and close it."""
    encoding = encoding or plain_json.Encoding(plain_json.Settings(), GATEWAY)
    forwarder = Forwarder(Settings(host="127.0.0.1", port=port, **settings), GATEWAY, encoding)
    async with asyncio.timeout(DEADLINE):
        try:
            await forwarder.connect(state)
            yield forwarder
        finally:
            await forwarder.close()


def reading(seq: int, **values: Any) -> Event:
    return Event(3, seq, EventType.READING, "air", seq, values or {"n": seq})


async def arrived(subscriber: Subscriber, count: int) -> list[Received]:
    """Return the messages beside those on the status topic, when there are so many."""

    def found() -> list[Received]:
        return [each for each in list(subscriber.received) if not each.topic.endswith("/status")]

    await eventually(lambda: len(found()) >= count, f"{count} messages")
    return found()


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_an_event_that_is_too_large_for_the_broker_is_rejected_and_the_others_arrive(
    site: Site,
) -> None:
    broker = site.mosquitto(options={"max_packet_size": 1000})
    subscriber = site.subscriber(broker.port)
    batch = [reading(1), reading(2, text="x" * 2000), reading(3), reading(4, text="y" * 3000)]

    async with connected(broker.port) as forwarder:
        with pytest.raises(Rejected, match="the 1000 that the broker takes") as caught:
            await forwarder.send(batch)
        assert list(caught.value.reasons) == [2, 4]
        await forwarder.send([reading(5)])

    bodies = [message.body["values"] for message in await arrived(subscriber, 3)]
    assert bodies == [{"n": 1}, {"n": 3}, {"n": 5}]


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_the_largest_event_that_is_let_through_is_one_that_the_broker_takes(
    site: Site, mode: str
) -> None:
    broker = site.mosquitto(options={"max_packet_size": 700})
    encoding = cloudevents.Encoding(msgspec.convert({"mode": mode}, cloudevents.Settings), GATEWAY)
    sent, refused = 0, 0

    async with connected(broker.port, encoding=encoding) as forwarder:
        for length in range(1, 700, 7):
            try:
                await forwarder.send([reading(length, text="x" * length)])
                sent += 1
            except Rejected:
                refused += 1
        assert forwarder.window > 0

    assert sent > 20
    assert refused > 20


async def test_what_a_device_is_may_be_too_large_and_does_not_keep_us_from_connecting(site: Site) -> None:
    broker = site.mosquitto(options={"max_packet_size": 1000})
    subscriber = site.subscriber(broker.port)
    about = Event(3, 1, EventType.DEVICE_ABOUT, "air", 0, {"driver": "d", "description": "x" * 2000})

    async with connected(broker.port, [about]) as forwarder:
        await forwarder.send([reading(2)])

    (message,) = await arrived(subscriber, 1)
    assert message.body["values"] == {"n": 2}


async def test_a_limit_that_an_old_broker_cannot_say_can_be_set(site: Site) -> None:
    broker = site.embedded()
    async with connected(broker.port_v3, version="3.1.1", max_packet=Size(500)) as forwarder:
        with pytest.raises(Rejected, match="500"):
            await forwarder.send([reading(1, text="x" * 600)])
        await forwarder.send([reading(2)])


async def test_the_window_shrinks_to_what_the_broker_receives_at_once(site: Site) -> None:
    broker = site.mosquitto(options={"max_inflight_messages": 7})
    subscriber = site.subscriber(broker.port)

    async with connected(broker.port, window=100) as forwarder:
        assert forwarder.window == 7
        for first in range(1, 70, 7):
            await forwarder.send([reading(seq) for seq in range(first, first + 7)])

    assert len(await arrived(subscriber, 70)) == 70


async def test_the_window_is_ours_where_the_broker_would_take_more(site: Site) -> None:
    broker = site.mosquitto()
    async with connected(broker.port, window=3) as forwarder:
        assert forwarder.window == 3


async def test_the_state_of_more_devices_than_the_window_holds_is_told(site: Site) -> None:
    broker = site.mosquitto(options={"max_inflight_messages": 5})
    subscriber = site.subscriber(broker.port)
    abouts = [Event(3, n, EventType.DEVICE_ABOUT, f"d{n}", 0, {"driver": "d"}) for n in range(1, 33)]

    async with connected(broker.port, abouts):
        messages = await arrived(subscriber, 32)

    assert [message.topic for message in messages] == [f"gatepost/g/d{n}/about" for n in range(1, 33)]


# --- what the broker refuses --------------------------------------------------------------------------------------


async def test_an_event_that_the_broker_is_not_allowed_to_take_is_rejected_with_its_reason(
    site: Site,
) -> None:
    rules = site.folder / "acl"
    rules.write_text("user gw\ntopic readwrite gatepost/g/status\ntopic readwrite gatepost/g/air\n")
    broker = site.mosquitto(users={"gw": "sesame"}, options={"acl_file": rules})
    async with connected(broker.port, username="gw", password=Secret("sesame")) as forwarder:
        await forwarder.send([reading(1)])
        with pytest.raises(Rejected, match="not authorized") as caught:
            await forwarder.send([Event(3, 2, EventType.READING, "secret", 0, {"n": 2})])

    assert list(caught.value.reasons) == [2]


@pytest.mark.parametrize("version", ["auto", "5", "3.1.1"])
async def test_a_wrong_password_says_who_is_refused_and_what_to_check(site: Site, version: str) -> None:
    broker = site.mosquitto(users={"gw": "sesame"})
    with pytest.raises(Disconnected, match=r"refuses user 'gw': not authori[sz]ed; check username") as caught:
        async with connected(broker.port, version=version, username="gw", password=Secret("simsim")):
            pass
    assert "simsim" not in str(caught.value)


async def test_a_wrong_password_does_not_make_it_forget_mqtt_5(site: Site) -> None:
    broker = site.mosquitto(users={"gw": "sesame"})
    encoding = plain_json.Encoding(plain_json.Settings(), GATEWAY)
    settings = Settings(host="127.0.0.1", port=broker.port, username="gw", password=Secret("simsim"))
    forwarder = Forwarder(settings, GATEWAY, encoding)
    for _ in range(2):
        with pytest.raises(Disconnected):
            await forwarder.connect([])
        await forwarder.close()
    assert broker.said().count("Sending CONNACK to 127.0.0.1 (0, 135)") == 2, "MQTT 5 both times"


async def test_version_5_is_not_given_up_where_the_operator_wants_it(site: Site) -> None:
    broker = site.embedded()
    with pytest.raises(Disconnected):
        async with connected(broker.port_v3, version="5"):
            pass


async def test_binary_cloudevents_are_refused_over_3_1_1(site: Site) -> None:
    broker = site.embedded()
    encoding = cloudevents.Encoding(cloudevents.Settings(mode="binary"), GATEWAY)
    with pytest.raises(Disconnected, match="write mode: structured"):
        async with connected(broker.port_v3, encoding=encoding):
            pass


# --- who we are ---------------------------------------------------------------------------------------------------


async def test_a_broker_that_wants_a_certificate_gets_ours(site: Site) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority, require_certificate=True)
    ours = authority.issue("gateway-1")
    tls = Tls(ca=str(authority.file), certificate=str(ours.certificate), key=str(ours.key))
    async with connected(broker.port, tls=tls) as forwarder:
        for first in range(1, 500, 50):
            await forwarder.send([reading(seq) for seq in range(first, first + 50)])


async def test_a_certificate_of_another_authority_is_refused_by_the_broker(site: Site) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority, require_certificate=True)
    stranger = site.authority("strangers").issue("stranger")
    tls = Tls(ca=str(authority.file), certificate=str(stranger.certificate), key=str(stranger.key))
    with pytest.raises(Disconnected, match="certificate"):
        async with connected(broker.port, tls=tls):
            pass


async def test_a_key_that_does_not_fit_the_certificate_is_named(site: Site) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority, require_certificate=True)
    one, other = authority.issue("one"), authority.issue("other")
    tls = Tls(ca=str(authority.file), certificate=str(one.certificate), key=str(other.key))
    with pytest.raises(
        Disconnected, match=r"tls\.certificate: cannot use .*one\.crt with the key .*other\.key"
    ):
        async with connected(broker.port, tls=tls):
            pass


async def test_verify_false_trusts_any_broker(site: Site) -> None:
    broker = site.mosquitto(authority=site.authority())
    async with connected(broker.port, tls=Tls(verify=False)) as forwarder:
        await forwarder.send([reading(1)])


async def test_large_batches_go_through_tls_whole(site: Site) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority)
    subscriber = site.subscriber(broker.port, ca=authority.file)
    async with connected(broker.port, tls=Tls(ca=str(authority.file))) as forwarder:
        await asyncio.gather(
            *(forwarder.send([reading(seq, text="x" * 40_000)]) for seq in range(1, 50)),
        )
    assert len(await arrived(subscriber, 49)) == 49


async def test_it_is_known_by_the_client_id_it_was_given(site: Site) -> None:
    broker = site.mosquitto()
    async with connected(broker.port):
        await eventually(lambda: "as gatepost-g " in broker.said(), "its usual name")
    async with connected(broker.port, client_id="other"):
        await eventually(lambda: "as other " in broker.said(), "its own name")


async def test_a_second_gateway_of_the_same_name_throws_the_first_one_out_which_notices(site: Site) -> None:
    broker = site.mosquitto()
    async with connected(broker.port) as first, connected(broker.port):
        with pytest.raises(Disconnected, match="was lost"):
            await first.wait_lost()


# --- topics -------------------------------------------------------------------------------------------------------


async def test_each_type_of_event_has_its_topic_and_what_stays_true_is_retained(site: Site) -> None:
    broker = site.broker()
    facts: dict[str, Any] = {
        "severity": "major",
        "of": "air.t",
        "value": 1,
        "limit": "above 0",
        "message": "m",
    }
    async with connected(broker.port) as forwarder:
        await forwarder.send(
            [
                reading(1),
                Event(3, 2, EventType.ALARM_RAISED, "hot", 0, {**facts}),
                Event(3, 3, EventType.DEVICE_ABOUT, "air", 0, {"driver": "d"}),
                Event(3, 4, EventType.DEVICE_DOWN, "air", 0, {"reason": "r"}),
                Event(
                    3, 5, EventType.COMMAND_DONE, "fan", 0, {"channel": "state", "value": 1, "cause": "hot"}
                ),
                Event(3, 6, EventType.AGENT_STARTED, "agent", 0, {"version": "1"}),
            ]
        )
        late = await asyncio.to_thread(site.subscriber, broker.port)
        kept = await arrived(late, 2)
    assert {message.topic for message in kept} == {"gatepost/g/alarm/hot", "gatepost/g/air/about"}
    assert all(message.retain for message in kept)


async def test_topics_follow_their_templates(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    topics = Topics(
        reading="{gateway}/r/{source}",
        alarm="{gateway}/a/{source}/{type}",
        about="{gateway}/i/{source}",
        status="{gateway}/s",
        event="{gateway}/e/{type}/{source}",
    )
    async with connected(broker.port, topics=topics) as forwarder:
        await forwarder.send(
            [
                reading(1),
                Event(3, 2, EventType.ALARM_CLEARED, "hot", 0, {"message": "m"}),
                Event(3, 3, EventType.DEVICE_ABOUT, "air", 0, {"driver": "d"}),
                Event(3, 4, EventType.DEVICE_DOWN, "air", 0, {"reason": "r"}),
            ]
        )
        await eventually(lambda: len(subscriber.received) >= 5, "five messages")
    assert [message.topic for message in subscriber.received[:5]] == [
        "g/s", "g/r/air", "g/a/hot/alarm.cleared", "g/i/air", "g/e/device.down/air",
    ]  # fmt: skip


async def test_split_readings_carry_the_quality_of_their_own_channel_only(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    event = Event(
        3,
        1,
        EventType.READING,
        "air",
        0,
        {"t": 1.5, "h": None, "p": 3},
        {"h": Quality.BAD, "p": Quality.UNCERTAIN},
    )
    topics = Topics(channel="{gateway}/{source}/only/{channel}")
    async with connected(broker.port, split=True, topics=topics) as forwarder:
        await forwarder.send([event, Event(3, 2, EventType.READING, "door", 0, {"state": 1})])
        messages = await arrived(subscriber, 4)
    assert [(m.topic, m.body["values"], m.body.get("quality")) for m in messages] == [
        ("g/air/only/t", {"t": 1.5}, None),
        ("g/air/only/h", {"h": None}, {"h": "bad"}),
        ("g/air/only/p", {"p": 3}, {"p": "uncertain"}),
        ("g/door/only/state", {"state": 1}, None),
    ]
    assert [message.body["id"] for message in messages] == ["3-1", "3-1", "3-1", "3-2"]


async def test_one_channel_that_is_refused_rejects_its_reading_once(site: Site) -> None:
    broker = site.mosquitto(options={"max_packet_size": 500})
    async with connected(broker.port, split=True) as forwarder:
        with pytest.raises(Rejected) as caught:
            await forwarder.send([reading(1, a="x" * 600, b="y" * 600, c=1), reading(2, a=1, b=2)])
    assert set(caught.value.reasons) == {1}


@pytest.mark.parametrize(
    ("field", "template"),
    [
        ("reading", "a/+/b"), ("alarm", "#"), ("about", ""), ("status", "{nothing}"), ("event", "{source.secret}"),
        ("channel", "{0}"), ("reading", "{source"), ("reading", "a\0b"),
    ],
)  # fmt: skip
def test_a_template_that_makes_no_topic_is_refused(field: str, template: str) -> None:
    with pytest.raises(ValueError, match=field):
        Topics(**{field: template})


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="a password expects a username"):
        Settings(host="h", password=Secret("p"))
    with pytest.raises(ValueError, match="certificate and key are expected together"):
        Tls(certificate="c")
    with pytest.raises(ValueError, match="keepalive expects 5s to 18h"):
        Settings(host="h", keepalive=Duration(1))


# --- a backlog --------------------------------------------------------------------------------------------------------


def named(seq: int, source: str = "air", **values: Any) -> Event:
    return Event(3, seq, EventType.READING, source, seq, values or {"n": seq})


@pytest.mark.parametrize("kind", ["json", "cloudevents"])
async def test_joined_events_come_as_one_array_a_topic_in_order_and_as_large_as_the_broker_takes(
    site: Site, kind: str
) -> None:
    broker = site.mosquitto(options={"max_packet_size": 2000})
    subscriber = site.subscriber(broker.port)
    encoding: Any = plain_json.Encoding(plain_json.Settings(), GATEWAY)
    if kind == "cloudevents":
        encoding = cloudevents.Encoding(cloudevents.Settings(), GATEWAY)
    batch = [named(seq, "air" if seq % 3 else "door", n=seq, text="x" * (seq % 100)) for seq in range(1, 400)]
    async with connected(broker.port, encoding=encoding, expire=Duration(60)) as forwarder:
        await forwarder.send(batch, Delivery.HISTORICAL, joined=True)
        messages = await arrived(subscriber, 2)
        total = 0

        def all_there() -> bool:
            nonlocal total, messages
            messages = [each for each in list(subscriber.received) if not each.topic.endswith("/status")]
            total = sum(len(msgspec.json.decode(each.payload)) for each in messages)
            return total >= len(batch)

        await eventually(all_there, "every event")
    assert total == len(batch)
    for source in ("air", "door"):
        on_topic = [each for each in messages if each.topic == f"gatepost/g/{source}"]
        parts = [
            part for each in on_topic for part in msgspec.json.decode(each.payload, type=list[msgspec.Raw])
        ]
        found = [encoding.decode(contracts.Message(bytes(part), "")) for part in parts]
        assert found == [event for event in batch if event.source == source]
        assert all(b'"delivery":"historical"' in part for part in map(bytes, parts))
        assert all(len(each.payload) > 1500 for each in on_topic[:-1]), "none is sent half empty"
    assert all(len(each.payload) < 2000 for each in messages)
    assert not any(each.retain for each in messages)
    expected = None if kind == "json" else "application/cloudevents-batch+json"
    assert {each.content_type for each in messages} == {expected}


async def test_one_joined_event_that_is_too_large_is_rejected_alone(site: Site) -> None:
    broker = site.mosquitto(options={"max_packet_size": 1000})
    subscriber = site.subscriber(broker.port)
    batch = [named(1), named(2, text="x" * 2000), named(3)]
    async with connected(broker.port) as forwarder:
        with pytest.raises(Rejected) as caught:
            await forwarder.send(batch, Delivery.HISTORICAL, joined=True)
        assert list(caught.value.reasons) == [2]
        messages = await arrived(subscriber, 2)
    found = [event["values"] for each in messages for event in msgspec.json.decode(each.payload)]
    assert found == [{"n": 1}, {"n": 3}]


async def test_only_readings_expire_and_sooner_the_older_they_are(site: Site) -> None:
    broker = site.mosquitto()
    subscriber = site.subscriber(broker.port)
    now = Clock().wall()
    young = Event(3, 1, EventType.READING, "air", now, {"n": 1})
    old = Event(3, 2, EventType.READING, "air", now - 3000 * 1_000_000, {"n": 2})
    older = Event(3, 3, EventType.READING, "air", now - 9000 * 1_000_000, {"n": 3})
    alarm = Event(3, 4, EventType.ALARM_RAISED, "hot", now - 9000 * 1_000_000, {"severity": "major"})
    down = Event(3, 5, EventType.DEVICE_DOWN, "air", now - 9000 * 1_000_000, {"reason": "r"})
    dark = Event(3, 6, EventType.READING, "air", 0, {"n": 6}, clock_unset=True)
    async with connected(broker.port, expire=Duration(3600)) as forwarder:
        await forwarder.send([young, old, older, alarm, down, dark])
        messages = await arrived(subscriber, 6)
    first, second, third, *others, last = [message.expiry for message in messages]
    assert first is not None
    assert second is not None
    assert 3500 <= first <= 3600
    assert 500 <= second <= 600
    assert third == 1
    assert others == [None, None]
    assert last == 3600, "nobody knows how old it is"


async def test_what_waited_has_a_topic_of_its_own_where_one_is_given(site: Site) -> None:
    broker = site.mosquitto()
    subscriber = site.subscriber(broker.port)
    topics = Topics(historical="{gateway}/old/{source}")
    alarm = Event(3, 4, EventType.ALARM_RAISED, "hot", 0, {"severity": "major"})
    async with connected(broker.port, topics=topics) as forwarder:
        await forwarder.send([reading(1)])
        await forwarder.send([reading(2), alarm], Delivery.HISTORICAL)
        await forwarder.send([reading(3)], Delivery.REPLAYED)
        await forwarder.send([reading(5)])
        messages = await arrived(subscriber, 5)
    assert [(each.topic, each.body.get("delivery")) for each in messages] == [
        ("gatepost/g/air", None),
        ("g/old/air", "historical"),
        ("gatepost/g/alarm/hot", "historical"),
        ("g/old/air", "replayed"),
        ("gatepost/g/air", None),
    ]


def _state(seq: int, kind: str = EventType.ALARM_RAISED) -> Event:
    return Event(3, seq, kind, "hot", seq, {"severity": "major"})


async def test_the_broker_never_keeps_an_alarm_state_that_a_newer_one_has_replaced(site: Site) -> None:
    broker = site.mosquitto()
    subscriber = site.subscriber(broker.port)
    encoding = plain_json.Encoding(plain_json.Settings(), GATEWAY)
    forwarder = Forwarder(Settings(host="127.0.0.1", port=broker.port), GATEWAY, encoding)

    async def kept() -> list[str]:
        late = await asyncio.to_thread(site.subscriber, broker.port)
        return [message.body["id"] for message in await arrived(late, 1)]

    async with asyncio.timeout(4 * DEADLINE):
        try:
            await forwarder.connect([])
            await forwarder.send([_state(1), _state(2, EventType.ALARM_CLEARED)])
            assert await kept() == ["3-2"]
            await forwarder.close()
            await forwarder.connect([_state(2, EventType.ALARM_CLEARED)])
            await forwarder.send([_state(1)], Delivery.HISTORICAL)  # it was not acknowledged before
            assert await kept() == ["3-2"]
            await forwarder.send([_state(2, EventType.ALARM_CLEARED)], Delivery.HISTORICAL)
            await forwarder.send([_state(1)], Delivery.REPLAYED)
            await forwarder.send([_state(9)], Delivery.REPLAYED)
            assert await kept() == ["3-2"], "and what is replayed is kept least of all"
            await forwarder.send([_state(7)])
            assert await kept() == ["3-7"]
        finally:
            await forwarder.close()
    ids = [each.body["id"] for each in await arrived(subscriber, 8)]
    assert ids == ["3-1", "3-2", "3-2", "3-1", "3-2", "3-1", "3-9", "3-7"], "all the same, all arrive"


async def test_a_state_that_was_replayed_first_is_kept_when_it_is_sent_for_real(site: Site) -> None:
    broker = site.mosquitto()
    async with connected(broker.port) as forwarder:
        await forwarder.send([_state(5)], Delivery.REPLAYED)
        await forwarder.send([_state(5)])
        late = await asyncio.to_thread(site.subscriber, broker.port)
        (message,) = await arrived(late, 1)
        assert (message.retain, message.body["id"]) == (True, "3-5")


# --- the connection ---------------------------------------------------------------------------------------------------


async def test_a_broker_that_stands_still_is_noticed_by_the_keepalive(site: Site) -> None:
    broker = site.mosquitto()
    async with connected(broker.port, keepalive=Duration(5)) as forwarder:
        await forwarder.send([reading(1)])
        broker.freeze()
        with pytest.raises(Disconnected, match="keep alive timeout"):
            await forwarder.wait_lost()


async def test_nothing_is_left_behind_by_many_connections(site: Site) -> None:
    broker = site.mosquitto()
    encoding = plain_json.Encoding(plain_json.Settings(), GATEWAY)
    forwarder = Forwarder(Settings(host="127.0.0.1", port=broker.port), GATEWAY, encoding)
    await forwarder.connect([])
    await forwarder.close()
    before = _open_files()
    for _ in range(20):
        await forwarder.connect([])
        await forwarder.send([reading(1)])
        await forwarder.close()
    assert _open_files() == before


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_registry_finds_it_and_not_its_parts() -> None:
    assert registry.module("forwarders", "mqtt").Forwarder is Forwarder
    assert not [kind for kind in registry.kinds("forwarders") if kind.startswith("_")]


async def test_each_event_is_refused_with_its_own_reason() -> None:
    flight = Batch(asyncio.get_running_loop().create_future())
    flight.refuse((1, 2), "the broker does not let us publish to one")
    flight.refuse((3,), "the broker does not let us publish to the other")
    flight.settle()
    with pytest.raises(Rejected) as caught:
        await flight.done
    assert caught.value.reasons == {
        1: "the broker does not let us publish to one",
        2: "the broker does not let us publish to one",
        3: "the broker does not let us publish to the other",
    }
