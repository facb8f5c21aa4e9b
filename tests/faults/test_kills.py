"""Killed as by a power cut, at any moment and whatever the broker does: no alarm is lost, nor anything that was committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.chances import rounds
from support.configurations import ALARM, gateway, mqtt, scale
from support.ledger import SLACK, Ledger
from support.waiting import ticks, until

from agent.events import EventType

if TYPE_CHECKING:
    import random

    from support.agents import Agent
    from support.instruments import CountingScale
    from support.sites import Site


def live(agent: Agent, counting: CountingScale, chance: random.Random) -> None:
    """Start, weigh for a random time, and be killed; one time in five before the start has finished."""
    if chance.random() < 0.2:
        agent.start()
        for _ in ticks(every=0.01, during=chance.uniform(0, 1)):
            pass
    else:
        agent.start_and_wait()
        counting.write()  # an alarm that may still be active from before ends here
        counting.weigh(chance, during=chance.uniform(0, 1.5))
    agent.kill()


@pytest.mark.parametrize("commit", [1.0, 0.1, 0])
def test_whatever_the_broker_does(site: Site, chance: random.Random, commit: float) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    configuration = gateway(
        {"scale": scale(counting.instrument)},
        {"site": mqtt(gate.port)},
        rules=ALARM,
        log={"commit": f"{commit * 1000:.0f}ms" if commit else 0},
    )
    agent = site.agent(configuration)
    ledger = Ledger(counting, commit=commit)

    for _ in range(rounds(3, 60)):
        broker_is = chance.choice(["up", "down", "frozen"])
        if broker_is == "down":
            gate.shut()
        elif broker_is == "frozen":
            broker.freeze()
        live(agent, counting, chance)
        ledger.killed(agent)
        counting.replug()
        broker.thaw()
        gate.open()

    agent.start_and_wait()
    counting.write(20)
    counting.write_heavy()
    agent.wait_delivered("site", timeout=60)
    ledger.wait_balanced(subscriber)


def test_what_is_older_than_the_last_second_is_never_lost(site: Site, chance: random.Random) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    gate.shut()
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = site.agent(gateway({"scale": scale(counting.instrument)}, {"site": mqtt(gate.port)}))
    ledger = Ledger(counting)

    for _ in range(rounds(1, 10)):
        agent.start_and_wait()
        for _ in ticks(every=0.01, during=chance.uniform(2, 4) + 1 + SLACK):
            counting.write()  # no alarm, and not so many that a commit would come sooner for either
        agent.kill()
        ledger.killed(agent)
        counting.replug()
    gate.open()
    agent.start()

    ledger.wait_balanced(subscriber)


def test_while_a_backlog_drains(site: Site, chance: random.Random) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    agent = site.agent(gateway({"scale": scale(counting.instrument)}, {"site": mqtt(gate.port)}, rules=ALARM))
    ledger = Ledger(counting)

    for _ in range(rounds(1, 5)):
        gate.shut()
        agent.start_and_wait()
        for _ in ticks(every=0.1, during=rounds(1, 2)):
            counting.write(rounds(200, 2000))
            counting.write_heavy()
        counting.wait_committed(agent)
        agent.kill()
        ledger.killed(agent)
        counting.replug()
        gate.open()
        for _ in range(rounds(2, 12)):
            agent.start()
            for _ in ticks(every=0.01, during=chance.uniform(0.5, rounds(1, 3))):
                pass
            agent.kill()
            ledger.killed(agent)

    agent.start()
    until(lambda: agent.status() is not None, "it answers")
    agent.wait_delivered("site", timeout=120)
    ledger.wait_balanced(subscriber)


def test_with_two_brokers_of_which_one_is_dead(site: Site, chance: random.Random) -> None:
    names = ["a", "b"]
    brokers = {name: site.broker() for name in names}
    gates = {name: site.gate(brokers[name].port) for name in names}
    subscribers = {name: site.subscriber(brokers[name].port) for name in names}
    counting = site.counting_scale()
    forward = {name: mqtt(gates[name].port) for name in names}
    agent = site.agent(gateway({"scale": scale(counting.instrument)}, forward, rules=ALARM))
    ledger = Ledger(counting)

    for _ in range(rounds(3, 40)):
        dead = chance.choice(names)
        gates[dead].shut()
        live(agent, counting, chance)
        ledger.killed(agent)
        counting.replug()
        gates[dead].open()

    agent.start_and_wait()
    counting.write(20)
    for name in names:
        agent.wait_delivered(name, timeout=60)
        ledger.wait_balanced(subscribers[name], name)


def test_an_alarm_is_on_the_disk_at_once_however_long_readings_may_wait(site: Site) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    gate.shut()
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    configuration = gateway(
        {"scale": scale(counting.instrument)}, {"site": mqtt(gate.port)}, rules=ALARM, log={"commit": "1h"}
    )
    agent = site.agent(configuration)
    ledger = Ledger(counting, commit=3600)
    agent.start_and_wait()
    counting.write(10)
    counting.write_heavy()
    counting.write(10)

    def raised() -> bool:
        return any(event.type == EventType.ALARM_RAISED for event in agent.committed())

    until(raised, "the alarm is on the disk")
    agent.kill()
    ledger.killed(agent)
    gate.open()
    agent.start()

    ledger.wait_balanced(subscriber)
    assert len(subscriber.bodies("gatepost/g/alarm/heavy")) >= 1
