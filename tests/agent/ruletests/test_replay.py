"""A log through today's rules: what is the same, what is new, what does not happen any more, and what nobody can know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.agents import gatepost
from support.configurations import gateway, scale
from support.logs import opened

from agent import cli
from agent.clock import VirtualClock, iso
from agent.events import EventType

if TYPE_CHECKING:
    from support.sites import Site

    from agent.eventlog import EventLog
    from agent.events import Value

DEVICES = """
devices:
  air: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [temperature]}, units: {temperature: Cel}}
  machine: {driver: system, every: 30s, only: [cpu_load], report: {change: 5}}
  fan: {driver: gpio_output, pin: 17}
rules:
"""
HOT = "  hot: {threshold: {of: air.temperature, above: 30, clear: 25, for: 1m}, then: {set: {fan: on}}}\n"


class History:
    """Writes down what an agent would have logged."""

    def __init__(self, log: EventLog, clock: VirtualClock) -> None:
        self._log = log
        self.clock = clock

    def at(self, minute: float, type_: str, source: str, **facts: Value) -> None:
        self.clock.now = minute * 60
        self._log.append(type_, source, facts)

    def start(self, minute: float) -> None:
        self.at(minute, EventType.AGENT_STARTED, "agent", version="1", clean=1)

    def stop(self, minute: float) -> None:
        self.at(minute, EventType.AGENT_STOPPED, "agent", uptime=1)

    def see(self, *pairs: tuple[float, Value]) -> None:
        for minute, value in pairs:
            self.at(minute, EventType.READING, "air", temperature=value)

    def alarm(self, minute: float, what: str, rule: str = "hot", **facts: Value) -> None:
        about: dict[str, Value] = {
            "of": "air.temperature",
            "value": 31,
            "limit": "above 30",
            "severity": "warning",
        }
        facts = about | facts
        message = f"{facts['of']} is {facts['value']}, {facts['limit']}"
        self.at(minute, f"alarm.{what}", rule, message=message, **facts)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")


def replay(capsys: pytest.CaptureFixture[str], rules: str, *arguments: str) -> tuple[int, list[str]]:
    """Play the log to rules; return the status and what was said, without date and with single spaces."""
    Path("site.yaml").write_text(DEVICES + rules)
    capsys.readouterr()
    status = cli.main(["test", "site.yaml", "--replay", "events.db", *arguments])
    said = capsys.readouterr()
    lines = (
        re.sub(r" in \S+$", "", re.sub(r" +", " ", line).strip())
        for line in (said.out + said.err).splitlines()
    )
    return status, [re.sub(r"Thu 2026-01-01 ", "", line) for line in lines if line]


UNKNOWN = "what came before the log begins is not known: alarms that were active, windows that were full"


async def test_the_same_rules_do_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.see((1, 20), (2, 31), (4, 24))
        then.clock.now = 180
        then.alarm(3, "raised")
        then.alarm(4, "cleared", value=24, duration=60)

    status, lines = replay(capsys, HOT)

    assert (status, lines) == (
        0,
        [
            "events.db: 00:00:00 to 00:04:00, 6 events, 1 run,",
            "= 00:03:00 hot raised air.temperature is 31, above 30 (warning)",
            "= 00:04:00 hot cleared value 24, after 1m",
            "hot raised 1 times then, 1 now",
            UNKNOWN,
        ],
    )


async def test_other_rules_are_told_by_what_is_new_otherwise_later_and_gone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.see((1, 20), (2, 31))
        then.alarm(3, "raised")
        then.see((5, 24))
        then.alarm(5, "cleared", value=24, duration=120)
        then.see((6, 33))
        then.alarm(7, "raised", "gone")
        then.see((9, 33))
    rules = "  hot: {threshold: {of: air.temperature, above: 30, for: 2m}, severity: critical}\n  new: {threshold: {of: air.temperature, below: 25}}\n"

    status, lines = replay(capsys, rules)

    assert (status, lines) == (
        1,
        [
            "events.db: 00:00:00 to 00:09:00, 9 events, 1 run,",
            "+ 00:01:00 new raised air.temperature is 20, below 25 (warning) ← new",
            "+ 00:02:00 new cleared value 31, after 1m ← new",
            "~ 00:04:00 hot raised air.temperature is 31, above 30 (critical) ← 1m later than then; was warning",
            "= 00:05:00 hot cleared value 24, after 1m",
            "+ 00:05:00 new raised air.temperature is 24, below 25 (warning) ← new",
            "+ 00:06:00 new cleared value 33, after 1m ← new",
            "- 00:07:00 gone raised air.temperature is 31, above 30 (warning) ← not any more",
            "+ 00:08:00 hot raised air.temperature is 33, above 30 (critical) ← new",
            "hot raised 1 times then, 2 now",
            "new raised 0 times then, 2 now",
            "gone raised 1 times then, 0 now (no such rule now)",
            UNKNOWN,
        ],
    )


async def test_it_is_told_from_a_time_on_but_played_from_the_beginning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.see((1, 31), (5, 24), (10, 24), (19.5, 31), (30, 24))
    epoch = VirtualClock().epoch

    _, since = replay(capsys, HOT, "--since", iso(epoch + 20 * 60 * 10**6))
    _, until = replay(capsys, HOT, "--until", iso(epoch + 20 * 60 * 10**6))
    status, nothing = replay(capsys, HOT, "--since", iso(epoch + 40 * 60 * 10**6))

    assert since[:3] == [
        "events.db: 00:20:00 to 00:30:00, 6 events, 1 run,",
        "+ 00:20:30 hot raised air.temperature is 31, above 30 (warning) ← new",
        "+ 00:30:00 hot cleared value 24, after 9m 30s ← new",
    ]
    assert until[:4] == [
        "events.db: 00:00:00 to 00:19:30, 5 events, 1 run,",
        "+ 00:02:00 hot raised air.temperature is 31, above 30 (warning) ← new",
        "+ 00:05:00 hot cleared value 24, after 3m ← new",
        "hot raised 0 times then, 1 now",
    ]
    assert (status, nothing) == (1, ["gatepost: events.db has no events there"])


async def test_a_new_run_is_a_restart_and_the_time_between_is_not_listened_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.see((1, 20), (8, 20))
        then.stop(9)
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(60)
        then.see((69, 20), (90, 20))
    rules = "  silent: {absence: {of: air.temperature, longer_than: 12m}}\n"

    status, lines = replay(capsys, rules)

    assert (status, lines[:3]) == (
        1,
        [
            "events.db: 00:00:00 to 01:30:00, 7 events, 2 runs,",
            "+ 01:21:00 silent raised air.temperature has said nothing for longer than 12m (warning) ← new",
            "+ 01:30:00 silent cleared value 1260, after 9m ← new",
        ],
    )


async def test_a_run_that_was_killed_ended_with_the_last_that_it_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = VirtualClock()
    for minute in (0, 60):
        async with opened(Path("events.db"), clock=clock) as log:
            then = History(log, clock)
            then.start(minute)
            then.see((minute + 1, 20))
            then.at(minute + 1, EventType.READING, "machine", cpu_load=5)
    rules = "  silent: {absence: {of: air.temperature, longer_than: 2m}}\n  busy: {count: {of: machine.cpu_load > 0, each: reading, at_least: 9, within: 2h}}\n"

    status, lines = replay(capsys, rules)

    assert (status, lines[0]) == (0, "events.db: 00:00:00 to 01:01:00, 6 events, 2 runs,")


async def test_what_people_did_then_is_done_again(capsys: pytest.CaptureFixture[str]) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.see((1, 31))
        then.alarm(2, "raised")
        then.alarm(3, "acknowledged", by="anna")
        then.see((4, 24))
        then.alarm(4, "cleared", value=24)
        then.see((5, 24), (90, 24))
    rules = HOT.replace("then:", "latch: true, repeat: 30m, then:")

    status, lines = replay(capsys, rules)

    assert (status, len(lines)) == (0, 5), lines  # not repeated, for it was acknowledged


async def test_commands_of_people_go_to_the_outputs_and_those_of_rules_do_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.see((1, 31))
        then.alarm(2, "raised")
        for minute, value, cause in ((2, 1, "hot"), (10, 1, "anna"), (20, 0, "anna")):
            then.at(minute, EventType.COMMAND, "fan", channel="state", value=value, cause=cause)
        then.see((30, 31))
    rules = "  fan-on: {threshold: {of: fan, above: 0.5}}\n"

    _, lines = replay(capsys, rules)

    assert lines[1:4] == [
        "- 00:02:00 hot raised air.temperature is 31, above 30 (warning) ← not any more",
        "+ 00:10:00 fan-on raised fan.state is 1, above 0.5 (warning) ← new",
        "+ 00:20:00 fan-on cleared value 0, after 10m ← new",
    ]


async def test_devices_that_were_down_are_down(capsys: pytest.CaptureFixture[str]) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        for minute in (1, 3):
            then.at(minute, EventType.DEVICE_DOWN, "air", reason="gone")
            then.at(minute + 1, EventType.DEVICE_UP, "air", down_for=60)
        then.see((5, 20))
    rules = "  shaky: {count: {event: device.down, of: air, at_least: 2, within: 1h}}\n"

    _, lines = replay(capsys, rules)

    assert lines[1].startswith("+ 00:03:00 shaky raised")


async def test_what_was_not_kept_of_a_polled_device_is_taken_as_said_again_and_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.at(1, EventType.READING, "machine", cpu_load=5)
        then.at(60, EventType.READING, "machine", cpu_load=50)
        then.at(62, EventType.READING, "machine", cpu_load=5)
    rules = "  silent: {absence: {of: machine.cpu_load, longer_than: 2m}}\n"

    status, lines = replay(capsys, rules)

    assert (status, lines[1:]) == (
        0,
        [
            "no alarm was raised, then or now",
            UNKNOWN,
            "machine: only some readings are kept (report: change 5); in between the last one is taken as said again every 30 s",
        ],
    )


async def test_a_channel_that_the_log_has_nothing_of_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        then = History(log, clock)
        then.start(0)
        then.at(0, EventType.READING, "air", warmth=20)
        then.at(1, EventType.READING, "machine", cpu_load=5)
    rules = "  busy: {threshold: {of: machine.cpu_load, above: 90}}\n"

    _, lines = replay(capsys, HOT + rules)

    assert "air.temperature: the log has no reading of it" in lines
    assert not [line for line in lines if line.startswith("machine.cpu_load")]


def test_a_file_that_is_no_log_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(capsys, HOT) == (1, ["gatepost: cannot read events.db: unable to open database file"])
    Path("events.db").write_text("no log")
    status, lines = replay(capsys, HOT)
    assert status == 1
    assert lines[0].startswith("gatepost: ")


@pytest.mark.parametrize("arguments", [["tests.yaml"], ["--filter", "a"], ["--junit", "x"], ["--json"]])
def test_a_replay_takes_no_tests(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("site.yaml").write_text(DEVICES + HOT)

    assert cli.main(["test", "site.yaml", *arguments, "--replay"]) == 1
    assert "--replay takes a log in place of tests" in capsys.readouterr().err


def test_times_are_for_a_replay_only(capsys: pytest.CaptureFixture[str]) -> None:
    Path("site.yaml").write_text(DEVICES + HOT)

    assert cli.main(["test", "site.yaml", "--since", "1h"]) == 1
    assert capsys.readouterr().err == "gatepost: --since and --until are for --replay\n"


def test_a_running_agent_tells_what_it_has_not_written_yet(site: Site) -> None:
    instrument = site.instrument()
    agent = site.agent(
        gateway(
            {"scale": scale(instrument)},
            rules={"heavy": {"threshold": {"of": "scale.weight", "above": 30}}},
            log={"commit": "1h"},
        )
    )
    agent.start_and_wait()
    instrument.write("1,40")
    agent.wait_status(lambda said: len(said["alarms"]) == 1, "an alarm")
    instrument.write("2,41", "3,42")
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 3, "three readings")

    said = gatepost("test", str(agent.path), "--replay", folder=agent.path.parent)

    in_file = len(agent.committed())
    match = re.search(r"(\d+) events, 1 run", said.out)
    assert match is not None, said.out + said.err
    assert int(match[1]) == in_file + 2
    assert "= " in said.out
    assert said.status == 0
