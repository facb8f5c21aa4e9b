"""What rules say of channels and of each other: named in full where it fits, a fault with its place where it does not."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.conditions.expressions import Expression
from agent.config import Config, load
from agent.config.circles import circles
from agent.config.expressions import clash
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = """\
devices:
  door: {driver: gpio_input, pin: 17}
  tank-1: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [level, level-low]}, units: {level: mm}}
  air: {driver: serial_lines, port: /dev/ttyUSB1, parse: {csv: [temperature, humidity]}, units: {temperature: Cel, humidity: "%"}}
  outside: {driver: serial_lines, port: /dev/ttyUSB2, parse: {csv: [temperature, humidity]}, units: {temperature: Cel, humidity: "%"}}
  scale: {driver: serial_lines, port: /dev/ttyUSB3, parse: json, units: {weight: kg}}
rules:
"""  # the rules begin on line 8


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(site: Path, rules: str) -> Config:
    file = site / "site.yaml"
    file.write_text(DEVICES + rules)
    return load(file.relative_to(site), {})


def faults(site: Path, rules: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(site, rules)
    return [str(fault) for fault in caught.value.faults]


# --- names --------------------------------------------------------------------------------------------------------


def test_channels_are_named_in_full_in_every_expression_of_a_rule(site: Path) -> None:
    config = loaded(
        site,
        """
  cold: {compare: {of: "door == on and air.temperature < 5"}}
  opened: {sequence: {steps: [door == on, door == off, tank-1.level - 5 > 0], within: 1m, key: door}}
  left: {sequence: {first: door == on, without: door == off, within: 1m}}
  level: {compare: {of: tank-1.level - tank-1.level-low, above: 5}}
""",
    )
    said: dict[str, Any] = {name: rule.settings for name, rule in config.rules.items()}
    assert said["cold"].of == "door.state == on and air.temperature < 5"
    assert said["cold"].of.names == ("door.state", "air.temperature")
    assert said["opened"].steps == ["door.state == on", "door.state == off", "tank-1.level - 5 > 0"]
    assert said["opened"].key == "door.state"
    assert (said["left"].first, said["left"].without) == ("door.state == on", "door.state == off")
    assert said["level"].of.names == ("tank-1.level", "tank-1.level-low")


def test_a_name_that_is_not_known_is_told_at_its_expression(site: Path) -> None:
    assert faults(
        site,
        """\
  cold:
    compare:
      of: dor == on and air.temprature < 5
  opened:
    sequence:
      steps:
        - door == on
        - doors.state == off
      key: reader.card
      within: 1m
  heavy: {compare: {of: scale - 5, above: 2}}
""",
    ) == [
        "site.yaml:10:11: rules.cold.compare.of: unknown channel 'air.temprature', did you mean 'air.temperature'?",
        "site.yaml:10:11: rules.cold.compare.of: unknown device 'dor', did you mean 'door'?",
        "site.yaml:15:11: rules.opened.sequence.steps[1]: unknown device 'doors', did you mean 'door'?",
        "site.yaml:16:12: rules.opened.sequence.key: unknown device 'reader', expected one of door, tank-1, air, outside, scale",
        (
            "site.yaml:18:25: rules.heavy.compare.of: the channels of 'scale' are known only when it runs, "
            "expected one by name: scale.channel"
        ),
    ]


@pytest.mark.parametrize(
    ("of", "fault"),
    [
        (
            "air.temperature-5 > 2",
            ("unknown channel 'air.temperature-5', did you mean 'air.temperature'? "
            "(for a subtraction, put spaces around the minus: air.temperature - 5)"),
        ),
        (
            "tank-1.level-7 > 2",
            ("unknown channel 'tank-1.level-7', did you mean 'tank-1.level'? "
            "(for a subtraction, put spaces around the minus: tank-1.level - 7)"),
        ),
        (
            "fan-air.temperature > 2",
            ("unknown device 'fan-air', did you mean 'air'? "
            "(for a subtraction, put spaces around the minus: fan - air.temperature)"),
        ),
        ("door-2 == on", "unknown device 'door-2', did you mean 'door'? (for a subtraction, put spaces around the minus: door - 2)"),
        ("tank-2.level > 2", "unknown device 'tank-2', did you mean 'tank-1'?"),
    ],
)  # fmt: skip
def test_a_minus_sign_without_spaces_may_have_been_a_subtraction(site: Path, of: str, fault: str) -> None:
    assert faults(site, f"  far: {{compare: {{of: {of}}}}}\n") == [
        f"site.yaml:8:23: rules.far.compare.of: {fault}"
    ]


def test_an_expression_that_is_none_is_told_at_its_place(site: Path) -> None:
    said = faults(
        site,
        """\
  far: {compare: {of: mean(air.temperature) > 5}}
  near: {compare: {of: air.temperature-outside.temperature > 5}}
""",
    )
    assert said == [
        (
            "site.yaml:8:23: rules.far.compare.of: 'mean(air.temperature) > 5' calls the unknown function 'mean', "
            f"known are abs, min, max, round, sqrt, exp, log, expected {Expression.expected}"
        ),
        (
            "site.yaml:9:24: rules.near.compare.of: 'air.temperature-outside.temperature > 5' has a name of three parts, "
            f"expected device.channel; a subtraction needs spaces around its minus, expected {Expression.expected}"
        ),
    ]


# --- units --------------------------------------------------------------------------------------------------------


def test_channels_of_different_units_are_not_held_against_each_other(site: Path) -> None:
    assert faults(
        site,
        """\
  damp: {compare: {of: air.temperature - outside.humidity, above: 5}}
  same: {compare: {of: air.temperature - outside.temperature, above: 5}}
  wet: {sequence: {first: door == on, then: air.humidity > outside.temperature, within: 1m}}
  heavy: {compare: {of: scale.weight > air.temperature + scale.other}}
""",
    ) == [
        "site.yaml:8:24: rules.damp.compare.of: air.temperature is in Cel, outside.humidity in %, expected the same unit",
        "site.yaml:10:45: rules.wet.sequence.then: air.humidity is in %, outside.temperature in Cel, expected the same unit",
        "site.yaml:11:25: rules.heavy.compare.of: scale.weight is in kg, air.temperature in Cel, expected the same unit",
    ]


UNITS = {"a.t": "Cel", "b.t": "Cel", "a.h": "%", "b.h": "%", "door.state": ""}


@pytest.mark.parametrize(
    "text",
    [
        "a.t - b.h", "a.t + b.t + b.h", "a.t + b.t - 5 > a.h", "a.t > a.h", "0 < a.t < a.h", "a.h == a.t", "max(a.t, a.h)",
        "abs(a.t) > -a.h", "round(a.t, 1) > a.h", "2 * (a.t - a.h)", "not a.t > a.h", "door.state == 1 and a.t > a.h",
        "(a.t if door.state else b.t) > a.h", "1 if a.t > a.h else 2", "a.t if door.state else a.h", "sqrt(a.t - a.h)",
        "5 - a.t + a.h",
    ],
)  # fmt: skip
def test_units_clash(text: str) -> None:
    said = clash(Expression.parse(text), UNITS)
    assert said is not None
    assert "is in" in said


@pytest.mark.parametrize(
    "text",
    [
        "a.t - b.t", "a.t > 5", "a.t - 5 > b.t", "a.t * a.h", "a.t / a.h > b.t", "a.t * 1.8 + 32 > a.h", "a.t > 5 and a.h > 5",
        "a.t + door.state", "a.t > unknown.x", "a.t if a.h > 5 else b.t", "max(a.t, b.t, 5)", "a.t ** 2 > a.h", "(a.t > 5) == (a.h > 5)",
    ],
)  # fmt: skip
def test_units_do_not_clash(text: str) -> None:
    assert clash(Expression.parse(text), UNITS) is None


# --- outputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["{pulse: 2s}", "{toggle: true}", "{blink: 2s}"])
def test_what_is_no_switch_is_neither_pulsed_nor_turned(
    site: Path, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(_driver: object, _channel: str, value: Any) -> Any:
        if value not in {"open", "shut"}:
            raise ValueError(f"{value!r} is neither open nor shut")
        return value

    monkeypatch.setattr("drivers.gpio_output.Driver.checked", checked)
    file = site / "site.yaml"
    file.write_text(f"""\
devices:
  door: {{driver: gpio_input, pin: 17}}
  flap: {{driver: gpio_output, pin: 22}}
rules:
  fine: {{threshold: {{of: door, above: 0.5}}, then: {{set: {{flap: open}}, otherwise: shut}}}}
  none: {{threshold: {{of: door, above: 0.5}}, then: {{set: {{flap: {action}}}}}}}
""")
    with pytest.raises(ConfigError) as caught:
        load(file.relative_to(site), {})
    assert [str(fault) for fault in caught.value.faults] == [
        "site.yaml:6:64: rules.none.then.set.flap: flap.state is no switch, expected a value"
    ]


def test_the_conditions_of_outputs_name_their_channels_in_full(site: Path) -> None:
    file = site / "site.yaml"
    file.write_text("""\
devices:
  door: {driver: gpio_input, pin: 17}
  fan: {driver: gpio_output, pin: 22, output: {unless: door == on, commands: {max: 1}}}
rules:
  hot: {absence: {of: door, longer_than: 1m}, then: {set: {fan: {pulse: 2s}}, unless: not door}}
""")
    config = load(file.relative_to(site), {})
    assert config.devices["fan"].output.unless == "door.state == on"
    assert config.devices["door"].output.allowed is None
    then = config.rules["hot"].outcome.then
    assert then is not None
    assert (then.unless, list(then.set)) == ("not door.state", ["fan.state"])


# --- rules that follow rules --------------------------------------------------------------------------------------


def test_a_rule_that_is_not_there_is_told_with_the_nearest(site: Path) -> None:
    assert faults(
        site,
        """\
  hot: {threshold: {of: air.temperature, above: 30}}
  damp: {threshold: {of: air.humidity, above: high}}
  mould:
    combine:
      all_of: [hott, damp]
""",
    ) == [
        "site.yaml:9:47: rules.damp.threshold.above: found 'high', expected a number",
        "site.yaml:12:16: rules.mould.combine.all_of[0]: unknown rule 'hott', did you mean 'hot'?",
    ]


def test_rules_that_follow_each_other_in_a_circle_are_told_once(site: Path) -> None:
    assert faults(
        site,
        """\
  hot: {threshold: {of: air.temperature, above: 30}}
  one: {combine: {all_of: [hot, other]}}
  other: {combine: {any_of: [hot, third]}}
  third: {combine: {at_least: 1, of: [hot, one]}}
  self: {combine: {any_of: [self, hot]}}
  fine: {combine: {any_of: [one, self]}}
""",
    ) == [
        "site.yaml:9:33: rules.one.combine.all_of[1]: rules follow each other in a circle: one → other → third → one",
        "site.yaml:12:29: rules.self.combine.any_of[0]: rules follow each other in a circle: self → self",
    ]


def test_rules_that_feed_themselves_through_outputs_and_other_rules_are_told(site: Path) -> None:
    file = site / "site.yaml"
    file.write_text("""\
devices:
  door: {driver: gpio_input, pin: 17}
  fan: {driver: gpio_output, pin: 22}
  pump: {driver: gpio_output, pin: 23}
rules:
  one: {combine: {any_of: [two, wet]}, then: {set: {fan: on}}}
  two: {threshold: {of: fan, above: 0.5}}
  wet: {threshold: {of: door, above: 0.5}, then: {set: {pump: on}}}
  dry: {threshold: {of: pump, above: 0.5}, then: {set: {fan: {toggle: true}}}}
""")
    with pytest.raises(ConfigError) as caught:
        load(file.relative_to(site), {})
    assert [str(fault) for fault in caught.value.faults] == [
        "site.yaml:6:3: rules.one: rules feed themselves in a circle through outputs: one → fan.state → two → one"
    ]


def test_a_latched_rule_may_stop_what_it_watches(site: Path) -> None:
    file = site / "site.yaml"
    file.write_text("""\
devices:
  flow: {driver: gpio_input, pin: 17}
  pump: {driver: gpio_output, pin: 22}
rules:
  dry-run: {compare: {of: "pump == on and flow == off", for: 15s}, latch: true, then: {set: {pump: off}}}
""")
    assert load(file.relative_to(site), {}).rules["dry-run"].outcome.latch


@pytest.mark.parametrize(
    ("follows", "found"),
    [
        ({}, []),
        ({"a": [], "b": ["a"], "c": ["a", "b"]}, []),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, []),
        ({"a": ["unknown"]}, []),
        ({"a": ["a"]}, [["a", "a"]]),
        ({"b": ["a"], "a": ["b"]}, [["b", "a", "b"]]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, [["b", "c", "b"]]),
        ({"a": ["b", "c"], "b": ["a"], "c": ["a"]}, [["a", "b", "a"], ["a", "c", "a"]]),
    ],
)
def test_circles_are_found(follows: dict[str, list[str]], found: list[list[str]]) -> None:
    assert circles(follows) == found


NAMES = ["a", "b", "c", "d", "e"]


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True)))
def test_a_circle_is_found_exactly_where_rules_cannot_be_put_in_order(follows: dict[str, list[str]]) -> None:
    left = {name: {each for each in others if each in follows} for name, others in follows.items()}
    while ready := {name for name, others in left.items() if not others}:
        left = {name: others - ready for name, others in left.items() if name not in ready}
    found = circles(follows)
    assert bool(found) is bool(left)
    for circle in found:
        assert circle[0] == circle[-1]
        assert all(other in follows[name] for name, other in itertools.pairwise(circle))


def test_a_chain_of_a_thousand_rules_is_no_trouble() -> None:
    chain = {f"r{index}": [f"r{index + 1}"] for index in range(1000)}
    assert circles(chain) == []
    assert len(circles(chain | {"r1000": ["r0"]})[0]) == 1002
