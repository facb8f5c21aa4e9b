"""The broker is gone and comes back: nothing is missing, nothing is out of order, and nobody else waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.configurations import gateway, mqtt, scale
from support.instruments import CountingScale
from support.waiting import ticks, until

if TYPE_CHECKING:
    from support.sites import Site
    from support.subscribers import Subscriber


def distinct(subscriber: Subscriber, topic: str) -> list[dict[str, Any]]:
    """Return what came on a topic without repeats, as a receiver tells them: by id."""
    return list({body["id"]: body for body in reversed(subscriber.bodies(topic))}.values())[::-1]


def counts(subscriber: Subscriber) -> list[int]:
    """Return the counts of the readings in the order in which each came first."""
    first: dict[str, int] = {}
    for body in subscriber.bodies("gatepost/g/scale"):
        first.setdefault(body["id"], body["values"]["n"])
    return list(first.values())


def test_every_reading_arrives_after_twenty_seconds_without_a_broker_and_alarms_come_first(
    site: Site,
) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)  # opened only when the subscriber is back, so that it misses nothing
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    counting = CountingScale(instrument)
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": 40}, "severity": "major"}}
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(gate.port)}, rules=rules))
    agent.start_and_wait()
    counting.write(20)
    subscriber.wait_for("gatepost/g/scale", 20)

    broker.stop()
    gate.shut()
    for _ in ticks(every=0.05, during=20):
        counting.write()
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 420, "all lines are read")
    said = agent.wait_status(lambda said: said["forwarders"]["site"]["health"] == "down", "site is down")
    assert said["forwarders"]["site"]["waiting"] >= 400
    broker.start()
    subscriber.connect()
    seen_before = len(subscriber.received)
    gate.open()
    subscriber.wait(lambda: len(set(counts(subscriber))) == 420, "420 readings")

    assert counts(subscriber) == list(range(420))
    assert [body["values"]["weight"] for body in distinct(subscriber, "gatepost/g/scale")] == [
        n / 8 for n in range(420)
    ]
    topics = [message.topic for message in subscriber.received[seen_before:]]
    assert topics.index("gatepost/g/alarm/heavy") < topics.index("gatepost/g/scale"), "alarms overtake"
    assert agent.lines("site", "is up again")
    (raised,) = distinct(subscriber, "gatepost/g/alarm/heavy")
    assert raised["value"] == 40.125
    counting.write(10)
    subscriber.wait(lambda: counts(subscriber) == list(range(430)), "readings go on")


def test_a_broker_that_comes_and_goes_costs_nothing(site: Site) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    counting = CountingScale(instrument)
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(gate.port, window=5)}))
    agent.start_and_wait()

    for _ in ticks(every=0.3, during=3):
        counting.write(20)
        gate.shut()
        counting.write(20)
        gate.open()
    subscriber.wait(lambda: len(set(counts(subscriber))) == counting.written, "every reading")

    assert counts(subscriber) == list(range(400))


def test_a_broker_that_stands_still_is_given_up_and_gets_everything_later(site: Site) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    counting = CountingScale(instrument)
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(gate.port, keepalive="5s")}))
    agent.start_and_wait()
    counting.write(10)
    subscriber.wait_for("gatepost/g/scale", 10)

    broker.freeze()
    counting.write(300)
    agent.wait_said("forwarder site is down")
    gate.shut()
    broker.thaw()
    counting.write(10)
    gate.open()

    subscriber.wait(lambda: len(set(counts(subscriber))) == 320, "320 readings")
    assert counts(subscriber) == list(range(320))


@pytest.mark.parametrize("dead", ["a", "b"])
def test_of_two_forwarders_neither_waits_for_the_other(site: Site, dead: str) -> None:
    brokers = {"a": site.broker(), "b": site.broker()}
    gates = {name: site.gate(broker.port) for name, broker in brokers.items()}
    subscribers = {name: site.subscriber(broker.port) for name, broker in brokers.items()}
    instrument = site.instrument()
    counting = CountingScale(instrument)
    forward = {name: mqtt(gate.port) for name, gate in gates.items()}
    agent = site.agent(gateway({"scale": scale(instrument)}, forward))
    living = subscribers["b" if dead == "a" else "a"]
    gates[dead].shut()

    agent.start_and_wait()
    counting.write(2500)  # more than stays in memory
    living.wait(lambda: len(counts(living)) == 2500, "all at the broker that lives")
    assert not subscribers[dead].received
    said = agent.wait_status(lambda said: said["forwarders"][dead]["health"] == "down", "one is down")
    assert said["forwarders"][dead]["waiting"] >= 2500
    gates[dead].open()
    later = subscribers[dead]
    later.wait(lambda: len(counts(later)) == 2500, "all at the broker that came late")

    assert counts(living) == counts(later) == list(range(2500))


def test_what_was_not_delivered_before_a_clean_end_is_delivered_after(site: Site) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    gate.shut()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    counting = CountingScale(instrument)
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(gate.port)}))
    for run in range(1, 4):
        agent.start_and_wait()
        counting.write(100)
        agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 100, "100 readings")
        assert agent.stop() == 0
        assert not subscriber.received, f"run {run}"

    gate.open()
    agent.start()
    subscriber.wait(lambda: len(counts(subscriber)) == 300, "300 readings")

    assert counts(subscriber) == list(range(300))
    assert len({body["id"].partition("-")[0] for body in subscriber.bodies("gatepost/g/scale")}) == 3
    assert len(distinct(subscriber, "gatepost/g/agent/agent.started")) == 4
    assert len(distinct(subscriber, "gatepost/g/agent/agent.stopped")) == 3


def test_delivered_events_are_not_sent_again_after_a_clean_end(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    counting = CountingScale(instrument)
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}))
    for run in range(1, 4):
        agent.start_and_wait()
        counting.write(50)
        subscriber.wait_for("gatepost/g/scale", 50 * run)
        assert agent.stop() == 0

    until(lambda: len(subscriber.on("gatepost/g/agent/agent.stopped")) == 3, "three ends")
    assert [body["values"]["n"] for body in subscriber.bodies("gatepost/g/scale")] == list(range(150))
