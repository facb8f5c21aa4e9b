"""The network between agent and broker is slow, late, cut in the middle of a packet, or silent without being closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.chances import rounds
from support.configurations import ALARM, gateway, mqtt, scale
from support.ledger import Ledger
from support.waiting import ticks

if TYPE_CHECKING:
    import random

    from support.agents import Agent
    from support.instruments import CountingScale
    from support.proxies import Proxy
    from support.sites import Site


def agent_behind(site: Site, proxy: Proxy, counting: CountingScale) -> Agent:
    """Start an agent that notices a silent connection as soon as it may be told to."""
    forward = {"site": mqtt(proxy.port, keepalive="5s")}
    agent = site.agent(gateway({"scale": scale(counting.instrument)}, forward, rules=ALARM))
    agent.start_and_wait()
    return agent


def change(proxy: Proxy, chance: random.Random) -> None:
    """Be bad in another way, or good for a change."""
    weather = proxy.weather
    match chance.choice(["fair", "slow", "late", "cut", "cut", "silent"]):
        case "fair":
            weather.fair()
        case "slow":
            weather.rate = chance.choice([500, 5_000, 50_000])
        case "late":
            weather.delay = chance.uniform(0, 0.1)
        case "cut":
            proxy.cut(after=chance.randint(0, 4000))
        case _:
            weather.up, weather.down = chance.choice([(True, False), (False, True), (False, False)])


def test_whatever_the_network_does_the_books_balance(site: Site, chance: random.Random) -> None:
    broker = site.broker()
    proxy = site.proxy(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = agent_behind(site, proxy, counting)

    for _ in range(rounds(8, 150)):
        change(proxy, chance)
        counting.weigh(chance, during=chance.uniform(0.1, 1))
    proxy.weather.fair()

    agent.wait_delivered("site", timeout=60)
    Ledger(counting).wait_balanced(subscriber)
    assert proxy.accepted > 1


def test_connections_that_break_at_any_byte_cost_nothing(site: Site, chance: random.Random) -> None:
    broker = site.broker()
    proxy = site.proxy(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = agent_behind(site, proxy, counting)

    for _ in range(rounds(10, 200)):
        before = proxy.accepted
        counting.write(50)
        proxy.cut(after=chance.randint(0, 3000))
        counting.write_heavy()
        for _ in ticks(every=0.02, during=2):  # until it has broken and the agent is back, if it was to break
            if proxy.accepted > before:
                break
            counting.write(1)

    agent.wait_delivered("site", timeout=60)
    Ledger(counting).wait_balanced(subscriber)
    assert proxy.accepted > rounds(5, 100)


def test_a_connection_that_goes_silent_is_noticed_and_nothing_is_lost(
    site: Site, chance: random.Random
) -> None:
    broker = site.broker()
    proxy = site.proxy(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = agent_behind(site, proxy, counting)

    ways = [(True, False), (False, True), (False, False)]
    for told, (up, down) in enumerate(chance.sample(ways, rounds(1, 3)), 1):
        counting.write(50)
        proxy.weather.up, proxy.weather.down = up, down
        counting.write(300)
        counting.write_heavy()
        agent.wait_said("forwarder site is down", count=told)
        counting.write(50)
        proxy.weather.fair()
        agent.wait_said("forwarder site is up again", count=told)

    agent.wait_delivered("site")
    Ledger(counting).wait_balanced(subscriber)


def test_on_a_slow_network_without_a_break_nothing_is_sent_twice(site: Site, chance: random.Random) -> None:
    broker = site.broker()
    proxy = site.proxy(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = agent_behind(site, proxy, counting)
    proxy.weather.rate = 20_000
    proxy.weather.delay = 0.01

    counting.weigh(chance, during=rounds(1, 10))

    agent.wait_delivered("site", timeout=60)
    Ledger(counting, window=0).wait_balanced(subscriber)
    assert proxy.accepted == 1
