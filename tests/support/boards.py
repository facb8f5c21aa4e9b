"""Boards for tests: one without outputs, and one whose outputs do at once what they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.outputs.board import Board

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.eventlog import EventLog
    from agent.outputs.puts import Put


def no_outputs(log: EventLog, clock: Clock) -> Board:
    """Return a board without outputs."""

    def put(what: Put) -> None:
        raise AssertionError(f"there is no output, but {what} is put out")

    return Board(log, clock, put)
