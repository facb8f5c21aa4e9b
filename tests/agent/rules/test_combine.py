"""Alarms of alarms: all of them, any of them, so many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.boards import no_outputs
from support.playing import Play, settings

from agent import eventlog
from agent.clock import VirtualClock
from agent.eventlog import EventLog
from agent.events import EventType
from agent.outcome import RuleOutcome
from agent.rulebook import Rulebook
from agent.rules import combine, threshold

if TYPE_CHECKING:
    from pathlib import Path

    from agent.contracts import Rule
    from agent.events import Event


def tell(play: Play, at: float, **rules: bool) -> None:
    """Tell of the alarms of several rules at one time."""
    play.until(at)
    for name, active in rules.items():
        play._note(play.rule.on_rule(name, at, active=active), at)


def test_all_of_them_must_be_active() -> None:
    play = Play("combine", "{all_of: [hot, damp]}")
    tell(play, 0, hot=True)
    assert play.said == []
    tell(play, 1, damp=True)
    assert play.message == "all of hot, damp: 2 active"
    tell(play, 2, damp=True)
    tell(play, 3, hot=False)
    assert play.said == ["1 raised hot, damp 2", "3 cleared hot, damp 1"]


def test_any_of_them_is_enough() -> None:
    play = Play("combine", "{any_of: [hot, damp]}")
    tell(play, 0, hot=True)
    assert play.message == "any of hot, damp: 1 active"
    tell(play, 1, damp=True)
    tell(play, 2, hot=False)
    tell(play, 3, damp=False)
    assert play.said == ["0 raised hot, damp 1", "3 cleared hot, damp 0"]


def test_so_many_of_them_are_enough() -> None:
    play = Play("combine", "{at_least: 2, of: [a, b, c]}")
    tell(play, 0, a=True, c=True)
    assert play.message == "at least 2 of a, b, c: 2 active"
    tell(play, 1, b=True)
    tell(play, 2, a=False)
    tell(play, 3, b=False)
    assert play.said == ["0 raised a, b, c 2", "3 cleared a, b, c 1"]


def test_delays_go_on_over_a_restart() -> None:
    play = Play("combine", "{all_of: [hot, damp], for: 10s, clear_for: 20s}")
    tell(play, 0, hot=True, damp=True)
    tell(play, 5, damp=False)
    tell(play, 6, damp=True)
    play.restart(down_for=5)
    tell(play, 11, hot=True, damp=True)  # as the agent does when it begins
    play.until(30)
    tell(play, 30, damp=False)
    play.restart()
    play.until(60)
    assert play.said == ["16 raised hot, damp 2", "50 cleared hot, damp 1"]


def test_it_is_saved_whenever_a_rule_changes() -> None:
    play = Play("combine", "{all_of: [hot, damp]}")
    tell(play, 0, hot=True)
    assert play.kept == [0]
    play.restart()
    tell(play, 1, damp=True)
    assert len(play.said) == 1


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{}", "exactly one of all_of, any_of, of, not none"),
        ("{all_of: [a], any_of: [b]}", "not all_of and any_of"),
        ("{all_of: []}", "all_of expects names of rules"),
        ("{any_of: [a, b, a]}", "any_of names 'a' twice"),
        ("{of: [a, b]}", "at_least and of expect each other"),
        ("{all_of: [a, b], at_least: 1}", "at_least and of expect each other"),
        ("{of: [a, b], at_least: 3}", r"at_least \(3\) is more than the 2 rules"),
        ("{of: [a, b], at_least: 0}", ">= 1"),
    ],
)
def test_impossible_settings_are_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings("combine", written)


class Site:
    """Two thresholds, a combination of them, and one of that, on a log."""

    def __init__(self, path: Path, *, start: float) -> None:
        self.clock = VirtualClock(start)
        self.log = EventLog(path / "events.db", eventlog.Settings(), self.clock)
        self.rules = Rulebook(self.log, self.clock, no_outputs(self.log, self.clock))
        made: dict[str, Rule[Any]] = {
            "top": combine.Rule(settings("combine", "{any_of: [both]}")),
            "both": combine.Rule(settings("combine", "{all_of: [hot, damp]}")),
            "hot": threshold.Rule(settings("threshold", "{of: air.temperature, above: 30}")),
            "damp": threshold.Rule(settings("threshold", "{of: air.humidity, above: 80}")),
        }
        for name, rule in made.items():
            self.rules.add(name, rule, RuleOutcome())

    def see(self, temperature: float, humidity: float) -> None:
        at = self.clock.monotonic()
        outcome = self.rules.on_reading("air", {"temperature": temperature, "humidity": humidity}, at)
        if outcome is not None:
            self.rules.record(outcome, at)

    async def alarms(self) -> list[tuple[str, str]]:
        kinds = (EventType.ALARM_RAISED, EventType.ALARM_CLEARED)
        found: list[Event] = []
        while more := await self.log.reader.history(found[-1].seq if found else 0, 1000):
            found += more
        return [(each.type, each.source) for each in found if each.type in kinds]


async def test_alarms_of_alarms_of_alarms_go_on_over_restarts(tmp_path: Path) -> None:
    raised = [(EventType.ALARM_RAISED, name) for name in ("hot", "damp", "both", "top")]
    site = Site(tmp_path, start=0)
    await site.log.open([], "1.0")
    site.rules.restore()
    site.see(31, 70)
    site.see(31, 81)
    assert await site.alarms() == raised
    await site.log.close()

    site = Site(tmp_path, start=10)
    await site.log.open([], "1.0")
    site.rules.restore()
    assert {rule for rule, _ in site.rules.alarms} == {"hot", "damp", "both", "top"}
    assert await site.alarms() == raised
    site.see(31, 70)
    assert (await site.alarms())[4:] == [(EventType.ALARM_CLEARED, name) for name in ("damp", "both", "top")]
    await site.log.close()


async def test_an_alarm_that_is_no_more_after_a_restart_is_not_counted_on(tmp_path: Path) -> None:
    site = Site(tmp_path, start=0)
    await site.log.open([], "1.0")
    site.rules.restore()
    site.see(31, 81)
    site.log.put_state("rule:damp", None)  # such as by a repair of the log
    await site.log.close()

    site = Site(tmp_path, start=10)
    await site.log.open([], "1.0")
    site.rules.restore()
    assert {rule for rule, _ in site.rules.alarms} == {"hot"}
    await site.log.close()
