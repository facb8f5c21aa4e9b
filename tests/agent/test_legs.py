"""A stretch of the log on its way: what is gone from it belongs to the batch that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.logs import opened, read

from agent.events import Delivery, Lane
from agent.legs import CHUNK, Leg

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_is_gone_before_a_batch_is_acknowledged_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "events.db", consumers=[]) as log:
        events = [read(log, number) for number in range(CHUNK + 100)]
        await log.writer.commit()
        assert log.reader.base(Lane.READINGS) == events[-1].seq, "all are in the file only"
        leg = Leg(log.reader, Lane.READINGS, 0, None, Delivery.LIVE, 0)
        await leg.read_file()
        assert leg.take(CHUNK) == events[:CHUNK]
        assert leg.took(events[:CHUNK]) == 0
        await log._file.retain(lambda db: db.execute("DELETE FROM events WHERE seq > ?", (CHUNK,)))
        await leg.read_file()
        assert not leg.wants_file, "there is nothing more in it"
        new = read(log, 1)
        assert leg.take(10) == [new]
        assert leg.took([new]) == events[CHUNK - 1].seq
