"""`gatepost test` as a person or a script calls it, and its documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from agent import cli

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).parents[3] / "docs" / "testing-rules.md"
SITE = """
devices:
  door: {driver: gpio_input, pin: 17, pull: up}
rules:
  door-open: {threshold: {of: door, above: 0.5, for: 5m}}
"""
PASSES = "  it is told: {given: {door: {0s: on}}, expect: {5m: {door-open: raised}}}\n"
FAILS = "  it is <told> early & late:\n    given: {door: {0s: on}}\n    expect: {4m: {door-open: raised}}\n    until: 9m\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("site.yaml").write_text(SITE)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["test", "site.yaml", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def write(*tests: str, to: str = "site.tests.yaml") -> None:
    Path(to).write_text("tests:\n" + "".join(tests))


def without_times(text: str) -> Sequence[str]:
    return [re.sub(r" in \S+\)$", " in …)", line) for line in text.splitlines()]


def test_what_passes_is_a_line_and_the_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    write(PASSES)

    status, out, err = run(capsys)

    assert (status, err) == (0, "")
    assert without_times(out) == ["site.tests.yaml", "  ok    it is told  (5m in …)", "1 passed  (5m in …)"]


def test_what_fails_is_shown_with_its_place_and_the_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    write(PASSES, to="one.yaml")
    write(FAILS, to="two.yaml")

    status, out, _ = run(capsys, "one.yaml", "two.yaml")

    assert status == 1
    assert without_times(out) == [
        "one.yaml",
        "  ok    it is told  (5m in …)",
        "two.yaml",
        "  FAIL  it is <told> early & late  two.yaml:4",
        "          0s  door       on",
        "        - 4m  door-open  raised",
        "        + 5m  door-open  raised  door.state is 1, above 0.5  (warning)  ← 1m later than expected",
        "1 failed, 1 passed  (14m in …)",
    ]


def test_verbose_shows_what_passes_too(capsys: pytest.CaptureFixture[str]) -> None:
    write(PASSES)

    _, out, _ = run(capsys, "-v")

    assert "        = 5m  door-open  raised  door.state is 1, above 0.5  (warning)" in out


def test_a_filter_chooses_by_a_part_of_the_name_or_a_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    write(PASSES, FAILS)

    assert run(capsys, "--filter", "IS TOLD")[0] == 0
    assert run(capsys, "--filter", "*early*")[0] == 1
    status, _, err = run(capsys, "--filter", "nothing")
    assert (status, err) == (1, "gatepost: no test is called 'nothing'; there are 2\n")


def test_faults_of_all_files_and_of_the_configuration_are_the_status_78(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("one.yaml").write_text("tests: {a: {utnil: 1m}}")

    status, out, err = run(capsys, "one.yaml", "two.yaml")

    assert (status, out) == (78, "")
    assert err.splitlines() == [
        "one.yaml:1:13: tests.a: unknown key 'utnil', did you mean 'until'?",
        "two.yaml: there is no such file",
    ]
    Path("site.yaml").write_text("rules: {a: {}}")
    assert run(capsys, "one.yaml")[0] == 78


def test_without_tests_it_says_where_they_were_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys)

    assert status == 1
    assert err.startswith("gatepost: which tests? there is no site.tests.yaml; ")


def test_junit_has_a_suite_for_each_file_and_the_timeline_of_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(PASSES, to="one.yaml")
    write(
        '  "bell \\a & <all>": {given: {door: {0s: on}}, expect: {4m: {door-open: raised}}, until: 9m}\n',
        to="two.yaml",
    )

    status, _, _ = run(capsys, "one.yaml", "two.yaml", "--junit", "out.xml")

    root = ET.parse("out.xml").getroot()
    assert status == 1
    assert (root.tag, root.attrib["tests"], root.attrib["failures"]) == ("testsuites", "2", "1")
    assert [(each.attrib["name"], each.attrib["tests"], each.attrib["failures"]) for each in root] == [
        ("one.yaml", "1", "0"),
        ("two.yaml", "1", "1"),
    ]
    passed, failed = root.iter("testcase")
    assert list(passed) == []
    assert (failed.attrib["name"], failed.attrib["file"], failed.attrib["line"]) == (
        "bell ? & <all>",
        "two.yaml",
        "2",
    )
    failure = failed.find("failure")
    assert failure is not None
    assert (
        failure.attrib["message"]
        == "door-open raised  door.state is 1, above 0.5  (warning) at 5m: 1m later than expected"
    )
    assert "- 4m         door-open  raised" in (failure.text or "")
    assert all(float(each.attrib["time"]) >= 0 for each in root.iter() if "time" in each.attrib)


def test_a_report_that_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    write(PASSES)

    status, _, err = run(capsys, "--junit", "no/folder/out.xml")

    assert (status, err) == (1, "gatepost: cannot write no/folder/out.xml: No such file or directory\n")


def test_the_example_of_the_documentation_passes(capsys: pytest.CaptureFixture[str]) -> None:
    site, tests = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    Path("site.yaml").write_text(site)
    Path("site.tests.yaml").write_text(tests)

    status, out, err = run(capsys)

    assert (status, err) == (0, ""), out
    assert out.count("  ok    ") == 4


def test_programs_are_told_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    write(PASSES, FAILS)

    status, out, _ = run(capsys, "--json")

    passed, failed = json.loads(out)
    assert status == 1
    assert (passed["name"], passed["file"], passed["line"], passed["passed"]) == (
        "it is told",
        "site.tests.yaml",
        2,
        True,
    )
    assert (failed["passed"], failed["until"], failed["failure"]) == (False, 540.0, "")
    assert failed["timeline"][1:] == [
        {"at": 240.0, "mark": "-", "who": "door-open", "what": "raised", "note": ""},
        {
            "at": 300.0, "mark": "+", "who": "door-open", "what": "raised  door.state is 1, above 0.5  (warning)",
            "note": "1m later than expected",
        },
    ]  # fmt: skip
