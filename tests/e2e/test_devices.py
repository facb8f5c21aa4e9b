"""Devices that go, come back and talk nonsense, on a real pseudo-terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from support.configurations import gateway, mqtt, scale
from support.waiting import until

if TYPE_CHECKING:
    from support.agents import Agent
    from support.sites import Site


def wait_open(agent: Agent, device: str) -> None:
    agent.wait_status(
        lambda said: said["devices"][device]["health"] == "up" and said["devices"][device]["for"] >= 0.2,
        f"{device} is open",
    )


def test_an_adapter_that_is_pulled_out_and_plugged_in_again_goes_on(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port)}))
    agent.start_and_wait()

    for round_ in range(1, 4):
        instrument.write(f"{round_},1")
        subscriber.wait_for("gatepost/g/scale", round_)
        instrument.unplug()
        down = subscriber.wait_for("gatepost/g/scale/device.down", round_)[-1]
        assert str(instrument.port) in down["reason"]
        instrument.plug()
        up = subscriber.wait_for("gatepost/g/scale/device.up", round_)[-1]
        assert up["down_for"] >= 0
        wait_open(agent, "scale")
    instrument.write("4,1")

    readings = subscriber.wait_for("gatepost/g/scale", 4)
    assert [reading["values"]["n"] for reading in readings] == [1, 2, 3, 4]
    assert len(agent.lines("device scale is down")) == 3, "said once for each change"
    assert len(agent.lines("device scale is up again")) == 3


def test_a_device_that_is_not_there_is_said_once_and_the_others_work(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    missing = {**scale(instrument), "port": str(site.folder / "ttyUSB9")}
    devices = {"missing": missing, "scale": scale(instrument)}
    agent = site.agent(gateway(devices, {"site": mqtt(broker.port)}))
    agent.start_and_wait()

    instrument.write("1,2.5")
    subscriber.wait_for("gatepost/g/scale")
    (down,) = subscriber.wait_for("gatepost/g/missing/device.down")
    assert "ttyUSB9: is it plugged in?" in down["reason"]
    assert len(agent.lines("device missing is down")) == 1

    (site.folder / "ttyUSB9").symlink_to(site.instrument("other").port)
    subscriber.wait_for("gatepost/g/missing/device.up")


def test_two_agents_cannot_open_one_port(site: Site) -> None:
    instrument = site.instrument()
    first = site.agent(gateway({"scale": scale(instrument)}), name="first")
    second = site.agent(gateway({"scale": scale(instrument)}), name="second")
    first.start_and_wait()
    second.start_and_wait()

    assert second.wait_said("device scale is down", f"{instrument.port} is in use by another program")
    instrument.write("1,2")
    first.wait_status(lambda said: said["devices"]["scale"]["readings"] == 1, "a reading")


def test_garbage_is_counted_and_kept_as_evidence_and_harms_no_good_line(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument, max_line="64B")}, {"site": mqtt(broker.port)}))
    agent.start_and_wait()
    garbage: list[str | bytes] = [
        b"\xff\xfe\x00\x80", "no,number", "1,2,3", "x" * 500, "\x1b[2J7,7", "3", b"\x00" * 20, '{"n": 1}',
    ]  # fmt: skip

    instrument.write("0,0.5")
    for n, line in enumerate(garbage, 1):
        instrument.write(line, f"{n},{n + 0.5}")
    readings = subscriber.wait_for("gatepost/g/scale", len(garbage) + 1)

    assert [r["values"] for r in readings] == [{"n": n, "weight": n + 0.5} for n in range(len(garbage) + 1)]
    said = agent.wait_status(
        lambda said: said["devices"]["scale"]["bad"] == len(garbage), "all garbage is counted"
    )
    assert said["devices"]["scale"]["readings"] == len(garbage) + 1
    assert said["devices"]["scale"]["health"] == "up"
    (evidence,) = subscriber.wait_for("gatepost/g/scale/reading.bad")  # then one a minute with the count
    assert evidence["count"] == 1
    assert evidence["evidence"] == r"\xff\xfe\x00\x80"
    assert len(agent.lines("device scale: bad reading")) == 1


def test_bytes_without_an_end_of_line_cost_no_memory_and_no_later_line(site: Site) -> None:
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}))
    agent.start_and_wait()
    instrument.write("1,1")
    before = _resident(agent)

    for _ in range(200):
        instrument.write_raw(b"\x55" * 50_000)
    instrument.write("", "2,2")

    said = agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 2, "the line after it")
    assert said["devices"]["scale"]["bad"] >= 1
    assert _resident(agent) - before < 10_000_000


def _resident(agent: Agent) -> int:
    said = Path(f"/proc/{agent.pid}/status").read_text()
    (line,) = (line for line in said.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_lines_far_faster_than_the_broker_are_all_delivered(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port, window=10)}))
    agent.start_and_wait()

    for start in range(0, 5_000, 500):
        instrument.write(*(f"{n},{n}" for n in range(start, start + 500)))
    until(lambda: len(subscriber.on("gatepost/g/scale")) >= 5_000, "5,000 readings", timeout=60)

    assert [body["values"]["n"] for body in subscriber.bodies("gatepost/g/scale")] == list(range(5_000))
