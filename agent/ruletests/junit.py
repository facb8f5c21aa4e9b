"""Tells what became of tests in JUnit's XML, which continuous integration reads (as Jenkins' xunit plugin describes it)."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from agent.ruletests.moments import said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.ruletests.timeline import Outcome

_IMPOSSIBLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that cannot be in XML 1.0."""


def text(files: Mapping[str, Sequence[tuple[Outcome, float]]]) -> str:
    """Return a document with a suite for each file of tests.

    Args:
        files: What became of the tests of each file, each with the seconds that it took.
    """
    total = [each for outcomes in files.values() for each in outcomes]
    root = ET.Element("testsuites", _counts("gatepost", total))
    for file, outcomes in files.items():
        suite = ET.SubElement(root, "testsuite", _counts(file, outcomes))
        for outcome, seconds in outcomes:
            case = outcome.run.case
            said_of = {
                "name": _clean(case.name),
                "classname": _clean(file),
                "file": _clean(case.place.file),
                "line": str(case.place.line),
                "time": f"{seconds:.6f}",
            }
            element = ET.SubElement(suite, "testcase", said_of)
            if not outcome.passed:
                failure = ET.SubElement(
                    element, "failure", {"message": _clean(_message(outcome)), "type": "difference"}
                )
                failure.text = _clean(_failure(outcome))
    ET.indent(root)
    out = io.BytesIO()
    ET.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    return out.getvalue().decode() + "\n"


def _counts(name: str, outcomes: Sequence[tuple[Outcome, float]]) -> dict[str, str]:
    return {
        "name": _clean(name),
        "tests": str(len(outcomes)),
        "failures": str(sum(not outcome.passed for outcome, _ in outcomes)),
        "errors": "0",
        "skipped": "0",
        "time": f"{sum(seconds for _, seconds in outcomes):.6f}",
    }


def _message(outcome: Outcome) -> str:
    wrong = [line for line in outcome.lines if line.is_wrong]
    if not wrong:
        return outcome.run.failure
    told = next((line for line in wrong if line.note), wrong[0])
    return f"{told.who} {told.what} at {said(told.at)}: {told.note}"


def _failure(outcome: Outcome) -> str:
    place = outcome.place
    lines = [f"{place.file}:{place.line}", *([outcome.run.failure] if outcome.run.failure else [])]
    for line in outcome.lines:
        mark = " " if line.mark == ":" else line.mark
        note = f"  <- {line.note}" if line.note else ""
        lines.append(f"{mark} {said(line.at):<10} {line.who}  {line.what}{note}")
    return "\n".join(lines)


def _clean(text: str) -> str:
    return _IMPOSSIBLE.sub("?", text)
