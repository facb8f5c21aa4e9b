"""A desk with what is behind it: a lamp that may be set from afar, a siren that may not, a polled sensor, one rule."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

from agent import contracts
from agent.busthreads import BusThreads
from agent.commander import Commander
from agent.errors import Disconnected
from agent.events import Ask, Reading, Request, Value
from agent.intake import Intake
from agent.outcome import RuleOutcome
from agent.outputs.settings import Commands, Settings
from agent.quantities import Duration
from agent.reporter import Reporter
from agent.reporter import Settings as Report
from agent.requests import Desk, Settable
from agent.rulebook import Rulebook
from agent.rules import threshold
from agent.supervisor import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from agent.clock import Clock
    from agent.eventlog import EventLog


class Lamp(contracts.Output[contracts.Settings]):
    """A lamp, or a siren, with levels from 0 to 9, of which 9 breaks it.

    Attributes:
        written: What it was set to.
        slow: Set lets writes end; before that they wait.
    """

    def __init__(self) -> None:
        super().__init__(contracts.Settings())
        self.written: list[Value] = []
        self.slow = asyncio.Event()
        self.slow.set()

    def channels(self) -> Mapping[str, str]:
        """Return its one channel."""
        return {"level": ""}

    def safe(self) -> Mapping[str, Value]:
        """Return that it is off."""
        return {"level": 0}

    async def open(self) -> None:
        """Do nothing."""

    async def read(self) -> Sequence[Reading]:
        """Wait for ever."""
        await asyncio.Event().wait()
        return []

    async def write(self, channel: str, value: Value) -> None:
        """Note the value."""
        assert channel == "level"
        await self.slow.wait()
        if value == 9:
            raise Disconnected("the lamp is broken")
        self.written.append(value)

    async def close(self) -> None:
        """Do nothing."""


class Polled(contracts.Settings, frozen=True):
    """A time between readings that is longer than any test."""

    every: Duration = Duration(3600)


class Air(contracts.Driver[Polled]):
    """A sensor that is polled once an hour.

    Attributes:
        count: How often it was read.
        fault: What reading it raises; None where it is well.
    """

    def __init__(self) -> None:
        super().__init__(Polled())
        self.count = 0
        self.fault: Exception | None = None

    async def open(self) -> None:
        """Do nothing."""

    async def read(self) -> Sequence[Reading]:
        """Return the count."""
        self.count += 1
        if self.fault is not None:
            raise self.fault
        return [Reading({"temperature": self.count})]

    async def close(self) -> None:
        """Do nothing."""


class Front:
    """The desk and what is behind it, while the context lasts.

    Attributes:
        log: The log that it writes to.
        desk: The desk.
        lamp: May be set from afar, by default as often as one likes.
        siren: May not.
        air: The sensor, down unless it polls.
        rulebook: Has one rule: too-hot.
    """

    def __init__(self, log: EventLog, clock: Clock, *, polls: bool = True, **output: Any) -> None:
        self.log = log
        self.lamp, self.siren, self.air = Lamp(), Lamp(), Air()
        settings = Settings(**{"commands": Commands(max=9, at_most=Duration(0.001))} | output)
        commander = Commander(log, clock)
        board = commander.board
        self.rulebook = Rulebook(log, clock, board)
        hot = threshold.Rule(threshold.Settings(of="air.temperature", above=35.0))
        self.rulebook.add("too-hot", hot, RuleOutcome(latch=True))
        intakes: dict[str, Intake] = {}
        self.desk = Desk(log, clock, board, self.rulebook, intakes)
        commander.on_command = self.desk.on_command
        devices: dict[str, contracts.Driver[Any]] = {"lamp": self.lamp, "siren": self.siren, "air": self.air}
        for name, driver in devices.items():
            reporter = Reporter(Report(change=None, at_most=Duration(9999)), polled=name == "air")
            intakes[name] = Intake(name, driver, reporter, board, self.rulebook, log, clock, BusThreads())
            if isinstance(driver, Lamp):
                said = settings if name == "lamp" else Settings()
                commander.add(name, driver, said)
                self.desk.add(name, Settable(tuple(driver.safe()), driver.checked, said.allowed))
        self._air = intakes["air"]
        self._part = Part("device", "air", clock, lambda *_: None)
        self._commander = commander
        self._polls = polls
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin, with all devices up."""
        self.rulebook.restore()
        self.desk.restore()
        self._commander.board.on_up("lamp")
        self._commander.board.on_up("siren")
        self._tasks = [asyncio.create_task(self._commander.keep_time())]
        if self._polls:
            self._tasks.append(asyncio.create_task(self._air.run(self._part)))
            while not self.air.count:
                await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self.desk.close()
        await self._commander.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def heat(self, value: float) -> None:
        """Show the rule a temperature."""
        self.rulebook.record(self.rulebook.on_reading("air", {"temperature": value}, 0.0) or [], 0.0)

    def ask(self, to: str, payload: Any, *, is_local: bool = False, **more: Any) -> list[dict[str, Any]]:
        """Hand in a request from afar; return the list that its answer will be in."""
        answers: list[dict[str, Any]] = []
        of, *target = to.split("/") if to.startswith("alarm/") else ["device", *to.split("/")]
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        given = {"allowed": frozenset(Ask), "answer": lambda line: answers.append(json.loads(line))} | more
        request = Request(of, tuple(target), body, **given)  # type: ignore[arg-type]
        self.desk.take("mqtt site", request, is_local=is_local)
        return answers
