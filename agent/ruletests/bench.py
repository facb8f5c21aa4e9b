"""The gateway without a machine: the real rules and alarms, on the virtual clock, without an event loop.

It does in order what the agent does: what falls due before an input comes before it, each reading goes to the rules, and
what they put out is reported by the outputs and goes to the rules in turn.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from agent import registry
from agent.clock import VirtualClock
from agent.contracts import Output
from agent.errors import GatepostError
from agent.events import ALARMS, EventType, Quality
from agent.outputs.board import Board
from agent.rulebook import Rulebook
from agent.ruletests.model import FAILED, Deed, Found, Happening, Subject
from agent.ruletests.moments import said
from agent.ruletests.plant import Plant
from agent.ruletests.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.config import Config
    from agent.contracts import Rule
    from agent.events import Event, Value
    from agent.outputs.puts import Put
    from agent.ruletests.model import Check
    from agent.ruletests.names import Names

MOST_REPORTS: Final = 1_000
"""Reports of outputs at one time, above which rules and outputs must be feeding each other."""

MOST_TURNS: Final = 10_000
"""Looks at the time at one time, above which rules and outputs must be for ever due."""

TEST: Final = "test"
"""The cause of what a test sets, and who acknowledges and shelves for it."""

_REASON: Final = "as the test says"
_ECHOES: Final = {
    "ack": EventType.ALARM_ACKNOWLEDGED,
    "shelve": EventType.ALARM_SHELVED,
    "unshelve": EventType.ALARM_UNSHELVED,
}


class CircleError(GatepostError):
    """Rules and outputs feed each other without end."""


class Bench:
    """One gateway, from its start on.

    Attributes:
        clock: The virtual clock; its monotonic time is that of the test.
        plant: The outputs.
    """

    def __init__(
        self,
        config: Config,
        names: Names,
        epoch: int,
        hear: Callable[[Happening], None],
        *,
        may_crash: bool = False,
    ) -> None:
        """Store what it is made of.

        Args:
            config: The configuration.
            names: Its names.
            epoch: The wall time at 0, in microseconds since 1970-01-01 UTC.
            hear: Called with all that happens.
            may_crash: Whether it may end without saving, so that it must save all the time, as the agent does.
        """
        self.clock = VirtualClock(0.0, epoch)
        self.clock.zone = names.zone
        self.plant = Plant(names.outputs, self._on_output)
        self._config = config
        self._names = names
        self._hear = hear
        self._record = Record(self.clock, self._on_event)
        self._down: dict[str, float] = {}  # since when, by device
        self._deed: Deed | None = None
        self._began: float | None = None
        self._rulebook: Rulebook | None = None
        self._board: Board | None = None
        self._puts: deque[Put] = deque()
        self._may_crash = may_crash

    @property
    def rulebook(self) -> Rulebook:
        """The rules at work.

        Raises:
            RuntimeError: The agent is away.
        """
        if self._rulebook is None:
            raise RuntimeError("the agent is away")
        return self._rulebook

    @property
    def board(self) -> Board:
        """The outputs' settings at work.

        Raises:
            RuntimeError: The agent is away.
        """
        if self._board is None:
            raise RuntimeError("the agent is away")
        return self._board

    @property
    def is_away(self) -> bool:
        """Whether the agent does not run."""
        return self._rulebook is None

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, with what an earlier start has saved."""
        self._began = self.clock.now
        self._puts.clear()
        board = self._board = Board(self._record, self.clock, self._put)
        rulebook = self._rulebook = Rulebook(self._record, self.clock, board)
        rulebook.is_lazy = not self._may_crash
        for device in self._config.devices.values():
            driver = registry.module("drivers", device.driver).Driver(device.settings)
            if isinstance(driver, Output):
                board.add(device.name, device.output, driver.safe(), driver.checked)
        for entry in self._config.rules.values():
            rule: Rule[Any] = registry.module("rules", entry.kind).Rule(entry.settings)
            rulebook.add(entry.name, rule, entry.outcome)
        rulebook.restore()
        for name in self._config.devices:
            if name in self._down:
                self._on_device(name, "down")
            else:
                self.plant.open(name)
                board.on_up(name)
        self._drain()

    def stop(self, *, clean: bool = True) -> None:
        """End, by itself or as a power cut would end it."""
        if clean:
            self.rulebook.save()
        self._rulebook = self._board = None
        self.plant.stop()

    def forget_down(self) -> None:
        """Take no device as down any more: it will be said again."""
        self._down.clear()

    # --- inputs ---------------------------------------------------------------------------------------------------

    def advance(self, to: float) -> None:
        """Let time go on, and give it to rules and outputs whenever they want it."""
        if self._began is not None and to > self._began:
            self.end()
        turns = 0
        while (due := self._deadline) <= to:
            turns = 0 if due > self.clock.now else turns + 1
            if turns > MOST_TURNS:
                raise CircleError(f"at {said(due)} rules and outputs never come to rest")
            self._give_time(max(due, self.clock.now))
        self.clock.now = to

    @property
    def _deadline(self) -> float:
        """When rules or outputs next want the time."""
        if self._rulebook is None or self._board is None:
            return math.inf
        due = self._board.deadline
        return self._rulebook.deadline if due is None else min(due, self._rulebook.deadline)

    def _give_time(self, now: float) -> None:
        self.clock.now = now
        if self.rulebook.deadline <= now:
            self.rulebook.on_time(now)
        if self.board.deadline is not None and self.board.deadline <= now:
            self.board.on_time(now)
        self._drain()

    def end(self) -> None:
        """Nothing more comes at this time: tell what a start has changed."""
        if self._began is not None:
            self._began = None
            self.plant.settle()

    def show(
        self, device: str, values: dict[str, Value], quality: Mapping[str, Quality] | None = None
    ) -> bool:
        """Show a reading; return whether there was anybody to see it: the agent runs, and the device is not down."""
        if self._rulebook is None or device in self._down:
            return False
        self._see(device, values, quality)
        if self._puts or self.plant.reports:
            self._drain()
        return True

    def _see(
        self, device: str, values: dict[str, Value], quality: Mapping[str, Quality] | None = None
    ) -> None:
        """Show a reading to interlocks and rules: what `Intake.take` does."""
        at = self.clock.now
        if quality is None and None in values.values():  # as drivers have it
            quality = {channel: Quality.BAD for channel, value in values.items() if value is None}
        self.board.on_reading(device, values, at, quality)
        outcome = self.rulebook.on_reading(device, values, at, quality)
        if outcome is not None:
            self.rulebook.record(outcome, at)

    def _put(self, put: Put) -> None:
        """Put something out, as soon as what the board is doing is done: what `Commander` does."""
        if not put.is_turn:
            self._record.append(EventType.COMMAND, put.device, put.facts)
        self._puts.append(put)

    def _drain(self) -> None:
        """Put out what is to be put out, and show what outputs then say of themselves."""
        count = 0
        while self._puts or self.plant.reports:
            count += 1
            if count > MOST_REPORTS:
                raise CircleError(f"at {said(self.clock.now)} rules and outputs feed each other without end")
            if self._puts:
                self._carry_out(self._puts.popleft())
            else:
                self._see(*self.plant.reports.popleft())

    def _carry_out(self, put: Put) -> None:
        if put.device in self._down:
            reason = f"{put.device} is down"
            self._record.append(EventType.COMMAND_FAILED, put.device, put.facts | {"reason": reason})
            self.board.failed(put, reason)
            return
        self.plant.put(put)
        if not put.is_turn:
            self._record.append(EventType.COMMAND_DONE, put.device, put.facts)
        self.board.done(put)

    def turn(self, device: str, what: str) -> None:
        """Let a device go down, come up, or say what makes no sense."""
        if what == "down":
            self._down.setdefault(device, self.clock.now)
        since = self._down.pop(device, None) if what == "up" else None
        if self.is_away:
            return
        is_settled = self.plant.is_settled
        self.plant.pause()
        self._on_device(device, what, since)
        self._drain()
        if is_settled:
            self.plant.settle()

    def _on_device(self, device: str, what: str, since: float | None = None) -> None:
        """Log what has become of a device, and tell rules and outputs: what `App` does."""
        append = self._record.append
        match what:
            case "down":
                self.board.on_down(device)
                self.rulebook.on_event(append(EventType.DEVICE_DOWN, device, {"reason": _REASON}))
            case "up":
                lasted = 0.0 if since is None else round(self.clock.now - since, 3)
                self.plant.open(device)
                self.rulebook.on_event(append(EventType.DEVICE_UP, device, {"down_for": lasted}))
                self.board.on_up(device)
            case _:
                facts: dict[str, Value] = {"reason": _REASON, "evidence": "", "count": 1}
                self.rulebook.on_event(append(EventType.BAD_READING, device, facts))

    def do(self, deed: Deed) -> None:
        """Do what somebody does.

        Raises:
            ImpossibleError: It cannot be done; the text says why.
        """
        self._deed = deed
        try:
            match deed.verb:
                case "ack":
                    self.rulebook.acknowledge(deed.target, TEST)
                case "shelve" if isinstance(deed.value, float):
                    self.rulebook.shelve(deed.target, deed.value, TEST)
                case "unshelve":
                    self.rulebook.unshelve(deed.target, TEST)
                case "set":
                    device, _, channel = deed.target.partition(".")
                    self.board.command(device, channel, deed.value, TEST)
                case _:
                    self.stop(clean=deed.verb == "restart")
            if not self.is_away:
                self._drain()
        finally:
            self._deed = None

    # --- what happens ---------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        deed = self._deed
        at = (event.time - self.clock.epoch) / 1e6
        if event.type == EventType.COMMAND_FAILED:
            subject = Subject(is_output=True, name=f"{event.source}.{event.values['channel']}")
            self._hear(Happening(at, subject, FAILED, event.values))
        elif event.type in ALARMS or event.type == EventType.RULE_THROTTLED:
            is_echo = (
                deed is not None and _ECHOES.get(deed.verb) == event.type and deed.target == event.source
            )
            subject = Subject(is_output=False, name=event.source)
            self._hear(Happening(at, subject, event.type.partition(".")[2], event.values, is_echo))

    def _on_output(self, channel: str, value: Value, cause: str) -> None:
        deed = self._deed
        is_echo = deed is not None and (deed.verb, deed.target) == ("set", channel) and cause == TEST
        subject = Subject(is_output=True, name=channel)
        self._hear(Happening(self.clock.now, subject, value, {"cause": cause}, is_echo))

    def look(self, check: Check) -> Found:
        """Say how something is, and whether it is as it should be."""
        if check.subject.is_output:
            value = self.plant.shown.get(check.subject.name)
            return Found(check, self._names.value(check.subject.name, value), check.wanted == (value,))
        if self.is_away:
            return Found(check, "not known: the agent is away", holds=False)
        states = ["inactive"]
        for name, alarm in self.rulebook.alarms:
            if name == check.subject.name:
                states = [alarm.state.value]
                states += ["shelved"] if alarm.shelved_until is not None else []
                states += ["suppressed"] if alarm.suppressed else []
        known = {*states, *(["active"] if states[0].startswith("active") else [])}
        return Found(check, ", ".join(states), known.issuperset(map(str, check.wanted)))
