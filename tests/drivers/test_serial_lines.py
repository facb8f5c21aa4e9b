"""The serial driver on real pseudo-terminals, through the real pyserial."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tty
from typing import TYPE_CHECKING, Any

import pytest
import serial

from agent.errors import BadReading, Disconnected
from agent.quantities import Duration, Size
from drivers import serial_lines
from drivers._parsing import Parse
from drivers.serial_lines import Driver, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.events import Value

WEIGHT = Parse(regex=r"^(?P<weight>\d+) kg$")


class Cable:
    """A port, and the end of it that an instrument would be plugged into."""

    def __init__(self, port: Path) -> None:
        self.port = port
        self.ends: tuple[int, int] | None = None

    def plug(self) -> None:
        self.ends = os.openpty()
        tty.setraw(self.ends[1])
        self.port.symlink_to(os.ttyname(self.ends[1]))

    def unplug(self) -> None:
        if self.ends is not None:
            self.port.unlink()
            for end in self.ends:
                os.close(end)
            self.ends = None

    def send(self, data: bytes) -> None:
        assert self.ends is not None
        os.write(self.ends[0], data)


@pytest.fixture
def cable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    monkeypatch.setattr(
        serial_lines, "_MIDWAY", 0.0
    )  # the instruments here begin to write once the port is open
    cable = Cable(tmp_path / "ttyUSB0")
    cable.plug()
    yield cable
    cable.unplug()


@contextlib.asynccontextmanager
async def opened(cable: Cable, **settings: Any) -> Any:
    driver = Driver(Settings(port=str(cable.port), **{"parse": WEIGHT, **settings}))
    await driver.open()
    try:
        async with asyncio.timeout(10):
            yield driver
    finally:
        await driver.close()


async def values(driver: Driver, count: int) -> list[Value]:
    """Return so many values, whatever pieces they come in."""
    found: list[Value] = []
    while len(found) < count:
        found += [value for reading in await driver.read() for value in reading.values.values()]
    return found


async def test_all_lines_that_have_arrived_are_one_look(cable: Cable) -> None:
    async with opened(cable) as driver:
        cable.send(b"1 kg\r\n2 kg\r\n3 kg\r\n4")
        readings = await driver.read()
        assert [reading.values for reading in readings] == [{"weight": 1}, {"weight": 2}, {"weight": 3}]
        assert len({reading.at for reading in readings}) == 1
        cable.send(b"0 kg\n")
        assert await values(driver, 1) == [40]


async def test_a_bad_line_is_told_in_its_place(cable: Cable) -> None:
    async with opened(cable) as driver:
        cable.send(b"1 kg\n2 kg\n\x00\xff\x1b[0m\n3 kg\n")
        assert await values(driver, 2) == [1, 2]
        with pytest.raises(BadReading, match="not utf-8") as bad:
            await driver.read()
        assert bad.value.evidence == r"\x00\xff\x1b[0m"
        assert await values(driver, 1) == [3]


async def test_an_over_long_line_is_told_and_dropped(cable: Cable) -> None:
    async with opened(cable, max_line=Size(100)) as driver:
        cable.send(b"1 kg\n" + b"x" * 1000)
        assert await values(driver, 1) == [1]
        with pytest.raises(BadReading, match="longer than 100 bytes"):
            await driver.read()
        cable.send(b"x" * 1000 + b"\n2 kg\n")
        assert await values(driver, 1) == [2]


async def test_no_good_line_is_lost_among_garbage(cable: Cable) -> None:
    seen: list[Value] = []
    bad = 0
    async with opened(cable) as driver:
        for number in range(500):
            cable.send(b"%d kg\n" % number + (b"\xfe\xfe\n" if number % 7 == 3 else b""))
            if number % 10 == 9:
                while not seen or seen[-1] != number:
                    try:
                        seen += await values(driver, 1)
                    except BadReading:
                        bad += 1
    assert seen == list(range(500))
    assert bad == 71


async def test_what_begins_at_once_was_joined_midway(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_lines, "_MIDWAY", 60.0)
    async with opened(cable) as driver:
        cable.send(b"5 kg\n")  # the end of 12345 kg
        cable.send(b"12346 kg\n")
        assert await values(driver, 1) == [12346]


async def test_unplugged_and_plugged_in_again(cable: Cable) -> None:
    async with opened(cable) as driver:
        for number in (1, 2):
            cable.send(b"%d kg\n" % number)
            assert await values(driver, 1) == [number]
            waiting = asyncio.create_task(driver.read())
            await asyncio.sleep(0)
            cable.unplug()
            with pytest.raises(Disconnected, match=re.escape(f"{cable.port} is gone: unplugged")):
                await waiting
            await driver.close()
            with pytest.raises(Disconnected, match="is it plugged in"):
                await driver.open()
            cable.plug()
            await driver.open()


async def test_a_cancelled_read_loses_no_line(cable: Cable) -> None:
    async with opened(cable) as driver:
        cable.send(b"1 ")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(driver.read(), 0.05)
        cable.send(b"kg\n")
        assert await values(driver, 1) == [1]


async def test_a_port_that_is_silent_for_too_long_is_lost(cable: Cable) -> None:
    async with opened(cable, silent_for=Duration(0.05)) as driver:
        with pytest.raises(Disconnected, match="no line for 50ms: is the instrument on"):
            await driver.read()


async def test_garbage_is_silence_too(cable: Cable) -> None:
    async def read_garbage(driver: Driver) -> None:
        while True:
            cable.send(b"wrong baud\n")
            with contextlib.suppress(BadReading):
                await driver.read()

    async with opened(cable, silent_for=Duration(0.2)) as driver:
        with pytest.raises(Disconnected, match="no line for 200ms"):
            await read_garbage(driver)


async def test_a_port_in_use_is_told(cable: Cable) -> None:
    async with opened(cable):
        other = Driver(Settings(port=str(cable.port), parse=WEIGHT))
        with pytest.raises(Disconnected, match="in use by another program"):
            await other.open()
        await other.close()
    async with opened(cable, exclusive=False), opened(cable, exclusive=False):
        pass


async def test_what_is_no_serial_port_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Disconnected, match="is not a serial port"):
        await Driver(Settings(port=str(tmp_path / "file"), parse=WEIGHT)).open()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (PermissionError(13, "Permission denied"), "sudo usermod -aG"),
        (serial.SerialException(16, "busy"), "in use by another program"),
        (serial.SerialException(6, "No such device or address"), "unplugged"),
        (ValueError("Not a valid baudrate: 7"), "Not a valid baudrate"),
    ],
)
async def test_why_a_port_cannot_be_opened_says_what_to_do(
    cable: Cable, monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(serial, "Serial", refuse)
    driver = Driver(Settings(port=str(cable.port), parse=WEIGHT))
    with pytest.raises(Disconnected, match=advice):
        await driver.open()
    with pytest.raises(Disconnected, match="is not open"):
        await driver.read()


@pytest.mark.parametrize(
    ("parse", "units", "channels"),
    [
        (WEIGHT, {"weight": "kg"}, {"weight": "kg"}),
        (Parse(csv=["a", "_", "b"]), {"b": "V"}, {"a": "", "b": "V"}),
        ("json", {"t": "Cel"}, None),
        ("key_value", {}, None),
    ],
)
def test_channels_are_known_as_far_as_the_settings_tell(
    parse: Any, units: dict[str, str], channels: dict[str, str] | None
) -> None:
    assert Driver(Settings(port="/dev/null", parse=parse, units=units)).channels() == channels


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"units": {"wait": "kg"}}, "units names 'wait', which parse does not give; it gives weight"),
        ({"encoding": "utf-16"}, "cannot be told apart"),
        ({"encoding": "klingon"}, "there is no encoding 'klingon'"),
        ({"baud": 0}, "more than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Settings(port="/dev/ttyUSB0", parse=WEIGHT, **fields)
