"""The agent is killed at any moment: nothing that was committed is missing, and no id is used twice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from support.configurations import gateway, mqtt, scale
from support.waiting import ticks, until

from agent.clock import from_iso

if TYPE_CHECKING:
    from support.sites import Site
    from support.subscribers import Subscriber

    from agent.events import Event

RULES = {"heavy": {"threshold": {"of": "scale.weight", "above": 100, "clear": 90}, "severity": "critical"}}


class Seen:
    """Everything that is known of each id, wherever it was seen; two contents for one id are a fault."""

    def __init__(self) -> None:
        self.by_id: dict[str, tuple[int, Any]] = {}

    def add(self, identity: str, time: int, values: Any) -> None:
        assert self.by_id.setdefault(identity, (time, values)) == (time, values), f"{identity} was used twice"

    def add_received(self, subscriber: Subscriber) -> None:
        for body in subscriber.bodies("gatepost/g/scale"):
            self.add(body["id"], from_iso(body["time"]), body["values"])

    def add_committed(self, events: list[Event]) -> None:
        for event in events:
            if event.type == "reading":
                self.add(event.id, event.time, event.values)


def in_order(subscriber: Subscriber) -> bool:
    """Whether the readings came in the order of the log, not looking at repeats."""
    seqs = [int(body["id"].partition("-")[2]) for body in subscriber.bodies("gatepost/g/scale")]
    first_times = list(dict.fromkeys(seqs))
    return first_times == sorted(first_times)


@pytest.mark.parametrize("commit", ["1s", "100ms", 0])
def test_killed_again_and_again_without_a_broker_it_delivers_all_that_was_committed(
    site: Site, commit: str | int
) -> None:
    broker = site.broker()
    gate = site.gate(broker.port)
    gate.shut()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    configuration = gateway({"scale": scale(instrument)}, {"site": mqtt(gate.port)}, log={"commit": commit})
    agent = site.agent(configuration)
    moments = random.Random(f"moments-{commit}")
    seen = Seen()
    committed: set[str] = set()
    written = 0

    for least in (0.05, 0.05, 0.05, 0.05, 1.5):
        agent.start_and_wait()
        for _ in ticks(every=0.01, during=least + moments.uniform(0, 0.8)):
            instrument.write(f"{written},{written / 4}", f"{written + 1},{(written + 1) / 4}")
            written += 2
        agent.kill()
        instrument.unplug()  # what the dead agent had not read is lost, as on a real port
        instrument.plug()
        there = agent.committed()
        assert committed <= {event.id for event in there}, "what was committed stays"
        committed = {event.id for event in there}
        seen.add_committed(there)
    gate.open()
    agent.start()
    wanted = {event.id for event in there if event.type == "reading"}
    assert wanted

    def arrived() -> set[str]:
        return {body["id"] for body in subscriber.bodies("gatepost/g/scale")}

    subscriber.wait(lambda: wanted <= arrived(), "all that was committed")
    agent.wait_delivered("site")
    seen.add_received(subscriber)
    assert in_order(subscriber)
    every_id = {message.body["id"] for message in subscriber.received if b'"id"' in message.payload}
    assert committed <= every_id, "also what is no reading"


def test_killed_while_delivering_it_repeats_rather_than_loses(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}))
    moments = random.Random("delivering")
    seen = Seen()
    committed: set[str] = set()
    written = 0

    for _ in range(5):
        agent.start_and_wait()
        for _ in ticks(every=0.005, during=moments.uniform(0.1, 0.8)):
            instrument.write(f"{written},{written / 4}")
            written += 1
        agent.kill()
        instrument.unplug()
        instrument.plug()
        there = agent.committed()
        committed |= {event.id for event in there if event.type == "reading"}
        seen.add_committed(there)
        seen.add_received(subscriber)
    agent.start()
    subscriber.wait(
        lambda: committed <= {body["id"] for body in subscriber.bodies("gatepost/g/scale")},
        "all that was committed",
    )

    agent.wait_delivered("site")
    seen.add_received(subscriber)
    assert len({identity.partition("-")[0] for identity in seen.by_id}) == 5, (
        "each run has a number of its own"
    )


def test_with_commit_0_nothing_that_was_sent_is_unknown_after_a_crash(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    configuration = gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}, log={"commit": 0})
    agent = site.agent(configuration)
    agent.start_and_wait()
    for n in ticks(every=0.005, during=1):
        instrument.write(f"{n},{n}")
    agent.kill()

    in_file = {event.id for event in agent.committed()}
    sent = {body["id"] for body in subscriber.bodies("gatepost/g/scale")}
    assert sent
    assert sent <= in_file


@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_an_active_alarm_survives_a_restart_and_is_not_raised_twice(site: Site, way: str) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    configuration = gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}, rules=RULES)
    agent = site.agent(configuration)
    agent.start_and_wait()
    instrument.write("1,101")
    (raised,) = subscriber.wait_for("gatepost/g/alarm/heavy")
    agent.wait_delivered("site")
    before = agent.wait_status(lambda said: bool(said["alarms"]), "an alarm")
    until(
        lambda: any(event.type == "alarm.raised" for event in agent.committed()), "the alarm is on the disk"
    )
    if way == "stopped":
        assert agent.stop() == 0
    else:
        agent.kill()

    agent.start_and_wait()
    said = agent.wait_status(lambda said: bool(said["alarms"]), "the alarm is still active")
    assert said["run"] > before["run"]
    assert said["alarms"] == before["alarms"]
    instrument.write("2,102", "3,95", "4,103")
    subscriber.wait_for("gatepost/g/scale", 4)
    assert {body["id"] for body in subscriber.bodies("gatepost/g/alarm/heavy")} == {raised["id"]}

    instrument.write("5,89")
    subscriber.wait(
        lambda: subscriber.bodies("gatepost/g/alarm/heavy")[-1]["type"] == "alarm.cleared", "it clears"
    )
    cleared = subscriber.bodies("gatepost/g/alarm/heavy")[-1]
    lasted = (from_iso(cleared["time"]) - from_iso(raised["time"])) / 1e6
    assert cleared["duration"] == pytest.approx(lasted, abs=0.01)
    instrument.write("6,101")
    subscriber.wait(
        lambda: subscriber.bodies("gatepost/g/alarm/heavy")[-1]["type"] == "alarm.raised", "raised again"
    )
    assert subscriber.bodies("gatepost/g/alarm/heavy")[-1]["id"] != raised["id"]


def test_a_delay_that_has_begun_goes_on_over_a_crash(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": 100, "for": "4s"}}}
    configuration = gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}, rules=rules)
    agent = site.agent(configuration)
    agent.start_and_wait()
    instrument.write("1,101")
    (reading,) = subscriber.wait_for("gatepost/g/scale")
    for _ in ticks(every=0.5, during=2):  # the condition is committed meanwhile
        assert not subscriber.on("gatepost/g/alarm/heavy")
    agent.kill()

    agent.start_and_wait()
    (raised,) = subscriber.wait_for("gatepost/g/alarm/heavy")
    assert from_iso(raised["time"]) - from_iso(reading["time"]) == pytest.approx(4_000_000, abs=100_000)
    assert raised["value"] == 101
