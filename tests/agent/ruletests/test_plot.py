"""Pictures: what is drawn, that it is sound SVG, and that it stays small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from support.logs import opened

from agent import cli
from agent.clock import VirtualClock
from agent.events import EventType
from agent.ruletests.moments import said
from agent.ruletests.plot import LEFT, Figure, Limit, Panel, Row, Span, Wrong, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

SVG = "{http://www.w3.org/2000/svg}"
SITE = """
devices:
  air: {driver: serial_lines, port: /dev/ttyUSB0, parse: {csv: [temperature]}, units: {temperature: Cel}}
  door: {driver: gpio_input, pin: 17}
  siren: {driver: gpio_output, pin: 27}
rules:
  hot: {threshold: {of: air.temperature, above: {warning: 30, critical: 40}, clear: 22}, then: {set: {siren: on}}}
  open: {threshold: {of: door, above: 0.5}}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("site.yaml").write_text(SITE)


def drawn(path: Path) -> ET.Element:
    return ET.parse(path).getroot()


def all_of(root: ET.Element, tag: str, look: str) -> list[ET.Element]:
    return [each for each in root.iter(SVG + tag) if each.attrib.get("class") == look]


def texts(root: ET.Element) -> list[str]:
    return [each.text or "" for each in root.iter(SVG + "text")]


def test_a_test_is_drawn_with_channels_limits_alarms_and_what_is_wrong() -> None:
    Path("t.yaml").write_text(
        """
tests:
  it is <hot> & "bad":
    given: {air.temperature: {0s: 20, 10m: 35, 20m: 45, 30m: 20}, door: {0s: off}}
    until: 1h
    expect: {10m: {hot: raised, siren: on}, 15m: {hot: {changed: {severity: critical}}}}
  It is hot, bad: {until: 1m}
"""
    )

    assert cli.main(["test", "site.yaml", "t.yaml", "--plot", "pictures"]) == 1

    assert sorted(path.name for path in Path("pictures").iterdir()) == [
        "t-it-is-hot-bad-2.svg",
        "t-it-is-hot-bad.svg",
    ]
    root = drawn(Path("pictures/t-it-is-hot-bad.svg"))
    assert {
        'it is <hot> & "bad"',
        "air °C",
        "door",
        "hot",
        "siren",
        "30 hot",
        "40 hot",
        "22 clear",
    } <= set(texts(root))
    assert {"on", "off", "0s", "10m", "1h"} <= set(texts(root))
    assert len(all_of(root, "path", "line")) == 2
    (warning,), (critical,), (output,) = (
        all_of(root, "rect", look) for look in ("warning", "critical", "output")
    )
    assert float(warning.attrib["x"]) + float(warning.attrib["width"]) == pytest.approx(
        float(critical.attrib["x"])
    )
    assert output.attrib["x"] == warning.attrib["x"]
    title = warning.find(SVG + "title")
    assert title is not None
    assert title.text == "warning: 10m to 20m"
    missing, unexpected = all_of(root, "circle", "missing"), all_of(root, "circle", "unexpected")
    assert len(missing) == 1 + 1  # and in the legend
    assert len(unexpected) == 3 + 1


async def test_a_replay_is_drawn_with_the_alarms_of_then_and_now() -> None:
    clock = VirtualClock()
    async with opened(Path("events.db"), clock=clock) as log:
        log.append(EventType.AGENT_STARTED, "agent", {"clean": 1})
        for minute in range(60):
            clock.now = minute * 60
            log.append(EventType.READING, "air", {"temperature": 20 + minute})
        log.append(EventType.ALARM_RAISED, "old", {"severity": "major", "message": ""})

    assert cli.main(["test", "site.yaml", "--replay", "events.db", "--plot", "."]) == 1

    root = drawn(Path("replay-events.svg"))
    assert {"hot (then)", "hot (now)", "old (then)", "old (now)"} <= set(texts(root))
    assert (
        len(all_of(root, "rect", "warning"))
        == len(all_of(root, "rect", "critical"))
        == len(all_of(root, "rect", "major"))
        == 1
    )


def lines_of(points: Sequence[tuple[float, float | None]]) -> list[str]:
    root = ET.fromstring(svg(Figure("it", 0.0, 100.0, [Panel("a", points)], [], said)))
    return [each.attrib["d"] for each in all_of(root, "path", "line")]


def test_a_line_ends_where_there_is_no_value() -> None:
    first, second = lines_of([(0.0, 1.0), (20.0, None), (50.0, 1.0)])

    assert first.startswith(f"M{float(LEFT)} ")
    assert first.endswith("H314.0")
    assert second.startswith("M530.0 ")
    assert second.endswith("H890.0")


def test_a_million_readings_are_a_small_picture_that_shows_the_extremes() -> None:
    (path,) = lines_of(
        [(index / 10_000, 500.0 if index == 500_000 else float(index % 7)) for index in range(1_000_000)]
    )

    assert len(path) < 60_000
    assert min(float(part.split("H")[0]) for part in path.split("V")[1:]) < 60  # the peak is near the top


def test_nothing_at_all_is_a_picture_too() -> None:
    wrong = [Row("b", [Span(0, 0, "warning", "warning")], [Wrong(0, "a & b", is_missing=True)])]
    ET.fromstring(svg(Figure("", 0.0, 0.0, [], [], said)))
    ET.fromstring(svg(Figure("", 0.0, 0.0, [Panel("a", [], [Limit(0.0, "<")])], wrong, said)))


def test_a_picture_that_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.yaml").write_text("tests: {a: {until: 1m}}")
    Path("taken").write_text("")

    assert cli.main(["test", "site.yaml", "t.yaml", "--plot", "taken"]) == 1
    assert capsys.readouterr().err == "gatepost: cannot write taken/t-a.svg: File exists\n"
