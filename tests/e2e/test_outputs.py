"""Outputs of the real program: a real serial line on one side, mock relays on the other, kills and restarts in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from support.agents import gatepost
from support.configurations import gateway, scale
from support.waiting import ticks, until

from agent.events import EventType

if TYPE_CHECKING:
    from support.agents import Agent
    from support.instruments import SerialInstrument
    from support.sites import Site

    from agent.events import Event, Value

PINS: Final = {"fan": 27, "bell": 22, "lamp": 23, "horn": 24}
LASTS: Final = 6.0
"""Seconds for which the lamp is lit."""
LATE: Final = 2.0
"""Seconds by which a busy machine may be late."""


def site_of(
    instrument: SerialInstrument, then: dict[str, Any], output: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a configuration with a scale, relays, and a rule for what is heavy."""
    relays = {name: {"driver": "gpio_output", "pin": pin} for name, pin in PINS.items()}
    if output is not None:
        relays["fan"] |= {"output": output}
    rules = {"heavy": {"threshold": {"of": "scale.weight", "above": 100}, "then": then}}
    return gateway({"scale": scale(instrument, simulate=False), **relays}, rules=rules)


def wait_value(agent: Agent, relay: str, value: Value) -> None:
    """Wait until a relay reports a value."""
    agent.wait_status(
        lambda said: said["devices"][relay]["latest"].get("state", {}).get("value") == value,
        f"{relay} is {value}",
    )


def wait_logged(agent: Agent, event_type: str, device: str, count: int) -> list[Event]:
    """Wait until the file has so many events of a type from a device, and return them."""

    def found() -> list[Event]:
        return [event for event in agent.committed() if (event.type, event.source) == (event_type, device)]

    until(lambda: len(found()) >= count, f"{count} {event_type} of {device}")
    return found()


def test_an_alarm_sets_an_output_without_any_network_and_releases_it(site: Site) -> None:
    instrument = site.instrument()
    agent = site.agent(site_of(instrument, {"set": {"fan": True, "bell": {"pulse": "300ms"}}}), "--simulate")
    agent.start_and_wait()

    instrument.write("1,200")
    wait_value(agent, "fan", 1)
    wait_logged(agent, EventType.COMMAND_DONE, "bell", 2)
    instrument.write("2,50")
    wait_value(agent, "fan", 0)
    wait_logged(agent, EventType.COMMAND_DONE, "fan", 2)

    events = [event for event in agent.committed() if event.source in {"scale", "heavy", "fan"}]
    order = [event.type for event in events if event.type not in {EventType.DEVICE_ABOUT, EventType.READING}]
    command = [EventType.COMMAND, EventType.COMMAND_DONE]
    assert order == [EventType.ALARM_RAISED, *command, EventType.ALARM_CLEARED, *command]
    on, off = [
        event for event in agent.committed() if (event.type, event.source) == (EventType.COMMAND, "bell")
    ]
    assert (on.values["value"], off.values["value"]) == (1, 0)
    assert off.time - on.time >= 300_000


def test_a_killed_agent_holds_what_it_held_goes_on_with_times_and_repeats_nothing(site: Site) -> None:
    instrument = site.instrument()
    then = {
        "set": {
            "fan": True,
            "bell": {"pulse": "200ms"},
            "horn": {"toggle": True},
            "lamp": {"value": True, "for": f"{LASTS:g}s"},
        }
    }
    agent = site.agent(site_of(instrument, then), "--simulate")
    agent.start_and_wait()
    instrument.write("1,200")
    (lit,) = wait_logged(agent, EventType.COMMAND_DONE, "lamp", 1)
    wait_logged(agent, EventType.COMMAND_DONE, "bell", 2)
    for _ in ticks(every=0.1, during=LASTS / 2):
        pass

    agent.kill()
    agent.start_and_wait()

    wait_value(agent, "fan", 1)
    out = wait_logged(agent, EventType.COMMAND_DONE, "lamp", 3)
    assert [event.values["value"] for event in out] == [1, 1, 0]
    assert 0 <= out[-1].time / 1e6 - lit.time / 1e6 - LASTS < LATE
    wait_value(agent, "lamp", 0)
    after = [event for event in agent.committed() if event.run == out[-1].run]
    commands = [(event.source, event.values["value"]) for event in after if event.type == EventType.COMMAND]
    assert sorted(commands) == [("fan", 1), ("lamp", 0), ("lamp", 1)]
    assert len([event for event in agent.committed() if event.type == EventType.ALARM_RAISED]) == 1


def test_an_interlock_follows_its_device_also_where_that_is_pulled_out(site: Site) -> None:
    instrument = site.instrument()
    output = {"unless": "scale.n < 10"}
    agent = site.agent(site_of(instrument, {"set": {"fan": True}}, output), "--simulate")
    agent.start_and_wait()

    instrument.write("5,200")  # heavy, but locked
    (failed,) = wait_logged(agent, EventType.COMMAND_FAILED, "fan", 1)
    assert failed.values["reason"] == "interlocked: scale.n < 10"
    instrument.write("20,200")
    wait_value(agent, "fan", 1)
    instrument.unplug()
    wait_value(agent, "fan", 0)
    said = agent.wait_status(
        lambda said: "interlocked" in said["devices"]["fan"]["output"]["state"], "it is locked"
    )
    assert said["devices"]["fan"]["output"]["state"]["interlocked"] == "scale is down"
    shown = gatepost("status", "--simulate", str(agent.path), folder=agent.path.parent).out
    assert "state is interlocked: scale is down" in shown
    instrument.plug()
    agent.wait_status(
        lambda said: said["devices"]["scale"]["health"] == "up" and said["devices"]["scale"]["for"] >= 0.2,
        "the scale is back",
    )
    instrument.write("30,200")
    wait_value(agent, "fan", 1)

    commands = wait_logged(agent, EventType.COMMAND, "fan", 3)
    assert [(event.values["value"], event.values["cause"], event.values.get("reason")) for event in commands] == [
        (1, "heavy", None), (0, "interlock", "scale is down"), (1, "heavy", None),
    ]  # fmt: skip


def test_min_off_counts_from_the_start_of_the_agent(site: Site) -> None:
    instrument = site.instrument()
    agent = site.agent(site_of(instrument, {"set": {"fan": True}}, {"min_off": "2s"}), "--simulate")
    agent.start_and_wait()
    instrument.write("1,200")
    (on,) = wait_logged(agent, EventType.COMMAND_DONE, "fan", 1)
    (started,) = [event for event in agent.committed() if event.type == EventType.AGENT_STARTED]
    assert on.time - started.time >= 1_500_000, "the start is logged a little after it"
