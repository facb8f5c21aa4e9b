"""No secret is said: not in a message, not in the status, not in an event, wherever `!secret` stands."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from support.agents import gatepost
from support.waiting import free_port

from agent import console

if TYPE_CHECKING:
    from support.sites import Site

SECRETS = {name: f"sesame-{name}" for name in ("password", "username", "client", "host", "port", "topic")}

CONFIGURATION = """
gateway: g
devices:
  scale: {{driver: serial_lines, port: !secret port, parse: json}}
forward:
  unknown:
    mqtt: {{host: !secret host, username: !secret username, password: !secret password, client_id: !secret client}}
    reconnect: {{max: 1s}}
  refused:
    mqtt: {{host: 127.0.0.1, port: {broker}, username: !secret username, password: !secret password, topics: {{status: !secret topic}}}}
    reconnect: {{max: 1s}}
  nobody:
    mqtt: {{host: 127.0.0.1, port: {free}, username: gw, password: !secret password, tls: {{}}}}
"""


def test_no_secret_is_said_by_an_agent_that_says_all_it_can(site: Site) -> None:
    broker = site.broker()
    environment = {f"GATEPOST_SECRET_{name.upper()}": text for name, text in SECRETS.items()}
    environment["GATEPOST_SECRET_PORT"] = f"/dev/{SECRETS['port']}"
    agent = site.agent(
        CONFIGURATION.format(broker=broker.port, free=free_port()),
        "--log-level",
        "debug",
        "--events",
        **environment,
    )
    agent.start()
    agent.wait_said("device scale is down")
    agent.wait_said("forwarder unknown is down")
    agent.wait_said("forwarder nobody is down")
    status = agent.wait_status(lambda _: True, "it answers")
    said = [json.dumps(status), *console.status_lines(status, console.Style(io.StringIO()))]
    for words in ((), ("--json",)):
        done = gatepost(
            "doctor", *words, str(agent.path), folder=site.folder / "a", timeout=60, **environment
        )
        assert "***" in done.out
        said.append(done.out)
    agent.stop()
    said += [agent.said(), agent.printed(), str(agent.committed())]
    for name, text in SECRETS.items():
        for each in said:
            assert text not in each, name
