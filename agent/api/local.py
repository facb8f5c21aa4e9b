"""Answers local programs, such as `gatepost status`, over a Unix socket beside the log, or else in the temporary folder.

One request a connection, a JSON object in one line: `{"get": "status"}` is answered by one line; `{"get": "events",
"after": 1041, "follow": true}` by a line for each event, in the plain `json` encoding, until the caller hangs up; `"last":
20` in place of `after` begins with the last 20. `{"replay": "site", "after": 100, "upto": 200, "rate": 50}` sends a stretch of the
log to a forwarder once more and is answered by a line of progress now and then, until it is done; a caller who hangs up
ends it. `{"get": "metrics"}` is answered by a page for Prometheus, and so is `GET /metrics HTTP/1.1`, by HTTP. `{"alarm": "acknowledge", "rule": "too-hot", "by": "anna", "comment": ""}`, `"shelve"` with `"for": 3600` (seconds) and `"unshelve"` change
the state of an alarm, and are answered by `{"done": true}`. `{"set": "fan.state", "value": "on", "by": "anna", "wait": 10}` sets an output,
if that can be done within so many seconds, and `{"read": "air"}` has a polled device read now; both are judged by `agent.requests`,
as if somebody asked who may set any output, and answered as it says. What goes wrong is answered by `{"error": …}`. Only the user who runs the agent, and root, may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent import metrics
from agent.errors import GatepostError
from agent.events import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from agent.contracts import Encoding
    from agent.courier import Courier
    from agent.eventlog import Reader
    from agent.requests import Desk
    from agent.rulebook import Rulebook

logger = logging.getLogger(__name__)

REQUEST_LIMIT: Final = 64 * 1024
PATIENCE: Final = 5.0
"""Seconds to wait for a request."""
CHUNK: Final = 500
HEADERS: Final = 100
"""Lines of an HTTP request that are read."""
COMMENT: Final = 500
"""Characters of a comment that are kept."""
SLOWEST: Final = 0.01
"""Events a second of a replay, at least: it would last for ever."""
TELL_EVERY: Final = 0.2
"""Seconds between lines of progress of a replay."""
ORIGIN: Final = "the local socket"
"""Who asks, for the log."""


class LocalApi:
    """The socket, served until cancelled."""

    def __init__(
        self,
        paths: Sequence[Path],
        log: Reader,
        encoding: Encoding[Any],
        status: Callable[[], Awaitable[dict[str, Any]]],
        couriers: Mapping[str, Courier],
        rulebook: Rulebook,
        desk: Desk,
    ) -> None:
        self._paths = paths
        self._log = log
        self._encoding = encoding
        self._status = status
        self._couriers = couriers
        self._rulebook = rulebook
        self._desk = desk
        self._answering: set[asyncio.Task[Any]] = set()

    async def serve(self) -> None:
        """Listen until cancelled; without the socket the agent runs all the same."""
        server: asyncio.Server | None = None
        for path in self._paths:  # the second is for a disk that takes nothing
            try:
                sock = _bound(path)
            except OSError as error:
                logger.warning("no local status at %s: %s", path, error)
                continue
            server = await asyncio.start_unix_server(self._answer, sock=sock, limit=REQUEST_LIMIT)
            break
        try:
            # Not `serve_forever`: since Python 3.12 its end waits for every caller to hang up, and followers do not.
            await asyncio.get_running_loop().create_future()
        finally:
            if server is not None:
                server.close()
                for task in self._answering:
                    task.cancel()
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- the server makes one for each caller
        self._answering.add(task)
        try:
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                await self._answer_one(reader, writer)
                await writer.drain()
        finally:
            self._answering.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                line = await reader.readline()
            if line.startswith(b"GET "):
                await self._answer_http(reader, writer, line)
                return
            match msgspec.json.decode(line, type=dict[str, Any]):
                case {"get": "status"}:
                    writer.write(msgspec.json.encode(await self._status()) + b"\n")
                case {"get": "metrics"}:
                    writer.write(await self._metrics())
                case {"get": "events", "after": int(after), **more}:
                    await self._send_events(reader, writer, after, follow=more.get("follow") is True)
                case {"get": "events", "last": int(last), **more}:
                    after = max(0, self._log.last - last)
                    await self._send_events(reader, writer, after, follow=more.get("follow") is True)
                case {"replay": str(name), "after": int(after), "upto": int(upto), **more}:
                    await self._replay(reader, writer, name, (after, upto), more.get("rate"))
                case {
                    "alarm": "acknowledge" | "shelve" | "unshelve" as verb,
                    "rule": str(rule),
                    "by": str(by),
                    **more,
                }:
                    self._change_alarm(verb, rule, by, more)
                    writer.write(b'{"done": true}\n')
                case {"set": str(target), "value": value, **more}:
                    await self._ask(reader, writer, target, {"value": value}, more)
                case {"read": str(target), **more}:
                    await self._ask(reader, writer, target, {"do": "read"}, more)
                case _:
                    raise ValueError(
                        "there is status, metrics, events with after or last, replay with after and upto, alarm with rule and by, "
                        "set with value, and read"
                    )
        except GatepostError as error:
            writer.write(msgspec.json.encode({"error": str(error)}) + b"\n")
        except sqlite3.Error as error:
            writer.write(msgspec.json.encode({"error": f"the event log cannot be read: {error}"}) + b"\n")
        except (ValueError, OverflowError, RecursionError, msgspec.DecodeError) as error:
            writer.write(msgspec.json.encode({"error": f"expected a request in one line: {error}"}) + b"\n")

    async def _metrics(self) -> bytes:
        return metrics.text(await self._status(), metrics.of_process()).encode()

    async def _answer_http(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes
    ) -> None:
        """Answer a request for the metrics as a web server would; there is nothing else to be had that way."""
        async with asyncio.timeout(PATIENCE):
            for _ in range(HEADERS):
                if not (await reader.readline()).strip():
                    break
        if line.split()[1:2] == [b"/metrics"]:
            status, kind, page = "200 OK", metrics.CONTENT_TYPE, await self._metrics()
        else:
            status, kind, page = "404 Not Found", "text/plain; charset=utf-8", b"there is /metrics\n"
        head = f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + page)

    def _change_alarm(self, verb: str, rule: str, by: str, more: Mapping[str, Any]) -> None:
        comment = str(more.get("comment", ""))[:COMMENT]
        match verb:
            case "acknowledge":
                self._rulebook.acknowledge(rule, by, comment)
            case "shelve":
                self._rulebook.shelve(rule, _seconds(more.get("for", 0)), by, comment)
            case _:
                self._rulebook.unshelve(rule, by)

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target: str,
        said: dict[str, Any],
        more: Mapping[str, Any],
    ) -> None:
        """Have something done, and tell what became of it."""
        said |= {name: more[name] for name in ("id", "by") if name in more}
        wait = _seconds(more["wait"]) if "wait" in more else None
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(line: bytes) -> None:
            if not answered.done():
                answered.set_result(line)

        parts = tuple(target.split(".", 1))
        payload = msgspec.json.encode(said)
        self._desk.take(
            ORIGIN, Request("device", parts, payload, good_for=wait, answer=answer), is_local=True
        )
        hung_up = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({hung_up, answered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hung_up.cancel()
        if answered.done():
            writer.write(answered.result() + b"\n")

    async def _replay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        name: str,
        stretch: tuple[int, int],
        rate: object,
    ) -> None:
        """Replay a stretch and tell how far it has come, until it is done or the caller hangs up."""
        courier = self._couriers.get(name)
        if courier is None:
            known = ", ".join(self._couriers) or "none"
            raise GatepostError(f"there is no forwarder {name!r}, expected one of: {known}")
        after, upto = max(stretch[0], 0), min(stretch[1], self._log.last)
        limit = max(float(rate), SLOWEST) if isinstance(rate, int | float) and rate > 0 else None
        replay = courier.start_replay(after, upto, limit)
        hung_up = asyncio.ensure_future(reader.read(1))
        try:
            while True:
                done = replay.is_done
                told = {
                    "landed": replay.landed,
                    "acknowledged": replay.acknowledged,
                    "upto": upto,
                    "connected": courier.is_connected,
                    "done": done,
                }
                writer.write(msgspec.json.encode(told) + b"\n")
                await writer.drain()
                if done:
                    return
                await asyncio.wait({hung_up}, timeout=TELL_EVERY)
                if hung_up.done():
                    return
        finally:
            hung_up.cancel()
            courier.end_replay()

    async def _send_events(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after: int, *, follow: bool
    ) -> None:
        wake = asyncio.Event()
        stop_listening = self._log.listen(wake.set)
        # A caller that hangs up is noticed also where no event comes: nothing else is expected of it.
        hung_up = asyncio.ensure_future(reader.read(1))
        hung_up.add_done_callback(lambda _: wake.set())
        try:
            while True:
                wake.clear()
                events = await self._log.history(after, CHUNK)
                writer.write(b"".join(self._encoding.encode(event).payload + b"\n" for event in events))
                await writer.drain()
                if events:
                    after = events[-1].seq
                elif follow and not hung_up.done():
                    await wake.wait()
                else:
                    return
        finally:
            hung_up.cancel()
            stop_listening()


def _seconds(said: object) -> float:
    """Return a time that somebody asks for; a text such as `nan` is none.

    Raises:
        ValueError: It is no number.
    """
    if isinstance(said, bool) or not isinstance(said, int | float):
        raise ValueError("for and wait are seconds, a number")
    return float(said)


def _bound(path: Path) -> socket.socket:
    """Return a socket at a path that only its own user may use.

    Raises:
        OSError: It cannot be there.
    """
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)  # for no longer than this: all tasks and threads share it
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock
