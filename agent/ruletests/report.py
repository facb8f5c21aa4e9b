"""Tells what became of tests, for people at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.ruletests.moments import said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.console import Style
    from agent.ruletests.timeline import Line, Outcome

AROUND: Final = 4
"""Lines that are shown before and after one that is not as expected."""

_PAINT: Final = {"=": "green", "-": "red", "+": "yellow", "!": "red", ":": "dim"}


def told(outcome: Outcome, seconds: float, paint: Style, *, is_verbose: bool) -> Iterator[str]:
    """Return what became of a test as lines."""
    case = outcome.run.case
    if outcome.passed:
        yield f"  {paint('green', 'ok  ')}  {case.name}{paint('dim', f'  ({said(case.until)} in {said(seconds)})')}"
    else:
        place = outcome.place
        yield f"  {paint('alarm', 'FAIL')}  {paint('bold', case.name)}  {paint('dim', f'{place.file}:{place.line}')}"
    if outcome.run.failure:
        yield f"        {paint('red', outcome.run.failure)}"
    if is_verbose or not outcome.passed:
        yield from timeline(outcome.lines, paint, is_whole=is_verbose)


def timeline(lines: Sequence[Line], paint: Style, *, is_whole: bool) -> Iterator[str]:
    """Return a timeline as lines; unless it is to be whole, what is far from what is wrong is left out."""
    shown = set(range(len(lines))) if is_whole else _near(lines)
    times = max((len(said(lines[index].at)) for index in shown), default=0)
    width = max((len(lines[index].who) for index in shown), default=0)
    left_out = 0
    for index, line in enumerate(lines):
        if index not in shown:
            left_out += 1
            continue
        if left_out:
            yield paint("dim", f"          … {left_out} more")
            left_out = 0
        mark = " " if line.mark == ":" else line.mark
        text = f"{mark} {said(line.at):<{times}}  {line.who:<{width}}  {line.what}"
        note = f"  ← {line.note}" if line.note else ""
        yield f"        {paint(_PAINT[line.mark], text)}{paint('bold', note) if note else ''}"
    if left_out:
        yield paint("dim", f"          … {left_out} more")


def _near(lines: Sequence[Line]) -> set[int]:
    wrong = [index for index, line in enumerate(lines) if line.is_wrong]
    near = {each for index in wrong for each in range(index - AROUND, index + AROUND + 1)}
    return near & set(range(len(lines)))


def summary(outcomes: Sequence[Outcome], seconds: float, paint: Style) -> str:
    """Return how many tests passed and failed."""
    failed = sum(not outcome.passed for outcome in outcomes)
    passed = len(outcomes) - failed
    played = said(sum(outcome.run.case.until for outcome in outcomes))
    counts = f"{passed} passed" if not failed else f"{failed} failed, {passed} passed"
    return f"{paint('red' if failed else 'green', counts)}  ({played} in {said(seconds)})"


def for_programs(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Return what became of a test, ready for JSON; times are seconds from its start."""
    case = outcome.run.case
    return {
        "file": case.place.file,
        "line": case.place.line,
        "name": case.name,
        "passed": outcome.passed,
        "failure": outcome.run.failure,
        "until": case.until,
        "took": round(seconds, 6),
        "timeline": [
            {
                "at": round(line.at, 3),
                "mark": line.mark,
                "who": line.who,
                "what": line.what,
                "note": line.note,
            }
            for line in outcome.lines
        ],
    }
