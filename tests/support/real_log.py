"""A real event log on a real file, with the crashes and refusals that a test wants: the only calls into it."""

from __future__ import annotations

import shutil
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.log_model import Key, Picture, Range

from agent.eventlog import EventLog, EventStore, Settings, retention, writer
from agent.eventlog import log as log_module
from agent.quantities import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from agent.clock import VirtualClock
    from agent.eventlog.group import Group
    from agent.eventlog.settings import DropPolicy
    from agent.events import Event, Quality, Value


class NoCommit:
    """A connection to a disk that takes all but the commit."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(statement, *arguments)


def fail(whole: Callable[[Group], None] | None, group: Group) -> None:
    """Write nothing or all of it, and say that it could not be written."""
    if whole is not None:
        whole(group)
    raise sqlite3.OperationalError("disk I/O error")


def torn(before: tuple[bytes, bytes], after: tuple[bytes, bytes], part: int) -> tuple[bytes, bytes]:
    """Return what is left of a file and its write-ahead log where only so many sixteenths of a commit were written."""
    (database, wal), (database_after, wal_after) = before, after
    if database != database_after:
        return after  # the write-ahead log was moved into the file, which comes after the commit
    same = len(wal) if wal_after.startswith(wal) else 0
    upto = same + (len(wal_after) - same) * part // 16
    return database, wal_after[:upto] + wal[upto:]


class RealLog:
    """All that is done to a log, over crashes and restarts.

    Attributes:
        path: The file of the present run.
    """

    path: Path
    _log: EventLog

    def __init__(
        self,
        folder: Path,
        clock: VirtualClock,
        retain: float,
        commit: float,
        bounds: tuple[int | None, DropPolicy],
        memory: int,
    ) -> None:
        """Set one up; everything in it is small, so that much is read from the file.

        Args:
            folder: Where its files are.
            clock: Its clock.
            retain: As the setting, in seconds.
            commit: As the setting, in seconds.
            bounds: `max_size`, in bytes, and `when_full`.
            memory: Events kept in memory while the disk refuses.
        """
        max_size, when_full = bounds
        self._settings = Settings(
            commit=Duration(commit),
            retain=Duration(retain),
            max_size=Size(max_size or 2**29),
            min_free=Size(0),
            when_full=when_full,
        )
        self._small = pytest.MonkeyPatch()
        self._small.setattr(log_module, "GROUP", 8)
        self._small.setattr(writer, "GROUP", 8)
        self._small.setattr(writer, "TAIL_LIMIT", memory)
        if max_size is not None:
            self._small.setattr(retention, "CHUNK", 8)
        self._folder, self._clock = folder, clock
        self._lives = 0
        self._runs_on("0")

    def _runs_on(self, name: str) -> None:
        self.path = self._folder / name / "events.db"
        self.path.parent.mkdir()

    async def open(self, consumers: Sequence[str]) -> None:
        self._log = EventLog(self.path, self._settings, self._clock)
        await self._log.open(consumers, "1.0")
        assert self._log.writer.fault is None
        self._bystander = EventStore(self.path)
        self._bystander.open_reader()

    async def close(self) -> None:
        self._bystander.close()
        await self._log.close()

    def end(self) -> None:
        """Let go of it, in whatever state it is."""
        self._small.undo()
        self._let_go()

    def bytes_of_files(self) -> tuple[bytes, bytes]:
        """Return what a power cut leaves: the file and its write-ahead log."""
        return self.path.read_bytes(), self.path.with_name("events.db-wal").read_bytes()

    def crash(self, left: tuple[bytes, bytes]) -> None:
        """Go on with what a kill leaves of the files, in a folder of its own: to close them changes them."""
        self._let_go()
        self._lives += 1
        shutil.rmtree(self.path.parent)
        self._runs_on(str(self._lives))
        for name, data in zip(("events.db", "events.db-wal"), left, strict=True):
            (self.path.parent / name).write_bytes(data)

    def _let_go(self) -> None:
        self._bystander.close()
        self._log._file._writing.shutdown()
        self._log._file._reading.shutdown()
        self._log._file._reader.close()
        if self._log._file._store is not None:
            self._log._file._store.close()
        if self._log._file._lock is not None:
            self._log._file._lock.close()

    @property
    def begun(self) -> tuple[int, int, bool]:
        """The present run, its first sequence number, and whether the one before ended by itself."""
        return self._log.run, self._log.reader.first, self._log.was_clean

    @property
    def has_fault(self) -> bool:
        """Whether the disk has refused what was written last."""
        return self._log.writer.fault is not None

    # --- producers and consumers --------------------------------------------------------------------------------

    def append(
        self,
        kind: str,
        source: str,
        values: dict[str, Value],
        time: int | None,
        quality: dict[str, Quality] | None,
    ) -> Event:
        return self._log.append(kind, source, values, time, quality)

    def put_state(self, part: str, state: Mapping[str, Value] | None) -> None:
        self._log.put_state(part, state)

    def states(self) -> dict[str, dict[str, Value] | None]:
        return {part: self._log.state(part) for part in self._log.saved_parts()}

    def undelivered(self, key: Key) -> list[Range]:
        ranges = self._log.consumer(key[0]).undelivered(key[1])
        assert ranges[0][0] == self._log.consumer(key[0]).cursor(key[1])
        return ranges

    def acknowledge(self, key: Key, after: int, upto: int) -> None:
        self._log.consumer(key[0]).acknowledge(key[1], after, upto)

    def reject(self, consumer: str, event: Event, reason: str) -> None:
        self._log.consumer(consumer).reject(event, reason)

    async def waiting(self, consumer: str) -> int:
        return await self._log.consumer(consumer).waiting()

    async def retain(self) -> None:
        await self._log.retain()

    async def commit(self, refused: str | None) -> bool:
        """Commit as the log's own task does; whether the disk took it.

        Args:
            refused: Where the disk refuses it: `before` anything is written, `within` it, when all is written but not
                committed, or `after` it has reached the disk all the same; None where it does not.
        """
        store = self._log._file._store
        assert store is not None
        with pytest.MonkeyPatch.context() as trouble:
            if refused == "within":
                trouble.setattr(store, "db", NoCommit(store.db))
            elif refused is not None:
                trouble.setattr(store, "write", partial(fail, store.write if refused == "after" else None))
            try:
                await self._log.writer.commit()
            except sqlite3.Error as error:
                self._log.writer.on_fault(str(error))
                return False
        return True

    async def read(self, key: Key, after: int, upto: int | None, limit: int = 10_000) -> list[Event]:
        """Read a lane for a consumer as couriers do: from memory, and from the file where that is needed."""
        found: list[Event] = []
        while len(found) < limit:
            more = self._log.reader.peek(key[1], after, limit - len(found))
            if more is None:
                more = await self._log.reader.fetch(key[1], after, limit - len(found))
            wanted = [event for event in more if upto is None or event.seq <= upto]
            found += wanted
            if len(wanted) < max(len(more), 1):
                break
            after = more[-1].seq
        return found

    async def history(self) -> list[Event]:
        found: list[Event] = []
        while more := await self._log.reader.history(found[-1].seq if found else 0, 10_000):
            found += more
        return found

    def stored(self) -> Picture:
        """Read what is in the file, as another program does."""
        store = self._bystander
        return Picture(
            {event.seq: event for event in store.read(None, 0, None, 1_000_000)},
            store.cursors(),
            {key: {seq for a, b in found for seq in range(a, b + 1)} for key, found in store.ahead().items()},
            store.states(),
            {(each.event.id, each.consumer): tuple(each) for each in store.rejected()},
        )
