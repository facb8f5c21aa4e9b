"""Rules at work: what is logged, what is set, and what a restart remembers."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.boards import no_outputs
from support.rulebooks import Desk, loaded

from agent import contracts, eventlog
from agent.busthreads import BusThreads
from agent.clock import VirtualClock, from_iso
from agent.commander import Commander
from agent.errors import Disconnected
from agent.eventlog import EventLog
from agent.events import Event, EventType, Reading, Severity, Value
from agent.intake import Intake
from agent.outcome import Action, Reaction, RuleOutcome
from agent.outputs.board import Board
from agent.outputs.settings import Settings as OutputSettings
from agent.quantities import Change, Duration
from agent.reporter import Reporter
from agent.reporter import Settings as Report
from agent.rulebook import Rulebook
from agent.rules import threshold
from agent.ruletests.record import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

HOT = threshold.Settings(of="air.temperature", above=35.0, clear=33.0, for_=Duration(10))


class Nothing(contracts.Driver[contracts.Settings]):
    """A driver that is only a name here."""

    async def open(self) -> None: ...

    async def read(self) -> Sequence[Reading]:
        return []

    async def close(self) -> None: ...


class Fan(contracts.Output[contracts.Settings]):
    """An output that remembers what was written to it."""

    def __init__(self) -> None:
        super().__init__(contracts.Settings())
        self.written: list[Value] = []
        self.broken = False

    async def open(self) -> None: ...

    async def read(self) -> Sequence[Reading]:
        return []

    def safe(self) -> dict[str, Value]:
        return {"state": 0}

    async def write(self, channel: str, value: Value) -> None:
        if self.broken:
            raise Disconnected("the relay board is gone")
        assert channel == "state"
        self.written.append(value)

    async def close(self) -> None: ...


async def history(log: EventLog) -> list[Event]:
    """Return all events, of the file and of the tail."""
    found: list[Event] = []
    while more := await log.reader.history(found[-1].seq if found else 0, 1000):
        found += more
    return found


class Bench:
    """A log, a rule on a device, and an output, on a clock that is turned by hand."""

    def __init__(self, log: EventLog, clock: VirtualClock, report: Report) -> None:
        self.log = log
        self.clock = clock
        self.fan = Fan()
        self.commander = Commander(log, clock)
        self.board = self.commander.board
        self.commander.add("fan", self.fan, OutputSettings())
        self.rules = Rulebook(log, clock, self.board)
        reporter = Reporter(report, polled=True)
        self.intake = Intake(
            "air", Nothing(contracts.Settings()), reporter, self.board, self.rules, log, clock, BusThreads()
        )

    def see(self, at: float, **values: Value) -> None:
        self.clock.now = at
        self.intake.take([Reading(dict(values), at)])

    async def events(self, *types: str) -> list[Event]:
        await asyncio.sleep(0)  # commands begin in the next turn of the loop
        await asyncio.sleep(0)
        return [event for event in await history(self.log) if not types or event.type in types]


class BootClock(VirtualClock):
    """A clock of a boot of its own."""

    def __init__(self, now: float, boot: str) -> None:
        super().__init__(now)
        self._boot_id = boot

    def boot(self) -> str:
        return self._boot_id


@asynccontextmanager
async def bench(
    path: Path,
    settings: threshold.Settings = HOT,
    *,
    start: float = 0.0,
    outcome: RuleOutcome | None = None,
    report: Report | None = None,
    jumped: float = 0.0,
    boot: str = "virtual",
) -> AsyncIterator[Bench]:
    clock = BootClock(start, boot)
    clock.epoch += round(jumped * 1e6)
    log = EventLog(path / "events.db", eventlog.Settings(), clock)
    await log.open([], "1.0")
    made = Bench(log, clock, report or Report())
    made.rules.add("too-hot", threshold.Rule(settings), outcome or RuleOutcome())
    made.rules.restore()
    made.board.on_up("fan")
    try:
        yield made
    finally:
        await log.close()


async def test_the_log_has_cause_before_effect_with_value_limit_and_message(tmp_path: Path) -> None:
    outcome = RuleOutcome(severity=Severity.CRITICAL, message="{rule}: {of}={value:.1f} {limit} ({severity})")
    async with bench(tmp_path, outcome=outcome) as it:
        it.see(0, temperature=36.0)
        it.see(10, temperature=36.25)
        it.see(20, temperature=33.0)
        found = await it.events()
        # What falls due at the moment of a reading comes before it.
        types = (EventType.READING, EventType.ALARM_RAISED, EventType.READING, EventType.READING)
        assert tuple(event.type for event in found) == (*types, EventType.ALARM_CLEARED)
        alarm, cleared = found[1], found[4]
        assert (alarm.source, alarm.time) == ("too-hot", it.clock.wall_at(10.0))
        assert alarm.values == {
            "severity": "critical", "of": "air.temperature", "value": 36.0, "limit": "above 35",
            "message": "too-hot: air.temperature=36.0 above 35 (critical)", "state": "active-unacknowledged",
        }  # fmt: skip
        assert cleared.values["duration"] == 10.0


async def test_a_deadband_neither_hides_nor_delays_an_alarm_and_the_readings_that_matter_are_kept(
    tmp_path: Path,
) -> None:
    instant = threshold.Settings(of="air.temperature", above=35.0)
    async with bench(tmp_path, instant, report=Report(change=Change(1000.0), at_most=Duration(3600))) as it:
        it.see(0, temperature=34.9)
        it.see(1, temperature=34.95)
        it.see(2, temperature=35.1)
        it.see(3, temperature=34.9)
        kept = [event.values.get("temperature") for event in await it.events(EventType.READING)]
        assert kept == [34.9, 35.1, 34.9]
        assert [e.type for e in await it.events(EventType.ALARM_RAISED, EventType.ALARM_CLEARED)] == [
            EventType.ALARM_RAISED,
            EventType.ALARM_CLEARED,
        ]


async def test_an_alarm_with_a_delay_is_raised_by_the_time_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.see(0, temperature=36.0)
        it.rules.on_time(9.9)
        assert await it.events(EventType.ALARM_RAISED) == []
        it.rules.on_time(10.0)
        assert len(await it.events(EventType.ALARM_RAISED)) == 1
        assert [rule for rule, _ in it.rules.alarms] == ["too-hot"]


async def test_keep_time_gives_rules_the_time_without_any_reading(tmp_path: Path) -> None:
    quick = threshold.Settings(of="air.temperature", above=35.0, for_=Duration(0.02))
    async with bench(tmp_path, quick) as it:
        task = asyncio.create_task(it.rules.keep_time())
        it.see(0, temperature=36.0)
        it.clock.now = 1.0
        async with asyncio.timeout(5):
            while not await it.events(EventType.ALARM_RAISED):
                await asyncio.sleep(0.001)
        task.cancel()


async def test_an_output_is_set_and_released_without_any_network(tmp_path: Path) -> None:
    outcome = RuleOutcome(then=Reaction(set={"fan.state": True}, otherwise=False))
    async with bench(tmp_path, threshold.Settings(of="air.temperature", above=35.0), outcome=outcome) as it:
        it.see(0, temperature=36.0)
        await it.events()
        it.see(1, temperature=30.0)
        commands = await it.events(EventType.COMMAND, EventType.COMMAND_DONE)
        assert it.fan.written == [1, 0]
        assert [(e.type, e.values["value"], e.values["cause"]) for e in commands] == [
            (EventType.COMMAND, 1, "too-hot"), (EventType.COMMAND_DONE, 1, "too-hot"),
            (EventType.COMMAND, 0, "too-hot"), (EventType.COMMAND_DONE, 0, "too-hot"),
        ]  # fmt: skip


@pytest.mark.parametrize(("otherwise", "written"), [(None, [1, 0]), ("leave", [1]), (False, [1, 0])])
async def test_when_the_alarm_is_over_the_output_is_released_or_left(
    tmp_path: Path, otherwise: str | bool | None, written: list[Value]
) -> None:
    outcome = RuleOutcome(then=Reaction(set={"fan.state": True}, otherwise=otherwise))
    async with bench(tmp_path, threshold.Settings(of="air.temperature", above=35.0), outcome=outcome) as it:
        it.see(0, temperature=36.0)
        await it.events()
        it.see(1, temperature=30.0)
        await it.events()
        assert it.fan.written == written


async def test_a_command_that_fails_is_an_event_and_is_given_again_when_the_output_is_back(
    tmp_path: Path,
) -> None:
    outcome = RuleOutcome(then=Reaction(set={"fan.state": True}))
    async with bench(tmp_path, threshold.Settings(of="air.temperature", above=35.0), outcome=outcome) as it:
        it.fan.broken = True
        it.see(0, temperature=36.0)
        (failed,) = await it.events(EventType.COMMAND_FAILED)
        assert failed.values["reason"] == "the relay board is gone"
        it.fan.broken = False
        it.board.on_up("fan")
        await it.events()
        assert it.fan.written == [1]


async def test_an_active_alarm_survives_a_restart_is_not_raised_twice_and_sets_its_output_again(
    tmp_path: Path,
) -> None:
    outcome = RuleOutcome(then=Reaction(set={"fan.state": True}, otherwise=False))
    instant = threshold.Settings(of="air.temperature", above=35.0)
    async with bench(tmp_path, instant, outcome=outcome) as it:
        it.see(0, temperature=36.0)
        ((_, raised),) = it.rules.alarms
    async with bench(tmp_path, instant, outcome=outcome, start=100.0) as it:
        await it.events()
        assert it.fan.written == [1]
        ((_, alarm),) = it.rules.alarms
        assert (alarm.raised, alarm.message, alarm.severity, alarm.state) == (
            raised.raised, raised.message, raised.severity, raised.state,
        )  # fmt: skip
        it.see(101, temperature=37.0)
        assert len(await it.events(EventType.ALARM_RAISED)) == 1
        it.see(160, temperature=20.0)
        (cleared,) = await it.events(EventType.ALARM_CLEARED)
        assert cleared.values["duration"] == 160.0
        assert it.rules.alarms == []
    async with bench(tmp_path, instant, outcome=outcome, start=200.0) as it:
        assert it.rules.alarms == []


@pytest.mark.parametrize(("slept", "raised"), [(4.0, False), (6.0, True)])
async def test_a_delay_goes_on_where_it_was_after_a_restart(
    tmp_path: Path, slept: float, raised: bool
) -> None:
    async with bench(tmp_path) as it:
        it.see(0, temperature=36.0)
        it.clock.now = 5.0
    async with bench(tmp_path, start=5.0 + slept - 0.001) as it:
        it.rules.on_time(5.0 + slept)
        assert bool(await it.events(EventType.ALARM_RAISED)) is raised


@pytest.mark.parametrize("jumped", [-18_000.0, 18_000.0])
async def test_a_clock_that_jumps_between_two_runs_of_one_boot_makes_a_delay_neither_early_nor_late(
    tmp_path: Path, jumped: float
) -> None:
    async with bench(tmp_path) as it:
        it.see(0, temperature=36.0)
        it.clock.now = 5.0
    async with bench(tmp_path, start=8.0, jumped=jumped) as it:
        it.rules.on_time(9.9)
        assert not await it.events(EventType.ALARM_RAISED)
        it.rules.on_time(10.0)
        assert await it.events(EventType.ALARM_RAISED)


async def test_over_a_reboot_a_delay_goes_on_by_the_wall_clock(tmp_path: Path) -> None:
    async with bench(tmp_path, start=1000.0) as it:
        it.see(1000, temperature=36.0)
    # Booted again two seconds later: the monotonic clock begins at 0.
    async with bench(tmp_path, start=1.0, jumped=1001.0, boot="another") as it:
        it.rules.on_time(8.9)
        assert not await it.events(EventType.ALARM_RAISED)
        it.rules.on_time(9.1)
        assert await it.events(EventType.ALARM_RAISED)


@pytest.mark.parametrize(("slept", "written"), [(10.0, [1, 0]), (40.0, [])])
async def test_a_time_for_which_an_output_is_set_goes_on_where_it_was_after_a_restart(
    tmp_path: Path, slept: float, written: list[Value]
) -> None:
    outcome = RuleOutcome(then=Reaction(set={"fan.state": Action(value=True, for_=Duration(30))}))
    instant = threshold.Settings(of="air.temperature", above=35.0)
    async with bench(tmp_path, instant, outcome=outcome) as it:
        it.see(0, temperature=36.0)
        await it.events()
        it.clock.now = 5.0
        assert (it.fan.written, it.board.deadline) == ([1], 30.0)
    async with bench(tmp_path, instant, outcome=outcome, start=5.0 + slept) as it:
        it.board.on_time(it.clock.now)
        await it.events()
        assert it.board.deadline == (30.0 if written else None)
        it.clock.now = 100.0
        it.board.on_time(it.clock.now)
        await it.events()
        assert it.fan.written == written
        assert [rule for rule, _ in it.rules.alarms] == ["too-hot"]


async def test_an_alarm_that_becomes_worse_takes_the_output_from_another(tmp_path: Path) -> None:
    steps = threshold.Settings(of="air.temperature", above={Severity.WARNING: 35.0, Severity.CRITICAL: 45.0})
    outcome = RuleOutcome(then=Reaction(set={"fan.state": True}))
    async with bench(tmp_path, steps, outcome=outcome) as it:
        quiet = threshold.Settings(of="air.humidity", above=80.0)
        silence = RuleOutcome(severity=Severity.MAJOR, then=Reaction(set={"fan.state": False}))
        it.rules.add("too-damp", threshold.Rule(quiet), silence)
        for at, temperature in ((0, 36.0), (2, 50.0), (3, 40.0)):
            it.see(at, temperature=temperature)
            await it.events()
            it.see(at + 1, humidity=90.0)
            await it.events()
        assert it.fan.written == [1, 0, 1, 0]


async def test_an_alarm_whose_rule_was_removed_is_cleared_with_that_reason(tmp_path: Path) -> None:
    async with bench(tmp_path, threshold.Settings(of="air.temperature", above=35.0)) as it:
        it.see(0, temperature=36.0)
    clock = VirtualClock(10.0)
    log = EventLog(tmp_path / "events.db", eventlog.Settings(), clock)
    await log.open([], "1.0")
    Rulebook(log, clock, no_outputs(log, clock)).restore()
    (cleared,) = [e for e in await history(log) if e.type == EventType.ALARM_CLEARED]
    assert (cleared.source, cleared.values["reason"]) == ("too-hot", "the rule was removed")
    await log.close()


async def test_a_rule_that_only_reacts_sets_its_output_and_no_event_tells_of_an_alarm(tmp_path: Path) -> None:
    outcome = RuleOutcome(alarm=False, then=Reaction(set={"fan.state": 1}))
    hot = threshold.Settings(of="air.temperature", above=35.0)
    async with bench(tmp_path, hot, outcome=outcome) as it:
        it.see(0, temperature=36.0)
        assert it.rules.alarms == []
        await it.events()
        assert it.fan.written == [1]
    async with bench(tmp_path, hot, outcome=outcome, start=20.0) as it:  # it goes on over a restart
        await it.events()
        assert it.fan.written == [1]
        it.see(30, temperature=30.0)
        found = await it.events()
        assert it.fan.written == [1, 0]
    assert [event.type for event in found if event.type.startswith("alarm.")] == []


async def test_an_alarm_that_a_rule_no_longer_raises_is_cleared_and_one_that_it_raises_now_is_told(
    tmp_path: Path,
) -> None:
    hot = threshold.Settings(of="air.temperature", above=35.0)
    async with bench(tmp_path, hot) as it:
        it.see(0, temperature=36.0)
    async with bench(tmp_path, hot, outcome=RuleOutcome(alarm=False), start=20.0) as it:
        (cleared,) = await it.events(EventType.ALARM_CLEARED)
        assert cleared.values["reason"] == "the rule raises no alarm any more"
        it.see(30, temperature=36.0)
    async with bench(tmp_path, hot, start=40.0) as it:
        it.see(50, temperature=36.0)
        assert len(await it.events(EventType.ALARM_RAISED)) == 2


async def test_a_delay_that_begins_and_ends_with_every_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    async with bench(
        tmp_path, threshold.Settings(of="air.temperature", above=35.0, for_=Duration(3600))
    ) as it:
        for index in range(1000):
            it.see(index * 0.1, temperature=(30.0, 40.0)[index % 2])
        assert len(it.rules._agenda) == 1
        it.clock.now = 3600.1  # when the first of the delays would have been over
        it.rules.on_time(3600.1)
        assert it.rules.alarms == []
        it.clock.now = 4000.0
        it.rules.on_time(4000.0)
        (raised,) = await it.events(EventType.ALARM_RAISED)
        assert raised.time == it.clock.wall_at(99.9 + 3600)


# --- threshold ----------------------------------------------------------------------------------------------------------


def transitions(
    settings: threshold.Settings, readings: Sequence[tuple[float, Value]]
) -> list[tuple[float, bool]]:
    """Return when a rule raises (True) and clears (False), given the time before each reading."""
    rule = threshold.Rule(settings)
    found: list[tuple[float, bool]] = []

    def note(at: float, verdict: contracts.Verdict | None) -> None:
        if verdict is not None and verdict.transition is not None:
            found.append((at, verdict.transition.active))

    for at, value in readings:
        if rule.deadline is not None and rule.deadline <= at:
            deadline = rule.deadline
            note(deadline, rule.on_time(deadline))
        note(at, rule.on_reading(settings.of, value, at))
    return found


UP, DOWN = True, False


@pytest.mark.parametrize(
    ("settings", "readings", "expected"),
    [
        ({"above": 35.0}, [(0, 35), (1, 35.1), (2, 35)], [(1, UP), (2, DOWN)]),
        ({"below": 5.0}, [(0, 5), (1, 4.9), (2, 5)], [(1, UP), (2, DOWN)]),
        ({"above": 35.0, "clear": 33.0}, [(0, 36), (1, 34), (2, 33.1), (3, 33)], [(0, UP), (3, DOWN)]),
        ({"below": 5.0, "clear": 7.0}, [(0, 4), (1, 6), (2, 7)], [(0, UP), (2, DOWN)]),
        ({"inside": (1.0, 2.0)}, [(0, 0.9), (1, 1), (2, 2), (3, 2.1)], [(1, UP), (3, DOWN)]),
        ({"outside": (1.0, 2.0)}, [(0, 1), (1, 0.9), (2, 1)], [(1, UP), (2, DOWN)]),
        (
            {"inside": (1.0, 2.0), "clear": (0.0, 3.0)},
            [(0, 1), (1, 0.5), (2, 3), (3, 3.1)],
            [(0, UP), (3, DOWN)],
        ),
        ({"outside": (0.0, 9.0), "clear": (2.0, 7.0)}, [(0, 10), (1, 8), (2, 7)], [(0, UP), (2, DOWN)]),
        ({"above": 1.0, "for_": 5}, [(0, 2), (4, 2), (4.5, 0), (5, 2), (9, 2), (10, 2)], [(10, UP)]),
        ({"above": 1.0, "for_": 5}, [(0, 2), (60, 0)], [(5, UP), (60, DOWN)]),
        ({"above": 1.0, "clear_for": 5}, [(0, 2), (1, 0), (3, 2), (4, 0), (9, 0)], [(0, UP), (9, DOWN)]),
        ({"above": 1.0}, [(0, None), (1, "text"), (2, 2), (3, None), (4, 0)], [(2, UP), (4, DOWN)]),
        ({"above": 0.5}, [(0, 1), (1, 0)], [(0, UP), (1, DOWN)]),
    ],
)
def test_a_threshold_raises_and_clears(
    settings: dict[str, Any], readings: list[tuple[float, Value]], expected: list[tuple[float, bool]]
) -> None:
    for name in ("for_", "clear_for"):
        if name in settings:
            settings = {**settings, name: Duration(settings[name])}
    assert transitions(threshold.Settings(of="a.b", **settings), readings) == expected


# --- time of day --------------------------------------------------------------------------------------------------------


class Wall(contracts.Rule[contracts.Settings]):
    """A rule that is only told the time of day."""

    def __init__(self) -> None:
        super().__init__(contracts.Settings())
        self.told: list[float | None] = []

    def watches(self) -> Sequence[str]:
        return ()

    def on_reading(self, channel: str, value: Value, at: float) -> None: ...

    def on_local_time(self, ahead: float | None, at: float) -> None:  # noqa: ARG002
        self.told.append(ahead)

    def state(self, now: float) -> dict[str, Value]:  # noqa: ARG002
        return {}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None: ...


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
async def test_rules_are_told_how_far_local_time_is_ahead_when_it_is_known_and_changes(
    tmp_path: Path,
) -> None:
    clock = VirtualClock(1000.0)
    clock.known = False
    log = EventLog(tmp_path / "events.db", eventlog.Settings(), clock)
    await log.open([], "1.0")
    rules, rule = Rulebook(log, clock, no_outputs(log, clock)), Wall()
    rules.add("wall", rule, RuleOutcome())
    rules.restore()
    assert rule.told == []  # None, as in the beginning
    clock.known = True
    rules.on_time(1060.0)
    rules.on_time(1120.0)
    winter = clock.epoch / 1e6 + 3600
    assert rule.told == [winter]
    summer_begins = from_iso("2026-03-29T01:00:00Z")
    clock.now = (summer_begins - clock.epoch) / 1e6 - 1
    rules.on_time(clock.now)
    assert rule.told == [winter]
    clock.now += 61
    rules.on_time(clock.now)
    assert rule.told == [winter, winter + 3600]
    clock.epoch += 5_000_000  # somebody sets the clock
    rules.on_time(clock.now + 60)
    assert rule.told == [winter, winter + 3600, winter + 3605]
    clock.known = False
    rules.on_time(clock.now + 120)
    assert rule.told[-1] is None
    await log.close()


@pytest.mark.parametrize("is_lazy", [False, True])
def test_a_lazy_rulebook_saves_only_when_it_is_told_to(is_lazy: bool) -> None:
    clock = VirtualClock()
    record = Record(clock, lambda _: None)
    rules = Rulebook(record, clock, Board(record, clock, lambda _: None))
    rules.is_lazy = is_lazy
    rules.add("hot", threshold.Rule(HOT), RuleOutcome())
    rules.restore()

    outcome = rules.on_reading("air", {"temperature": 40.0}, 0.0)
    assert outcome is not None
    clock.now = rules.deadline
    assert clock.now == 10.0
    rules.on_time(10.0)
    assert (record.state("rule:hot") is None) is is_lazy
    rules.save()
    state = record.state("rule:hot")
    assert state is not None
    assert state["alarm"] == "active-unacknowledged"


KINDS = """  hot:
    threshold: {of: plant.a, above: 5}
    suppressed_by: [power]
  power: {threshold: {of: plant.b, above: 5}}
"""


def test_that_an_alarm_is_suppressed_is_not_told_again_after_a_restart_and_that_it_is_no_longer_is(
    tmp_path: Path,
) -> None:
    desk = Desk(loaded(tmp_path, KINDS))
    desk.see(1, a=9)
    desk.see(2, b=9)
    desk.restart(1)
    desk.restart(1, crash=True)
    assert [(told.rule, told.type) for told in desk.alarms()] == [
        ("hot", "raised"), ("power", "raised"), ("hot", "suppressed"),
    ]  # fmt: skip
    desk.restart(1, loaded(tmp_path, KINDS.replace("suppressed_by: [power]", "max_shelved: 1h")))
    assert [(told.rule, told.type) for told in desk.alarms()[3:]] == [("hot", "unsuppressed")]


@pytest.mark.parametrize(
    "kind",
    [
        "sequence: {first: plant.a > 5, without: plant.b > 5, within: 1m, key: plant.part}",
        "anomaly: {of: plant.a}",
    ],
)
def test_an_alarm_whose_rule_is_of_another_kind_now_is_cleared_with_that_reason(
    tmp_path: Path, kind: str
) -> None:
    desk = Desk(loaded(tmp_path, KINDS))
    desk.see(1, a=9)
    desk.restart(1, loaded(tmp_path, KINDS.replace("threshold: {of: plant.a, above: 5}", kind)))
    cleared = desk.alarms()[-1]
    assert (cleared.rule, cleared.type) == ("hot", "cleared")
    assert cleared.facts["reason"] == "the rule is of another kind now"
    assert desk.rulebook.alarms == []


@pytest.mark.parametrize("later", ["too-hot", "too-damp"])
async def test_of_two_alarms_on_one_output_the_later_one_has_its_way_after_a_restart_too(
    tmp_path: Path, later: str
) -> None:
    hot = RuleOutcome(then=Reaction(set={"fan.state": True}))
    damp = RuleOutcome(then=Reaction(set={"fan.state": False}))
    instant = threshold.Settings(of="air.temperature", above=35.0)
    for start in (0, 100):
        clock = VirtualClock(start)
        log = EventLog(tmp_path / "events.db", eventlog.Settings(), clock)
        await log.open([], "1.0")
        it = Bench(log, clock, Report())
        it.rules.add("too-hot", threshold.Rule(instant), hot)
        it.rules.add("too-damp", threshold.Rule(threshold.Settings(of="air.humidity", above=80.0)), damp)
        it.rules.restore()
        it.board.on_up("fan")
        if start == 0:
            values: list[dict[str, Value]] = [{"temperature": 36.0}, {"humidity": 90.0}]
            for at, each in enumerate(values if later == "too-damp" else values[::-1], 1):
                it.see(at, **each)
        await it.events()
        status = it.board.status("fan")
        assert status is not None
        assert status["state"] == {"value": int(later == "too-hot"), "rule": later}
        it.rules.save()
        await log.close()
