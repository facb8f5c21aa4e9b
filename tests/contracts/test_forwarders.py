"""What every forwarder must do, tried against real far sides."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from contracts.devices import sample

from agent import config, contracts, registry
from agent.config.schema import attributes
from agent.contracts import Gateway
from agent.encodings import json as plain_json
from agent.errors import Disconnected
from agent.events import Event, EventType

if TYPE_CHECKING:
    from pathlib import Path

    from support.brokers import Broker
    from support.sites import Site

KINDS = registry.kinds("forwarders")
GATEWAY = Gateway("g", "1.0", 1)
DEADLINE = 15.0

with_kind = pytest.mark.parametrize("kind", KINDS)
with_far_side = pytest.mark.parametrize(
    ("kind", "far_side"),
    [
        (kind, far_side)
        for kind in KINDS
        for far_side in (["embedded", "embedded-3.1.1", "mosquitto"] if kind == "mqtt" else [""])
    ],
)


class FarSide:
    """What a forwarder forwards to: it can be stopped and started again."""

    def __init__(self, site: Site, kind: str, far_side: str) -> None:
        if kind != "mqtt":
            pytest.skip(f"no far side is known for {kind}")
        self.kind = kind
        self.broker: Broker = site.mosquitto() if far_side == "mosquitto" else site.embedded()
        self.port = self.broker.port_v3 if far_side.endswith("3.1.1") else self.broker.port

    def forwarder(self, **settings: Any) -> contracts.Forwarder[Any]:
        module = registry.module("forwarders", self.kind)
        encoding = plain_json.Encoding(plain_json.Settings(), GATEWAY)
        made: contracts.Forwarder[Any] = module.Forwarder(
            module.Settings(host="127.0.0.1", port=self.port, **settings), GATEWAY, encoding
        )
        return made


def events(count: int, first: int = 1) -> list[Event]:
    return [Event(1, seq, EventType.READING, "air", seq, {"n": seq}) for seq in range(first, first + count)]


def _note(landed: list[int], number: int, _: asyncio.Future[None]) -> None:
    landed.append(number)


def test_each_kind_is_tried() -> None:
    assert "mqtt" in KINDS


@with_kind
def test_it_has_the_names_that_the_registry_looks_for(kind: str) -> None:
    module = registry.module("forwarders", kind)
    assert issubclass(module.Forwarder, contracts.Forwarder)
    assert issubclass(module.Settings, contracts.Settings)


@with_kind
def test_its_sample_is_a_configuration(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "sample.yaml"
    file.write_text("gateway: test\n" + sample("forwarders", kind))
    (forwarder,) = config.load(file, {"GATEPOST_SECRET_MQTT": "sesame"}).forward.values()
    assert forwarder.kind == kind


@with_kind
def test_all_of_its_settings_are_documented(kind: str) -> None:
    settings = registry.module("forwarders", kind).Settings
    for field in settings.__struct_fields__:
        assert attributes(settings).get(field), f"{kind}: {field} is not documented"


@with_far_side
async def test_what_is_sent_is_acknowledged_in_order(site: Site, kind: str, far_side: str) -> None:
    far = FarSide(site, kind, far_side)
    forwarder = far.forwarder()
    async with asyncio.timeout(DEADLINE):
        await forwarder.connect([])
        assert forwarder.window >= 1
        landed: list[int] = []
        sent = []
        for number, first in enumerate(range(1, 100, 10)):
            done = forwarder.send(events(10, first))
            assert not done.done(), "it returns without waiting"
            done.add_done_callback(partial(_note, landed, number))
            sent.append(done)
        await asyncio.gather(*sent)
        await asyncio.sleep(0)  # lets the callbacks of the last one run
        await forwarder.close()
    assert landed == sorted(landed)
    assert len(landed) == 10


@with_far_side
async def test_an_empty_batch_is_acknowledged(site: Site, kind: str, far_side: str) -> None:
    forwarder = FarSide(site, kind, far_side).forwarder()
    async with asyncio.timeout(DEADLINE):
        await forwarder.connect([])
        await forwarder.send([])
        await forwarder.close()


@with_far_side
async def test_it_can_be_closed_before_connecting_twice_and_half_way(
    site: Site, kind: str, far_side: str
) -> None:
    forwarder = FarSide(site, kind, far_side).forwarder()
    async with asyncio.timeout(DEADLINE):
        await forwarder.close()
        await forwarder.connect([])
        await forwarder.close()
        await forwarder.close()
        connecting = asyncio.create_task(forwarder.connect([]))
        for _ in range(3):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        await forwarder.close()
        await forwarder.connect([])
        await forwarder.send(events(1))
        await forwarder.close()


@with_far_side
async def test_sending_without_a_connection_is_disconnected(site: Site, kind: str, far_side: str) -> None:
    forwarder = FarSide(site, kind, far_side).forwarder()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Disconnected):
            await forwarder.send(events(1))
        await forwarder.connect([])
        await forwarder.close()
        with pytest.raises(Disconnected):
            await forwarder.send(events(1))


@with_far_side
async def test_a_far_side_that_goes_is_said_to_be_lost_and_takes_events_when_it_is_back(
    site: Site, kind: str, far_side: str
) -> None:
    far = FarSide(site, kind, far_side)
    forwarder = far.forwarder()
    async with asyncio.timeout(2 * DEADLINE):
        await forwarder.connect([])
        for first in (1, 101, 201):
            await forwarder.send(events(100, first))
            far.broker.stop()
            with pytest.raises(Disconnected, match="lost"):
                await forwarder.wait_lost()
            with pytest.raises(Disconnected):
                await forwarder.send(events(1))
            await forwarder.close()
            with pytest.raises(Disconnected, match="refuses connections"):
                await forwarder.connect([])
            await forwarder.close()
            far.broker.start()
            await forwarder.connect([])
        await forwarder.send(events(1))
        await forwarder.close()


@with_far_side
async def test_what_was_under_way_when_the_far_side_went_is_disconnected(
    site: Site, kind: str, far_side: str
) -> None:
    far = FarSide(site, kind, far_side)
    forwarder = far.forwarder()
    async with asyncio.timeout(DEADLINE):
        await forwarder.connect([])
        far.broker.freeze()
        sent = [forwarder.send(events(10, first)) for first in (1, 11, 21)]
        await asyncio.sleep(0)
        far.broker.stop()
        for each in sent:
            with pytest.raises(Disconnected):
                await each
        with pytest.raises(Disconnected):
            await forwarder.wait_lost()
        await forwarder.close()


@with_far_side
async def test_closing_ends_what_is_under_way_in_seconds(site: Site, kind: str, far_side: str) -> None:
    far = FarSide(site, kind, far_side)
    forwarder = far.forwarder()
    async with asyncio.timeout(DEADLINE):
        await forwarder.connect([])
        far.broker.freeze()
        sent = forwarder.send(events(10))
        await forwarder.close()
        with pytest.raises(Disconnected):
            await sent


@with_far_side
async def test_the_present_state_is_told_with_every_connection(site: Site, kind: str, far_side: str) -> None:
    far = FarSide(site, kind, far_side)
    forwarder = far.forwarder()
    about = Event(1, 1, EventType.DEVICE_ABOUT, "air", 0, {"driver": "serial_lines", "channel.n": ""})
    subscriber = await asyncio.to_thread(site.subscriber, far.broker.port)
    async with asyncio.timeout(DEADLINE):
        for count in (1, 2):
            await forwarder.connect([about])
            await forwarder.close()
            await asyncio.to_thread(subscriber.wait_for, "gatepost/g/air/about", count)
