"""Boards for tests: one without outputs, and one whose outputs do at once what they are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from yaml.error import Mark

from agent import contracts
from agent.clock import VirtualClock
from agent.config.decoding import Decoder
from agent.config.variables import Variables
from agent.events import Event, EventType, Severity
from agent.outcome import Reaction
from agent.outputs.board import Board
from agent.outputs.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.clock import Clock
    from agent.eventlog import EventLog
    from agent.events import Reading, Value
    from agent.outputs.puts import Put


def no_outputs(log: EventLog, clock: Clock) -> Board:
    """Return a board without outputs."""

    def put(what: Put) -> None:
        raise AssertionError(f"there is no output, but {what} is put out")

    return Board(log, clock, put)


def written(kind: Any, text: str) -> Any:
    """Return settings from what an operator would write, such as `{min_on: 30s}`.

    Raises:
        ValueError: They have faults.
    """
    decoder = Decoder(Variables(Path(), {}))
    made = decoder.settings(kind, yaml.compose(text), "", Mark("", 0, 0, 0, None, 0))
    if made is None:
        raise ValueError("; ".join(fault.what for fault in decoder.faults))
    return made


class Log:
    """Keeps what is appended to it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, type_: str, source: str, values: dict[str, Value]) -> Event:
        event = Event(1, len(self.events) + 1, type_, source, 0, values)
        self.events.append(event)
        return event


class Relays(contracts.Output[contracts.Settings]):
    """Relays, as many as are named."""

    def __init__(self, safe: Mapping[str, Value]) -> None:
        super().__init__(contracts.Settings())
        self._safe = safe

    def safe(self) -> Mapping[str, Value]:
        return self._safe

    async def open(self) -> None: ...

    async def read(self) -> Sequence[Reading]:
        return []

    async def write(self, channel: str, value: Value) -> None: ...

    async def close(self) -> None: ...


class Table:
    """A board on a clock that is turned by hand, with a log of what was put out.

    Attributes:
        puts: What was put out, such as `5 fan.state 1 hot`.
        given: The same as it was given.
        times: When.
        broken: The reason for which outputs refuse everything; "" while they work.
    """

    def __init__(self, at: float = 0.0, *, slow: bool = False) -> None:
        self.clock = VirtualClock(at)
        self.log = Log()
        self.board = Board(cast("EventLog", self.log), self.clock, self._put)
        self.puts: list[str] = []
        self.given: list[Put] = []
        self.times: list[float] = []
        self.broken = ""
        self._is_slow = slow

    def _put(self, put: Put) -> None:
        self.given.append(put)
        self.times.append(self.clock.now)
        reason = f" ({put.reason})" if put.reason and not put.is_turn else ""
        self.puts.append(f"{self.clock.now:g} {put.device}.{put.channel} {put.value} {put.cause}{reason}")
        if self.broken:
            self.board.failed(put, self.broken)
        elif not self._is_slow:
            self.board.done(put)

    def output(self, name: str, text: str = "{}", *, safe: Value = 0, up: bool = True) -> None:
        """Add an output with one channel, `state`."""
        relay = Relays({"state": safe})
        self.board.add(name, written(Settings, text), relay.safe(), relay.checked)
        if up:
            self.board.on_up(name)

    def rule(self, name: str, then: str) -> None:
        """Add a rule by what it does, such as `{set: {fan.state: on}}`."""
        self.board.add_rule(name, written(Reaction, then))

    def until(self, at: float) -> None:
        """Let time go on, and give it to the board whenever it has asked for it."""
        assert at >= self.clock.now
        while (due := self.board.deadline) is not None and due <= at:
            self.clock.now = max(self.clock.now, due)
            self.board.on_time(self.clock.now)
        self.clock.now = at

    def raise_(self, at: float, rule: str, severity: Severity = Severity.WARNING) -> None:
        """Raise the alarm of a rule, or give it another severity."""
        self.until(at)
        self.board.act(rule, severity)

    def clear(self, at: float, rule: str) -> None:
        """End the alarm of a rule."""
        self.until(at)
        self.board.release(rule)

    def see(self, at: float, **values: Value) -> None:
        """Show a reading of the device `tank`."""
        self.until(at)
        self.board.on_reading("tank", values, at)

    def ask(self, at: float, value: Value, device: str = "fan", **more: Any) -> str:
        """Give a command, as anna."""
        self.until(at)
        return self.board.command(device, "state", value, "anna", **more)

    @property
    def failures(self) -> list[str]:
        """What was said to have failed, such as `fan 1 hot: interlocked: …`."""
        return [
            f"{event.source} {event.values['value']} {event.values['cause']}: {event.values['reason']}"
            for event in self.log.events
            if event.type == EventType.COMMAND_FAILED
        ]
