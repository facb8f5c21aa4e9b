"""From a line on a serial port to a subscriber of the broker: values, order, topics, and what is retained."""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.configurations import gateway, mqtt, scale
from support.waiting import until

if TYPE_CHECKING:
    from support.brokers import Broker
    from support.sites import Site

LINES = [f"{n},{weight}" for n, weight in enumerate(["12.5", "-0.25", "1e3", "0", "7", "123456789.125"])]
VALUES = [{"n": n, "weight": weight} for n, weight in enumerate([12.5, -0.25, 1000.0, 0, 7, 123456789.125])]


def broker_of(site: Site, kind: str) -> Broker:
    return site.embedded() if kind == "embedded" else site.mosquitto()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_every_line_arrives_once_in_order_with_its_exact_values(site: Site, kind: str, version: str) -> None:
    broker = broker_of(site, kind)
    port = broker.port if version == "5" else broker.port_v3
    subscriber = site.subscriber(port, version=version)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(port, version=version)}))
    began = datetime.now(UTC)

    agent.start_and_wait()
    instrument.write(*LINES)
    readings = subscriber.wait_for("gatepost/g/scale", len(LINES))

    assert [reading.pop("values") for reading in readings] == VALUES
    assert all(set(reading) == {"id", "time", "gateway", "device"} for reading in readings)
    assert {(reading["gateway"], reading["device"]) for reading in readings} == {("g", "scale")}
    runs_and_seqs = [tuple(map(int, reading["id"].split("-"))) for reading in readings]
    assert runs_and_seqs == sorted(set(runs_and_seqs))
    assert len({run for run, _ in runs_and_seqs}) == 1
    for reading in readings:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", reading["time"])
        assert began - timedelta(seconds=1) < datetime.fromisoformat(reading["time"]) < datetime.now(UTC)
    assert {message.content_type for message in subscriber.on("gatepost/g/scale")} == {None}


def test_cloudevents_in_structured_mode_are_one_object(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    forward = {**mqtt(broker.port), "encoding": "cloudevents"}
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": forward}))

    agent.start_and_wait()
    instrument.write("1,2.5")
    (event,) = subscriber.wait_for("gatepost/g/scale")

    run_and_seq = event.pop("id")
    time = datetime.fromisoformat(event.pop("time"))
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert event == {
        "specversion": "1.0",
        "source": "/gatepost/g",
        "type": "gatepost.reading",
        "subject": "scale",
        "datacontenttype": "application/json",
        "sequence": run_and_seq.partition("-")[2].zfill(16),
        "data": {"values": {"n": 1, "weight": 2.5}},
    }
    (message,) = subscriber.on("gatepost/g/scale")
    assert message.content_type == "application/cloudevents+json"
    assert message.attributes == {}


def test_cloudevents_in_binary_mode_travel_as_user_properties(site: Site) -> None:
    broker = site.mosquitto()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    forward = {**mqtt(broker.port), "encoding": {"cloudevents": {"mode": "binary"}}}
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": forward}))

    agent.start_and_wait()
    instrument.write("1,2.5")
    (body,) = subscriber.wait_for("gatepost/g/scale")

    assert body == {"values": {"n": 1, "weight": 2.5}}
    (message,) = subscriber.on("gatepost/g/scale")
    assert message.content_type == "application/json"
    assert set(message.attributes) == {"specversion", "id", "source", "type", "subject", "time", "sequence"}
    assert message.attributes["specversion"] == "1.0"
    assert message.attributes["type"] == "gatepost.reading"
    assert message.attributes["subject"] == "scale"


def test_the_status_is_retained_and_says_online_then_stopped(site: Site) -> None:
    broker = site.broker()
    agent = site.agent(gateway({}, {"site": mqtt(broker.port)}))
    agent.start()
    agent.wait_delivered("site")

    late = site.subscriber(broker.port)
    (online,) = late.wait_for("gatepost/g/status")
    assert late.on("gatepost/g/status")[0].retain
    assert online.pop("since")
    assert online.pop("version")
    assert online.pop("run") == agent.wait_status(bool, "it answers")["run"]
    assert online == {"state": "online", "gateway": "g"}

    assert agent.stop() == 0
    _, stopped = late.wait_for("gatepost/g/status", 2)
    assert stopped["state"] == "stopped"
    later = site.subscriber(broker.port)
    (kept,) = later.wait_for("gatepost/g/status")
    assert kept == stopped
    assert later.on("gatepost/g/status")[0].retain


def test_the_status_carries_figures_again_and_again_where_they_are_asked_for(site: Site) -> None:
    broker = site.broker()
    pulse = {"driver": "heartbeat", "every": "100ms"}
    gone = {"driver": "serial_lines", "port": str(site.folder / "ttyX"), "parse": "json"}
    agent = site.agent(gateway({"pulse": pulse, "gone": gone}, {"site": mqtt(broker.port, figures="1s")}))
    subscriber = site.subscriber(broker.port)
    agent.start()
    said = subscriber.wait_for("gatepost/g/status", 3)
    assert {each["state"] for each in said} == {"online"}
    assert len({each["since"] for each in said}) == 1
    last = said[-1]["figures"]
    assert last["time"] > said[0]["figures"]["time"]
    assert (last["devices_down"], last["alarms_active"], last["dropped"], last["log_writable"]) == (
        1,
        0,
        0,
        True,
    )
    assert last["readings_per_second"] > 0
    agent.stop()
    until(lambda: subscriber.on("gatepost/g/status")[-1].payload.find(b"stopped") > 0, "it has stopped")
    assert b"figures" not in subscriber.on("gatepost/g/status")[-1].payload


@pytest.mark.parametrize("way", ["killed", "frozen"])
def test_the_broker_says_offline_of_an_agent_that_was(site: Site, way: str) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    agent = site.agent(gateway({}, {"site": mqtt(broker.port, keepalive="5s")}))
    agent.start()
    subscriber.wait_for("gatepost/g/status")

    if way == "killed":
        agent.kill()
    else:
        agent.freeze()

    online, offline = subscriber.wait_for("gatepost/g/status", 2, timeout=30)
    assert online["state"] == "online"
    assert offline["state"] == "offline"
    late = site.subscriber(broker.port)
    assert late.wait_for("gatepost/g/status")[0]["state"] == "offline"


def test_what_a_device_is_was_retained_for_those_who_come_late(site: Site) -> None:
    broker = site.broker()
    instrument = site.instrument()
    device = scale(instrument, description="by the door")
    agent = site.agent(gateway({"scale": device}, {"site": mqtt(broker.port)}))
    agent.start()
    agent.wait_delivered("site")
    expected = {
        "gateway": "g",
        "type": "device.about",
        "source": "scale",
        "driver": "serial_lines",
        "description": "by the door",
        "channel.n": "",
        "channel.weight": "kg",
    }

    late = site.subscriber(broker.port)
    (about,) = late.wait_for("gatepost/g/scale/about")
    assert late.on("gatepost/g/scale/about")[0].retain
    assert {name: about[name] for name in expected} == expected

    # A broker that has forgotten everything is told again, with the same identity: nothing has changed.
    broker.restart()
    late.connect()
    _, again = late.wait_for("gatepost/g/scale/about", 2)
    assert again == about


def test_an_alarm_is_raised_acts_on_an_output_and_clears(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    rules = {
        "too-heavy": {
            "threshold": {"of": "scale.weight", "above": 100, "clear": 90},
            "severity": "critical",
            "message": "{of} is {value:.1f} kg, {limit}",
            "then": {"set": {"siren": True}, "otherwise": False},
        }
    }
    devices = {
        "scale": scale(instrument, simulate=False, report={"change": 1000}),
        "siren": {"driver": "gpio_output", "pin": 27},
    }
    agent = site.agent(gateway(devices, {"site": mqtt(broker.port)}, rules=rules), "--simulate")

    agent.start_and_wait()
    instrument.write("1,50", "2,100", "3,100.25", "4,95", "5,101", "6,90", "7,50")
    raised, cleared = subscriber.wait_for("gatepost/g/alarm/too-heavy", 2)
    subscriber.wait_for("gatepost/g/siren", 3)

    assert (raised["type"], cleared["type"]) == ("alarm.raised", "alarm.cleared")
    assert raised["severity"] == cleared["severity"] == "critical"
    assert (raised["of"], raised["value"], raised["limit"]) == ("scale.weight", 100.25, "above 100")
    assert raised["message"] == "scale.weight is 100.2 kg, above 100"
    assert cleared["value"] == 90
    assert cleared["duration"] >= 0
    assert subscriber.wait_for("gatepost/g/siren", 3)[0]["values"] == {"state": 0}, "its safe value first"
    assert [body["values"]["state"] for body in subscriber.bodies("gatepost/g/siren")] == [0, 1, 0]
    commands = subscriber.wait_for("gatepost/g/siren/command.done", 2)
    assert [(c["channel"], c["value"], c["cause"]) for c in commands] == [
        ("state", 1, "too-heavy"),
        ("state", 0, "too-heavy"),
    ]
    # A deadband of 1000 hides every reading but the first, and those that tripped the rule.
    kept = [body["values"]["n"] for body in subscriber.wait_for("gatepost/g/scale", 3)]
    assert kept == [1, 3, 6]


def test_the_alarm_stays_retained_with_the_broker(site: Site) -> None:
    broker = site.broker()
    instrument = site.instrument()
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": 100}}}
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}, rules=rules))
    agent.start_and_wait()
    instrument.write("1,50", "2,150")
    agent.wait_status(lambda said: len(said["alarms"]) == 1, "an alarm")
    agent.wait_delivered("site")

    late = site.subscriber(broker.port)
    (alarm,) = late.wait_for("gatepost/g/alarm/heavy")
    assert late.on("gatepost/g/alarm/heavy")[0].retain
    assert alarm["type"] == "alarm.raised"


def test_each_channel_can_have_a_topic_of_its_own(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port, split=True)}))

    agent.start_and_wait()
    instrument.write("1,2.5", "2,3.5")

    assert [b["values"] for b in subscriber.wait_for("gatepost/g/scale/n", 2)] == [{"n": 1}, {"n": 2}]
    weights = subscriber.wait_for("gatepost/g/scale/weight", 2)
    assert [body["values"] for body in weights] == [{"weight": 2.5}, {"weight": 3.5}]
    assert not subscriber.on("gatepost/g/scale")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_delivers_and_writes_everything_first(site: Site, number: signal.Signals) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}))
    agent.start_and_wait()
    instrument.write(*(f"{n},{n}" for n in range(200)))
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 200, "200 readings")

    assert agent.stop(number) == 0

    def values(bodies: list[dict[str, Any]]) -> list[int]:
        return [body["values"]["n"] for body in bodies]

    assert values(subscriber.wait_for("gatepost/g/scale", 200)) == list(range(200))
    assert [e.values["n"] for e in agent.committed() if e.type == "reading"] == list(range(200))
    assert agent.committed()[-1].type == "agent.stopped"
    (stopped,) = subscriber.wait_for("gatepost/g/agent/agent.stopped")
    assert stopped["uptime"] > 0
    assert subscriber.bodies("gatepost/g/status")[-1]["state"] == "stopped"
    assert "Traceback" not in agent.said()
    assert "Warning" not in agent.said()
    assert json.dumps(agent.lines("error:")) == "[]"
