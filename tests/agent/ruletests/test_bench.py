"""Tests as users write them, played to real rules: what passes, what fails, and how it is told."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import config
from agent.console import Style
from agent.ruletests import bench, document, playing, report, timeline
from agent.ruletests.names import Names

if TYPE_CHECKING:
    from agent.ruletests.timeline import Outcome

DEVICES = """
devices:
  air: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [temperature, humidity]}, units: {temperature: Cel, humidity: "%"}}
  machine: {driver: system, every: 30s, only: [cpu_load, memory_used]}
  door: {driver: gpio_input, pin: 17, pull: up}
  feed: {driver: serial_lines, port: /dev/ttyUSB1, parse: json}
  siren: {driver: gpio_output, pin: 27, safe: off}
  fan: {driver: gpio_output, pin: 22, safe: off}
rules:
"""


def play(rules: str, test: str, *, devices: str = "") -> Outcome:
    """Play one test of some rules and more devices; all as they are written, without what stands around them."""
    Path("site.yaml").write_text(DEVICES.replace("\nrules:", devices.rstrip("\n") + "\nrules:") + rules)
    indented = "".join(f"    {line}\n" for line in test.strip("\n").splitlines())
    Path("site.tests.yaml").write_text(f"tests:\n  it works:\n{indented}")
    configuration = config.load(Path("site.yaml"))
    names = Names(configuration)
    (case,) = document.load(Path("site.tests.yaml"), names)
    return timeline.compare(playing.play(configuration, names, case), names)


def told(outcome: Outcome, marks: str = "-+!") -> list[str]:
    """Return the lines with some marks, as they are printed, with single spaces."""
    lines = report.timeline(outcome.lines, Style(io.StringIO()), is_whole=True)
    return [text for line in lines if (text := re.sub(r" +", " ", line).strip())[0] in marks]


def all_of(outcome: Outcome) -> list[str]:
    """Return the whole timeline, with single spaces."""
    return [
        re.sub(r" +", " ", line).strip()
        for line in report.timeline(outcome.lines, Style(io.StringIO()), is_whole=True)
    ]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


HOT = "  too-hot: {threshold: {of: air.temperature, above: 8, clear: 6, for: 5m}, latch: true, then: {set: {siren: on}, otherwise: off}}\n"
OPEN = "  door-open: {threshold: {of: door, above: 0.5, for: 5m}}\n"


def test_what_is_expected_and_happens_passes_and_the_timeline_tells_all_of_it() -> None:
    outcome = play(
        HOT + OPEN,
        """
given: {air.temperature: {0s: 4, 10m: 9, 30m: 5}}
do: {40m: {ack: too-hot}}
expect:
  15m: {too-hot: {raised: {severity: warning, value: 9, limit: above 8, of: air.temperature}}, siren: {on: {cause: too-hot}}}
  30m: {too-hot: {cleared: {duration: 15m, state: cleared-unacknowledged}}}
  40m: {siren: off}
state: {35m: {too-hot: cleared-unacknowledged, siren: on}, 41m: {too-hot: inactive, siren: off}}
""",
    )

    assert outcome.passed
    assert all_of(outcome) == [
        "0s air.temperature 4 °C",
        "10m air.temperature 9 °C",
        "= 15m too-hot raised air.temperature is 9, above 8 (warning)",
        "= 15m siren on (by too-hot)",
        "30m air.temperature 5 °C",
        "= 30m too-hot cleared value 5, after 15m",
        "= 35m too-hot is cleared-unacknowledged",
        "= 35m siren is on",
        "40m too-hot ack",
        "40m too-hot acknowledged by test",
        "= 40m siren off (by too-hot)",
        "= 41m too-hot is inactive",
        "= 41m siren is off",
    ]


def test_each_difference_is_told_with_what_was_nearest() -> None:
    outcome = play(
        HOT + OPEN,
        """
given: {air.temperature: {0s: 4, 10m: 9, 30m: 5}}
do: {20m: {ack: door-open}}
expect:
  7m: {door-open: raised}
  14m55s: {too-hot: {raised: {value: 9.5, severity: critical}}}
  20m: {siren: on}
  25m: {siren: off}
state: {20m: {too-hot: active-acknowledged, siren: off}}
""",
    )

    assert not outcome.passed
    assert told(outcome) == [
        "- 7m door-open raised ← did not happen",
        "- 14m 55s too-hot raised value 9.5, severity critical",
        "+ 15m too-hot raised air.temperature is 9, above 8 (warning) ← 5s later than expected; value is 9, not 9.5; severity is warning, not critical",
        "+ 15m siren on (by too-hot) ← 5m earlier than expected",
        "- 20m siren on",
        "- 20m too-hot is active-acknowledged ← it is active-unacknowledged",
        "- 20m siren is off ← it is on",
        "! 20m door-open ack ← there is nothing to acknowledge: it is inactive",
        "- 25m siren off ← did not happen",
        "+ 30m too-hot cleared value 5, after 15m ← not expected",
    ]
    assert (outcome.place.file, outcome.place.line) == ("site.tests.yaml", 4)


def test_only_limits_what_counts() -> None:
    test = """
given: {air.temperature: {0s: 9}, door: {0s: on}}
until: 10m
expect: {5m: {too-hot: raised}}
"""

    assert told(play(HOT + OPEN, test)) == [
        "+ 5m door-open raised door.state is 1, above 0.5 (warning) ← not expected",
        "+ 5m siren on (by too-hot) ← not expected",
    ]
    assert play(HOT + OPEN, test + "only: [too-hot]").passed


def test_a_span_takes_what_happens_within_it() -> None:
    rules, test = OPEN, "given: {{door: {{0s: on}}}}\nuntil: 10m\nexpect: {{{}: {{door-open: raised}}}}"

    assert play(rules, test.format("4m..5m")).passed
    assert play(rules, test.format("5m..6m")).passed
    assert told(play(rules, test.format("2m..4m"))) == [
        "- 2m door-open raised (until 4m)",
        "+ 5m door-open raised door.state is 1, above 0.5 (warning) ← 1m later than expected",
    ]


def test_several_things_at_one_time_are_a_list() -> None:
    rules = "  open: {threshold: {of: door, above: 0.5}, then: {set: {siren: on}, otherwise: off}}\n"
    outcome = play(
        rules,
        "given: {door: {1m: [on, off]}}\nexpect: {1m: {open: [raised, {cleared: {duration: 0s}}], siren: [on, off]}}",
    )

    assert outcome.passed, told(outcome)


def test_what_an_output_is_set_to_reaches_the_rules_that_watch_it() -> None:
    rules = (
        HOT
        + "  siren-long: {threshold: {of: siren, above: 0.5, for: 10m}, then: {set: {fan: on}, otherwise: off}}\n"
    )
    outcome = play(
        rules,
        """
given: {air.temperature: {0s: 9, 29m: 5}}
do: {20m: {set: {siren: off}}, 30m: {ack: too-hot}}
expect:
  5m: {too-hot: raised, siren: on}
  15m: {siren-long: raised, fan: on}
  20m: {siren: {failed: {cause: test, value: 0, reason: held by the rule 'too-hot'}}}
  29m: {too-hot: cleared}
  30m: {siren: off, siren-long: cleared, fan: off}
""",
    )

    assert outcome.passed, told(outcome)


def test_a_polled_device_is_read_at_its_interval_and_when_something_is_written() -> None:
    rules = "  reads: {count: {of: machine.cpu_load > 0, each: reading, at_least: 5, within: 2m}}\n"
    outcome = play(
        rules,
        "given: {machine.cpu_load: {0s: 5, 45s: 6}}\nuntil: 1m50s\nexpect: {1m45s: {reads: {raised: {}}}}",
    )

    # at 0s, 30s, 45s (as written), 1m 15s and 1m 45s
    assert outcome.passed, told(outcome)


def test_a_channel_can_fall_silent_while_its_device_speaks() -> None:
    rules = """
  silent: {absence: {of: machine.cpu_load, longer_than: 1m}}
  all-silent: {absence: {of: machine.memory_used, longer_than: 1m}}
"""
    outcome = play(
        rules,
        """
given: {machine.cpu_load: {0s: 5, 10m: silent, 20m: 5}, machine.memory_used: {0s: 40}}
until: 30m
expect: {10m30s: {silent: raised}, 20m: {silent: cleared}}
""",
    )

    assert outcome.passed, told(outcome)


def test_a_device_that_is_down_says_nothing_and_its_events_are_heard() -> None:
    rules = """
  silent: {absence: {of: machine.cpu_load, longer_than: 1m}}
  shaky: {count: {event: device.down, of: machine, at_least: 2, within: 1h}}
"""
    outcome = play(
        rules,
        """
given: {machine: {10m: down, 20m: up, 30m: down, 30m10s: up}, machine.cpu_load: {0s: 5}}
until: 40m
expect: {10m30s: {silent: raised}, 20m: {silent: cleared}, 30m: {shaky: raised}}
""",
    )

    assert outcome.passed, told(outcome)


def test_no_usable_value_is_not_a_value() -> None:
    rules = "  silent: {absence: {of: machine.cpu_load, longer_than: 1m}}\n"
    outcome = play(
        rules, "given: {machine.cpu_load: {0s: 5, 10m: null}}\nuntil: 15m\nexpect: {10m30s: {silent: raised}}"
    )

    assert outcome.passed, told(outcome)


def test_texts_are_values() -> None:
    rules = "  failed: {compare: {of: \"feed.mode == 'failed'\", for: 1m}}\n"
    outcome = play(
        rules,
        "given: {feed.mode: {every: 10s, 0s: ok, 5m: failed, 8m: ok}}\nexpect: {6m: {failed: raised}, 8m: {failed: cleared}}",
    )

    assert outcome.passed, told(outcome)


def test_alarms_are_shelved_by_people_and_unshelved_by_time() -> None:
    outcome = play(
        OPEN,
        """
given: {door: {0s: on}}
do: {1m: {shelve: {door-open: 10m}}, 20m: {shelve: {door-open: 1h}}, 25m: {unshelve: door-open}}
expect: {5m: {door-open: {raised: {shelved: 1}}}, 11m: {door-open: {unshelved: {by: time}}}}
state: {2m: {door-open: [inactive, shelved]}, 6m: {door-open: [active, shelved]}, 26m: {door-open: active}}
""",
    )

    assert outcome.passed, told(outcome)


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_restart_forgets_nothing_and_outputs_come_back(how: str) -> None:
    outcome = play(
        HOT + OPEN,
        f"""
given: {{air.temperature: {{0s: 9, 30m: 5}}, door: {{4m: on, 11m30s: off, 20m: on}}}}
do: {{10m: {{{how}: 2m}}, 40m: {{ack: too-hot}}}}
expect:
  5m: {{too-hot: raised, siren: on}}
  9m: {{door-open: raised}}
  12m: {{door-open: cleared}}
  25m: {{door-open: raised}}
  30m: {{too-hot: cleared}}
  40m: {{siren: off}}
state: {{11m: {{siren: off}}, 12m: {{too-hot: active-unacknowledged, siren: on}}}}
""",
    )

    assert outcome.passed, told(outcome)


def test_a_delay_goes_on_over_a_restart() -> None:
    test = "given: {door: {0s: on}}\ndo: {4m: {restart: 30s}}\nuntil: 10m\nexpect: {5m: {door-open: raised}}"

    assert play(OPEN, test).passed


def test_noise_strays_within_its_bounds_and_is_the_same_in_every_run() -> None:
    rules = "  beyond: {threshold: {of: machine.cpu_load, outside: [4.8, 5.2]}}\n  near: {threshold: {of: machine.cpu_load, above: 5.15}}\n"
    test = "given: {machine.cpu_load: {noise: 0.2, 0s: 5}}\nuntil: 1h\n"

    first, second = all_of(play(rules, test)), all_of(play(rules, test))

    assert first == second
    assert any("near raised" in line for line in first)
    assert not any("beyond" in line for line in first)


def test_what_never_comes_to_rest_ends_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MOST_REPORTS", 1)
    outcome = play(
        HOT, "given: {air.temperature: {0s: 9}}\nuntil: 1h\nonly: [siren]\nexpect: {5m: {siren: on}}"
    )

    assert not outcome.passed
    assert outcome.run.failure == "at 0s rules and outputs feed each other without end"


OUTPUT = """
  pump:
    driver: gpio_output
    pin: 23
    output: {unless: "feed.level < 10", max_age: 10m, min_off: 3m, dead_man: 20m, commands: true}
"""


def test_interlocks_and_delays_of_outputs_are_those_of_the_configuration() -> None:
    outcome = play(
        HOT.replace("siren: on", "pump: on"),
        """
given:
  feed.level: {every: 1m, 0s: 50, 8m: 5, 12m: 50}
  air.temperature: {0s: 9, 40m: 5}
do: {1m: {set: {pump: on}}, 41m: {ack: too-hot}}
expect:
  3m: {pump: {on: {cause: test}}}
  5m: {too-hot: raised}
  8m: {pump: {off: {cause: interlock}}}
  12m: {pump: {on: {cause: too-hot}}}
  40m: {too-hot: cleared}
  41m: {pump: off}
state: {9m: {pump: off}}
""",
        devices=OUTPUT,
    )

    assert outcome.passed, told(outcome)


def test_a_command_that_an_interlock_refuses_is_expected_to_fail() -> None:
    outcome = play(
        HOT,
        """
given: {feed.level: {every: 1m, 0s: 5}}
do: {5m: {set: {pump: on}}}
expect: {5m: {pump: {failed: {reason: "interlocked: feed.level < 10"}}}}
""",
        devices=OUTPUT,
    )

    assert outcome.passed, told(outcome)


def test_pulses_and_what_lasts_a_while_end_by_themselves() -> None:
    rules = """
  open: {threshold: {of: door, above: 0.5}, then: {set: {siren: {pulse: 2s}, fan: {value: on, for: 10m}}}}
"""
    outcome = play(
        rules,
        """
given: {door: {1m: on, 30m: off}}
expect:
  1m: {open: raised, siren: on, fan: on}
  1m2s: {siren: off}
  11m: {fan: off}
  30m: {open: cleared}
""",
    )

    assert outcome.passed, told(outcome)


def test_what_blinks_is_told_when_it_begins_and_ends() -> None:
    rules = "  open: {threshold: {of: door, above: 0.5}, then: {set: {siren: {blink: {on: 1s, off: 3s}}}}}\n"
    outcome = play(
        rules,
        """
given: {door: {1m: on, 30m: off}}
expect:
  1m: {open: raised, siren: blinking}
  30m: {open: cleared, siren: off}
state: {10m: {siren: blinking}}
""",
    )

    assert outcome.passed, told(outcome)


def test_a_rule_that_acts_too_often_is_put_off_as_in_the_agent() -> None:
    rules = "  open: {threshold: {of: door, above: 0.5}, then: {set: {siren: on}}}\n"
    course = ", ".join(f"{turn}00ms: {'on' if turn % 2 else 'off'}" for turn in range(120))
    outcome = play(rules, f"given: {{door: {{{course}}}}}\nonly: [fan]\nuntil: 10m\n")

    assert any(each.what == "throttled" for each in outcome.run.happenings)


def test_an_output_that_is_lost_comes_back_with_what_is_wanted_of_it() -> None:
    rules = "  open: {threshold: {of: door, above: 0.5}, then: {set: {siren: on}}}\n"
    outcome = play(
        rules,
        """
given: {door: {1m: on, 5m: off, 10m: on}, siren: {4m: down, 12m: up}}
until: 20m
expect:
  1m: {open: raised, siren: on}
  5m: {open: cleared, siren: {failed: {reason: siren is down}}}
  10m: {open: raised, siren: {failed: {reason: siren is down}}}
""",
    )

    assert outcome.passed, told(outcome)


def test_numbers_are_compared_to_the_decimals_that_are_written() -> None:
    rules = "  hot: {threshold: {of: air.temperature, above: 8}}\n"
    test = "given: {{air.temperature: {{0s: 8.3333}}}}\nexpect: {{0s: {{hot: {{raised: {{value: {}}}}}}}}}"

    assert play(rules, test.format("8.33")).passed
    assert play(rules, test.format("8.3")).passed
    assert told(play(rules, test.format("8"))) == [
        "- 0s hot raised value 8",
        "+ 0s hot raised air.temperature is 8.3333, above 8 (warning) ← value is 8.3333, not 8",
    ]
    assert not play(rules, test.format("8.4")).passed


def test_what_may_come_after_the_end_is_said_to_be_so() -> None:
    outcome = play(OPEN, "given: {door: {0s: on}}\nexpect: {4m: {door-open: raised}}")

    assert told(outcome) == [
        "- 4m door-open raised ← did not happen; the test ends then, a later until: would show more"
    ]
