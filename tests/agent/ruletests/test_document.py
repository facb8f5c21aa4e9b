"""Every broken file of bad_tests.md gives exactly the faults that stand below it there; sound ones are read as they are meant."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent import config
from agent.errors import ConfigError
from agent.ruletests import document, playing, timeline
from agent.ruletests.model import SILENT, Case, Subject
from agent.ruletests.moments import Moments, said
from agent.ruletests.names import Names

PAGE = Path(__file__).with_name("bad_tests.md")
SITE = """
devices:
  air: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [temperature, humidity]}, units: {temperature: Cel, humidity: "%"}}
  door: {driver: gpio_input, pin: 17, pull: up}
  machine: {driver: system, every: 30s, only: [cpu_load, memory_used]}
  feed: {driver: serial_lines, port: /dev/ttyUSB1, parse: json}
  fan: {driver: gpio_output, pin: 27}
  siren: {driver: gpio_output, pin: 22}
rules:
  too-hot: {threshold: {of: air.temperature, above: 35}}
  door-open: {threshold: {of: door, above: 0.5, for: 5m}}
  fed: {threshold: {of: feed.weight, below: 1}}
  siren: {threshold: {of: siren, above: 0.5, for: 5m}}
  asleep: {threshold: {of: machine.cpu_load, above: 90}, in_service: false}
"""


class Broken(NamedTuple):
    title: str
    text: str
    faults: str


def pages() -> list[Broken]:
    found = []
    for chapter in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```\w+\n(.*?)^```$", chapter, re.DOTALL | re.MULTILINE)
        found.append(Broken(chapter.partition("\n")[0], blocks[0], blocks[1].rstrip("\n")))
    return found


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    monkeypatch.chdir(tmp_path)
    Path("site.yaml").write_text(SITE)
    return Names(config.load(Path("site.yaml")))


def read(names: Names, text: str) -> list[Case]:
    path = Path("site.tests.yaml")
    path.write_text(text)
    return document.load(path, names)


@pytest.mark.parametrize("broken", pages(), ids=lambda broken: broken.title)
def test_a_broken_file_names_every_fault(broken: Broken, names: Names) -> None:
    with pytest.raises(ConfigError) as caught:
        read(names, broken.text)

    assert str(caught.value) == broken.faults
    assert list(caught.value.faults) == sorted(caught.value.faults)


def test_a_name_that_is_a_rule_and_an_output_is_what_is_said_of_it(names: Names) -> None:
    (case,) = read(
        names,
        "tests: {a: {expect: {1m: {siren: [raised, on]}}, state: {2m: {siren: on}, 3m: {siren: inactive}}}}",
    )

    alarm, output = Subject(is_output=False, name="siren"), Subject(is_output=True, name="siren.state")
    assert [each.subject for each in case.expected] == [alarm, output]
    assert [each.subject for each in case.checks] == [output, alarm]


def test_a_test_ends_with_the_last_time_that_it_speaks_of(names: Names) -> None:
    written = [
        "given: {door: {7m: on}}",
        "given: {air: {7m: down}}",
        "do: {7m: {ack: too-hot}}",
        "do: {6m: {restart: 1m}}",
        "expect: {1m..7m: {too-hot: raised}}",
        "state: {7m: {too-hot: inactive}}",
        "until: 7m",
    ]
    cases = read(names, "tests:\n" + "".join(f"  {at}: {{{each}}}\n" for at, each in enumerate(written)))

    assert [case.until for case in cases] == [420.0] * len(written)


def test_what_is_given_for_all_tests_holds_where_a_test_says_nothing_else(names: Names) -> None:
    first, second = read(
        names,
        "given: {door: {0s: off}, air.humidity: {0s: 50}}\ntests:\n  a: {given: {door: {0s: on}}}\n  b: {until: 1m}\n",
    )

    assert {course.channel: course.points for course in first.courses} == {
        "door.state": ((0.0, 1),),
        "air.humidity": ((0.0, 50),),
    }
    assert {course.channel: course.points for course in second.courses} == {
        "door.state": ((0.0, 0),),
        "air.humidity": ((0.0, 50),),
    }


def test_words_with_a_meaning_are_texts_in_quotes(names: Names) -> None:
    (case,) = read(
        names, 'tests: {a: {given: {feed.weight: {0s: silent, 1m: "silent", 2m: "5", 3m: down, 4m: null}}}}'
    )

    assert [value for _, value in case.courses[0].points] == [SILENT, "silent", "5", "down", None]
    assert case.turns == ()


def test_local_times_are_those_of_the_time_zone_also_when_summer_time_begins(names: Names) -> None:
    names.zone = ZoneInfo("Europe/Berlin")
    (case,) = read(
        names,
        "tests: {a: {start: 2026-03-29 00:00, given: {door: {04:00: on, Mon 04:00: off, 2026-03-31 00:00: on}}}}",
    )

    assert [at / 3600 for at, _ in case.courses[0].points] == [3.0, 27.0, 47.0]  # 02:00 to 03:00 is left out
    assert case.epoch == round(datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.25, "250ms"), (59.5, "59.5s"), (60, "1m"), (3_600, "1h"), (93_600, "1d 2h"), (90.001, "1m 30.001s"),
        (900.0004, "15m"), (59.9999, "1m"), (-5, "-5s"),
    ],
)  # fmt: skip
def test_times_are_said_as_people_write_them(seconds: float, text: str) -> None:
    assert said(seconds) == text
    assert seconds < 0 or Moments().parse(text) == pytest.approx(seconds, abs=0.0005)


WORDS = st.sampled_from([
    "tests", "given", "do", "expect", "state", "only", "until", "start", "a", "air", "air.temperature", "door", "machine.cpu_load",
    "feed.weight", "fan", "siren", "too-hot", "asleep", "0s", "5m", "1m..2m", "..", "22:00", "Tue 06:30", "2026-01-05 08:00", "raised", "cleared",
    "on", "off", "down", "up", "bad", "silent", "null", "4", "-1.5", "every", "ramp", "noise", "ack", "shelve", "set", "restart", "severity",
    "critical", "duration", "message", "<<", "failed", "blinking", "active",
])  # fmt: skip
NODES = st.recursive(
    WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


TIMES = st.sampled_from(["0s", "1m", "90s", "5m", "1m..7m", "00:03", "Mon 00:04"])
NAMES = st.sampled_from(
    [
        "air.temperature",
        "door",
        "machine.cpu_load",
        "feed.weight",
        "air",
        "fan",
        "siren",
        "too-hot",
        "door-open",
    ]
)
VALUES = st.sampled_from(
    [
        "4",
        "36",
        "on",
        "off",
        "null",
        "silent",
        "down",
        "up",
        "bad",
        "warm",
        "10s",
        "raised",
        "cleared",
        "failed",
        "active",
    ]
)


def maps(keys: st.SearchStrategy[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(keys, values, max_size=3)


LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "given": maps(
            NAMES,
            VALUES | maps(TIMES | st.sampled_from(["every", "noise", "ramp"]), VALUES | maps(TIMES, VALUES)),
        ),
        "do": maps(
            TIMES,
            maps(
                st.sampled_from(["ack", "shelve", "unshelve", "set", "restart", "crash"]),
                NAMES | VALUES | maps(NAMES, VALUES),
            ),
        ),
        "expect": maps(
            TIMES, maps(NAMES, VALUES | st.lists(VALUES, max_size=2) | maps(VALUES, maps(WORDS, VALUES)))
        ),
        "state": maps(TIMES, maps(NAMES, VALUES)),
        "only": st.lists(NAMES, max_size=3),
        "until": TIMES,
        "start": NODES,
    },
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(test=NODES | LIKELY)
@example(test={"given": {"door": "on"}, "until": "5m"})
@example(test={"given": {"air": {"0s": ["down", "up"]}}, "do": {"0s": {"ack": []}}})
def test_whatever_is_written_is_read_and_played_or_has_faults(test: Any, names: Names) -> None:
    text = yaml.safe_dump({"tests": {"a": test}}).replace("'", "")  # so that numbers and switches are some
    cases, faults = [], None
    try:
        cases = read(names, text)
    except ConfigError as error:
        faults = error.faults

    assert faults is None or (faults and all(fault.what for fault in faults))
    configuration = config.load(Path("site.yaml"))
    for case in cases:
        assert timeline.compare(playing.play(configuration, names, case), names).lines is not None
