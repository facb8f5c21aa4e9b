"""The log's file as the event loop sees it: one thread writes, one reads, and what the disk refuses is told from damage."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.errors import GatepostError
from agent.eventlog import opening, retention
from agent.eventlog.store import REMOVED, EventStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path
    from typing import TextIO

    from agent.eventlog.clocks import Clocks
    from agent.eventlog.group import Group
    from agent.eventlog.identity import Numbers
    from agent.events import Event, Lane

BAD_READS: Final = 3
"""Reads in a row that the disk refuses, after which the file counts as damaged: that page never comes."""

Refused: Final = (sqlite3.Error, OSError, GatepostError)
"""What the file may raise where it is not a bug."""

_T = TypeVar("_T")


class LogFile:
    """One log's file, held or not.

    Attributes:
        path: The database file.
        damage: What was found to be wrong with it, so that it must be taken anew; None where nothing is.
        on_damage: Called when `damage` is found while reading.
    """

    def __init__(self, path: Path, on_damage: Callable[[], None]) -> None:
        self.path = path
        self.damage: str | None = None
        self._on_damage = on_damage
        self._store: EventStore | None = None
        self._reader = EventStore(path)
        self._writing = ThreadPoolExecutor(1, "log-writer")
        self._reading = ThreadPoolExecutor(1, "log-reader")
        self._taking: asyncio.Future[opening.Opened] | None = None
        self._lock: TextIO | None = None
        self._taken: opening.Opened | None = None  # taken, and not begun yet
        self._bad_reads = 0

    @property
    def is_held(self) -> bool:
        """Whether it is ours to write."""
        return self._store is not None and self._taken is None

    async def _write(self, call: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, call, *arguments)

    async def _read(self, call: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, call, *arguments)

    # --- holding it -----------------------------------------------------------------------------------------------

    async def take(self, now: int, patience: float) -> opening.Opened:
        """Take the file to write: see `opening.take`. A try that takes longer goes on, and the next call waits for it.

        Raises:
            TimeoutError: Not within `patience` seconds.
            Refused: It cannot be had at present.
        """
        if self._taken is not None:
            return self._taken
        if self._taking is None:
            self._taking = asyncio.get_running_loop().run_in_executor(
                self._writing, opening.take, self.path, now, self.damage
            )
        await asyncio.wait({self._taking}, timeout=patience)
        if not self._taking.done():
            raise TimeoutError(f"the disk has not answered for {patience:g} s")
        taking, self._taking = self._taking, None
        opened = taking.result()
        self._store, self._lock, self._taken = opened.store, opened.lock, opened
        self.damage, self._bad_reads = None, 0
        return opened

    async def begin(
        self,
        opened: opening.Opened,
        numbers: Numbers,
        version: str,
        now: int,
        consumers: Collection[str],
    ) -> None:
        """Commit the start of a run, or go on with one that was begun before, and open the file for reading.

        Args:
            opened: What `take` returned.
            numbers: The run's.
            version: The agent's, for the record.
            now: The wall time, in microseconds since 1970-01-01 UTC.
            consumers: Those who read; for others the log is no longer kept.
        """
        await self._with_store(EventStore.begin_run, *numbers, now, version)
        gone = {name for name, _ in opened.kept.cursors}.difference(consumers)
        await self._with_store(EventStore.forget_consumers, gone)
        await self._read(self._reader.open_reader)
        self.use(opened.kept.clocks)
        self._taken = None

    async def look(self, patience: float) -> tuple[Numbers, opening.Kept] | None:
        """Open a file that cannot be written for reading: see `opening.look`."""
        try:
            async with asyncio.timeout(patience):
                known = await self._read(opening.look, self.path)
                if known is not None:
                    await self._read(self._reader.open_reader)
        except (TimeoutError, *Refused):
            return None
        return known

    def use(self, clocks: Clocks) -> None:
        """Have events that are read mended by what is known of the clock."""
        self._reader.clocks = clocks

    async def drop(self) -> None:
        """Let go of it, so that it can be taken again."""
        store, self._store, self._taken = self._store, None, None
        if store is not None:
            await self._write(store.close)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def close(self) -> None:
        """Let go of it for good."""
        await self._read(self._reader.close)
        if self._taking is None:
            await self.drop()  # the last to close moves the write-ahead log into the file
        self._writing.shutdown(wait=self._taking is None)
        self._reading.shutdown()

    # --- writing --------------------------------------------------------------------------------------------------

    async def write(self, group: Group) -> tuple[retention.Usage, list[Event]]:
        """Write a group in one transaction; return how full it is now, and the events that no file can hold.

        Raises:
            sqlite3.Error: Nothing was written, as far as is known.
        """
        return await self._with_store(_write, group)

    async def end_run(self, run: int, ended: int) -> None:
        """Commit the clean end of a run."""
        await self._with_store(EventStore.end_run, run, ended)

    async def retain(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """Call one of `retention` with the connection."""
        return await self._with_store(lambda store: call(store.db, *arguments))

    async def _with_store(self, call: Callable[..., _T], *arguments: Any) -> _T:
        store = self._store
        if store is None:
            raise sqlite3.OperationalError(self.damage or "it cannot be had")
        try:
            return await self._write(call, store, *arguments)
        except sqlite3.Error as error:
            if opening.is_damage(error):
                self.damage = str(error)
            elif str(error) == REMOVED:
                await self.drop()
            raise

    # --- reading --------------------------------------------------------------------------------------------------

    async def read(self, lane: Lane | None, after: int, upto: int | None, limit: int) -> list[Event]:
        """Return events, as `EventStore.read` does.

        Raises:
            sqlite3.Error: They cannot be read at present.
        """
        return await self._with_reader(EventStore.read, lane, after, upto, limit)

    async def count(self, lane: Lane, after: int, upto: int) -> int:
        """Return how many events there are, as `EventStore.count` does.

        Raises:
            sqlite3.Error: They cannot be read at present.
        """
        return await self._with_reader(EventStore.count, lane, after, upto)

    async def _with_reader(self, call: Callable[..., _T], *arguments: Any) -> _T:
        if not hasattr(self._reader, "db"):
            raise sqlite3.OperationalError("it cannot be had")
        try:
            result = await self._read(call, self._reader, *arguments)
        except Exception as error:
            is_io = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
            self._bad_reads += is_io
            if opening.is_damage(error) or self._bad_reads >= BAD_READS:
                self.damage = f"{type(error).__name__}: {error}"
                self._on_damage()
            if isinstance(error, sqlite3.Error) or not opening.is_damage(error):
                raise
            raise sqlite3.DatabaseError(self.damage) from error
        self._bad_reads = 0
        return result


def _write(store: EventStore, group: Group) -> tuple[retention.Usage, list[Event]]:
    unstorable: list[Event] = []
    try:
        store.write(group)
    except (TypeError, ValueError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        rest, unstorable = group.storable()
        if rest == group:
            raise
        store.write(rest)
    return retention.usage(store.db, store.path), unstorable
