"""What every rule must do: the same input gives the same output, wherever it is restarted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
import yaml
from contracts.devices import sample
from hypothesis import given
from hypothesis import strategies as st

from agent import config, contracts, registry
from agent.config.schema import attributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.contracts import Rule, Transition, Verdict
    from agent.events import Severity, Value

KINDS = registry.kinds("rules")
pytestmark = pytest.mark.parametrize("kind", KINDS)

STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 3.0, 5.0, 30.0, 60.0]),  # after how many seconds
        st.sampled_from([None, "text", *range(-20, 61, 4), 0, 1, 33, 35, 34.5]),
        st.integers(0, 2),  # of which of its channels, where there are several
    ),
    max_size=40,
)


Step = tuple[float, "Value", int]


class Said(NamedTuple):
    """A change of state, and when."""

    at: float
    transition: Transition


DEVICES = """gateway: test
devices:
  air: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [temperature, humidity, outside]}, units: {temperature: Cel}}
  fan: {driver: gpio_output, pin: 27}
"""


def configured(kind: str, folder: Path) -> Any:
    """Return the settings of a rule's sample as the agent itself reads it."""
    file = folder / "sample.yaml"
    file.write_text(DEVICES + sample("rules", kind))
    rules = config.load(file).rules.values()
    return next(rule.settings for rule in rules if rule.kind == kind)


def variants(kind: str) -> list[Any]:
    """Return settings of a kind that make all of its states matter: `rules/KIND.yaml` beside this file lists them."""
    written = yaml.safe_load((Path(__file__).parent / "rules" / f"{kind}.yaml").read_text())
    return [settings_from(registry.module("rules", kind).Settings, each) for each in written]


def settings_from(cls: Any, said: dict[str, Any]) -> Any:
    """Return settings from what an operator would write."""

    def read(wanted: Any, raw: Any) -> Any:
        return wanted.parse(raw)

    return msgspec.convert(said, cls, dec_hook=read)


def new(kind: str, settings: Any) -> Rule[Any]:
    rule: Rule[Any] = registry.module("rules", kind).Rule(settings)
    return rule


class Bench:
    """Shows readings, the alarms of other rules and the time to a rule as the rulebook does."""

    def __init__(self, rule: Rule[Any], begin: float = 0.0) -> None:
        self.rule = rule
        self.said: list[Said] = []
        self._begin = begin
        self.restart(rule, {}, begin)

    def restart(self, rule: Rule[Any], state: dict[str, Value], at: float) -> None:
        """Let a rule go on from a state; it is 08:55 when the bench begins, so the hour changes soon."""
        self.rule = rule
        rule.restore(state, at, at)
        rule.on_local_time(8 * 3600.0 + 55 * 60.0 - self._begin, at)

    def _note(self, verdict: Verdict | None, at: float) -> None:
        if verdict is not None and verdict.transition is not None:
            self.said.append(Said(at, verdict.transition))

    def show(self, steps: Sequence[Step], begin: float = 0.0) -> float:
        """Show values after each other, and the time whenever the rule has asked for it; return the time.

        Where it follows other rules, a value above 10 stands for an active alarm of theirs.
        """
        at = begin
        channels, follows = self.rule.watches(), self.rule.follows()
        for wait, value, which in steps:
            at += wait
            self.turn(at)
            if channels:
                channel = channels[which % len(channels)]
                self._note(self.rule.on_reading(channel, value, at), at)
            if follows:
                name = follows[which % len(follows)]
                active = isinstance(value, int | float) and value > 10
                self._note(self.rule.on_rule(name, at, active=active), at)
        return at

    def turn(self, to: float) -> None:
        for _ in range(1000):
            due = self.rule.deadline
            if due is None or due > to:
                return
            self._note(self.rule.on_time(due), due)
        raise AssertionError("it asks for the same time for ever")


def test_it_has_the_names_that_the_registry_looks_for(kind: str) -> None:
    module = registry.module("rules", kind)
    assert issubclass(module.Rule, contracts.Rule)
    assert issubclass(module.Settings, contracts.Settings)


def test_its_sample_is_a_configuration(kind: str, tmp_path: Path) -> None:
    rule = new(kind, configured(kind, tmp_path))
    assert all("." in channel for channel in rule.watches())


def test_all_of_its_settings_are_documented(kind: str) -> None:
    settings = registry.module("rules", kind).Settings
    for field in settings.__struct_fields__:
        assert attributes(settings).get(field), f"{kind}: {field} is not documented"


def test_a_new_one_is_quiet(kind: str, tmp_path: Path) -> None:
    rule = new(kind, configured(kind, tmp_path))
    rule.restore({}, 0.0, 0.0)
    for channel in rule.watches():
        assert rule.on_reading(channel, None, 0.0) is None
    assert rule.deadline is None or rule.deadline > 0


@given(steps=STEPS)
def test_the_same_readings_give_the_same_changes(kind: str, steps: list[Step]) -> None:
    for settings in variants(kind):
        one, other = Bench(new(kind, settings)), Bench(new(kind, settings), 1_000_000.0)
        one.show(steps)
        other.show(steps, begin=1_000_000.0)
        assert [(said.at + 1_000_000.0, said.transition.active) for said in one.said] == [
            (said.at, said.transition.active) for said in other.said
        ]


@given(steps=STEPS)
def test_raised_and_cleared_come_in_turn(kind: str, steps: list[Step]) -> None:
    for settings in variants(kind):
        bench = Bench(new(kind, settings))
        bench.show(steps)
        before: tuple[bool, Severity | None] = (False, None)
        for said in bench.said:
            now = (said.transition.active, said.transition.severity)
            if now[0] is before[0]:  # another step of an alarm that goes on
                assert before[0]
                assert now[1] != before[1]
            before = now
        for said in bench.said:
            assert said.transition.since <= said.at
            assert said.transition.limit
            assert said.transition.of
            assert msgspec.json.encode(said.transition), "the log keeps plain numbers and texts"
        times = [said.at for said in bench.said]
        assert times == sorted(times)


@given(steps=STEPS, places=st.lists(st.integers(0, 40), max_size=5))
def test_a_restart_at_any_point_changes_nothing(kind: str, steps: list[Step], places: list[int]) -> None:
    for settings in variants(kind):
        without = Bench(new(kind, settings))
        without.show(steps)

        bench = Bench(new(kind, settings))
        at = 0.0
        cuts = sorted({0, len(steps), *(place for place in places if place < len(steps))})
        for begin, end in itertools.pairwise(cuts):
            at = bench.show(steps[begin:end], at)
            kept = msgspec.json.decode(msgspec.json.encode(dict(bench.rule.state(at))))  # as the log keeps it
            bench.restart(new(kind, settings), kept, at)
        assert [said.transition.active for said in bench.said] == [
            said.transition.active for said in without.said
        ]
        for one, other in zip(bench.said, without.said, strict=True):
            assert one.at == pytest.approx(other.at, abs=1e-6)
            assert one.transition.since == pytest.approx(other.transition.since, abs=1e-6)
            assert one.transition.value == other.transition.value


@given(steps=STEPS)
def test_its_state_is_made_of_values_that_the_log_can_keep(kind: str, steps: list[Step]) -> None:
    for settings in variants(kind):
        bench = Bench(new(kind, settings))
        at = bench.show(steps)
        for name, value in bench.rule.state(at).items():
            assert isinstance(name, str)
            assert value is None or isinstance(value, int | float | str)


def test_it_does_not_stumble_over_a_state_that_it_never_wrote(kind: str, tmp_path: Path) -> None:
    settings = configured(kind, tmp_path)
    for state in ({}, {"active": None}, {"active": 1}, {"since": "x", "turning": "y", "value": None}):
        bench = Bench(new(kind, settings))
        bench.rule.restore(state, 90.0, 100.0)
        bench.show([(1.0, 20, 0), (60.0, 40, 0), (60.0, 20, 0)], begin=100.0)
