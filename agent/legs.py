"""Stretches of the log on their way to one forwarder, and how fast a backlog may go."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from agent.events import Delivery, Lane

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from agent.eventlog import Reader
    from agent.events import Event

logger = logging.getLogger(__name__)

CHUNK: Final = 500
"""Events read from the file at once."""

BURST: Final = 0.1
"""Seconds of a rate that may go at once."""


class Flight:
    """A batch that was sent and is not acknowledged yet.

    Attributes:
        after: The sequence number before the batch's first; what lies between belongs to other lanes, or is gone.
        batch: The events.
        weight: How much of the forwarder's window it takes.
        done: Done when it is acknowledged.
    """

    def __init__(self, after: int, batch: Sequence[Event], weight: int, done: asyncio.Future[None]) -> None:
        self.after = after
        self.batch = batch
        self.weight = weight
        self.done = done


class Leg:
    """A stretch of one lane, or of both for a replay, that is carried in order.

    Attributes:
        lane: The lane; None for both.
        delivery: How its events are delivered.
        sent: Up to which sequence number it is sent.
        landed: Up to which it is acknowledged without a gap.
        upto: Its last sequence number; None where it has no end.
        flights: What is on its way.
    """

    def __init__(
        self, log: Reader, lane: Lane | None, after: int, upto: int | None, delivery: Delivery, chunk: int
    ) -> None:
        self.lane = lane
        self.delivery = delivery
        self.sent = self.landed = after
        self.upto = upto
        self.flights: deque[Flight] = deque()
        self._log = log
        self._flown = after  # up to where flights have been asked for
        self._backlog: list[Event] = []  # read from the file, not sent yet
        self._looked_upto = after  # what there is up to here is in the backlog, or sent
        self._chunk = max(CHUNK, chunk)

    @property
    def is_paced(self) -> bool:
        """Whether a rate limit holds for it: alarms that waited must not keep new ones waiting."""
        if self.lane is Lane.URGENT:
            return False
        return self.delivery is not Delivery.LIVE

    @property
    def is_sent(self) -> bool:
        """Whether nothing of it is left to send."""
        return self.upto is not None and self.sent >= self.upto

    @property
    def is_behind(self) -> bool:
        """Whether its next events are no longer in memory."""
        return not self._backlog and not self.is_sent and self.sent < self._base

    @property
    def has_next(self) -> bool:
        """Whether there is something to send that need not be read from the file first."""
        if self._backlog or self.is_sent or self.lane is None:
            return bool(self._backlog)
        found = self._log.peek(self.lane, self.sent, 1)
        if not found:
            return False
        return self.upto is None or found[0].seq <= self.upto

    @property
    def wants_file(self) -> bool:
        """Whether more of it should be read from the file now, so that sending need not wait for it."""
        return (
            len(self._backlog) < self._chunk // 2
            and not self.is_sent
            and self._read_upto < self._in_file_upto
        )

    @property
    def _base(self) -> int:
        if self.lane is None:  # a replay reads all of its stretch in turn, as far as there is anything
            return self._log.last if self.upto is None else self.upto
        return self._log.base(self.lane)

    @property
    def _in_file_upto(self) -> int:
        return self._base if self.upto is None else min(self._base, self.upto)

    @property
    def _read_upto(self) -> int:
        return max(self.sent, self._looked_upto)

    def take(self, limit: int) -> list[Event] | None:
        """Return the next events without waiting, or None where the file must be read first."""
        if self._backlog:
            return self._backlog[:limit]
        if self.is_sent:
            return []
        if self.lane is None:
            found: list[Event] | None = None if self.sent < self._base else []
        else:
            found = self._log.peek(self.lane, self.sent, limit)
        if found is not None and self.upto is not None:
            while found and found[-1].seq > self.upto:
                found.pop()
            if not found:
                self.sent = self.upto  # nothing of it is left
        return found

    def took(self, batch: Sequence[Event]) -> int:
        """Note that events that `take` returned are sent; return the sequence number before them, as `Flight.after` is."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s: %s to %s are sent", self.delivery.value, batch[0].id, batch[-1].id)
        before, self._flown = self._flown, batch[-1].seq
        self.sent = batch[-1].seq
        del self._backlog[: len(batch)]
        self._pass_over()
        return before

    def _pass_over(self) -> None:
        """Count what is not there at the end of what was read as sent."""
        if not self._backlog:
            self.sent = max(self.sent, self._looked_upto)

    async def read_file(self) -> None:
        """Read more of it from the file.

        Raises:
            sqlite3.Error: It cannot be read at present.
        """
        upto, after = self._in_file_upto, self._read_upto
        if self.lane is None:
            found = await self._log.history(after, self._chunk)
        else:
            found = await self._log.fetch(self.lane, after, self._chunk)
        if after != self._read_upto:
            return  # sent meanwhile
        self._backlog += [event for event in found if self.upto is None or event.seq <= self.upto]
        self._looked_upto = min(found[-1].seq, self.upto or found[-1].seq) if found else upto
        self._pass_over()


class Allowance:
    """A token bucket.

    Attributes:
        rate: Events a second; None for as many as are acknowledged.
    """

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._saved = 1.0
        self._at = 0.0

    def available(self, now: float) -> int:
        """Return how many events may go at a time, in seconds of any steady clock."""
        if self.rate is None:
            return 2**31
        most = max(1.0, self.rate * BURST)
        self._saved = min(most, self._saved + (now - self._at) * self.rate)
        self._at = now
        return int(self._saved)

    def spend(self, count: int) -> None:
        """Note that events went."""
        self._saved -= count

    @property
    def wait(self) -> float:
        """Seconds until the next event may go."""
        return 0.0 if self.rate is None else max(0.0, (1.0 - self._saved) / self.rate)


class Replay:
    """A stretch of the log that is sent once more.

    Attributes:
        upto: Its last sequence number.
        landed: Up to which sequence number it is acknowledged.
        acknowledged: How many events are.
        leg: What is on its way over the present connection; None while there is none.
    """

    def __init__(self, after: int, upto: int, rate: float | None) -> None:
        self.upto = upto
        self.landed = after
        self.acknowledged = 0
        self.leg: Leg | None = None
        self.allowance = Allowance(rate)

    @property
    def is_done(self) -> bool:
        """Whether all of it is acknowledged."""
        return self.landed >= self.upto
