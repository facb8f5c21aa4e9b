"""An alarm is not lost over its text, nor over a rule that is out of service."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, cast

import pytest
from support.boards import no_outputs
from support.rulebooks import Desk, MemoryLog, loaded

from agent import contracts
from agent.alarms import filled
from agent.clock import VirtualClock
from agent.contracts import Transition, Verdict
from agent.outcome import RuleOutcome
from agent.rulebook import Rulebook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.eventlog import EventLog
    from agent.events import Value


class Blunt(contracts.Rule[contracts.Settings]):
    """A rule whose alarm is about the value that it is shown."""

    def __init__(self, message: str) -> None:
        super().__init__(contracts.Settings())
        self.message = message

    def watches(self) -> Sequence[str]:
        return ("plant.a",)

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict:
        return Verdict(transition=Transition(True, channel, value, "above 5", at))

    def state(self, now: float) -> Mapping[str, Value]:  # noqa: ARG002
        return {}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None: ...


@pytest.mark.parametrize(
    ("written", "own", "value", "text"),
    [
        ("{of}: {value:.1f}", "{of} at {value:.6g}", 6.25, "plant.a: 6.2"),
        ("{of}: {value:.1f}", "{of} at {value}", None, "plant.a at None"),
        ("{of}: {value:.1f}", "{of} at {value}", "full", "plant.a at full"),
        ("{of}: {value:.1f}", "{of} at {value:.6g}", None, "plant.a is None, above 5"),
        (None, "{of} at {value:.6g}", None, "plant.a is None, above 5"),
        (None, "{of} at {value:.6g}", "full", "plant.a is full, above 5"),
        (None, "{of} at {value[0]}", 3, "plant.a is 3, above 5"),
        (None, "{nobody}", 3, "plant.a is 3, above 5"),
        ("{value:{limit}}", "{of} at {value}", 3, "plant.a at 3"),
    ],
)
def test_a_text_that_cannot_be_filled_in_gives_way_to_a_plainer_one(
    written: str | None, own: str, value: Value, text: str
) -> None:
    clock = VirtualClock()
    log = MemoryLog(clock)
    kept = cast("EventLog", log)
    rulebook = Rulebook(kept, clock, no_outputs(kept, clock))
    rulebook.add("blunt", Blunt(own), RuleOutcome(message=written))
    rulebook.restore()
    rulebook.record(rulebook.on_reading("plant", {"a": value}, 1.0) or [], 1.0)
    (raised,) = log.events
    assert raised.values["message"] == text


def test_a_rule_that_is_out_of_service_suppresses_nothing_and_harms_nothing(tmp_path: Path) -> None:
    it = Desk(
        loaded(
            tmp_path,
            """\
  one: {threshold: {of: plant.a, above: 5}}
  two: {threshold: {of: plant.a, above: 5}, in_service: false}
  hot: {threshold: {of: plant.b, above: 5}, suppressed_by: [two, one]}
""",
        )
    )
    it.see(0, b=9)
    it.see(1, a=9)
    it.see(2, a=1)
    assert [(told.rule, told.type) for told in it.alarms() if told.rule == "hot"] == [
        ("hot", "raised"), ("hot", "suppressed"), ("hot", "unsuppressed"),
    ]  # fmt: skip


def test_the_text_of_a_kind_is_that_of_its_settings_behind_a_gate_too(tmp_path: Path) -> None:
    rule = "{of: plant.a, take: max, over: 1m, above: 5}"
    it = Desk(loaded(tmp_path, f"  high: {{window: {rule}, where: plant.b > 0}}\n"))
    it.see(0, a=9, b=1)
    assert it.alarms()[0].facts["message"] == "plant.a: max over 1m is 9, above 5"


# --- how often states are saved -----------------------------------------------------------------------------------------

DAY = 86_400


def saved_in_a_day(folder: Path, rule: str, step: int) -> tuple[int, int]:
    """Return how often the state of a rule was saved in its second day, and the length of its state."""
    it, chance = Desk(loaded(folder, f"  it: {rule}\n")), random.Random(1)
    before = 0
    for at in range(0, 2 * DAY, step):
        if at == DAY:
            before = it.log.saves["rule:it"]
        it.see(at, a=chance.gauss(20, 5))
    return it.log.saves["rule:it"] - before, len(str(it.log.state("rule:it")))


def test_a_short_state_is_saved_once_a_minute(tmp_path: Path) -> None:
    count, length = saved_in_a_day(tmp_path, "{window: {of: plant.a, take: max, over: 1h, above: 1e9}}", 60)
    assert length < 4000
    assert count == DAY / 60


def test_a_long_state_is_saved_so_seldom_that_a_day_of_them_is_bounded(tmp_path: Path) -> None:
    count, length = saved_in_a_day(
        tmp_path, "{window: {of: plant.a, take: median, over: 1d, above: 1e9}}", 24
    )
    assert length > 10_000
    assert 0.5 * 64 * DAY <= count * length <= 1.1 * 64 * DAY


def test_what_was_not_saved_for_long_is_saved_at_the_end(tmp_path: Path) -> None:
    it = Desk(loaded(tmp_path, "  it: {window: {of: plant.a, take: median, over: 1h, above: 1e9}}\n"))
    chance = random.Random(1)
    saves: list[float] = []
    for at in range(7200):
        before = it.log.saves.get("rule:it", 0)
        it.see(at, a=chance.gauss(20, 5))
        saves += [at] * (it.log.saves.get("rule:it", 0) - before)
    assert saves[-1] - saves[-2] > 60
    it.until(saves[-1] + 59)
    before = it.log.saves["rule:it"]
    it.restart()
    assert it.log.saves["rule:it"] == before + 1


@pytest.mark.parametrize(
    ("template", "value", "text"),
    [
        ("{of} is {value}", 8.059999999999999, "plant.a is 8.06"),
        ("{of} is {value:.1f}", 8.059999999999999, "plant.a is 8.1"),
        ("{of} is {value}", 6.51710179, "plant.a is 6.5171"),
        ("{of} is {value}", 1234567.5, "plant.a is 1234567.5"),
        ("{of} is {value}", 7, "plant.a is 7"),
        ("{of} is {value}", "auto", "plant.a is auto"),
    ],
)
def test_a_number_is_told_without_the_noise_of_its_last_digits(
    template: str, value: Value, text: str
) -> None:
    assert filled([template], {"of": "plant.a", "value": value}) == text
