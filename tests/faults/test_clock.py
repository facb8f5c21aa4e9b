"""The wall clock jumps, by hours and back, or begins in 1970: nothing is lost, and rules keep their time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from support.chances import rounds
from support.configurations import ALARM, gateway, mqtt, scale
from support.instruments import HEAVY
from support.ledger import Ledger
from support.odd_clock import OddClock
from support.waiting import ticks

from agent.clock import from_iso
from agent.events import EventType

if TYPE_CHECKING:
    import random

    from support.agents import Agent
    from support.sites import Site

HOUR = 3600.0
DELAY = 2.0
"""Seconds of `for:` in the rules here."""


def with_odd_clock(agent: Agent, clock: OddClock) -> Agent:
    agent.program = clock.program
    return agent


def test_jumps_at_random_while_the_broker_comes_and_goes(site: Site, chance: random.Random) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    clock = OddClock(site.folder)
    configuration = gateway({"scale": scale(counting.instrument)}, {"site": mqtt(gate.port)}, rules=ALARM)
    agent = with_odd_clock(site.agent(configuration), clock)
    ledger = Ledger(counting)

    clock.set_to_1970()
    agent.start_and_wait()
    counting.weigh(chance, during=0.5)
    clock.set_off(0)  # and now the network has set it
    for turn in range(rounds(4, 60)):
        counting.weigh(chance, during=chance.uniform(0, 0.7))
        clock.set_off(chance.choice([-1, 1]) * chance.uniform(0, 10 * HOUR))
        chance.choice([gate.shut, gate.open])()
        counting.weigh(chance, during=chance.uniform(0, 0.7))
        if turn % 3 == 1:
            agent.kill()
            ledger.killed(agent)
            counting.replug()
            clock.set_off(chance.choice([-1, 1]) * chance.uniform(0, 10 * HOUR))
            agent.start_and_wait()
            counting.write()
    gate.open()

    agent.wait_delivered("site", timeout=60)
    ledger.wait_balanced(subscriber)


def test_a_clock_that_begins_in_1970_is_believed_until_it_is_set(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    clock = OddClock(site.folder)
    clock.set_to_1970()
    configuration = gateway({"scale": scale(counting.instrument)}, {"site": mqtt(broker.port)})
    agent = with_odd_clock(site.agent(configuration), clock)
    agent.start_and_wait()
    counting.write()
    (early,) = subscriber.wait_for("gatepost/g/scale")
    clock.set_off(0)
    counting.write()

    late = subscriber.wait_for("gatepost/g/scale", 2)[1]

    assert from_iso(early["time"]) < 3600 * 1e6, "or the clock of this test is not odd at all"
    assert abs(from_iso(late["time"]) / 1e6 - time.time()) < HOUR


@pytest.mark.parametrize("jump", [5 * HOUR, -5 * HOUR])
def test_a_rule_that_waits_is_neither_early_nor_late(site: Site, jump: float) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    clock = OddClock(site.folder)
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": HEAVY - 1, "for": f"{DELAY:g}s"}}}
    configuration = gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}, rules=rules)
    agent = with_odd_clock(site.agent(configuration), clock)
    agent.start_and_wait()

    began = time.monotonic()
    instrument.write(f"1,{HEAVY}")
    subscriber.wait_for("gatepost/g/scale")
    clock.set_off(jump)
    for _ in ticks(every=0.1, during=DELAY / 2):
        assert not subscriber.on("gatepost/g/alarm/heavy"), "early"
    subscriber.wait_for("gatepost/g/alarm/heavy")  # and not five hours later

    assert time.monotonic() - began >= DELAY


def test_retention_takes_nothing_that_is_not_delivered_when_the_clock_leaps(site: Site) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    subscriber = site.subscriber(broker.port)
    counting = site.counting_scale()
    clock = OddClock(site.folder)
    configuration = gateway(
        {"scale": scale(counting.instrument)},
        {"site": mqtt(gate.port)},
        rules=ALARM,
        log={"retain": "1h", "commit": "100ms"},
    )
    agent = with_odd_clock(site.agent(configuration, GATEPOST_TEST_RETAIN_EVERY="0.2"), clock)
    agent.start_and_wait()
    counting.write(50)
    counting.write_heavy()  # so that all of these are written at once
    agent.wait_delivered("site")
    counting.wait_committed(agent)
    gate.shut()
    counting.write(200)
    counting.write_heavy()
    counting.wait_committed(agent)

    clock.set_off(30 * 24 * HOUR)

    agent.wait_said("the clock has jumped")
    for _ in ticks(every=0.1, during=2):  # retention looks ten times: what seems a month old may be a mistake
        there = {event.values["n"] for event in agent.committed() if event.type == EventType.READING}
        assert there >= set(range(counting.written))
    gate.open()
    agent.wait_delivered("site")
    Ledger(counting).wait_balanced(subscriber)
