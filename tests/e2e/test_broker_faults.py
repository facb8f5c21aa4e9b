"""What can be wrong between us and a broker: said once and plainly, while everything else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.configurations import gateway, mqtt, scale
from support.listeners import Listener
from support.waiting import free_port, ticks

if TYPE_CHECKING:
    import socket

    from support.agents import Agent
    from support.sites import Site


def everything_else_goes_on(site: Site, forward: dict[str, Any], *said: str) -> Agent:
    """Run an agent with a forwarder that cannot connect beside one that can, and return it."""
    broker = site.broker()
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": 100}}}
    configuration = gateway(
        {"scale": scale(instrument)}, {"faulty": forward, "sound": mqtt(broker.port)}, rules=rules
    )
    agent = site.agent(configuration)
    agent.start_and_wait()
    (line,) = agent.wait_said("forwarder faulty is down", *said)
    assert "trying again" in line
    instrument.write("1,99", "2,101")
    subscriber.wait_for("gatepost/g/scale", 2)
    subscriber.wait_for("gatepost/g/alarm/heavy")
    for _ in ticks(every=0.1, during=1.5):  # some more tries, about which nothing new is said
        assert agent.is_running
    assert len(agent.lines("forwarder faulty is")) == 1, agent.said()
    status = agent.wait_status(lambda said: said["forwarders"]["faulty"]["health"] == "down", "it is down")
    assert status["forwarders"]["faulty"]["waiting"] >= 3
    assert "Traceback" not in agent.said()
    return agent


def test_a_wrong_password(site: Site) -> None:
    guarded = site.mosquitto(users={"gw": "sesame"})
    forward = mqtt(guarded.port, username="gw", password="simsim")
    where = f"127.0.0.1:{guarded.port}"

    agent = everything_else_goes_on(
        site, forward, where, "refuses", "not authorized", "check username, password"
    )

    assert "simsim" not in agent.said()


def test_no_user_name_where_one_is_needed(site: Site) -> None:
    guarded = site.mosquitto(users={"gw": "sesame"})
    everything_else_goes_on(site, mqtt(guarded.port), "refuses us", "not authorized")


def test_a_certificate_that_is_not_trusted(site: Site) -> None:
    guarded = site.mosquitto(authority=site.authority())
    other = site.authority("other")
    forward = mqtt(guarded.port, tls={"ca": str(other.file)})
    said = f"shows a certificate that is not trusted ('broker-{guarded.port}' for localhost, 127.0.0.1, signed by"
    everything_else_goes_on(site, forward, said, "tls.ca must hold")


def test_a_certificate_of_ours_that_is_missing(site: Site) -> None:
    authority = site.authority()
    guarded = site.mosquitto(authority=authority, require_certificate=True)
    forward = mqtt(guarded.port, tls={"ca": str(authority.file)})
    everything_else_goes_on(site, forward, f"127.0.0.1:{guarded.port}", "certificate")


def test_tls_where_the_broker_speaks_none(site: Site) -> None:
    plain = site.mosquitto()
    everything_else_goes_on(site, mqtt(plain.port, tls={}), f"127.0.0.1:{plain.port}", "TLS")


def test_no_tls_where_the_broker_wants_it(site: Site) -> None:
    guarded = site.mosquitto(authority=site.authority())
    everything_else_goes_on(site, mqtt(guarded.port), "does it expect TLS?")


def test_a_ca_file_that_is_missing(site: Site) -> None:
    guarded = site.mosquitto(authority=site.authority())
    forward = mqtt(guarded.port, tls={"ca": str(site.folder / "nowhere.pem")})
    everything_else_goes_on(site, forward, "tls.ca: cannot read certificates from", "nowhere.pem")


def test_a_port_where_nothing_listens(site: Site) -> None:
    everything_else_goes_on(site, mqtt(free_port()), "refuses connections", "is the port right?")


def test_a_name_that_nobody_knows(site: Site) -> None:
    forward = mqtt(1883, host="broker.invalid")
    everything_else_goes_on(site, forward, "cannot reach the broker broker.invalid:1883")


def test_a_port_that_is_no_broker(site: Site) -> None:
    def answer_as_a_web_server(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with Listener(answer_as_a_web_server) as web:
        everything_else_goes_on(site, mqtt(web.port), f"127.0.0.1:{web.port}")


def test_a_port_that_never_answers(site: Site) -> None:
    def wait_for_the_end(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    with Listener(wait_for_the_end) as silent:
        everything_else_goes_on(
            site, mqtt(silent.port), "did not answer within 10 s", "is it an MQTT broker?"
        )


def test_when_the_password_is_mended_at_the_broker_everything_arrives(site: Site) -> None:
    guarded = site.mosquitto(users={"gw": "old"})
    gate = site.gate(guarded.port)
    instrument = site.instrument()
    forward = mqtt(gate.port, username="gw", password="new")
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": forward}))
    agent.start_and_wait()
    instrument.write("1,1", "2,2")
    agent.wait_said("forwarder site is down", "not authorized")
    gate.shut()
    guarded.stop()

    mended = site.mosquitto(port=guarded.port, users={"gw": "new", "reader": "r"})
    subscriber = site.subscriber(mended.port, user=("reader", "r"))
    gate.open()

    readings = subscriber.wait_for("gatepost/g/scale", 2)
    assert [reading["values"]["n"] for reading in readings] == [1, 2]
    agent.wait_said("forwarder site is up again")


def test_tls_with_a_certificate_of_ours_works(site: Site) -> None:
    authority = site.authority()
    guarded = site.mosquitto(
        authority=authority, require_certificate=True, options={"use_identity_as_username": "true"}
    )
    ours = authority.issue("g")
    tls = {"ca": str(authority.file), "certificate": str(ours.certificate), "key": str(ours.key)}
    agent = site.agent(gateway({}, {"site": mqtt(guarded.port, tls=tls)}))
    agent.start()
    agent.wait_delivered("site")
    agent.wait_status(lambda said: said["forwarders"]["site"]["health"] == "up", "site is up")
    assert "u'g'" in guarded.said(), "the broker knows us by the name in our certificate"


# --- MQTT 3.1.1 where the broker has no MQTT 5 ------------------------------------------------------------------


def test_the_embedded_brokers_old_listener_is_spoken_to_in_3_1_1(site: Site) -> None:
    broker = site.embedded()
    subscriber = site.subscriber(broker.port_v3, version="3.1.1")
    instrument = site.instrument()
    agent = site.agent(gateway({"scale": scale(instrument)}, {"site": mqtt(broker.port_v3)}))
    agent.start_and_wait()
    instrument.write("1,2.5")

    (reading,) = subscriber.wait_for("gatepost/g/scale")
    assert reading["values"] == {"n": 1, "weight": 2.5}
    agent.wait_said("3.1.1", f"127.0.0.1:{broker.port_v3}")
    assert not agent.lines("is down")


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""])
def test_a_broker_that_refuses_mqtt_5_in_any_way_is_spoken_to_in_3_1_1(site: Site, refusal: bytes) -> None:
    published: list[bytes] = []
    levels: list[int] = []

    def speak_3_1_1(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        with stream:
            while head := stream.read(1):
                kind, length, shift = head[0] >> 4, 0, 0
                while (byte := stream.read(1)[0]) & 0x80:
                    length, shift = length | (byte & 0x7F) << shift, shift + 7
                body = stream.read(length | byte << shift)
                if kind == 1:
                    levels.append(body[6])
                    if body[6] != 4:
                        connection.sendall(refusal)
                        return
                    connection.sendall(b"\x20\x02\x00\x00")
                elif kind == 3:
                    size = int.from_bytes(body[:2])
                    published.append(body[2 : 2 + size])
                    connection.sendall(b"\x40\x02" + body[2 + size : 4 + size])
                elif kind == 12:
                    connection.sendall(b"\xd0\x00")

    with Listener(speak_3_1_1) as old:
        agent = site.agent(gateway({}, {"site": mqtt(old.port)}))
        agent.start()
        agent.wait_delivered("site")
        assert b"gatepost/g/status" in published
        assert b"gatepost/g/agent/agent.started" in published
        assert levels == [5, 4]
        agent.wait_said("3.1.1", f"127.0.0.1:{old.port}")
        assert agent.stop() == 0


def test_binary_cloudevents_need_mqtt_5_and_say_so(site: Site) -> None:
    broker = site.embedded()
    forward = {**mqtt(broker.port_v3), "encoding": {"cloudevents": {"mode": "binary"}}}
    agent = site.agent(gateway({}, {"site": forward}))
    agent.start()
    agent.wait_said("forwarder site is down", "does not speak MQTT 5", "write mode: structured")


# --- events that the broker will not have --------------------------------------------------------------------------


def test_what_a_broker_denies_does_not_hold_up_what_it_allows(site: Site) -> None:
    rules = site.folder / "acl"
    rules.write_text(
        "user gw\ntopic readwrite gatepost/g/scale/#\ntopic readwrite gatepost/g/status\n"
        "topic readwrite gatepost/g/agent/#\nuser reader\ntopic read #\n"
    )
    broker = site.mosquitto(users={"gw": "w", "reader": "r"}, options={"acl_file": rules})
    subscriber = site.subscriber(broker.port, user=("reader", "r"))
    allowed, denied = site.instrument("ttyUSB0"), site.instrument("ttyUSB1")
    devices = {"scale": scale(allowed), "secret": scale(denied)}
    agent = site.agent(gateway(devices, {"site": mqtt(broker.port, username="gw", password="w")}))
    agent.start_and_wait()

    for n in range(20):
        denied.write(f"{n},0")
        allowed.write(f"{n},1")
    agent.wait_status(lambda said: said["devices"]["scale"]["readings"] == 20, "20 readings")

    subscriber.wait(
        lambda: {body["values"]["n"] for body in subscriber.bodies("gatepost/g/scale")} == set(range(20)),
        "all that is allowed",
        timeout=60,
    )
    agent.wait_delivered("site", timeout=60)
    said = agent.wait_status(lambda said: said["forwarders"]["site"]["rejected"] >= 20, "20 are set aside")
    assert said["forwarders"]["site"]["waiting"] == 0
    agent.wait_said("forwarder site: event", "of secret", "was refused and is set aside")
    assert not subscriber.on("gatepost/g/secret")


def test_an_event_that_is_too_large_is_set_aside_and_named_and_the_others_arrive(site: Site) -> None:
    broker = site.mosquitto(options={"max_packet_size": 2000})
    subscriber = site.subscriber(broker.port)
    instrument = site.instrument()
    device = {**scale(instrument), "parse": "json", "units": {}}
    agent = site.agent(gateway({"scale": device}, {"site": mqtt(broker.port)}))
    agent.start_and_wait()

    instrument.write('{"n": 1}', f'{{"n": 2, "text": "{"x" * 3000}"}}', '{"n": 3}')

    readings = subscriber.wait_for("gatepost/g/scale", 2)
    assert [reading["values"] for reading in readings] == [{"n": 1}, {"n": 3}]
    said = agent.wait_status(lambda said: said["forwarders"]["site"]["waiting"] == 0, "nothing waits")
    assert said["forwarders"]["site"]["rejected"] == 1
    assert len(agent.wait_said("of scale", "was refused and is set aside", "2000 that the broker takes")) == 1
