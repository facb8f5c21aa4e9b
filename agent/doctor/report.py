"""What was found, for a person and for programs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from agent.doctor.findings import Level, counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.console import Style
    from agent.doctor.case import Case
    from agent.doctor.examination import Area
    from agent.doctor.findings import Finding

_STYLES: Final = {Level.OK: "green", Level.NOTE: "yellow", Level.FAULT: "red"}
_MARGIN: Final = 4 + len(Level.FAULT) + 2
"""Columns before the text: two of a margin, the finding's number, its level."""


def lines(areas: Sequence[Area], case: Case, paint: Style, width: int) -> Iterator[str]:
    """Return the report as lines for a person; what needs doing is numbered, so that one can speak of it."""
    board = case.machine.text("/proc/device-tree/model")
    on = f" on {board}" if board else ""
    yield paint("bold", f"{case.config.gateway}: {case.config.path}, for user {case.user.name}{on}")
    numbers: dict[Finding, int] = {}
    for area in areas:
        yield ""
        yield paint("dim", area.name)
        for finding in area.findings:
            is_said = finding in numbers
            if finding.level is not Level.OK and not is_said:
                numbers[finding] = len(numbers) + 1
            yield from _finding(finding, numbers.get(finding), paint, width, is_said=is_said)
    yield ""
    yield _sum(areas, paint)


def _finding(
    finding: Finding, number: int | None, paint: Style, width: int, *, is_said: bool
) -> Iterator[str]:
    """Return a finding; what to do is told where it is said first, and the number tells where that was."""
    mark = "  " if number is None else f"{number:2}"
    first, *more = _wrapped(finding.what, width)
    yield f"{mark}  {paint(_STYLES[finding.level], f'{finding.level:<5}')}  {first}"
    margin = " " * _MARGIN
    yield from (margin + line for line in more)
    if finding.do and not is_said:
        yield from (margin + line for line in _wrapped(f"do: {finding.do}", width, indent="    "))


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return a text in lines that fit; what a person must copy, such as a path, is never cut."""
    return textwrap.wrap(
        text, width - _MARGIN, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _sum(areas: Sequence[Area], paint: Style) -> str:
    levels = [finding.level for finding in {finding for area in areas for finding in area.findings}]
    faults, notes = levels.count(Level.FAULT), levels.count(Level.NOTE)
    noted = f", {counted(notes, 'note')}" if notes else ""
    if not faults:
        return paint("green", f"nothing would stop it{noted}")
    where = ", ".join(area.name for area in areas if area.level is Level.FAULT)
    return paint("red", f"{counted(faults, 'fault')} ({where}){noted}")


def document(areas: Sequence[Area], case: Case) -> dict[str, Any]:
    """Return the report for programs, ready for JSON."""
    findings = [
        {"area": area.name, "level": finding.level, "what": finding.what, "do": finding.do}
        for area in areas
        for finding in area.findings
    ]
    return {
        "gateway": case.config.gateway,
        "config": str(case.config.path),
        "user": case.user.name,
        "log": str(case.log),
        "agent": case.agent.pid,
        "faults": sum(each["level"] == Level.FAULT for each in findings),
        "notes": sum(each["level"] == Level.NOTE for each in findings),
        "findings": findings,
    }
