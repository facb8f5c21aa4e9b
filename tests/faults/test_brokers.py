"""A broker that is stopped, frozen, started again, slams the door or refuses: nothing is lost, and nobody storms it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.chances import rounds
from support.configurations import ALARM, gateway, mqtt, scale
from support.ledger import Ledger
from support.waiting import ticks

if TYPE_CHECKING:
    import random
    import socket

    from support.sites import Site

UNAVAILABLE, BUSY, NOT_AUTHORIZED, BANNED = 0x88, 0x89, 0x87, 0x8A
"""Reason codes of a CONNACK (MQTT 5.0, section 3.2.2.2)."""

SHORTEST = 0.02
"""Seconds between two tries at least, with the backoff that the tests configure: see agent/supervisor.py."""


def test_stopped_frozen_and_started_again_at_random(site: Site, chance: random.Random) -> None:
    broker = site.mosquitto(keeps=True)  # so that what it has acknowledged is its own affair
    subscriber = site.subscriber(broker.port, name="ledger")
    counting = site.counting_scale()
    agent = site.agent(
        gateway({"scale": scale(counting.instrument)}, {"site": mqtt(broker.port)}, rules=ALARM)
    )
    agent.start_and_wait()

    for _ in range(rounds(5, 60)):
        counting.weigh(chance, during=chance.uniform(0, 1))
        what = chance.choice(["frozen", "stopped", "started again"])
        if what == "frozen":
            broker.freeze()
        else:
            broker.shut_down()
        if what != "started again":
            counting.weigh(chance, during=chance.uniform(0, 2))
        if what == "frozen":
            broker.thaw()
        else:
            broker.start()
            subscriber.connect()

    agent.wait_delivered("site", timeout=60)
    Ledger(counting).wait_balanced(subscriber)


def test_one_that_slams_the_door_is_not_stormed_and_gets_everything_later(
    site: Site, chance: random.Random
) -> None:
    broker = site.broker()
    proxy = site.proxy(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = site.agent(
        gateway({"scale": scale(counting.instrument)}, {"site": mqtt(proxy.port)}, rules=ALARM)
    )
    agent.start_and_wait()

    for _ in range(rounds(2, 10)):
        counting.weigh(chance, during=0.5)
        proxy.weather.slams = True
        proxy.cut(after=chance.randint(0, 1000))
        before, during = proxy.accepted, chance.uniform(0.5, 2)
        counting.weigh(chance, during)
        # MQTT 5 is tried, and 3.1.1 after it, for a broker that closes may mean either.
        assert proxy.accepted - before <= 2 * (during + 1) / SHORTEST
        proxy.weather.fair()

    agent.wait_delivered("site", timeout=60)
    Ledger(counting).wait_balanced(subscriber)


def test_one_that_refuses_for_a_while_gets_everything_later(site: Site, chance: random.Random) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        reason = chance.choice([UNAVAILABLE, BUSY, NOT_AUTHORIZED, BANNED])
        connection.sendall(bytes([0x20, 3, 0, reason, 0]))
        connection.recv(1000)

    broker = site.broker()
    refusing = site.listener(refuse)
    proxy = site.proxy(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = site.agent(
        gateway({"scale": scale(counting.instrument)}, {"site": mqtt(proxy.port)}, rules=ALARM)
    )
    agent.start_and_wait()

    for told in range(1, rounds(2, 10) + 1):
        counting.weigh(chance, during=0.5)
        proxy.to = refusing.port
        proxy.cut()
        agent.wait_said("forwarder site is down", count=told)
        before = refusing.accepted
        for _ in ticks(every=0.05, during=10):
            counting.write()
            if refusing.accepted > before + 2:
                break
        proxy.to = broker.port
        agent.wait_said("forwarder site is up again", count=told)

    agent.wait_delivered("site", timeout=60)
    Ledger(counting).wait_balanced(subscriber)
