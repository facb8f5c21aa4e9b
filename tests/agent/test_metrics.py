"""Metrics: what Prometheus' own library reads of them, and how one comes by them."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.agents import ROOT, gatepost
from support.configurations import gateway, mqtt, scale
from support.waiting import free_port

from agent import metrics

if TYPE_CHECKING:
    from support.agents import Agent
    from support.sites import Site


def parsed(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return each sample by its name and labels, as Prometheus' library reads the page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def names(page: str) -> set[str]:
    return {name for name, _ in parsed(page)}


STATUS: dict[str, Any] = {
    "gateway": 'a "quoted"\\gateway\n', "version": "1.0", "simulated": False,
    "devices": {"air": {"health": "up", "readings": 5, "bad": 1}, "door": {"health": "down", "readings": 0, "bad": 0}},
    "forwarders": {
        "site": {"health": "up", "delivered": 7, "rejected": 0, "waiting": 0, "oldest": None},
        "slow": {"health": "down", "delivered": 0, "rejected": 2, "waiting": None, "oldest": None},
    },
    "brokers": {"embedded": {"health": "up"}},
    "alarms": [
        {"severity": "major", "state": "active-unacknowledged"}, {"severity": "major", "state": "active-acknowledged"},
        {"severity": "minor", "state": "cleared-unacknowledged"},
    ],
    "out_of_service": ["old"], "requests": {"done": 3, "refused": 1},
    "log": {"last": 10, "dropped": 2, "fault": "the disk is full"}, "disk": {"written": 4096}, "stuck": [],
}  # fmt: skip


def test_the_page_says_what_the_status_says() -> None:
    found = parsed(metrics.text(STATUS, {}))
    about = (("gateway", 'a "quoted"\\gateway\n'), ("simulated", "false"), ("version", "1.0"))
    assert found["gatepost_info", about] == 1
    expected = {
        ("gatepost_up", ""): 1, ("gatepost_device_up", "air"): 1, ("gatepost_device_up", "door"): 0,
        ("gatepost_device_readings_total", "air"): 5, ("gatepost_device_bad_readings_total", "air"): 1,
        ("gatepost_forwarder_up", "slow"): 0, ("gatepost_forwarder_delivered_events_total", "site"): 7,
        ("gatepost_forwarder_rejected_events_total", "slow"): 2, ("gatepost_forwarder_waiting_events", "site"): 0,
        ("gatepost_forwarder_oldest_waiting_seconds", "site"): 0, ("gatepost_broker_up", "embedded"): 1,
        ("gatepost_alarms_active", "major"): 2, ("gatepost_alarms_active", "critical"): 0,
        ("gatepost_alarms_unacknowledged", "major"): 1, ("gatepost_alarms_unacknowledged", "minor"): 1,
        ("gatepost_rules_out_of_service", ""): 1, ("gatepost_requests_total", "refused"): 1,
        ("gatepost_log_events_total", ""): 10, ("gatepost_log_dropped_events_total", ""): 2,
        ("gatepost_log_writable", ""): 0, ("gatepost_disk_written_bytes_total", ""): 4096, ("gatepost_stuck_parts", ""): 0,
    }  # fmt: skip
    by_value = {(name, labels[0][1] if labels else ""): value for (name, labels), value in found.items()}
    assert {key: by_value.get(key) for key in expected} == expected


def test_what_is_not_known_is_left_out() -> None:
    found = parsed(metrics.text(STATUS, {}))
    assert ("gatepost_forwarder_waiting_events", (("forwarder", "slow"),)) not in found
    assert ("gatepost_forwarder_oldest_waiting_seconds", (("forwarder", "slow"),)) not in found


def test_names_are_by_the_conventions() -> None:
    page = metrics.text(STATUS, metrics.of_process())
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    for name, kind in kinds.items():
        assert re.fullmatch(r"(gatepost|process)_[a-z_]+", name)
        assert name.endswith("_total") is (kind == "counter"), name
        assert not re.search(r"_(ms|minutes|kb|mb|percent)(_|$)", name), "base units"
        assert f"# HELP {name} " in page


def test_the_process_is_told_by_the_names_that_prometheus_gives_any() -> None:
    found = metrics.of_process()
    assert set(found) == set(metrics._PROCESS)
    assert found["process_resident_memory_bytes"] > 1e6
    assert found["process_open_fds"] > 2
    begun = Path("/proc/self").stat().st_ctime
    assert found["process_start_time_seconds"] == pytest.approx(begun, abs=3600)
    assert found["process_max_fds"] >= found["process_open_fds"]
    assert os.sysconf("SC_CLK_TCK") > 0


# --- of a running agent -------------------------------------------------------------------------------------------------


@pytest.fixture
def agent(site: Site) -> Agent:
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(free_port())}))
    agent.start_and_wait()
    instrument.write("1,2.5", "2,25")
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 2, "two readings")
    return agent


def test_a_running_agent_tells_them(site: Site, agent: Agent) -> None:
    done = gatepost("metrics", str(agent.path), folder=site.folder / "a")
    assert done.status == 0, done.err
    found = parsed(done.out)
    assert found["gatepost_device_readings_total", (("device", "scale"),)] == 2
    assert found["gatepost_forwarder_waiting_events", (("forwarder", "site"),)] > 0
    assert found["process_resident_memory_bytes", ()] > 1e6


async def _get(path: Path, request: bytes) -> tuple[str, str]:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request)
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return head, body


async def test_it_answers_by_http_and_with_nothing_else(agent: Agent) -> None:
    path = agent.log.with_suffix(".sock")
    head, body = await _get(path, b"GET /metrics HTTP/1.1\r\nHost: gatepost\r\nAccept: */*\r\n\r\n")
    assert head.splitlines()[0] == "HTTP/1.0 200 OK"
    assert f"Content-Type: {metrics.CONTENT_TYPE}" in head
    assert f"Content-Length: {len(body.encode())}" in head
    assert "gatepost_up" in names(body)
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"GET \r\n\r\n", b'GET /x {"set": "fan", "value": 1}\r\n\r\n'):
        assert (await _get(path, request))[0].splitlines()[0] == "HTTP/1.0 404 Not Found"


def test_a_file_is_written_whole_and_says_that_no_agent_answers(site: Site, agent: Agent) -> None:
    target = site.folder / "gatepost.prom"
    words = ("metrics", str(agent.path), "--write", str(target))
    assert gatepost(*words, folder=site.folder / "a").status == 0
    assert parsed(target.read_text())["gatepost_up", ()] == 1
    assert target.stat().st_mode & 0o777 == 0o644
    agent.stop()
    done = gatepost(*words, folder=site.folder / "a")
    assert done.status == 1
    assert "no agent runs" in done.err
    assert parsed(target.read_text()) == {("gatepost_up", ()): 0}
    assert sorted(path.name for path in site.folder.glob("*gatepost.prom*")) == ["gatepost.prom"]


def test_the_page_of_operations_names_them_all_and_no_other() -> None:
    told = set(re.findall(r"`(gatepost_[a-z_]+)", (ROOT / "docs" / "operations.md").read_text()))
    assert told == {name for name in names(metrics.text(STATUS, {})) if name.startswith("gatepost_")}
