"""The hand of the board: one write at a time for each device, the latest wins, and each is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.boards import Relays, written

from agent import commander, eventlog
from agent.clock import Clock
from agent.commander import Commander
from agent.errors import Disconnected
from agent.eventlog import EventLog
from agent.events import EventType, Severity
from agent.outcome import Reaction
from agent.outputs.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.events import Value


class SlowRelays(Relays):
    """Relays that take their time: each write ends when the test lets it."""

    def __init__(self) -> None:
        super().__init__({"a": 0, "b": 0})
        self.begun: list[tuple[str, Value]] = []
        self.ended: list[tuple[str, Value]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def write(self, channel: str, value: Value) -> None:
        self.begun.append((channel, value))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            self.ended.append((channel, value))
        finally:
            self.at_once -= 1


class Bench:
    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.relays = SlowRelays()
        self.commander = Commander(log, Clock())
        self.board = self.commander.board
        self.commander.add("relays", self.relays, Settings())
        self.board.on_up("relays")

    async def told(self) -> list[tuple[str, str, Value, Value]]:
        """Return what was logged: type, channel, value and reason."""
        return [
            (event.type, str(event.values["channel"]), event.values["value"], event.values.get("reason"))
            for event in await self.log.reader.history(0, 1000)
            if event.type in {EventType.COMMAND, EventType.COMMAND_DONE, EventType.COMMAND_FAILED}
        ]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(path: Path) -> AsyncIterator[Bench]:
    log = EventLog(path / "events.db", eventlog.Settings(), Clock())
    await log.open([], "1.0")
    try:
        yield Bench(log)
    finally:
        await log.close()


async def test_a_device_has_one_write_at_a_time_and_the_latest_for_a_channel_overtakes(
    tmp_path: Path,
) -> None:
    results: list[str] = []
    async with bench(tmp_path) as it:
        for value in (1, 0, 1):
            it.board.command("relays", "a", value, "anna", on_result=results.append)
            it.board.command("relays", "b", value, "anna")
            await asyncio.sleep(0)
        it.relays.gate.set()
        await until(lambda: it.relays.ended[-1:] == [("b", 1)] and len(results) == 3)
        assert it.relays.begun == it.relays.ended == [("a", 1), ("a", 1), ("b", 1)]
        assert it.relays.most_at_once == 1
        assert results == ["overtaken by what is wanted now", "", ""]
        told = await it.told()
        assert told.count((EventType.COMMAND_FAILED, "a", 0, "overtaken by what is wanted now")) == 1
        assert told.count((EventType.COMMAND_DONE, "a", 1, None)) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Disconnected("gone"), "gone"), (ValueError("gone"), "gone"), (ZeroDivisionError("gone"), "gone"),
        (TimeoutError(), "TimeoutError"),
    ],
)  # fmt: skip
async def test_a_write_that_fails_for_whatever_reason_is_told_and_the_next_goes_on(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    results: list[str] = []
    async with bench(tmp_path) as it:
        it.relays.gate.set()
        it.relays.error = error
        it.board.command("relays", "a", 1, "anna", command_id="7", on_result=results.append)
        await until(lambda: results == [reason])
        it.relays.error = None
        it.board.command("relays", "b", 1, "anna", command_id="8", on_result=results.append)
        await until(lambda: results == [reason, ""])
        assert it.relays.ended == [("b", 1)]
        assert await it.told() == [
            (EventType.COMMAND, "a", 1, None), (EventType.COMMAND_FAILED, "a", 1, reason),
            (EventType.COMMAND, "b", 1, None), (EventType.COMMAND_DONE, "b", 1, None),
        ]  # fmt: skip


async def test_what_waits_is_put_out_though_what_followed_from_the_first_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(result: str) -> None:
        raise ZeroDivisionError(result)

    async with bench(tmp_path) as it:
        it.relays.gate.set()
        it.board.command("relays", "a", 1, "anna", on_result=stumble)
        it.board.command("relays", "b", 1, "anna")
        await until(lambda: ("b", 1) in it.relays.ended)
        assert "what followed from setting relays has failed on a bug" in caplog.text


async def test_time_is_given_to_the_board_when_it_wants_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.relays.gate.set()
        keeping = asyncio.create_task(it.commander.keep_time())
        await asyncio.sleep(0)  # it waits for nothing
        it.board.add_rule(
            "ring", written(Reaction, "{set: {relays.a: {pulse: 20ms}, relays.b: {blink: 50ms}}}")
        )
        it.board.act("ring", Severity.WARNING)
        await until(lambda: ("a", 0) in it.relays.ended and it.relays.ended.count(("b", 1)) >= 3)
        it.board.release("ring")
        await until(lambda: it.relays.ended[-1] == ("b", 0) and not it.relays.at_once)
        commands = [said for said in await it.told() if said[0] == EventType.COMMAND and said[1] == "b"]
        assert commands == [
            (EventType.COMMAND, "b", 1, "blinks, 50ms on, 50ms off"), (EventType.COMMAND, "b", 0, None),
        ]  # fmt: skip
        keeping.cancel()


async def test_nothing_is_put_out_once_outputs_are_about_to_be_closed(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.relays.gate.set()
        it.board.command("relays", "a", 1, "anna")
        await it.commander.close()
        it.board.command("relays", "b", 1, "anna")
        for _ in range(10):
            await asyncio.sleep(0)
        assert it.relays.begun == []
        assert await it.told() == [
            (EventType.COMMAND, "a", 1, None),
            (EventType.COMMAND_FAILED, "a", 1, "the agent stops"),
        ]


async def test_what_is_being_written_as_the_agent_stops_may_end(tmp_path: Path) -> None:
    results: list[str] = []
    async with bench(tmp_path) as it:
        it.board.command("relays", "a", 1, "anna", on_result=results.append)
        it.board.command("relays", "b", 1, "anna", on_result=results.append)
        await until(lambda: it.relays.begun == [("a", 1)])
        asyncio.get_running_loop().call_later(0.05, it.relays.gate.set)
        await it.commander.close()
        assert it.relays.ended == [("a", 1)]
        assert results == ["the agent stops", ""]
        assert (EventType.COMMAND_DONE, "a", 1, None) in await it.told()


async def test_a_write_that_never_ends_has_failed_and_what_waits_behind_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commander, "PATIENCE", 0.05)
    results: list[str] = []
    async with bench(tmp_path) as it:
        it.board.command("relays", "a", 1, "anna", on_result=results.append)
        it.board.command("relays", "b", 1, "anna", on_result=results.append)
        await until(lambda: len(results) == 2)
        assert results == ["it has not ended within 0.05 s"] * 2
        assert it.relays.begun[:2] == [("a", 1), ("b", 1)]


async def test_what_is_wanted_in_one_moment_is_put_out_one_after_the_other(tmp_path: Path) -> None:
    results: list[str] = []
    async with bench(tmp_path) as it:
        it.relays.gate.set()
        for value in (1, 0, 1):
            it.board.command("relays", "a", value, "anna", on_result=results.append)
        await until(lambda: len(results) == 3)
        assert it.relays.ended == [("a", 1), ("a", 0), ("a", 1)]
        assert results == ["", "", ""]
