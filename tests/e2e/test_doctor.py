"""`gatepost doctor` as a technician would call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from support.agents import ROOT, gatepost
from support.configurations import gateway, mqtt
from support.waiting import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from support.sites import Site


def wrote(folder: Path, configuration: dict[str, Any], name: str = "site.yaml") -> str:
    file = folder / name
    file.write_text(yaml.safe_dump(configuration))
    return str(file)


BEAT: Final = {"beat": {"driver": "heartbeat"}}


def test_a_machine_that_nothing_stops_ends_with_0(site: Site) -> None:
    broker = site.broker()
    file = wrote(site.folder, gateway(BEAT, {"site": mqtt(broker.port)}))
    result = gatepost("doctor", file, folder=site.folder)
    assert (result.status, result.err) == (0, "")
    assert "\nforwarder site\n    ok " in result.out
    assert "knows us" in result.out
    assert result.out.splitlines()[-1].startswith("nothing would stop it")
    assert not (site.folder / "state").exists(), "it makes nothing"


def test_what_would_stop_it_ends_with_1_and_says_what_to_do(site: Site) -> None:
    devices = {"scale": {"driver": "serial_lines", "port": "/dev/ttyNOTHERE", "parse": "json"}}
    file = wrote(site.folder, gateway(devices, {"site": mqtt(free_port())}))
    result = gatepost("doctor", file, folder=site.folder)
    assert result.status == 1
    lines = result.out.splitlines()
    at = lines.index("device scale")
    assert lines[at + 1] == " 1  fault  there is no /dev/ttyNOTHERE"
    assert lines[at + 2].startswith("           do: plug it in")
    assert lines[-1].startswith("2 faults (device scale, forwarder site)")


def test_a_faulty_configuration_ends_with_78(site: Site) -> None:
    file = wrote(site.folder, gateway({"beat": {"driver": "nothing"}}))
    result = gatepost("doctor", file, folder=site.folder)
    assert (result.status, result.out) == (78, "")
    assert "devices.beat.driver" in result.err


def test_json_is_for_programs(site: Site) -> None:
    port = free_port()
    file = wrote(site.folder, gateway(BEAT, {"site": mqtt(port)}))
    result = gatepost("doctor", "--json", file, folder=site.folder)
    said = json.loads(result.out)
    assert (result.status, said["faults"], said["gateway"], said["config"]) == (1, 1, "g", file)
    (fault,) = [each for each in said["findings"] if each["level"] == "fault"]
    assert fault == {
        "area": "forwarder site",
        "level": "fault",
        "what": f"the broker 127.0.0.1:{port} refuses connections",
        "do": "is it running, and is the port right?",
    }


def test_beside_a_running_agent_it_tells_what_that_says_and_disturbs_nothing(site: Site) -> None:
    broker = site.broker()
    agent = site.agent(
        gateway({"beat": {"driver": "heartbeat", "every": "50ms"}}, {"site": mqtt(broker.port)})
    )
    agent.start_and_wait()
    agent.wait_status(lambda said: said["forwarders"]["site"]["health"] == "up", "connected")
    result = gatepost("doctor", str(agent.path), folder=site.folder / "a")
    assert result.status == 0, result.out
    assert f"an agent (process {agent.pid}) runs on" in " ".join(result.out.split())
    assert "it is up in the running agent" in result.out
    assert "the running agent is connected for" in result.out
    agent.wait_delivered("site")
    assert not agent.lines("is down")
    assert agent.stop() == 0


def test_a_user_without_rights_is_told_what_to_do(site: Site) -> None:
    file = wrote(site.folder, gateway(BEAT))
    state = site.folder / "state"
    state.mkdir(mode=0o700)
    other = "nobody" if os.geteuid() == 0 else "root"
    result = gatepost("doctor", "--user", other, file, folder=site.folder)
    assert f"for user {other}" in result.out.splitlines()[0]
    result = gatepost("doctor", "--user", "nobody-of-that-name", file, folder=site.folder)
    assert (result.status, result.out) == (1, "")
    assert "there is no user 'nobody-of-that-name'" in result.err


def test_a_secret_that_only_the_service_has_is_no_fault_for_another_user(site: Site) -> None:
    broker = site.mosquitto(users={"gw": "sesame"})
    file = site.folder / "site.yaml"
    file.write_text(
        "gateway: g\nforward:\n  site:\n"
        f"    mqtt: {{host: 127.0.0.1, port: {broker.port}, username: gw, password: !secret mqtt}}\n"
    )
    other = "nobody" if os.geteuid() == 0 else "root"
    result = gatepost("doctor", "--user", other, "--json", str(file), folder=site.folder)
    assert result.status in {0, 1}, result.err
    notes = [
        each
        for each in json.loads(result.out)["findings"]
        if each["area"] == "forwarder site" and each["level"] == "note"
    ]
    assert ["the secret 'mqtt' is missing" in each["what"] for each in notes] == [True]
    ours = gatepost("doctor", str(file), folder=site.folder)
    assert (ours.status, "the secret 'mqtt' is missing" in ours.err) == (78, True), "as `run` would say"
    result = gatepost("doctor", str(file), folder=site.folder, GATEPOST_SECRET_MQTT="sesame")
    assert (result.status, "knows us" in result.out) == (0, True)
    assert "sesame" not in result.out


AS_NOBODY: Final = """
import ctypes, encodings.idna, os, resource, sys
from pathlib import Path
from agent import cli, config
import agent.doctor.command
read = config.load(Path(sys.argv[-1]))  # as root, for Python and the checkout may be for root only
config.load = lambda *_, **__: read
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_technician_without_sudo_is_told_what_needs_it(site: Site) -> None:
    """As a user who may read the configuration, but neither the log nor the socket of the agent."""
    port = free_port()
    agent = site.agent(gateway(BEAT, {"site": mqtt(port)}))
    agent.start_and_wait()
    folders = [site.folder, *(each for each in agent.log.parents if each.is_relative_to(site.folder))]
    for folder in folders:
        folder.chmod(0o755)
    agent.log.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-B", "-c", AS_NOBODY, "doctor", str(agent.path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "XDG_STATE_HOME": str(site.folder / "a" / "state")},
    )  # fmt: skip
    said = " ".join(done.stdout.split())
    assert done.stderr == ""
    assert f"an agent (process {agent.pid}) runs on" in said
    assert "it answers only its own user and root" in said
    assert f"cannot read {agent.log}: Permission denied do: call this again with sudo" in said
    assert f"the broker 127.0.0.1:{port} refuses connections" in said
    assert "whether it takes what we publish, only the running agent knows" in said
    assert "a bug in the doctor" not in said
