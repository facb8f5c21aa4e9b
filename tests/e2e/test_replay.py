"""A stretch of the log is sent once more, while the agent runs; and what was refused can be listed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.agents import gatepost
from support.configurations import gateway, mqtt, scale
from support.waiting import until

if TYPE_CHECKING:
    from support.sites import Site

RULES = {"heavy": {"threshold": {"of": "scale.weight", "above": 100}, "severity": "critical"}}


def test_a_replay_sends_what_was_delivered_once_more_and_says_so(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}, rules=RULES))
    agent.start_and_wait()
    instrument.write(*(f"{n},{n}" for n in range(200)))
    subscriber.wait_for("gatepost/g/scale", 200)
    agent.wait_delivered("site")
    until(lambda: len([e for e in agent.committed() if e.type == "reading"]) == 200, "it is on the disk")
    before = len(subscriber.received)
    first = subscriber.bodies("gatepost/g/scale")
    start, end = (int(body["id"].partition("-")[2]) for body in (first[20], first[149]))

    done = gatepost(
        "replay",
        "--from",
        str(start),
        "--to",
        str(end),
        "--rate",
        "0",
        str(agent.path),
        folder=agent.path.parent,
    )

    assert done.status == 0, done.err
    assert "events replayed to site" in done.out
    assert "100%" in done.err
    again = [message.body for message in subscriber.received[before:]]
    assert {body["delivery"] for body in again} == {"replayed"}
    readings = [body for body in again if "device" in body]
    for body in readings:
        del body["delivery"]
    assert readings == first[20:150], "the same ids, times and values, in order"
    (alarm,) = [body for body in again if body.get("type") == "alarm.raised"]
    assert alarm["source"] == "heavy"
    late = site.subscriber(broker.port)
    (kept,) = late.wait_for("gatepost/g/alarm/heavy")
    assert "delivery" not in kept, "a replay never replaces what the broker keeps"
    instrument.write("999,1")
    subscriber.wait_for("gatepost/g/scale", 331)
    assert (
        gatepost("replay", "--from", "1", str(agent.path), "--to", "0", folder=agent.path.parent).status != 0
    )


def test_a_replay_asked_of_nobody_or_to_nobody_says_what_to_do(site: Site) -> None:
    broker = site.broker()
    configuration = gateway(
        {"pulse": {"driver": "heartbeat", "every": "100ms"}},
        {"a": mqtt(broker.port), "b": mqtt(broker.port, client_id="b")},
    )
    agent = site.agent(configuration)
    agent.start_and_wait()
    until(agent.committed, "there is something to replay")
    folder, path = agent.path.parent, str(agent.path)
    for arguments, said in (
        (("--from", "1"), "say which with --forwarder, expected one of: a, b"),
        (("--from", "1", "--forwarder", "c"), "there is no forwarder 'c', expected one of: a, b"),
        (("--from", "10000000", "--forwarder", "a"), "the log has no events there"),
    ):
        done = gatepost("replay", *arguments, path, folder=folder)
        assert (done.status, said in done.err) == (1, True), done.err
    assert agent.stop() == 0
    done = gatepost("replay", "--from", "1", "--forwarder", "a", path, folder=folder)
    assert (done.status, "no agent runs" in done.err) == (1, True), done.err


def test_what_a_broker_refuses_for_good_is_listed_with_the_reason(site: Site) -> None:
    broker = site.mosquitto(options={"max_packet_size": 300})
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    line = {"driver": "serial_lines", "port": str(instrument.port), "parse": "json"}
    agent = site.agent(gateway({"line": line}, {"site": mqtt(broker.port)}, log={"retain": 0}))
    agent.start_and_wait()
    instrument.write('{"text": "short"}', json.dumps({"text": "long" * 100}), '{"text": "short again"}')
    subscriber.wait_for("gatepost/g/line", 2)
    agent.wait_status(lambda said: said["forwarders"]["site"]["rejected"] == 1, "one is rejected")
    folder, path = agent.path.parent, str(agent.path)

    listed = until(
        lambda: gatepost("events", "--rejected", "--json", path, folder=folder).out, "it is on the disk"
    )

    (said,) = map(json.loads, listed.splitlines())
    assert said["values"] == {"text": "long" * 100}
    assert said["rejected"]["forwarder"] == "site"
    assert "more than the 300 that the broker takes" in said["rejected"]["reason"]
    plain = gatepost("events", "--rejected", path, folder=folder)
    assert "site: " in plain.out
