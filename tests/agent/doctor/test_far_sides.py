"""Forwarders against real brokers: what would stop one is found, and nothing stays behind at the broker."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.configurations import mqtt
from support.fake_machines import FakeMachine, case, of
from support.waiting import free_port, until

from agent import config
from agent.doctor import endpoints, far_sides
from agent.doctor.findings import Level
from agent.doctor.running import Running
from agent.needs import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from support.sites import Site

    from agent.doctor.findings import Finding


def look(site: Site, entry: dict[str, Any], agent: Running | None = None, **more: Any) -> list[Finding]:
    """Examine one forwarder as the doctor would."""
    text = yaml.safe_dump({"gateway": "g", "forward": {"site": entry}, **more})
    here = case(FakeMachine(site.folder / "fake"), agent=agent, text=text)
    (read,) = here.config.forward.values()
    return list(far_sides.examine(read, here))


def only_fault(found: list[Finding]) -> Finding:
    (fault,) = of(found, Level.FAULT)
    assert fault.do
    return fault


def test_a_broker_that_takes_what_we_publish_is_fine_and_keeps_nothing(site: Site) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    found = look(site, mqtt(broker.port))
    assert [each.level for each in found] == [Level.OK] * 2
    where = f"the broker 127.0.0.1:{broker.port}"
    assert found[0].what == f"{where} accepts connections"
    assert found[1].what == f"{where} knows us, and took a message to gatepost/g/agent/agent.checked (MQTT 5)"
    until(lambda: subscriber.received, "the message came")
    assert [(each.topic, each.retain) for each in subscriber.received] == [
        ("gatepost/g/agent/agent.checked", False)
    ]
    late = site.subscriber(broker.port)
    look(site, mqtt(broker.port))
    until(lambda: late.received, "the next message came")
    assert len(late.received) == 1, "nothing was retained"


def test_a_wrong_password_is_told_as_the_forwarder_would(site: Site) -> None:
    broker = site.mosquitto(users={"gw": "right"})
    found = look(site, mqtt(broker.port, username="gw", password="wrong"))
    fault = only_fault(found)
    assert f"127.0.0.1:{broker.port} refuses user 'gw': not authorized" in fault.what
    assert fault.do == "check username, password and client_id"
    assert not of(look(site, mqtt(broker.port, username="gw", password="right")), Level.FAULT)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_topic_that_is_refused_is_told_where_the_broker_tells_it(site: Site, version: str) -> None:
    rights = site.folder / "acl"
    rights.write_text("user gw\ntopic write gatepost/other/#\n")
    rights.chmod(0o600)
    broker = site.mosquitto(users={"gw": "right"}, options={"acl_file": str(rights)})
    found = look(site, mqtt(broker.port, username="gw", password="right", version=version))
    if version == "5":
        fault = only_fault(found)
        assert (
            fault.what
            == "the broker does not let us publish to gatepost/g/agent/agent.checked (not authorized)"
        )
        assert "let our user publish there" in fault.do
    else:
        assert not of(found, Level.FAULT)
        assert "MQTT 3.1.1 does not tell whether it took a message" in found[-1].what


def test_a_port_on_which_nobody_listens_is_told_and_nothing_more_is_tried(site: Site) -> None:
    port = free_port()
    (fault,) = look(site, mqtt(port))
    assert fault.what == f"the broker 127.0.0.1:{port} refuses connections"
    assert fault.do == "is it running, and is the port right?"


def test_a_name_that_nobody_knows_is_told(site: Site) -> None:
    (fault,) = look(site, {"mqtt": {"host": "broker.invalid"}})
    assert fault.level is Level.FAULT
    assert fault.what.startswith("the name broker.invalid is not known: ")
    assert "getent hosts broker.invalid" in fault.do


def test_a_name_server_that_is_silent_is_told_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(endpoints, "PATIENCE", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(20) and [])
    (fault,) = look(site, {"mqtt": {"host": "broker.invalid"}})
    answer.set()
    assert "no name server answers within 0.1 s" in fault.what


def test_tls_is_told_with_the_days_that_are_left(site: Site) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority)  # its certificate is for one day
    found = look(site, mqtt(broker.port, tls={"ca": str(authority.file)}))
    (note,) = of(found, Level.NOTE)
    assert "speaks TLSv1.3, and the broker's certificate ends on 20" in note.what
    assert note.what.endswith(", in 0 days")
    assert note.do == "renew it at the broker"
    assert "knows us" in found[-1].what


def test_a_certificate_of_another_authority_is_told_with_whose_it_is(site: Site) -> None:
    trusted, other = site.authority(), site.authority("other")
    broker = site.mosquitto(authority=other)
    (fault,) = look(site, mqtt(broker.port, tls={"ca": str(trusted.file)}))
    assert "shows a certificate that is not trusted" in fault.what
    assert "signed by 'other'" in fault.what
    assert fault.do == "tls.ca must hold the certificate of the authority that has signed the broker's"


async def test_a_certificate_that_has_expired_is_told_with_its_days(site: Site) -> None:
    authority = site.authority()
    pair = authority.issue("broker", days=-2)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    async with await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
    ) as server:
        port = server.sockets[0].getsockname()[1]
        (fault,) = await asyncio.to_thread(look, site, mqtt(port, tls={"ca": str(authority.file)}))
    assert "('broker' for localhost, 127.0.0.1, signed by 'authority', valid from 20" in fault.what
    assert fault.what.endswith("certificate has expired")
    assert "must be renewed at the broker, or our clock is wrong" in fault.do


def test_a_file_of_certificates_that_is_missing_is_told(site: Site) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority)
    (fault,) = look(site, mqtt(broker.port, tls={"ca": "/nowhere/ca.pem"}))
    assert "cannot read certificates from /nowhere/ca.pem" in fault.what


@pytest.mark.parametrize(("days", "level"), [(100, Level.OK), (3, Level.NOTE), (-2, Level.FAULT)])
def test_our_own_certificate_is_told_with_its_days(site: Site, days: int, level: Level) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority, require_certificate=True)
    pair = authority.issue("gateway", days=days)
    tls = {"ca": str(authority.file), "certificate": str(pair.certificate), "key": str(pair.key)}
    found = look(site, mqtt(broker.port, tls=tls))
    (own,) = [each for each in found if "our own certificate" in each.what]
    assert own.level is level
    assert time.strftime("%Y-", time.gmtime(time.time() + days * 86_400)) in own.what
    assert bool(of(found, Level.OK) and "knows us" in found[-1].what) is (days > 0)


def test_a_broker_that_wants_a_certificate_of_ours_is_told(site: Site) -> None:
    authority = site.authority()
    broker = site.mosquitto(authority=authority, require_certificate=True)
    fault = only_fault(look(site, mqtt(broker.port, tls={"ca": str(authority.file)})))
    assert "tls.certificate" in fault.what + fault.do


def test_any_certificate_is_trusted_only_with_a_note(site: Site) -> None:
    broker = site.mosquitto(authority=site.authority())
    found = look(site, mqtt(broker.port, tls={"verify": False}))
    assert [each.do for each in of(found, Level.NOTE)] == ["name the authority as tls.ca"]


def test_a_broker_that_is_silent_is_told_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_sides, "PATIENCE", 0.5)
    broker = site.broker()
    broker.freeze()
    fault = only_fault(look(site, mqtt(broker.port)))
    broker.thaw()
    assert fault.what == "there is no answer within 0.5 s"


def test_a_running_agent_is_asked_and_its_connection_stays(site: Site) -> None:
    broker = site.broker()
    agent = site.agent({"gateway": "g", "devices": {}, "forward": {"site": mqtt(broker.port)}})
    agent.start_and_wait()
    agent.wait_status(lambda said: said["forwarders"]["site"]["health"] == "up", "connected")
    status = agent.status()
    found = look(site, mqtt(broker.port), Running(agent.pid, status))
    assert found[-1].what.startswith("the running agent is connected for ")
    assert not of(found, Level.FAULT)
    after = agent.status()
    assert after is not None
    assert status is not None
    assert after["forwarders"]["site"]["health"] == "up"
    assert after["forwarders"]["site"]["for"] >= status["forwarders"]["site"]["for"]
    assert not agent.lines("forwarder site is down")


DOWN = {
    "health": "down",
    "for": 61.0,
    "reason": "the broker x refuses us; check the password",
    "delivered": 3,
    "rejected": 2,
    "waiting": 9,
}


def test_a_running_agent_that_is_not_connected_says_why(site: Site) -> None:
    broker = site.broker()
    found = look(site, mqtt(broker.port), Running(5, {"forwarders": {"site": DOWN}}))
    fault = only_fault(found)
    assert fault.what == "the running agent is not connected for 1m1s: the broker x refuses us"
    assert fault.do == "check the password"
    assert [each.what for each in of(found, Level.NOTE)] == ["refused in this run: 2 events"]


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (Running(5, {"forwarders": {}}), "the running agent does not know it"),
        (
            Running(5, {"forwarders": {"site": DOWN | {"health": "starting", "rejected": 0}}}),
            "is still connecting",
        ),
        (Running(5, None, "it answers only its own user and root"), "only the running agent knows"),
    ],
)
def test_beside_an_agent_that_cannot_be_asked_nobody_connects(site: Site, agent: Running, said: str) -> None:
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    found = look(site, mqtt(broker.port), agent)
    assert [said in each.what for each in of(found, Level.NOTE)] == [True]
    look(site, mqtt(broker.port, topics={"event": "after"}))
    until(lambda: subscriber.received, "the message of a later check came")
    assert [each.topic for each in subscriber.received] == ["after"]


def test_the_gateways_own_broker_is_not_expected_to_run_without_the_agent(site: Site) -> None:
    port, port_v5 = free_port(), free_port()
    (found,) = look(site, mqtt(port_v5), broker={"port": port, "port_v5": port_v5})
    assert (found.level, "this gateway's own broker" in found.what) == (Level.OK, True)


def test_without_our_secrets_it_is_not_tried(site: Site, tmp_path: Path) -> None:
    broker = site.broker()
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"gateway": "g", "forward": {"site": mqtt(broker.port)}}))
    here = case(FakeMachine(tmp_path / "fake"))._replace(
        config=config.load(file), secrets="the secret 'mqtt' is missing"
    )
    (entry,) = here.config.forward.values()
    found = list(far_sides.examine(entry, here))
    (note,) = of(found, Level.NOTE)
    assert "the secret 'mqtt' is missing" in note.what


def test_an_address_needs_no_name_server() -> None:
    port = free_port()
    (fault,) = endpoints.examine(Endpoint("127.0.0.1", port, "it"))
    assert fault.what == "it refuses connections"
