"""Whether an agent runs is found without disturbing it, also where it does not answer."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from support.configurations import gateway

from agent import app
from agent.doctor import case, running
from agent.doctor.findings import Level
from agent.doctor.machine import Machine
from agent.doctor.processes import Processes
from agent.eventlog import opening

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from support.sites import Site

    from agent.doctor.running import Running

BEAT = gateway({"beat": {"driver": "heartbeat"}})


def look(log: Path) -> Running:
    return running.look(log, Processes(Machine()))


def told(found: Running, log: Path) -> tuple[Level, str]:
    (finding, *_) = running.examine(found, log)
    return finding.level, finding.what


def test_no_agent_is_found_where_none_is(tmp_path: Path) -> None:
    found = look(tmp_path / "events.db")
    assert not found.is_there
    assert told(found, tmp_path / "events.db") == (Level.OK, f"no agent runs on {tmp_path}/events.db")


def test_an_agent_that_runs_says_how_it_is(site: Site) -> None:
    agent = site.agent(BEAT)
    agent.start_and_wait()
    found = look(agent.log)
    assert found.pid == agent.pid
    part = found.part("devices", "beat")
    assert part is not None
    assert part["health"] == "up"
    level, what = told(found, agent.log)
    assert level is Level.OK
    assert what.startswith(f"an agent (process {agent.pid}) runs on {agent.log}, for ")


def test_an_agent_that_hangs_is_a_fault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PATIENCE", 0.3)
    agent = site.agent(BEAT)
    agent.start_and_wait()
    agent.freeze()
    found = look(agent.log)
    agent.thaw()
    assert (found.pid, found.is_hung, found.status) == (agent.pid, True, None)
    level, what = told(found, agent.log)
    assert (level, "does not answer within 0.3 s" in what) == (Level.FAULT, True)


def test_an_agent_without_a_socket_is_found_by_its_lock(site: Site) -> None:
    agent = site.agent(BEAT)
    agent.start_and_wait()
    for path in app.socket_paths(agent.log):
        path.unlink(missing_ok=True)
    found = look(agent.log)
    assert (found.pid, found.status) == (agent.pid, None)
    assert found.is_there


def test_looking_takes_no_lock(tmp_path: Path) -> None:
    log = tmp_path / "events.db"
    held = opening.lock(log)
    assert look(log).pid == os.getpid(), "we claim it ourselves"
    assert held is not None
    held.close()
    assert not look(log).is_there


def test_a_socket_that_is_not_for_us_is_no_agent_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    log = tmp_path / "events.db"
    log.with_suffix(".sock").touch()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = look(log)
    assert found.is_there
    level, what = told(found, log)
    assert (level, "it answers only its own user and root" in what) == (Level.NOTE, True)


def test_an_agent_that_simulates_is_found_too_for_it_has_the_same_far_sides(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = site.agent(BEAT, "--simulate")
    agent.start_and_wait()
    monkeypatch.setenv("XDG_STATE_HOME", str(site.folder / "a" / "state"))
    found = case.take(agent.path, None)
    assert (found.agent.pid, found.log) == (agent.pid, agent.log)
    *_, told_too = running.examine(found.agent, found.log)
    assert (told_too.level, told_too.do) == (Level.NOTE, "start it without --simulate")
    agent.stop()
    found = case.take(agent.path, None)
    assert (found.agent.is_there, found.log.name) == (False, "events.db")
