"""Answers local programs, such as `gatepost status`, over a Unix socket beside the log.

One request a connection, a JSON object in one line: `{"get": "status"}` is answered by one line; `{"get": "events",
"after": 1041, "follow": true}` by a line for each event, in the plain `json` encoding, until the caller hangs up; `"last":
20` in place of `after` begins with the last 20. Only the user who runs the agent, and root, may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.contracts import Encoding
    from agent.eventlog import EventLog

logger = logging.getLogger(__name__)

REQUEST_LIMIT: Final = 64 * 1024
PATIENCE: Final = 5.0
"""Seconds to wait for a request."""
CHUNK: Final = 500


class LocalApi:
    """The socket, served until cancelled."""

    def __init__(
        self,
        path: Path,
        log: EventLog,
        encoding: Encoding[Any],
        status: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self.path = path
        self._log = log
        self._encoding = encoding
        self._status = status
        self._callers: set[asyncio.StreamWriter] = set()

    async def serve(self) -> None:
        """Listen until cancelled; without the socket the agent runs all the same."""
        self.path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._answer, self.path, limit=REQUEST_LIMIT)
        except OSError as error:
            logger.warning("no local status: cannot listen on %s: %s", self.path, error)
            await asyncio.Event().wait()
            return
        finally:
            os.umask(before)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for caller in self._callers:
                caller.close()
            self.path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers.add(writer)
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
            try:
                async with asyncio.timeout(PATIENCE):
                    line = await reader.readline()
                request = msgspec.json.decode(line, type=dict[str, Any])
                match request:
                    case {"get": "status"}:
                        writer.write(msgspec.json.encode(await self._status()) + b"\n")
                    case {"get": "events", "after": int(after)}:
                        await self._send_events(writer, after, follow=request.get("follow") is True)
                    case {"get": "events", "last": int(last)}:
                        after = max(0, self._log.last - last)
                        await self._send_events(writer, after, follow=request.get("follow") is True)
                    case _:
                        writer.write(
                            b'{"error": "expected {\\"get\\": \\"status\\"} or {\\"get\\": \\"events\\", \\"after\\": SEQ}"}\n'
                        )
            except (ValueError, msgspec.DecodeError) as error:
                writer.write(
                    msgspec.json.encode({"error": f"expected a JSON object in one line: {error}"}) + b"\n"
                )
            await writer.drain()
        self._callers.discard(writer)
        writer.close()

    async def _send_events(self, writer: asyncio.StreamWriter, after: int, *, follow: bool) -> None:
        wake = asyncio.Event()
        stop_listening = self._log.listen(wake.set)
        try:
            while True:
                wake.clear()
                events = await self._log.history(after, CHUNK)
                writer.write(b"".join(self._encoding.encode(event).payload + b"\n" for event in events))
                await writer.drain()
                if events:
                    after = events[-1].seq
                elif follow:
                    await wake.wait()
                else:
                    return
        finally:
            stop_listening()
