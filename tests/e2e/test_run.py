"""`gatepost run` as a process: how it begins, how it ends, and the demo."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from support.agents import ROOT
from support.configurations import gateway, mqtt, scale
from support.waiting import free_port, until

if TYPE_CHECKING:
    from support.sites import Site


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_it_is_asked_to(site: Site, number: signal.Signals) -> None:
    agent = site.agent(gateway({"pulse": {"driver": "heartbeat", "every": "100ms"}}))
    for run in range(1, 4):
        agent.start()
        agent.wait_status(lambda said: said["devices"]["pulse"]["readings"] >= 2, "two readings")
        assert agent.stop(number) == 0
        events = agent.committed()
        assert events[-1].type == "agent.stopped"
        assert len({event.run for event in events}) == run
        started = [event for event in events if event.type == "agent.started"]
        assert [event.values["clean"] for event in started] == [1] * run
        assert not agent.log.with_suffix(".sock").exists()
    assert agent.said() == ""


def test_after_a_crash_it_says_that_the_last_run_did_not_end(site: Site) -> None:
    agent = site.agent(gateway({}))
    agent.start_and_wait()
    until(agent.committed, "the start is on the disk")
    agent.kill()
    agent.start_and_wait()
    agent.stop()
    assert [e.values["clean"] for e in agent.committed() if e.type == "agent.started"] == [1, 0]


def test_it_ends_by_itself_after_the_time_it_was_given(site: Site) -> None:
    agent = site.agent(gateway({"pulse": {"driver": "heartbeat", "every": "100ms"}}), "--for", "1s")
    agent.start()
    assert agent.wait_end() == 0
    uptime = agent.committed()[-1].values["uptime"]
    assert isinstance(uptime, float)
    assert uptime == pytest.approx(1, abs=0.5)


def test_it_ends_within_seconds_while_the_broker_stands_still(site: Site) -> None:
    broker = site.broker()
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}))
    agent.start_and_wait()
    agent.wait_delivered("site")
    broker.freeze()
    instrument.write(*(f"{n},{n}" for n in range(100)))
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 100, "100 readings")

    assert agent.stop() == 0

    assert [e.values["n"] for e in agent.committed() if e.type == "reading"] == list(range(100))


def test_a_bad_configuration_ends_it_with_78_and_every_fault(site: Site) -> None:
    agent = site.agent("gateway: g\ndevices:\n  a: {driver: nonsense}\n  b: {driver: heartbeat, evry: 1s}\n")
    agent.start()
    assert agent.wait_end() == 78
    assert len(agent.said().splitlines()) == 2
    assert f"{agent.path}:3:" in agent.said()
    assert f"{agent.path}:4:" in agent.said()


def test_a_file_that_is_not_there_ends_it_with_78(site: Site) -> None:
    agent = site.agent(gateway({}))
    agent.path.unlink()
    agent.start()
    assert agent.wait_end() == 78
    assert str(agent.path) in agent.said()
    assert "Traceback" not in agent.said()


def test_wrong_usage_ends_it_with_2(site: Site) -> None:
    agent = site.agent(gateway({}), "--no-such-option")
    agent.start()
    assert agent.wait_end() == 2


def test_a_log_that_another_agent_writes_to_ends_it_with_1_and_names_the_process(site: Site) -> None:
    first = site.agent(gateway({}))
    first.start_and_wait()
    second = site.agent(gateway({}))  # the same folder
    second.start()
    assert second.wait_end() == 1
    assert f"another gatepost (process {first.pid}) writes to {first.log}" in second.said()
    assert first.status() is not None, "the first one still answers"
    assert first.stop() == 0


def test_a_state_folder_that_cannot_be_written_is_said_and_it_runs_in_memory(site: Site) -> None:
    (site.folder / "file").write_text("")
    agent = site.agent(
        gateway({"pulse": {"driver": "heartbeat", "every": "100ms"}}, log={"path": str(site.folder / "file" / "events.db")}),
        "--for", "2s", "--events",
    )  # fmt: skip
    agent.start()
    agent.wait_said("cannot be used", str(site.folder / "file"), "going on in memory")
    assert agent.wait_end() == 0
    assert agent.printed().count("pulse") > 10
    assert "Traceback" not in agent.said()


def test_a_path_too_long_for_a_socket_costs_only_the_local_status(site: Site) -> None:
    folder = site.folder / ("long-" * 25)
    agent = site.agent(
        gateway({"pulse": {"driver": "heartbeat", "every": "100ms"}}, log={"path": str(folder / "events.db")}),
        "--for", "2s", "--events",
    )  # fmt: skip
    agent.start()
    agent.wait_said("no local status")
    assert agent.wait_end() == 0
    assert agent.printed().count("pulse") > 10, "it ran its two seconds all the same"


@pytest.mark.parametrize("simulate", [True, False])
def test_a_simulated_run_never_writes_to_the_real_log(site: Site, *, simulate: bool) -> None:
    devices = {"pulse": {"driver": "heartbeat", "every": "100ms"}}
    agent = site.agent(gateway(devices), *(["--simulate"] if simulate else []), "--for", "1s")
    agent.start()
    assert agent.wait_end() == 0
    there = {path.name for path in agent.log.parent.glob("*.db")}
    assert there == {"events-simulated.db" if simulate else "events.db"}


def test_the_same_seed_gives_the_same_readings(site: Site) -> None:
    device = {
        "driver": "serial_lines",
        "port": "/dev/ttyUSB0",
        "parse": {"csv": ["t"]},
        "simulate": {
            "every": "50ms",
            "signals": {"t": {"random_walk": {"around": 20, "within": 5}, "noise": 1}},
        },
    }
    values = []
    for name in ("one", "two"):
        agent = site.agent(gateway({"air": device}), "--simulate", "--seed", "7", "--for", "2s", name=name)
        agent.start()
        assert agent.wait_end() == 0
        values.append([event.values["t"] for event in agent.committed() if event.type == "reading"])
    one, two = values
    # The instrument does not wait for the agent, which may miss its first lines.
    assert any(one[i : i + 15] == two[j : j + 15] for i in range(6) for j in range(6)), (one, two)
    assert len(set(one[:15])) > 5


def demo() -> tuple[str, int]:
    """Return the demo's configuration on ports of its own, and that of its broker for MQTT 5."""
    port, port_v5 = free_port(), free_port()
    text = (ROOT / "config" / "demo.yaml").read_text()
    was = yaml.safe_load(text)["broker"]
    text = re.sub(rf"\b{was['port_v5']}\b", str(port_v5), re.sub(rf"\b{was['port']}\b", str(port), text))
    made = yaml.safe_load(text)
    assert made["broker"] == {"port": port, "port_v5": port_v5}
    assert made["forward"]["local"]["mqtt"]["port"] == port_v5
    return text, port_v5


def test_the_demo_raises_two_alarms_within_a_minute_and_a_subscriber_sees_them(site: Site) -> None:
    text, port = demo()
    agent = site.agent(text, "--simulate", "--events", "--seed", "1")
    agent.start()
    agent.wait_status(lambda said: said["brokers"]["embedded"]["health"] == "up", "its broker")
    subscriber = site.subscriber(port)

    subscriber.wait(
        lambda: (
            subscriber.on("gatepost/demo/alarm/too-hot") and subscriber.on("gatepost/demo/alarm/door-open")
        ),
        "two alarms",
        timeout=60,
    )

    subscriber.wait(
        lambda: {"state": 1} in [body["values"] for body in subscriber.bodies("gatepost/demo/fan")],
        "the fan is on",
    )
    subscriber.wait_for("gatepost/demo/machine")
    subscriber.wait_for("gatepost/demo/air")
    assert subscriber.bodies("gatepost/demo/status")[-1]["state"] == "online"
    printed = agent.printed()
    assert "ALARM too-hot" in printed
    assert "ALARM door-open" in printed
    assert f"-p {port}" in printed or "mosquitto_sub" in printed
    children = _children(agent.pid)
    assert children, "the broker is a process of its own"
    assert agent.stop() == 0
    until(lambda: not any(map(_is_alive, children)), "the broker's process ends with the agent")
    assert not agent.lines("error:"), agent.said()


def test_the_embedded_broker_dies_with_an_agent_that_is_killed(site: Site) -> None:
    text, _ = demo()
    agent = site.agent(text, "--simulate")
    agent.start()
    agent.wait_status(lambda said: said["brokers"]["embedded"]["health"] == "up", "its broker")
    children = _children(agent.pid)
    assert children
    agent.kill()
    until(lambda: not any(map(_is_alive, children)), "the broker's process ends with the agent")


def test_a_broker_port_that_is_taken_is_said_and_the_rest_goes_on(site: Site) -> None:
    other = site.embedded()
    configuration = gateway(
        {"pulse": {"driver": "heartbeat", "every": "100ms"}},
        {"site": mqtt(other.port)},
        broker={"port": other.port_v3, "port_v5": free_port()},
    )
    agent = site.agent(configuration)
    agent.start()
    agent.wait_said("broker embedded is down", f"port {other.port_v3} is taken by another program")
    agent.wait_status(lambda said: said["forwarders"]["site"]["delivered"] > 3, "events at the other broker")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
