"""Simulated instruments, contacts and machines, read by the real drivers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import BadReading, Disconnected
from agent.quantities import Duration, Pin, Size
from drivers import _gpio, gpio_input, serial_lines, system
from drivers._parsing import Csv, KeyValue, Parse
from simulators import gpio_input as simulated_input
from simulators import serial_lines as simulated_lines
from simulators import system as simulated_system
from simulators._faults import Outage, Share, Spikes
from simulators._signals import Signal, Square

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.events import Value

FAST = Duration(0.002)
JSON = Parse(json=True)
PORT = "/dev/ttyUSB0"


@contextlib.asynccontextmanager
async def instrument(
    settings: serial_lines.Settings, seed: int = 1, **simulate: Any
) -> AsyncIterator[serial_lines.Driver]:
    simulator = simulated_lines.Simulator(
        settings, simulated_lines.Settings(**{"every": FAST, **simulate}), seed
    )
    try:
        driver = serial_lines.Driver(await simulator.open())
        await driver.open()
        async with asyncio.timeout(10):
            yield driver
        await driver.close()
    finally:
        await simulator.close()


async def look(driver: serial_lines.Driver, count: int) -> tuple[list[dict[str, Value]], list[BadReading]]:
    """Return so many good lines, and the bad ones among them."""
    good: list[dict[str, Value]] = []
    bad: list[BadReading] = []
    while len(good) < count:
        try:
            good += [reading.values for reading in await driver.read()]
        except BadReading as error:
            bad.append(error)
    return good, bad


@pytest.mark.parametrize(
    ("parse", "units", "channels"),
    [
        ("json", {}, {"value"}),
        ("json", {"air.temperature": "Cel"}, {"air.temperature"}),
        ("key_value", {"temperature": "Cel", "humidity": "%"}, {"temperature", "humidity"}),
        (Parse(key_value=KeyValue(pair_separator="|", value_separator=":")), {"a": "", "b": ""}, {"a", "b"}),
        (Parse(csv=["a", "_", "b"]), {}, {"a", "b"}),
        (Parse(csv=Csv(names=["a", "b"], separator="\t")), {}, {"a", "b"}),
        (Parse(regex=r"(?P<weight>[-\d.]+) kg"), {"weight": "kg"}, {"weight"}),
        (Parse(regex=r"^ST,(?P<state>OK|ERR),\s+(?P<n>\d+)\.?\s*k?g\s*$"), {"n": "g"}, {"state", "n"}),
        (Parse(regex=r"T:(?P<t>[+-]?\d+\.\d{1}) \[(?P<u>C|F)\] (?:ok|no)x{2}"), {}, {"t", "u"}),
        (Parse(regex=r"\$(?P<v>\d+\.\d{3})\*[0-9A-F]{2}"), {}, {"v"}),
    ],
)  # fmt: skip
async def test_an_instrument_writes_what_the_driver_parses(
    parse: Any, units: dict[str, str], channels: set[str]
) -> None:
    async with instrument(serial_lines.Settings(port=PORT, parse=parse, units=units)) as driver:
        good, bad = await look(driver, 3)
    assert all(values.keys() == channels for values in good)
    assert not bad


async def test_an_instrument_writes_the_line_that_is_asked_for() -> None:
    settings = serial_lines.Settings(port=PORT, parse=Parse(regex=r"^ST,(?P<weight>[ \d.]+) kg$"))
    async with instrument(settings, line="ST,{weight:8.3f} kg", signals={"weight": 12.3456}) as driver:
        good, _ = await look(driver, 1)
    assert good[0] == {"weight": 12.346}


@pytest.mark.parametrize(
    ("parse", "line", "reason"),
    [
        (Parse(regex=r"(?P<a>\d+)(?<=[02468]) (?!x)(?P<b>[^\d\s]{2,})\W$"), None, r"simulate: \{line: "),
        (JSON, "{{value}", "cannot read the simulated line"),
        (JSON, '{"other": {value}}', "reads {'other': "),
        (JSON, '{"value": {wait}}', "line names 'wait'; the channels are value"),
    ],
)
async def test_a_line_that_the_driver_could_not_read_is_refused(
    parse: Parse, line: str | None, reason: str
) -> None:
    settings = serial_lines.Settings(port=PORT, parse=parse)
    simulator = simulated_lines.Simulator(settings, simulated_lines.Settings(line=line), 1)
    with pytest.raises(ValueError, match=reason):
        await simulator.open()
    await simulator.close()


async def test_a_signal_does_not_depend_on_when_it_is_read() -> None:
    settings = serial_lines.Settings(port=PORT, parse=JSON)
    steps = [(Duration(n * FAST), float(n)) for n in range(2000)]
    async with instrument(settings, signals={"value": Signal(steps=steps)}) as driver:
        good, _ = await look(driver, 50)
    values = [values["value"] for values in good]
    assert values == list(range(int(str(values[0]).partition(".")[0]), 2000))[: len(values)]


async def test_garbled_and_over_long_lines_are_bad_and_the_others_good() -> None:
    settings = serial_lines.Settings(port=PORT, parse=JSON, max_line=Size(200))
    faults = simulated_lines.Faults(garble=Share(0.2), overlong=Share(0.1))
    async with instrument(settings, signals={"value": 7}, faults=faults) as driver:
        good, bad = await look(driver, 200)
    assert all(values == {"value": 7} for values in good)
    reasons = {each.reason for each in bad}
    assert reasons == {"not utf-8", "line longer than 200 bytes"}
    assert 20 < len(bad) < 150


async def test_dropouts_are_lines_that_do_not_come() -> None:
    settings = serial_lines.Settings(port=PORT, parse=JSON)
    steps = [(Duration(n * FAST), float(n)) for n in range(4000)]
    faults = simulated_lines.Faults(dropouts=Share(0.3), spikes=Spikes(share=Share(0.1), by=1e6))
    async with instrument(settings, signals={"value": Signal(steps=steps)}, faults=faults) as driver:
        good, bad = await look(driver, 200)
    values = [value for each in good if isinstance(value := each["value"], float)]
    regular = [value for value in values if value < 1e6]
    assert not bad
    assert len(values) - len(regular) > 5
    assert 230 < max(regular) - min(regular) < 400


async def test_an_unplugged_instrument_comes_back_under_the_same_path() -> None:
    settings = serial_lines.Settings(port=PORT, parse=JSON)
    faults = simulated_lines.Faults(unplug=Outage(every=Duration(0.3), for_=Duration(0.15)))
    async with instrument(settings, faults=faults) as driver:
        for _ in range(2):
            await look(driver, 1)
            with pytest.raises(Disconnected, match="unplugged"):
                await look(driver, 10**6)
            await driver.close()
            with pytest.raises(Disconnected, match="is it plugged in"):
                await driver.open()
            while True:
                try:
                    await driver.open()
                except Disconnected:
                    await asyncio.sleep(0.01)
                else:
                    break


async def test_an_instrument_goes_on_when_nobody_reads() -> None:
    settings = serial_lines.Settings(port=PORT, parse=JSON)
    async with instrument(settings, every=Duration(0.0001)) as driver:
        await look(driver, 1)
        started = time.monotonic()
        while time.monotonic() - started < 0.5:  # some 80 KB that nobody reads: more than the kernel holds
            await asyncio.sleep(0.01)
        assert time.monotonic() - started < 2
        good, _ = await look(driver, 2000)
    assert len(good) >= 2000


async def test_two_seeds_give_two_instruments() -> None:
    settings = serial_lines.Settings(port=PORT, parse=JSON, units={"weight": "kg"})
    seen = []
    for seed in (1, 1, 2):
        async with instrument(settings, seed=seed, every=Duration(0.1)) as driver:
            good, _ = await look(driver, 3)
            seen.append(good[:3])
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("pull", ["up", "down"])
@pytest.mark.parametrize("bounce", [0, 6])
async def test_a_contact_moves_and_bounces(pull: Any, bounce: int) -> None:
    _gpio.pin_factory.cache_clear()
    settings = gpio_input.Settings(pin=Pin(5), pull=pull)
    simulate = simulated_input.Settings(
        square=Square(period=Duration(0.2), high_for=Duration(0.1)),
        faults=simulated_input.Faults(bounce=bounce),
    )
    simulator = simulated_input.Simulator(settings, simulate, seed=1)
    driver = gpio_input.Driver(await simulator.open())
    await driver.open()
    states: list[Value] = []
    while len(states) < 3 + 4 * bounce:
        states += [reading.values["state"] for reading in await asyncio.wait_for(driver.read(), 10)]
    await driver.close()
    await simulator.close()
    expected = [1, 0, *[1, 0] * bounce, 1, *[0, 1] * bounce]
    assert states[: len(expected)] == expected


async def test_a_bouncing_contact_is_debounced_by_the_driver() -> None:
    _gpio.pin_factory.cache_clear()
    settings = gpio_input.Settings(pin=Pin(5), pull="up", debounce=Duration(0.05))
    simulate = simulated_input.Settings(
        steps=[(Duration(0), 0), (Duration(0.1), 1), (Duration(0.4), 0)],
        faults=simulated_input.Faults(bounce=10),
    )
    simulator = simulated_input.Simulator(settings, simulate, seed=1)
    driver = gpio_input.Driver(await simulator.open())
    await driver.open()
    states: list[Value] = []
    while len(states) < 3:
        states += [reading.values["state"] for reading in await asyncio.wait_for(driver.read(), 10)]
    await driver.close()
    await simulator.close()
    assert states == [0, 1, 0]


async def test_a_contact_may_get_stuck() -> None:
    _gpio.pin_factory.cache_clear()
    simulate = simulated_input.Settings(
        steps=[(Duration(0), 0), (Duration(0.05), 1), (Duration(0.1), 0)],
        faults=simulated_input.Faults(stuck_after=Duration(0.07)),
    )
    simulator = simulated_input.Simulator(gpio_input.Settings(pin=Pin(5)), simulate, seed=1)
    driver = gpio_input.Driver(await simulator.open())
    await driver.open()
    await driver.read()
    assert [reading.values for reading in await driver.read()] == [{"state": 1}]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(driver.read(), 0.2)
    await driver.close()
    await simulator.close()


async def test_a_machine_moves() -> None:
    simulate = simulated_system.Settings(every=Duration(0.01), signals={"cpu_load": 50, "network_sent": 1e6})
    simulator = simulated_system.Simulator(system.Settings(), simulate, seed=1)
    settings = await simulator.open()
    assert Path(settings.root, "proc/stat").exists()
    driver = system.Driver(settings)
    driver.open()
    first = driver.read()[0].values
    async with asyncio.timeout(10):
        while (last := driver.read()[0].values).get("uptime") == first["uptime"] or "cpu_load" not in last:
            await asyncio.sleep(0.05)
    await simulator.close()
    assert isinstance(last["network_sent"], int)
    assert isinstance(first["network_sent"], int)
    assert last["network_sent"] > first["network_sent"]
    assert last["cpu_load"] == pytest.approx(50, abs=15)


def test_what_a_machine_cannot_pretend_is_refused() -> None:
    with pytest.raises(ValueError, match="signals names 'disk_used'; what can be simulated is cpu_load"):
        simulated_system.Settings(signals={"disk_used": 99})
