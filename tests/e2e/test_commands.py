"""Commands over real brokers to the real program: outputs, alarms and readings, through restarts and kills."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support.agents import gatepost
from support.configurations import gateway, mqtt
from support.waiting import ticks, until

from agent.clock import Clock, iso

if TYPE_CHECKING:
    from support.agents import Agent
    from support.sites import Site
    from support.subscribers import Subscriber

ALL = ["outputs", "alarms", "readings"]
COMMAND = "gatepost/g/command"

with_version = pytest.mark.parametrize(
    ("kind", "version"),
    [("mosquitto", "5"), ("mosquitto", "3.1.1"), ("embedded", "5"), ("embedded", "3.1.1")],
)


def configuration(port: int, **more: Any) -> dict[str, Any]:
    """Return one with a fan that takes commands, a siren that takes none, a counter that is read hourly, and an alarm."""
    devices = {
        "fan": {"driver": "gpio_output", "pin": 27, "output": {"commands": {"at_most": "1ms"}}},
        "siren": {"driver": "gpio_output", "pin": 22},
        "counter": {"driver": "heartbeat", "every": "1h"},
    }
    rules = {"counted": {"threshold": {"of": "counter.beat", "above": 0.5}}}
    forward = {"site": mqtt(port, **{"commands": ALL} | more)}
    return gateway(devices, forward, rules=rules)


def started(site: Site, port: int, **more: Any) -> Agent:
    agent = site.agent(configuration(port, **more), "--simulate")
    agent.start_and_wait()
    wait_connected(agent)
    return agent


def wait_connected(agent: Agent) -> None:
    agent.wait_status(lambda said: said["forwarders"]["site"]["health"] == "up", "it is connected")


def results(client: Subscriber, source: str) -> list[dict[str, Any]]:
    """Return what became of commands, in order."""
    topics = {f"gatepost/g/{source}/command.done", f"gatepost/g/{source}/command.failed"}
    return [each.body for each in list(client.received) if each.topic in topics]


def fan(agent: Agent) -> object:
    said = agent.status()
    return None if said is None else said["devices"]["fan"]["latest"].get("state", {}).get("value")


@with_version
def test_an_output_is_set_from_afar_and_what_became_of_it_is_told(
    site: Site, kind: str, version: str
) -> None:
    broker = site.mosquitto() if kind == "mosquitto" else site.embedded()
    port = broker.port if version == "5" else broker.port_v3
    client = site.subscriber(port, version=version)
    agent = started(site, port, version=version)

    asked: dict[str, Any] = (
        {"ResponseTopic": "answers/1", "CorrelationData": b"\x01\xfe"} if version == "5" else {}
    )
    body = {"value": "on", "id": "a", "by": "anna", "time": iso(Clock().wall()), "ttl": 30}
    client.publish(f"{COMMAND}/fan/state", json.dumps(body), **asked)
    client.wait(lambda: results(client, "fan"), "a result")
    (result,) = results(client, "fan")
    assert (result["type"], result["command_id"]) == ("command.done", "a")
    assert (result["channel"], result["value"], result["cause"]) == ("state", 1, "anna over mqtt site")
    if version == "5":
        client.wait(lambda: client.on("answers/1"), "an answer")
        (answer,) = client.on("answers/1")
        assert answer.body == {"id": "a", "done": True}
        assert answer.correlation == b"\x01\xfe"
    until(lambda: fan(agent) == 1, "the fan is on")

    client.publish(f"{COMMAND}/fan", "off")
    until(lambda: fan(agent) == 0, "the fan is off")
    client.publish(f"{COMMAND}/siren", "on")
    client.wait(lambda: results(client, "siren"), "a refusal")
    assert "takes no commands from far sides" in results(client, "siren")[0]["reason"]
    assert agent.stop() == 0


@with_version
def test_what_was_retained_or_has_expired_sets_nothing(site: Site, kind: str, version: str) -> None:
    broker = site.mosquitto() if kind == "mosquitto" else site.embedded()
    port = broker.port if version == "5" else broker.port_v3
    client = site.subscriber(port, version=version)
    client.publish(f"{COMMAND}/fan/state", "on", retain=True)
    agent = started(site, port, version=version)

    old = {"value": "on", "time": iso(Clock().wall() - 20_000_000), "ttl": 10}
    client.publish(f"{COMMAND}/fan/state", json.dumps(old))
    client.wait(
        lambda: any("it has expired" in each.get("reason", "") for each in results(client, "fan")),
        "a refusal",
    )
    assert all(each["type"] == "command.failed" for each in results(client, "fan"))
    assert fan(agent) == 0
    if version == "3.1.1" and kind == "mosquitto":  # where nothing keeps the broker from sending it
        assert any("it was retained" in each["reason"] for each in results(client, "fan"))


def test_what_was_sent_while_the_agent_stood_still_is_not_carried_out_when_its_time_is_over(
    site: Site,
) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    agent = started(site, broker.port)
    agent.freeze()
    body = {"value": "on", "id": "late", "time": iso(Clock().wall()), "ttl": 1}
    client.publish(f"{COMMAND}/fan", json.dumps(body))
    for _ in ticks(every=0.1, during=1.5):
        pass
    agent.thaw()
    client.wait(lambda: results(client, "fan"), "a refusal")
    assert "it has expired" in results(client, "fan")[0]["reason"]
    assert fan(agent) == 0


def test_a_repeated_id_is_carried_out_once_also_after_a_kill(site: Site) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    agent = started(site, broker.port)
    body = json.dumps({"value": "on", "id": "once"})

    def ask(count: int) -> list[dict[str, Any]]:
        client.publish(f"{COMMAND}/fan", body, ResponseTopic="answers")
        client.wait(lambda: len(client.on("answers")) == count, "an answer")
        return [each.body for each in client.on("answers")]

    assert ask(1)[-1] == {"id": "once", "done": True}
    assert ask(2)[-1] == {"id": "once", "done": True, "repeated": True}
    until(lambda: any(event.type == "command" for event in agent.committed()), "the command is on the disk")
    agent.kill()
    agent.start_and_wait()
    wait_connected(agent)
    assert ask(3)[-1] == {"id": "once", "done": True, "repeated": True}
    assert fan(agent) == 0, "it is safe after the kill, and not set again"
    client.publish(f"{COMMAND}/fan", json.dumps({"value": "on", "id": "twice"}))
    until(lambda: fan(agent) == 1, "another id is carried out")
    commands = [event for event in agent.committed() if event.type == "command"]
    assert [event.values["command_id"] for event in commands if event.values["command_id"] == "once"] == [
        "once"
    ]


def test_killed_at_any_moment_it_carries_no_command_out_twice(site: Site) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    agent = site.agent(configuration(broker.port), "--simulate")
    moments = random.Random("commands")
    ids = [f"i{number}" for number in range(200)]
    for life in range(6):
        agent.start_and_wait()
        wait_connected(agent)
        before = len(results(client, "fan"))
        for name in ids:  # each in every life: a sender that is not sure repeats
            client.publish(f"{COMMAND}/fan", json.dumps({"value": life % 2, "id": name}))
        client.wait(lambda before=before: len(results(client, "fan")) > before, "a result")  # type: ignore[misc]
        for _ in ticks(every=0.005, during=moments.uniform(0.005, 0.1)):
            pass
        agent.kill()
    agent.start_and_wait()
    done = Counter(
        event.values["command_id"] for event in agent.committed() if event.type == "command" and "command_id" in event.values
    )  # fmt: skip
    assert len(done) > 5
    assert set(done.values()) == {1}


def _is_online(client: Subscriber, since: str) -> bool:
    said = [each.body for each in client.on("gatepost/g/status")]
    return any(each["state"] == "online" and each["since"] > since for each in said)


def test_after_the_broker_was_restarted_it_is_subscribed_again(site: Site) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    agent = started(site, broker.port)
    for value in ("on", "off"):
        at = iso(Clock().wall())
        broker.restart()
        client.connect()
        client.wait(lambda at=at: _is_online(client, at), "it is online again")  # type: ignore[misc]
        client.publish(f"{COMMAND}/fan", value)
        wanted = 1 if value == "on" else 0
        until(lambda wanted=wanted: fan(agent) == wanted, f"the fan is {value}")  # type: ignore[misc]


def test_when_commands_cease_the_dead_man_brings_the_safe_value(site: Site) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    written = configuration(broker.port)
    written["devices"]["fan"]["output"] = {"commands": {"at_most": "1ms"}, "dead_man": "2500ms"}
    agent = site.agent(written, "--simulate")
    agent.start_and_wait()
    wait_connected(agent)
    for _ in ticks(every=0.3, during=4):
        client.publish(f"{COMMAND}/fan", "on")
    client.wait(lambda: results(client, "fan")[-1]["cause"] == "dead_man", "the dead man")
    done = [(each["value"], each["cause"]) for each in results(client, "fan")]
    assert done[-1] == (0, "dead_man")
    assert [cause for _, cause in done].count("dead_man") == 1, "not while commands came"
    until(lambda: fan(agent) == 0, "the fan is off")


def test_an_alarm_is_shelved_and_a_device_is_read_from_afar(site: Site) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    agent = started(site, broker.port)
    agent.wait_status(lambda said: bool(said["alarms"]), "the alarm is active")

    client.publish(f"{COMMAND}/alarm/counted", json.dumps({"do": "ack", "by": "anna"}))
    client.publish(f"{COMMAND}/alarm/counted", json.dumps({"do": "shelve", "for": 60, "by": "anna"}))
    said = agent.wait_status(lambda said: said["alarms"][0]["shelved_for"] is not None, "it is shelved")
    assert said["alarms"][0]["state"] == "active-acknowledged"
    client.publish(f"{COMMAND}/counter", "read", ResponseTopic="answers")
    client.wait(lambda: client.on("answers"), "an answer")
    assert client.on("answers")[0].body["values"] == {"beat": 2}
    client.wait(lambda: len(client.on("gatepost/g/counter")) == 2, "a second reading")
    shown = gatepost("events", str(agent.path), "--simulate", folder=site.folder / "a")
    assert "shelve: done, asked by anna over mqtt site" in shown.out
    assert "read: done, asked by mqtt site" in shown.out
    shown = gatepost("status", str(agent.path), "--simulate", folder=site.folder / "a")
    assert "3 carried out, 0 not" in shown.out


def test_a_forwarder_lets_nobody_ask_for_what_its_configuration_does_not_name(site: Site) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    agent = started(site, broker.port, commands=["readings"])
    client.publish(f"{COMMAND}/fan", "on")
    client.wait(lambda: results(client, "fan"), "a refusal")
    assert "may not ask for outputs" in results(client, "fan")[0]["reason"]
    assert fan(agent) == 0


def test_a_flood_of_garbage_keeps_no_event_and_no_command_waiting_for_long(site: Site) -> None:
    broker = site.broker()
    client = site.subscriber(broker.port)
    agent = started(site, broker.port)
    for _ in range(400):
        client.publish(f"{COMMAND}/fan", b"\x00garbage", qos=0)
    client.publish(f"{COMMAND}/counter", "read", ResponseTopic="answers")
    client.wait(lambda: client.on("answers"), "an answer")
    client.wait(lambda: len(client.on("gatepost/g/counter")) == 2, "a second reading")
    said = agent.wait_status(lambda said: said["requests"]["refused"] > 0, "refusals")
    failed = [event for event in results(client, "fan") if event["type"] == "command.failed"]
    assert len(failed) <= 21 < said["requests"]["refused"]


def test_who_is_at_the_machine_sets_any_output_and_reads_any_device_by_the_command_line(site: Site) -> None:
    broker = site.broker()
    agent = started(site, broker.port, commands=[])
    config = str(agent.path)

    for output in ("fan", "siren.state"):
        done = gatepost("set", config, output, "on", "--simulate", folder=site.folder / "a")
        assert (done.status, done.err) == (0, "")
        assert done.out == f"{output} is set to on\n"
    until(lambda: fan(agent) == 1, "the fan is on")
    done = gatepost("read", config, "counter", "--simulate", folder=site.folder / "a")
    assert (done.status, done.out) == (0, "beat: 2\n")
    done = gatepost("set", config, "fan", "half", "--simulate", folder=site.folder / "a")
    assert done.status == 1
    assert "'half' is neither on nor off" in done.err
    done = gatepost("read", config, "fan", "--simulate", folder=site.folder / "a")
    assert done.status == 1
    assert "says by itself what changes" in done.err
