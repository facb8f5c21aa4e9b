"""A rulebook of a configuration on a virtual clock, with a log in memory: readings, time and restarts, and what is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
from support.boards import no_outputs

from agent import config, contracts, registry
from agent.busthreads import BusThreads
from agent.clock import VirtualClock, from_iso
from agent.events import ALARMS, Event, Reading
from agent.intake import Intake
from agent.reporter import Reporter
from agent.reporter import Settings as Report
from agent.rulebook import Rulebook

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.config import Config
    from agent.eventlog import EventLog
    from agent.events import Quality, Value

DEVICES = """gateway: test
time_zone: Europe/Berlin
devices:
  plant: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [a, b, mode, part]}}
  other: {driver: serial_lines, port: /dev/ttyUSB1, parse: {csv: [mode]}}
rules:
"""


class MemoryLog:
    """What a rulebook asks of a log. States are kept as JSON, as in the file.

    Attributes:
        events: All that was appended.
        saves: How often a state was saved, by part.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.events: list[Event] = []
        self.saves: dict[str, int] = {}
        self._states: dict[str, bytes] = {}
        self._clock = clock

    def append(
        self,
        type_: str,
        source: str,
        values: dict[str, Value],
        time: int | None = None,
        quality: dict[str, Quality] | None = None,
    ) -> Event:
        wall = self._clock.wall() if time is None else time
        self.events.append(Event(1, len(self.events) + 1, type_, source, wall, values, quality))
        return self.events[-1]

    def put_state(self, part: str, state: Mapping[str, Value] | None) -> None:
        self.saves[part] = self.saves.get(part, 0) + 1
        self._states[part] = msgspec.json.encode(state)

    def state(self, part: str) -> dict[str, Value] | None:
        return msgspec.json.decode(self._states[part]) if part in self._states else None

    def saved_parts(self) -> Iterable[str]:
        return [part for part in self._states if self.state(part) is not None]


class Nothing(contracts.Driver[contracts.Settings]):
    """A driver that is only a name here."""

    async def open(self) -> None: ...

    async def read(self) -> Sequence[Reading]:
        return []

    async def close(self) -> None: ...


class Told(NamedTuple):
    """An alarm event."""

    rule: str
    at: float
    type: str
    facts: dict[str, Value]


def loaded(folder: Path, rules: str) -> Config:
    """Return a configuration with some rules on the devices `plant` and `other`."""
    path = folder / "site.yaml"
    path.write_text(DEVICES + rules)
    return config.load(path, {})


class Desk:
    """A rulebook at work, from a local time on.

    Attributes:
        clock: Its clock; `now` is 0 in the beginning.
        log: What it tells.
        rulebook: The rulebook; another after a restart.
    """

    def __init__(self, site: Config, start: str = "2026-01-05T07:00:00Z", *, knows_time: bool = True) -> None:
        """Begin at a time in UTC, to the second."""
        self.clock = VirtualClock(0.0, from_iso(start))
        self.clock.zone = site.zone
        self.clock.known = knows_time
        self.log = MemoryLog(self.clock)
        self._site = site
        self._begin()

    def _begin(self) -> None:
        log = cast("EventLog", self.log)
        board = no_outputs(log, self.clock)
        self.rulebook = Rulebook(log, self.clock, board)
        for entry in self._site.rules.values():
            rule: contracts.Rule[Any] = registry.module("rules", entry.kind).Rule(entry.settings)
            self.rulebook.add(entry.name, rule, entry.outcome)
        self.rulebook.restore()
        self._intakes = {
            name: Intake(
                name, Nothing(contracts.Settings()), Reporter(Report(), polled=True), board, self.rulebook, log, self.clock,
                BusThreads(),
            )
            for name in self._site.devices
        }  # fmt: skip

    def restart(self, down_for: float = 0.0, site: Config | None = None, *, crash: bool = False) -> None:
        """Stop (or crash) and start again, perhaps with another configuration."""
        if not crash:
            self.rulebook.save()
        self.clock.now += down_for
        self._site = site or self._site
        self._begin()

    def until(self, at: float) -> None:
        """Let the time go on."""
        self.clock.now = at
        self.rulebook.on_time(at)

    def see(
        self, at: float, device: str = "plant", quality: dict[str, Quality] | None = None, **values: Value
    ) -> None:
        """Read a device."""
        self.until(at)
        self.take([Reading(dict(values), at, quality)], device)

    def take(self, readings: Sequence[Reading], device: str = "plant") -> None:
        """Take in readings at once, the last of them of the present time."""
        self._intakes[device].take(readings)

    def lose(self, device: str) -> None:
        """Let a device be down."""
        self.rulebook.on_event(self.log.append("device.down", device, {"reason": "unplugged"}))

    def alarms(self) -> list[Told]:
        """Return what was told of alarms."""
        zero = self.clock.wall_at(0.0)
        return [
            Told(event.source, (event.time - zero) / 1e6, event.type.removeprefix("alarm."), event.values)
            for event in self.log.events
            if event.type in ALARMS
        ]

    def said(self) -> list[str]:
        """Return the same in short: `60 cold raised plant.a is 9, above 8`."""
        return [f"{told.at:g} {told.rule} {told.type} {_told(told)}" for told in self.alarms()]


def _told(told: Told) -> str:
    facts = told.facts
    return f"{facts.get('of')} {facts.get('value')} {facts.get('limit')}"
