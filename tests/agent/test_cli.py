"""The words on the command line: what they print, where they look, and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from support.agents import ROOT, WARNINGS, Agent, Result, gatepost
from support.configurations import gateway, mqtt, scale
from support.waiting import free_port, until

from agent import registry

if TYPE_CHECKING:
    from pathlib import Path

    from support.instruments import SerialInstrument
    from support.sites import Site


def ask(agent: Agent, *words: str) -> Result:
    """Run a command on an agent's configuration."""
    command, *options = words
    return gatepost(command, *options, str(agent.path), folder=agent.path.parent)


def objects(result: Result) -> list[dict[str, Any]]:
    """Return the JSON object of each line."""
    assert result.status == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


# --- what can be configured -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["drivers", "rules", "forwarders", "encodings"])
def test_list_names_every_kind_of_a_role_in_one_line(tmp_path: Path, role: str) -> None:
    result = gatepost("list", role, folder=tmp_path)
    assert result.status == 0
    heading, *lines = result.out.split("\n\n")[0].splitlines()
    assert heading == role
    assert [line.split()[0] for line in lines] == registry.kinds(role)
    assert all(len(line.split()) > 1 for line in lines), "each with a summary"


def test_list_looks_like_this(tmp_path: Path) -> None:
    result = gatepost("list", "encodings", folder=tmp_path)
    lines = [re.sub(" +", " ", line) for line in result.out.splitlines()]
    assert lines[0] == "encodings"
    assert " cloudevents CloudEvents 1.0, so that standard tools take the events as they are" in lines
    assert " json One plain JSON object an event, easy to read and to take apart in any language" in lines
    assert (
        lines[-1]
        == f"See one, with its settings and a sample: gatepost show {registry.kinds('encodings')[0]}"
    )


def test_list_as_json_is_for_programs(tmp_path: Path) -> None:
    found = json.loads(gatepost("list", "--json", folder=tmp_path).out)
    assert {(each["role"], each["kind"]) for each in found} == {
        (role, kind)
        for role in ("drivers", "rules", "forwarders", "encodings")
        for kind in registry.kinds(role)
    }


def test_show_says_the_settings_and_a_sample(tmp_path: Path) -> None:
    shown = gatepost("show", "heartbeat", folder=tmp_path)
    assert shown.status == 0
    assert shown.out.startswith("heartbeat (driver)\n\n")
    for part in ("\nSettings\n  every", "\nEvery device also takes\n  report", "\nSample\n\n  devices:\n"):
        assert part in shown.out


def test_show_as_json_has_the_same(tmp_path: Path) -> None:
    (page,) = json.loads(gatepost("show", "threshold", "--json", folder=tmp_path).out)
    assert page["role"] == "rules"
    assert "of" in {setting["name"] for setting in page["settings"]}
    assert yaml.safe_load(page["sample"])["rules"]


def test_show_says_once_what_may_stand_alone_or_in_a_list(tmp_path: Path) -> None:
    shown = gatepost("show", "threshold", folder=tmp_path)
    assert shown.out.count("\n      between\n") == shown.out.count("\n      days\n") == 1


def test_show_of_what_does_not_exist_names_the_nearest(tmp_path: Path) -> None:
    result = gatepost("show", "treshold", folder=tmp_path)
    assert (result.status, result.out) == (1, "")
    assert "there is no kind 'treshold'" in result.err
    assert "did you mean 'threshold'?" in result.err


def test_the_schema_is_one_and_accepts_the_configurations_that_come_with_it(tmp_path: Path) -> None:
    schema = json.loads(gatepost("schema", folder=tmp_path).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    for file in sorted((ROOT / "config").rglob("*.yaml")):
        if not file.name.endswith(".tests.yaml"):
            jsonschema.validate(as_editors_see_it(yaml.safe_load(file.read_text())), schema)


def as_editors_see_it(value: Any) -> Any:
    """Return what PyYAML has read with `on` and `off` as keys: it speaks YAML 1.1, in which they are true and false."""
    if isinstance(value, dict):
        keys = {True: "on", False: "off"}
        return {keys.get(key, key): as_editors_see_it(each) for key, each in value.items()}
    return [as_editors_see_it(each) for each in value] if isinstance(value, list) else value


# --- check and init ---------------------------------------------------------------------------------------------------


def test_an_agent_that_runs_does_not_hold_what_plays_tests_in_memory() -> None:
    code = (
        "import sys, agent.cli; print('agent.app' in sys.modules, 'agent.ruletests.command' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "True False\n"


def test_check_says_in_one_line_what_would_run(tmp_path: Path) -> None:
    file = ROOT / "config" / "demo.yaml"
    result = gatepost("check", str(file), folder=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out == f"{file}: no faults: gateway demo, 4 devices, 2 rules, 1 forwarder\n"


def test_check_lists_every_fault_and_ends_with_78(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("gateway: g\ndevices:\n  a: {driver: heartbeat, every: soon}\n  b: {driver: nothing}\n")
    result = gatepost("check", str(file), folder=tmp_path)
    assert (result.status, result.out) == (78, "")
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{file}:3:33: devices.a.every: ")
    assert lines[1].startswith(f"{file}:4:15: devices.b.driver: ")


def test_init_writes_a_configuration_that_check_accepts_and_run_can_run(tmp_path: Path) -> None:
    file = tmp_path / "new" / "gatepost.yaml"
    made = gatepost("init", str(file), folder=tmp_path)
    assert made.status == 0
    assert str(file) in made.out
    assert gatepost("check", str(file), folder=tmp_path).status == 0
    assert json.loads(file.with_name("gatepost.schema.json").read_text())["title"]
    ran = gatepost("run", "--simulate", "--for", "1s", str(file), folder=tmp_path)
    assert ran.status == 0, ran.err


def test_init_writes_an_example_with_the_tests_of_its_rules(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    made = gatepost("init", "--example", "cold-room", str(file), folder=tmp_path)
    assert (made.status, made.err) == (0, "")
    tests = tmp_path / "shop.tests.yaml"
    assert f"wrote {file} and {tests}" in made.out
    assert file.read_text().startswith("# yaml-language-server: $schema=gatepost.schema.json\n")
    assert file.with_name("gatepost.schema.json").exists()
    tested = gatepost("test", str(file), "--filter", "defrost", folder=tmp_path)
    assert tested.status == 0, tested.out

    file.unlink()
    refused = gatepost("init", "--example", "cold-room", str(file), folder=tmp_path)
    assert refused.status == 1
    assert f"{tests} exists already" in refused.err
    assert not file.exists()


def test_an_example_that_there_is_not_is_wrong_usage_and_those_there_are_are_named(tmp_path: Path) -> None:
    result = gatepost("init", "--example", "cold-rom", folder=tmp_path)
    assert result.status == 2
    assert "expected one of boiler, cold-room, door-and-motion" in result.err


def test_init_writes_over_nothing_unless_it_is_forced(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.yaml"
    file.write_text("mine")
    refused = gatepost("init", str(file), folder=tmp_path)
    assert refused.status == 1
    assert f"{file} exists already" in refused.err
    assert file.read_text() == "mine"
    assert gatepost("init", "--force", str(file), folder=tmp_path).status == 0
    assert file.read_text() != "mine"


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["run"], ["events", "--last", "many", "x.yaml"], ["list", "cars"]]
)
def test_wrong_usage_ends_with_2_and_shows_how(tmp_path: Path, words: list[str]) -> None:
    result = gatepost(*words, folder=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("usage: gatepost")


def test_a_replay_that_takes_the_configuration_for_a_log_shows_which_comes_first(tmp_path: Path) -> None:
    result = gatepost("test", "--replay", "gatepost.yaml", folder=tmp_path)
    assert result.status == 2
    assert "gatepost test config --replay [LOG]" in result.err


@pytest.mark.parametrize("command", ["run", "check", "init", "list", "show", "schema", "events", "status"])
def test_every_command_has_help_with_an_example(tmp_path: Path, command: str) -> None:
    result = gatepost(command, "--help", folder=tmp_path)
    assert result.status == 0
    assert f"Example: gatepost {command}" in result.out


# --- events and status, without an agent ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["events", "status"])
def test_without_a_log_it_says_how_to_begin_one(site: Site, command: str) -> None:
    agent = site.agent(gateway({}))
    result = ask(agent, command)
    assert (result.status, result.out) == (1, "")
    assert f"there is no event log yet at {agent.log}" in result.err
    assert f"run {agent.path}" in result.err


def run_once(site: Site, instrument: SerialInstrument) -> Agent:
    """Return an agent that has run: 30 readings, an alarm that came and went, a clean end."""
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": 20}, "severity": "major"}}
    agent = site.agent(gateway({"scale": scale(instrument)}, rules=rules))
    agent.start_and_wait()
    instrument.write(*(f"{n},{n if n < 25 else 0}" for n in range(30)))
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 30, "30 readings")
    assert agent.stop() == 0
    return agent


def test_events_without_an_agent_reads_the_log(site: Site) -> None:
    agent = run_once(site, site.instrument())
    everything = objects(ask(agent, "events", "--json", "--from", "1"))

    assert [int(event["id"].partition("-")[2]) for event in everything] == list(range(1, len(everything) + 1))
    assert {event["gateway"] for event in everything} == {"g"}
    readings = [event for event in everything if "device" in event]
    assert [event["values"]["n"] for event in readings] == list(range(30))
    assert [event["type"] for event in everything if "type" in event] == [
        "device.about", "agent.started", "alarm.raised", "alarm.cleared", "agent.stopped",
    ]  # fmt: skip

    assert objects(ask(agent, "events", "--json", "--last", "3")) == everything[-3:]
    assert objects(ask(agent, "events", "--json")) == everything[-20:], "by default the last 20"
    assert objects(ask(agent, "events", "--json", "--from", "30")) == everything[29:]
    assert objects(ask(agent, "events", "--json", "--from", "1000")) == []
    assert objects(ask(agent, "events", "--json", "--since", "1h")) == everything
    assert objects(ask(agent, "events", "--json", "--since", everything[-1]["time"])) == everything[-1:]
    assert objects(ask(agent, "events", "--json", "--since", "0s")) == []
    alarms = objects(ask(agent, "events", "--json", "--from", "1", "--type", "alarm.raised"))
    assert [alarm["source"] for alarm in alarms] == ["heavy"]
    assert agent.committed()[-1].type == "agent.stopped", "reading has written nothing"


def test_events_look_like_this(site: Site) -> None:
    agent = run_once(site, site.instrument())
    lines = ask(agent, "events", "--from", "1").out.splitlines()
    shown = [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}", "TIME", line) for line in lines]

    assert shown[0] == "TIME  scale         serial_lines: n, weight (kg)"
    assert shown[2] == "TIME  scale         n 0  weight 0 kg"
    assert "TIME   ALARM heavy   scale.weight is 21, above 20  (major)" in shown
    (cleared,) = (line for line in shown if " clear heavy " in line)
    assert re.fullmatch(r"TIME   clear heavy   scale\.weight is 0, after [\d.]+ s", cleared)
    assert re.fullmatch(r"TIME  agent         agent\.stopped  uptime: [\d.]+", shown[-1])
    assert "\x1b" not in "".join(lines), "no colours where nobody sees them"


def test_follow_needs_an_agent(site: Site) -> None:
    agent = run_once(site, site.instrument())
    result = ask(agent, "events", "--follow")
    assert result.status == 1
    assert f"no agent runs on {agent.log}" in result.err


def test_status_without_an_agent_says_how_to_read_its_log(site: Site) -> None:
    agent = run_once(site, site.instrument())
    result = ask(agent, "status")
    assert (result.status, result.out) == (1, "")
    assert f"no agent runs on {agent.log}" in result.err
    assert f"events {agent.path}" in result.err


def test_a_log_that_is_no_database_is_said_to_be_unreadable(site: Site) -> None:
    agent = site.agent(gateway({}))
    agent.log.parent.mkdir(parents=True)
    agent.log.write_text("nonsense " * 1000)
    result = ask(agent, "events")
    assert result.status == 1
    assert result.err.startswith(f"gatepost: cannot read {agent.log}: ")


# --- events and status, of a running agent ----------------------------------------------------------------------------


def test_events_of_a_running_agent_include_what_is_not_written_yet(site: Site) -> None:
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, log={"commit": "1h"}))
    agent.start_and_wait()
    instrument.write(*(f"{n},{n}" for n in range(10)))
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 10, "10 readings")

    seen = objects(ask(agent, "events", "--json", "--from", "1"))

    assert [event["values"]["n"] for event in seen if "device" in event] == list(range(10))
    assert [e for e in agent.committed() if e.type == "reading"] == []
    assert len(objects(ask(agent, "events", "--json", "--last", "4"))) == 4


def test_follow_shows_what_comes_and_ends_with_the_agent(site: Site) -> None:
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}))
    agent.start_and_wait()
    instrument.write("1,1")
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 1, "a reading")
    output = site.folder / "followed"
    with (
        output.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "agent", "events", "--json", "--follow", "--from", "1", str(agent.path)],
            cwd=ROOT,
            env={"XDG_STATE_HOME": str(agent.path.parent / "state"), "PYTHONWARNINGS": WARNINGS},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        ) as follower,
    ):

        def counts() -> list[int]:
            lines = output.read_text().splitlines(keepends=True)
            found = [json.loads(line) for line in lines if line.endswith("\n")]
            return [event["values"]["n"] for event in found if "device" in event]

        until(lambda: counts() == [1], "what was there")
        instrument.write("2,2")
        until(lambda: counts() == [1, 2], "what came")
        instrument.write("3,3", "4,4")
        until(lambda: counts() == [1, 2, 3, 4], "what came then")
        assert agent.stop() == 0
        assert follower.wait(10) == 0
        assert follower.stderr is not None
        assert follower.stderr.read() == ""
    assert json.loads(output.read_text().splitlines()[-1])["type"] == "agent.stopped"


def test_events_into_a_pipe_that_closes_is_no_failure(site: Site) -> None:
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}))
    agent.start_and_wait()
    instrument.write(*(f"{n},{n}" for n in range(2000)))
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 2000, "2000 readings")
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "events", "--from", "1", str(agent.path)],
        cwd=ROOT, env={"XDG_STATE_HOME": str(agent.path.parent / "state"), "PYTHONWARNINGS": WARNINGS},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.readline()
        command.stdout.close()
        assert command.wait(10) == 0
        assert command.stderr.read() == b""


def test_status_of_a_running_agent(site: Site) -> None:
    instrument = site.instrument()
    port = free_port()
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": 20}, "severity": "major"}}
    devices = {"scale": scale(instrument), "gone": {**scale(instrument), "port": str(site.folder / "ttyX")}}
    agent = site.agent(gateway(devices, {"site": mqtt(port)}, rules=rules))
    agent.start_and_wait()
    instrument.write("1,2.5", "2,25")
    agent.wait_status(lambda said: bool(said["alarms"]), "an alarm")
    agent.wait_said("forwarder site is down")

    said = json.loads(ask(agent, "status", "--json").out)
    assert said["gateway"] == "g"
    assert (said["pid"], said["simulated"]) == (agent.pid, False)
    assert said["run"] > 1_000_000, "a number that no earlier log on this machine has had"
    assert said["devices"]["scale"]["health"] == "up"
    assert said["devices"]["scale"]["latest"]["weight"]["value"] == 25
    assert said["devices"]["gone"]["health"] == "down"
    assert said["forwarders"]["site"]["health"] == "down"
    assert said["forwarders"]["site"]["waiting"] == said["log"]["last"]
    assert 0 <= said["forwarders"]["site"]["oldest"] < 60
    for part in (*said["devices"].values(), *said["forwarders"].values()):
        lasted = time.time() - datetime.fromisoformat(part["since"]).timestamp()
        assert lasted == pytest.approx(part["for"], abs=5)
    assert said["rates"]["readings"] > 0
    assert said["disk"]["written"] is None or said["disk"]["written"] >= 0
    assert said["stuck"] == []
    assert [alarm["rule"] for alarm in said["alarms"]] == ["heavy"]

    shown = ask(agent, "status")
    assert (shown.status, shown.err) == (0, "")
    steady = re.sub(r"(?<=(?:up|or) )[\dms]+|process \d+|(?<=since )[-\d]+ \d+:\d+:\d+", "…", shown.out)
    steady = re.sub(r"(?<=(?:up|wn)   ) +[\dms]+(?=  )", " …", steady)
    steady = re.sub(r"last event \d+", "last event …", steady).replace(str(site.folder), "FOLDER")
    log = next(number for number, line in enumerate(steady.splitlines()) if line.startswith("log "))
    rates = steady.splitlines()[log + 1 :]
    version = said["version"]
    waiting = said["forwarders"]["site"]["waiting"]
    assert re.fullmatch(r"[\d.]+ readings/s, [\d.]+ events/s in the last \d+s", rates[0])
    assert re.fullmatch(r"disk: [\d.]+ \w?B written since the start", rates[1])
    assert steady.splitlines()[: log + 1] == [
        f"g: up …, gatepost {version}, …",
        "",
        "devices",
        (
            "  gone            down    …  since …: there is no FOLDER/ttyX: is it plugged in? "
            "`ls /dev/serial/by-id` lists the USB adapters that are"
        ),
        "  scale           up    …  n 2  weight 25",
        "",
        "forwarders",
        (
            f"  site            down    …  0 delivered, {waiting} waiting, the oldest for …; since …: the broker 127.0.0.1:{port} refuses connections; "
            "is it running, and is the port right?"
        ),
        "",
        "alarms",
        "   heavy   scale.weight is 25, above 20  (major, active-unacknowledged, since …)",
        "",
        "log FOLDER/a/state/gatepost/g/events.db: last event …, 0 dropped",
    ]


def test_status_finds_the_simulated_run_where_only_that_one_runs(site: Site) -> None:
    agent = site.agent(gateway({"pulse": {"driver": "heartbeat", "every": "100ms"}}), "--simulate")
    agent.start_and_wait()
    assert json.loads(ask(agent, "status", "--json").out)["simulated"] is True
    assert json.loads(ask(agent, "status", "--json", "--simulate").out)["simulated"] is True
    assert ", simulated devices" in ask(agent, "status").out


def test_only_the_user_who_runs_it_may_ask_it(site: Site) -> None:
    agent = site.agent(gateway({}))
    agent.start_and_wait()
    assert agent.log.with_suffix(".sock").stat().st_mode & 0o777 == 0o600


def test_the_version_is_that_of_the_installed_package(tmp_path: Path) -> None:
    result = gatepost("--version", folder=tmp_path)
    assert result.status == 0
    assert re.fullmatch(r"gatepost \d+\.\d+\.\d+\S*\n", result.out)
