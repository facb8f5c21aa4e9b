"""The incoming side of the MQTT forwarder, against real brokers: what is handed over, what is held back, what is answered."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from support.waiting import eventually

from agent.contracts import Gateway
from agent.encodings import json as plain_json
from agent.errors import Disconnected
from agent.events import Ask, Event, EventType, Request
from agent.forwarders import _requests
from agent.forwarders._topics import Topics, target_of
from agent.forwarders.mqtt import Forwarder, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.brokers import Broker
    from support.sites import Site

GATEWAY = Gateway("g", "1.0", 3)
DEADLINE = 20.0

with_broker = pytest.mark.parametrize("kind", ["mosquitto", "mosquitto-3.1.1", "embedded", "embedded-3.1.1"])


def started(site: Site, kind: str) -> tuple[Broker, dict[str, Any]]:
    """Start a broker; return it with the settings that reach it in the version of MQTT that is meant."""
    usual = {"max_queued_messages": 1000}  # or a flood would wait for us there without end
    broker = site.mosquitto(options=usual) if kind.startswith("mosquitto") else site.embedded()
    is_old = kind.endswith("3.1.1")
    return broker, {"port": broker.port_v3 if is_old else broker.port, "version": "3.1.1" if is_old else "5"}


@contextlib.asynccontextmanager
async def asked(**settings: Any) -> AsyncIterator[tuple[Forwarder, list[Request]]]:
    """Give a forwarder that is connected and takes commands, and the requests that it hands over."""
    made = Settings(**{"host": "127.0.0.1", "commands": (Ask.OUTPUTS, Ask.READINGS)} | settings)
    forwarder = Forwarder(made, GATEWAY, plain_json.Encoding(plain_json.Settings(), GATEWAY))
    requests: list[Request] = []
    forwarder.on_request = requests.append
    async with asyncio.timeout(DEADLINE):
        try:
            await forwarder.connect([])
            yield forwarder, requests
        finally:
            await forwarder.close()


# --- what is handed over ----------------------------------------------------------------------------------------------


@with_broker
async def test_what_is_published_below_the_command_topic_is_handed_over(site: Site, kind: str) -> None:
    _, settings = started(site, kind)
    client = site.subscriber(settings["port"], version=settings["version"])
    async with asked(**settings) as (_, requests):
        for topic in ("fan/state", "fan", "alarm/too-hot", "a/b/c", "alarm"):
            await asyncio.to_thread(client.publish, f"gatepost/g/command/{topic}", "on")
        await asyncio.to_thread(client.publish, "gatepost/g/commands/fan", "on")
        await asyncio.to_thread(client.publish, "gatepost/h/command/fan", "on")
        await asyncio.to_thread(client.publish, "gatepost/g/command/last", "off", qos=0)
        await eventually(lambda: requests and requests[-1].target == ("last",), "the last one")
    said = [(each.of, each.target, each.payload, each.is_retained, each.good_for) for each in requests]
    assert said == [
        ("device", ("fan", "state"), b"on", False, None),
        ("device", ("fan",), b"on", False, None),
        ("alarm", ("too-hot",), b"on", False, None),
        ("device", ("a", "b", "c"), b"on", False, None),
        ("alarm", (), b"on", False, None),
        ("device", ("last",), b"off", False, None),
    ]
    assert {each.allowed for each in requests} == {frozenset({Ask.OUTPUTS, Ask.READINGS})}


@with_broker
async def test_without_commands_it_subscribes_to_nothing(site: Site, kind: str) -> None:
    _, settings = started(site, kind)
    client = site.subscriber(settings["port"], version=settings["version"])
    async with asked(**settings, commands=()) as (forwarder, requests):
        await asyncio.to_thread(client.publish, "gatepost/g/command/fan", "on")
        await forwarder.send([Event(3, 1, EventType.READING, "air", 1, {"n": 1})])
        await eventually(lambda: client.on("gatepost/g/air"), "the event")
    assert not requests


@with_broker
async def test_what_is_retained_is_not_handed_over_as_if_it_were_new(site: Site, kind: str) -> None:
    _, settings = started(site, kind)
    client = site.subscriber(settings["port"], version=settings["version"])
    client.publish("gatepost/g/command/fan", "on", retain=True)
    async with asked(**settings) as (_, requests):
        await asyncio.to_thread(client.publish, "gatepost/g/command/light", "on")
        await eventually(lambda: any(each.target == ("light",) for each in requests), "the new one")
    assert not [each for each in requests if each.target == ("fan",) and not each.is_retained]


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
async def test_mqtt_5_says_how_long_it_is_good_and_whether_it_is_retained_by_who_sent_it(
    site: Site, kind: str
) -> None:
    _, settings = started(site, kind)
    client = site.subscriber(settings["port"])
    async with asked(**settings) as (_, requests):
        client.publish("gatepost/g/command/fan", "on", MessageExpiryInterval=30)
        client.publish("gatepost/g/command/fan", "off", retain=True)
        await eventually(lambda: len(requests) == 2, "both")
    assert requests[0].good_for == pytest.approx(30, abs=2)
    if kind == "mosquitto":  # the embedded broker does not know `retain as published`
        assert requests[1].is_retained


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
async def test_an_answer_goes_to_the_response_topic_with_the_correlation_data(site: Site, kind: str) -> None:
    _, settings = started(site, kind)
    client = site.subscriber(settings["port"])
    async with asked(**settings) as (_, requests):
        client.publish(
            "gatepost/g/command/fan", "on", ResponseTopic="answers/me", CorrelationData=b"\x00\xff7"
        )
        await eventually(lambda: requests, "the request")
        assert requests[0].answer is not None
        requests[0].answer(b'{"id": "7", "done": true}')
        (said,) = await eventually(lambda: client.on("answers/me"), "the answer")
    assert said.body == {"id": "7", "done": True}
    assert said.correlation == b"\x00\xff7"
    assert not said.retain


async def test_a_response_topic_that_cannot_be_one_gets_no_answer_and_does_no_harm(site: Site) -> None:
    broker = site.mosquitto()
    client = site.subscriber(broker.port)
    async with asked(port=broker.port) as (forwarder, requests):
        for topic in ("answers/#", "answers/+", "a" * 2000):
            with contextlib.suppress(Exception):  # what the broker refuses already
                client.publish("gatepost/g/command/fan", "on", ResponseTopic=topic)
        client.connect()
        client.publish("gatepost/g/command/fan", "on", ResponseTopic="answers", CorrelationData=b"x" * 2000)
        client.publish("gatepost/g/command/last", "on")
        await eventually(lambda: requests and requests[-1].target == ("last",), "the last one")
        assert {each.answer for each in requests} == {None}
        await forwarder.send([Event(3, 1, EventType.READING, "air", 1, {"n": 1})])


async def test_an_answer_after_the_connection_was_lost_goes_nowhere(site: Site) -> None:
    broker = site.mosquitto()
    client = site.subscriber(broker.port)
    async with asked(port=broker.port) as (_, requests):
        client.publish("gatepost/g/command/fan", "on", ResponseTopic="answers")
        await eventually(lambda: requests, "the request")
    assert requests[0].answer is not None
    requests[0].answer(b"{}")
    assert not client.on("answers")


async def test_answers_that_the_broker_denies_end_soon_for_some_brokers_close_the_connection_for_each(
    site: Site,
) -> None:
    rules = site.folder / "acl"
    rules.write_text("topic write gatepost/#\ntopic read gatepost/#\n")
    broker = site.mosquitto(options={"acl_file": rules})
    client = site.subscriber(broker.port)
    connections = 0
    async with asked(port=broker.port) as (forwarder, requests):
        for n in range(12):
            client.publish("gatepost/g/command/fan", "on", ResponseTopic=f"denied/{n}")
            await eventually(lambda n=n: len(requests) == n + 1, "the request")  # type: ignore[misc]
            answer = requests[-1].answer
            assert answer is not None
            answer(b"{}")
            try:
                await forwarder.send([Event(3, n + 1, EventType.READING, "air", 1, {"n": n})])
            except Disconnected:
                await forwarder.close()
                await forwarder.connect([])
                connections += 1
    assert connections <= _requests.REFUSED
    assert broker.said().count("Denied PUBLISH") == _requests.REFUSED


# --- floods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
@with_broker
async def test_a_flood_is_held_back_and_events_are_delivered_all_the_same(
    site: Site, kind: str, qos: int
) -> None:
    _, settings = started(site, kind)
    client = site.subscriber(settings["port"], version=settings["version"], topic="gatepost/g/air")
    flooding = True

    def flood() -> None:
        while flooding:
            for _ in range(200):
                client._client.publish("gatepost/g/command/fan", "x" * 100, qos)  # type: ignore[union-attr]
            client.publish("gatepost/g/command/fan", "x", qos=1)

    async with asked(**settings) as (forwarder, requests):
        began = asyncio.get_running_loop().time()
        flooder = asyncio.create_task(asyncio.to_thread(flood))
        await eventually(lambda: len(requests) > 2 * _requests.BURST, "a flood")
        try:
            for seq in range(1, 21):
                await forwarder.send([Event(3, seq, EventType.READING, "air", seq, {"n": seq})])
        finally:
            flooding = False
            await flooder
        lasted = asyncio.get_running_loop().time() - began
        assert len(requests) <= _requests.BURST + _requests.RATE * lasted + 1


async def test_after_a_flood_commands_are_taken_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_requests, "FLOOD", 20)
    monkeypatch.setattr(_requests, "RATE", 5.0)  # far below what even a busy machine publishes
    monkeypatch.setattr(_requests, "WAITING", 10)
    monkeypatch.setattr(_requests, "BURST", 5)
    monkeypatch.setattr(_requests, "PAUSE", 1.0)
    broker = site.mosquitto()
    client = site.subscriber(broker.port)
    async with asked(port=broker.port) as (_, requests):
        for _ in range(100):
            await asyncio.to_thread(client.publish, "gatepost/g/command/flood", "x", qos=0)
        await eventually(lambda: "none are taken for" in caplog.text, "the flood is told")
        await eventually(lambda: "Received UNSUBSCRIBE" in broker.said(), "it ends the subscription")
        await eventually(
            lambda: broker.said().count("Received SUBSCRIBE from gatepost-g") == 2, "it begins again"
        )
        client.publish("gatepost/g/command/last", "on")
        await eventually(lambda: requests and requests[-1].target == ("last",), "what comes then")


async def test_messages_wait_for_their_turn_and_are_good_for_less_then(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_requests, "RATE", 5.0)  # far below what even a busy machine publishes
    monkeypatch.setattr(_requests, "BURST", 1)
    broker = site.mosquitto()
    client = site.subscriber(broker.port)
    async with asked(port=broker.port) as (_, requests):
        for n in range(15):
            client.publish(f"gatepost/g/command/d{n}", "on", MessageExpiryInterval=60)
        await eventually(lambda: len(requests) == 15, "all of them")
    assert [each.target[0] for each in requests] == [f"d{n}" for n in range(15)]
    waited = [60 - (each.good_for or 0) for each in requests]
    assert waited[-1] > 0.2


async def test_more_than_may_wait_are_dropped_counted_and_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_requests, "RATE", 5.0)
    monkeypatch.setattr(_requests, "BURST", 1)
    monkeypatch.setattr(_requests, "WAITING", 3)
    broker = site.mosquitto()
    client = site.subscriber(broker.port)
    async with asked(port=broker.port) as (_, requests):
        for n in range(40):
            await asyncio.to_thread(client.publish, f"gatepost/g/command/d{n}", "on", qos=0)
        await eventually(lambda: len(requests) >= 3, "some of them")
        await eventually(lambda: "were dropped" in caplog.text, "it is told")
    assert len(requests) < 40


async def test_a_payload_that_is_too_long_is_cut_to_be_refused_and_the_broker_holds_back_a_larger_one(
    site: Site,
) -> None:
    broker = site.mosquitto()
    client = site.subscriber(broker.port)
    async with asked(port=broker.port) as (forwarder, requests):
        client.publish("gatepost/g/command/fan", b"x" * 5000)
        client.publish("gatepost/g/command/fan", b"x" * 500_000)
        client.publish("gatepost/g/command/last", b"x")
        await eventually(lambda: requests and requests[-1].target == ("last",), "the last one")
        await forwarder.send([Event(3, 1, EventType.READING, "air", 1, {"n": 1})])
    assert [len(each.payload) for each in requests] == [4097, 1]


async def test_a_huge_message_over_mqtt_3_1_1_ends_the_connection_before_it_fills_the_memory(
    site: Site,
) -> None:
    broker = site.mosquitto()
    client = site.subscriber(broker.port)
    async with asked(port=broker.port, version="3.1.1") as (forwarder, requests):
        client.publish("gatepost/g/command/fan", b"x" * 30_000_000)
        with pytest.raises(Exception, match="a message of over 1048576 bytes"):
            await forwarder.wait_lost()
    assert not requests


# --- what the broker refuses, and the next connection -----------------------------------------------------------------


async def test_it_subscribes_again_over_the_next_connection(site: Site) -> None:
    broker = site.mosquitto()
    async with asked(port=broker.port) as (forwarder, requests):
        broker.restart()
        await forwarder.close()
        await forwarder.connect([])
        client = site.subscriber(broker.port)
        client.publish("gatepost/g/command/fan", "on")
        await eventually(lambda: requests, "a request")


# --- topics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "found"),
    [
        ("a/command/fan", ("device", ("fan",))),
        ("a/command/fan/state", ("device", ("fan", "state"))),
        ("a/command/", ("device", ("",))),
        ("a/command/alarm/x", ("alarm", ("x",))),
        ("a/command/alarm", ("alarm", ())),
        ("a/command", None),
        ("a/commands/fan", None),
        ("b/command/fan", None),
    ],
)
def test_a_topic_is_taken_apart_strictly(topic: str, found: object) -> None:
    assert target_of(topic, "a/command") == found


@pytest.mark.parametrize("command", ["", "a/#", "a/+/b", "a/", "/", "{gateway}/{source}", "{gateway", "x\0"])
def test_a_command_topic_that_cannot_be_one_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="command expects"):
        Topics(command=command)


@pytest.mark.parametrize("command", ["gatepost", "gatepost/{gateway}", "gatepost/{gateway}/alarm"])
def test_a_command_topic_below_which_we_publish_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="below which nothing is published"):
        Topics(command=command)


def test_a_command_topic_of_another_shape_is_taken() -> None:
    assert Topics(command="cmnd/{gateway}").command == "cmnd/{gateway}"
