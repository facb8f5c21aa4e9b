"""GPIO inputs and outputs on gpiozero's mock pins."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import gpiozero
import pytest

from agent.errors import Disconnected
from agent.quantities import Duration, Pin
from drivers import _gpio, gpio_input, gpio_output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PIN = Pin(17)


@pytest.fixture(autouse=True)
def fresh_pins() -> Iterator[None]:
    _gpio.pin_factory.cache_clear()
    yield
    _gpio.pin_factory.cache_clear()


def pin() -> Any:
    return _gpio.pin_factory("mock", None).pin(int(PIN))


@contextlib.asynccontextmanager
async def an_input(**settings: Any) -> AsyncIterator[gpio_input.Driver]:
    driver = gpio_input.Driver(gpio_input.Settings(pin=PIN, factory="mock", **settings))
    await driver.open()
    try:
        async with asyncio.timeout(10):
            yield driver
    finally:
        await driver.close()


async def states(driver: gpio_input.Driver | gpio_output.Driver, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += [reading.values["state"] for reading in await driver.read()]
    return found


@pytest.mark.parametrize(
    ("pull", "active", "level", "state"),
    [
        ("up", None, None, 0), ("up", None, False, 1), ("up", None, True, 0),
        ("down", None, None, 0), ("down", None, False, 0), ("down", None, True, 1),
        ("none", None, False, 0), ("none", None, True, 1),
        ("up", "high", None, 1), ("up", "high", False, 0), ("up", "low", False, 1),
        ("down", "low", None, 1), ("down", "low", True, 0), ("down", "high", True, 1),
        ("none", "low", False, 1), ("none", "high", False, 0),
    ],
)  # fmt: skip
async def test_pull_active_and_level_give_the_state(
    pull: Any, active: Any, level: bool | None, state: int
) -> None:
    pin().drive(level)
    async with an_input(pull=pull, active=active) as driver:
        assert await states(driver, 1) == [state]


async def test_both_edges_are_readings_in_order() -> None:
    async with an_input(pull="up") as driver:
        assert await states(driver, 1) == [0]
        for _ in range(100):
            pin().drive(False)
            pin().drive(True)
        assert await states(driver, 200) == [1, 0] * 100


async def test_edges_come_from_another_thread_with_their_times() -> None:
    async with an_input() as driver:
        await driver.read()
        await asyncio.to_thread(pin().drive, True)
        (reading,) = await driver.read()
        assert reading.values == {"state": 1}
        assert reading.at == pytest.approx(pin()._last_change)


async def test_a_time_of_day_is_not_taken_for_a_monotonic_time() -> None:
    async with an_input() as driver:
        (first,) = await driver.read()
        driver._on_edge(1.8e9, 1)  # as kernels before 5.7 give it
        (reading,) = await driver.read()
        assert first.at is not None
        assert reading.at is not None
        assert 0 <= reading.at - first.at < 10


async def test_bounces_count_once_at_the_time_of_the_first_edge() -> None:
    async with an_input(pull="up", debounce=Duration(0.05)) as driver:
        assert await states(driver, 1) == [0]
        pin().drive(False)
        first_edge = pin()._last_change
        for level in (True, False) * 20:
            pin().drive(level)
        (reading,) = await driver.read()
        assert reading.values == {"state": 1}
        assert reading.at == first_edge
        pin().drive(True)
        assert await states(driver, 1) == [0]


async def test_a_glitch_shorter_than_the_debounce_is_no_change() -> None:
    async with an_input(pull="up", debounce=Duration(0.05)) as driver:
        await driver.read()
        pin().drive(False)
        pin().drive(True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(driver.read(), 0.2)
        pin().drive(False)
        assert await states(driver, 1) == [1]


async def test_an_edge_that_got_lost_leaves_no_wrong_state() -> None:
    async with an_input(pull="up", debounce=Duration(0.05)) as driver:
        await driver.read()
        pin().drive(False)
        pin().edges = "none"
        pin().wired = pin()._state = True  # back again, and nobody heard of it
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(driver.read(), 0.2)


async def test_a_pin_is_taken_once() -> None:
    async with an_input():
        second = gpio_output.Driver(gpio_output.Settings(pin=PIN, factory="mock"))
        with pytest.raises(Disconnected, match="GPIO17 is in use by another device of this gateway"):
            await second.open()
        await second.close()
    async with an_input():
        pass


def test_the_pins_with_a_resistor_cannot_be_pulled_down() -> None:
    with pytest.raises(ValueError, match="GPIO2 has a pull-up resistor on the board"):
        gpio_input.Settings(pin=Pin(2), pull="down")
    assert gpio_input.Settings(pin=Pin(3), pull="up").claims() == "GPIO3"
    assert gpio_output.Settings(pin=Pin(3), chip=1).claims() == "GPIO3 of gpiochip1"


# --- outputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("active", ["high", "low"])
@pytest.mark.parametrize("safe", [False, True])
async def test_the_safe_value_is_put_out_at_both_ends(active: Any, safe: bool) -> None:
    settings = gpio_output.Settings(pin=PIN, active=active, safe=safe, factory="mock")
    driver = gpio_output.Driver(settings)
    levels = {False: active == "low", True: active == "high"}
    await driver.open()
    assert pin().state == levels[safe]
    await driver.write("state", not safe)
    assert pin().state == levels[not safe]
    await driver.close()
    assert pin().state == levels[safe]


@pytest.mark.parametrize(
    ("value", "state"), [(1, 1), (0, 0), (True, 1), (False, 0), ("on", 1), ("off", 0), (1.0, 1)]
)
async def test_what_is_written_is_put_out_and_reported(value: Any, state: int) -> None:
    driver = gpio_output.Driver(gpio_output.Settings(pin=PIN, safe=not state, factory="mock"))
    await driver.open()
    assert await states(driver, 1) == [1 - state]
    await driver.write("state", value)
    assert pin().state == state
    assert await states(driver, 1) == [state]
    await driver.close()


@pytest.mark.parametrize("value", [2, 0.5, "maybe", "", None])
async def test_what_is_neither_on_nor_off_is_refused(value: Any) -> None:
    driver = gpio_output.Driver(gpio_output.Settings(pin=PIN, factory="mock"))
    await driver.open()
    with pytest.raises(ValueError, match="neither on nor off"):
        await driver.write("state", value)
    assert pin().state == 0
    await driver.close()


def test_the_safe_value_is_put_out_when_the_program_ends_by_an_error() -> None:
    program = """
import asyncio, atexit
from agent.quantities import Pin
from drivers import _gpio, gpio_output
pin = _gpio.pin_factory("mock", None).pin(17)
atexit.register(lambda: print("left at", int(pin.state)))
async def main():
    driver = gpio_output.Driver(gpio_output.Settings(pin=Pin(17), safe=True, factory="mock"))
    await driver.open()
    await driver.write("state", 0)
    raise SystemExit(3)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (3, "left at 1"), done.stderr


# --- pins that cannot be had ------------------------------------------------------------------------------------------


class LgpioError(Exception):
    """As lgpio raises it: a bare Exception of its own, with a text in quotes."""


LgpioError.__module__ = "lgpio"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (LgpioError("'can not open gpiochip'"), r"there is no /dev/gpiochip4: `gpiodetect` lists the chips"),
        (LgpioError("'GPIO busy'"), "in use by another program or by the kernel"),
        (ModuleNotFoundError("lgpio"), r"install it with: /.* -m pip install lgpio"),
        (FileNotFoundError(2, "No such file or directory", ".lgd-nfy0"), "working directory"),
        (gpiozero.PinInvalidPin("17 is not a valid pin name"), "cannot take GPIO17 of /dev/gpiochip4"),
    ],
)
def test_why_a_pin_cannot_be_had_says_what_to_do(error: Exception, advice: str) -> None:
    def refuse(_factory: object) -> Any:
        raise error

    with pytest.raises(Disconnected, match=advice):
        _gpio.take(refuse, "mock", 4, "GPIO17")


def test_a_bug_is_not_taken_for_a_lost_pin() -> None:
    def fail(_factory: object) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _gpio.take(fail, "mock", None, "GPIO17")
