"""The Unix socket: what local programs are told, and what they may do to the agent."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.desks import Front

from agent import eventlog
from agent.api.local import LocalApi
from agent.clock import VirtualClock
from agent.contracts import Gateway
from agent.encodings import json as plain_json
from agent.eventlog import EventLog
from agent.events import EventType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@asynccontextmanager
async def serving(
    folder: Path, *, is_hot: bool = False, polls: bool = False
) -> AsyncIterator[tuple[EventLog, Path, asyncio.Task[None]]]:
    log = EventLog(folder / "events.db", eventlog.Settings(), VirtualClock())
    await log.open([], "1.0")

    async def status() -> dict[str, Any]:
        return {"gateway": "g"}

    front = Front(log, VirtualClock(), polls=polls)
    path = folder / "events.sock"
    api = LocalApi(
        [path],
        log.reader,
        plain_json.Encoding(plain_json.Settings(), Gateway("g", "1.0", 1)),
        status,
        {},
        front.rulebook,
        front.desk,
    )
    async with front:
        if is_hot:
            front.heat(36.0)
        task = asyncio.create_task(api.serve())
        await until(path.exists)
        try:
            yield log, path, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await log.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def ask(path: Path, request: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request + b"\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return [json.loads(line) for line in answer.splitlines()]


async def test_only_its_own_user_may_connect(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, path, _task):
        assert path.stat().st_mode & 0o077 == 0


async def test_what_others_make_while_it_begins_has_their_own_mode(tmp_path: Path) -> None:
    async def make_folders() -> None:
        for number in range(20):
            (tmp_path / f"folder-{number}").mkdir(mode=0o755)
            await asyncio.sleep(0)

    making = asyncio.create_task(make_folders())
    async with serving(tmp_path):
        await making
    assert {folder.stat().st_mode & 0o777 for folder in tmp_path.glob("folder-*")} == {0o755}


@pytest.mark.parametrize(
    "request_",
    [b"", b"garbage", b"[]", b'{"get": "nothing"}', b'{"get": "events"}', b'{"get": "events", "after": 1e400}',
     b"\xff" * 100, b"x" * 200_000, b'{"get": ' + b"[" * 60_000],
)  # fmt: skip
async def test_a_request_that_makes_no_sense_is_told_so(tmp_path: Path, request_: bytes) -> None:
    async with serving(tmp_path) as (log, path, _task):
        log.append(EventType.READING, "air", {"t": 1})
        await log.writer.commit()
        (answer,) = await ask(path, request_)
        assert "error" in answer
        assert await ask(path, b'{"get": "status"}') == [{"gateway": "g"}]


async def test_events_come_from_where_they_are_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as (log, path, _task):
        for number in range(5):
            log.append(EventType.READING, "air", {"t": number})
        await log.writer.commit()
        log.append(EventType.READING, "air", {"t": 5})  # not written yet
        for request, expected in (
            ({"after": 3}, [3, 4, 5]),
            ({"last": 2}, [4, 5]),
            ({"last": 99}, [0, 1, 2, 3, 4, 5]),
        ):
            found = await ask(path, json.dumps({"get": "events", **request}).encode())
            assert [event["values"]["t"] for event in found] == expected


async def test_a_follower_is_told_what_comes_and_let_go_when_the_agent_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as (log, path, task):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"get": "events", "after": 0, "follow": true}\n')
        log.append(EventType.READING, "air", {"t": 1})
        async with asyncio.timeout(10):
            assert json.loads(await reader.readline())["values"] == {"t": 1}
            task.cancel()
            assert await reader.read() == b""
        writer.close()


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_followers_that_hang_up_leave_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, path, _task):
        before = _open_files()
        for _ in range(20):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"get": "events", "after": 0, "follow": true}\n')
            await writer.drain()
            writer.close()
        await until(lambda: _open_files() <= before)


async def test_an_alarm_is_acknowledged_shelved_and_unshelved(tmp_path: Path) -> None:
    async with serving(tmp_path, is_hot=True) as (log, path, _task):
        for request in (
            {"alarm": "acknowledge", "rule": "too-hot", "by": "anna", "comment": "seen"},
            {"alarm": "shelve", "rule": "too-hot", "by": "anna", "for": 60},
            {"alarm": "unshelve", "rule": "too-hot", "by": "bert"},
        ):
            assert await ask(path, json.dumps(request).encode()) == [{"done": True}]
        events = await log.reader.history(0, 100)
        kinds = [EventType.ALARM_ACKNOWLEDGED, EventType.ALARM_SHELVED, EventType.ALARM_UNSHELVED]
        assert [event.type for event in events[-3:]] == kinds
        assert [event.values["by"] for event in events[-3:]] == ["anna", "anna", "bert"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"alarm": "acknowledge", "rule": "too-cold", "by": "anna"}, "there is no rule 'too-cold'"),
        ({"alarm": "unshelve", "rule": "too-hot", "by": "anna"}, "it is not shelved"),
        ({"alarm": "shelve", "rule": "too-hot", "by": "anna", "for": 1e9}, "8h at most"),
        ({"alarm": "shelve", "rule": "too-hot", "by": "anna", "for": "long"}, "expected a request"),
        ({"alarm": "shelve", "rule": "too-hot", "by": "anna", "for": [1]}, "expected a request"),
        ({"alarm": "forget", "rule": "too-hot", "by": "anna"}, "expected a request"),
    ],
)
async def test_what_cannot_be_asked_of_an_alarm_is_told(
    tmp_path: Path, request_: dict[str, Any], said: str
) -> None:
    async with serving(tmp_path, is_hot=True) as (_, path, _task):
        (answer,) = await ask(path, json.dumps(request_).encode())
        assert said in answer["error"]


# --- outputs and readings ---------------------------------------------------------------------------------------------


async def test_any_output_is_set_whether_or_not_it_lets_far_sides(tmp_path: Path) -> None:
    async with serving(tmp_path) as (log, path, _task):
        for output in ("lamp", "lamp.level", "siren"):
            (answer,) = await ask(path, json.dumps({"set": output, "value": 1, "by": "anna"}).encode())
            assert answer["done"] is True
        done = [e for e in await log.reader.history(0, 100) if e.type == EventType.COMMAND_DONE]
        assert [(event.source, event.values["value"]) for event in done] == [
            ("lamp", 1),
            ("lamp", 1),
            ("siren", 1),
        ]
        assert {event.values["cause"] for event in done} == {"anna over the local socket"}


async def test_a_polled_device_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path, polls=True) as (_, path, _task):
        (answer,) = await ask(path, b'{"read": "air"}')
        assert answer["done"] is True
        assert answer["values"] == {"temperature": 2}


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"set": "lmap", "value": 1}, "there is no device 'lmap'"),
        ({"set": "lamp.state", "value": 1}, "there is no channel 'state', expected one of: level"),
        ({"set": "lamp", "value": [1]}, "value expects a number"),
        ({"set": "lamp", "value": 9}, "the lamp is broken"),
        ({"set": "lamp", "value": 1, "wait": 0}, "it has expired"),
        ({"set": "lamp", "value": 1, "wait": "long"}, "expected a request"),
        ({"set": "lamp", "value": 1, "wait": None}, "expected a request"),
        ({"set": "lamp", "value": 1, "wait": "nan"}, "expected a request"),
        ({"set": "lamp"}, "expected a request"),
        ({"read": "air"}, "air is down"),
        ({"read": "lamp"}, "says by itself what changes"),
        ({"read": "air.temperature"}, "of a device, not of a channel"),
    ],
)
async def test_what_cannot_be_set_or_read_is_told(
    tmp_path: Path, request_: dict[str, Any], said: str
) -> None:
    async with serving(tmp_path) as (_, path, _task):
        (answer,) = await ask(path, json.dumps(request_).encode())
        assert said in answer["error"]
