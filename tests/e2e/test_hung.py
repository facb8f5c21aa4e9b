"""An agent that hangs: whoever asks it is told so, and does not wait for ever."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.agents import Agent, gatepost
from support.configurations import gateway

from agent import app

if TYPE_CHECKING:
    from support.sites import Site

PULSE = {"driver": "heartbeat", "every": "100ms"}


@pytest.fixture
def frozen(site: Site) -> Agent:
    agent = site.agent(gateway({"pulse": PULSE}))
    agent.start_and_wait()
    agent.freeze()
    return agent


@pytest.mark.parametrize(
    "words", [["status"], ["alarms"], ["events"], ["events", "--follow"], ["metrics"]], ids=" ".join
)
def test_who_asks_an_agent_that_hangs_is_told_so(site: Site, frozen: Agent, words: list[str]) -> None:
    done = gatepost(*words, str(frozen.path), folder=site.folder / "a")
    assert done.status == 1
    assert "has not answered within 10 s: it hangs" in done.err
    assert "Traceback" not in done.err


def test_where_the_disk_takes_nothing_the_socket_is_in_the_folder_of_the_service(site: Site) -> None:
    runtime = site.folder / "run"
    runtime.mkdir()
    (site.folder / "file").write_text("")
    configuration = gateway({"pulse": PULSE}, log={"path": str(site.folder / "file" / "events.db")})
    agent = site.agent(configuration, RUNTIME_DIRECTORY=str(runtime))
    agent.start()
    agent.wait_said("going on in memory")
    agent.wait_said("no local status at")
    done = gatepost(
        "status", "--json", str(agent.path), folder=site.folder / "a", RUNTIME_DIRECTORY=str(runtime)
    )
    assert json.loads(done.out)["pid"] == agent.pid, done.err


def test_without_one_it_is_in_the_temporary_folder_and_who_asks_looks_in_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    log = Path("/somewhere/events.db")
    beside, *serving = app.socket_paths(log, serving=True)
    assert beside == Path("/somewhere/events.sock")
    assert [path.parent for path in serving] == [Path(tempfile.gettempdir())]
    assert [path.parent for path in app.socket_paths(log)[1:]] == [
        Path("/run/gatepost"),
        Path(tempfile.gettempdir()),
    ]
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/gatepost")
    assert app.socket_paths(log, serving=True) == app.socket_paths(log)
    assert serving[0].name == app.socket_paths(log)[1].name
