"""Holds what happened against what was expected, and says where they differ as a person would."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.ruletests.model import FAILED, TIMES, Expected, Happening, Silent, Subject, Written
from agent.ruletests.moments import said
from agent.ruletests.names import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.events import Value
    from agent.ruletests.model import Deed, Place
    from agent.ruletests.names import Names
    from agent.ruletests.playing import Run

EXACT: Final = 0.0015
"""Seconds by which two times may differ and be the same: events tell times in thousandths."""


class Line(NamedTuple):
    """One line of the timeline.

    Attributes:
        at: When.
        mark: `=` as expected, `-` expected and not so, `+` so and not expected, `!` a deed that could not be done, and
            `:` for what the test itself did, or need not expect.
        who: To what it happened.
        what: What happened.
        note: What is wrong with it; "" where nothing is.
        place: Where it is written, where it is.
    """

    at: float
    mark: str
    who: str
    what: str
    note: str = ""
    place: Place | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether the test fails for it."""
        return self.mark in "-+!"


class Outcome(NamedTuple):
    """What became of a test.

    Attributes:
        run: All that happened.
        lines: The timeline, by time.
    """

    run: Run
    lines: list[Line]

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.run.failure and not any(line.is_wrong for line in self.lines)

    @property
    def place(self) -> Place:
        """Where to look first: at what was expected first and is not so, or at the test."""
        places = [line.place for line in self.lines if line.mark in "-!" and line.place is not None]
        return min(places, default=self.run.case.place)


def compare(run: Run, names: Names) -> Outcome:
    """Hold what happened in a test against what it expects."""
    case = run.case
    telling = Telling(names)
    lines = list(_inputs(run, names))
    subjects = dict.fromkeys(
        [*(each.subject for each in case.expected), *(each.subject for each in run.happenings)]
    )
    for subject in subjects:
        wanted = [each for each in case.expected if each.subject == subject]
        happened = [each for each in run.happenings if each.subject == subject]
        is_open = case.only is None or subject in case.only
        lines += _Matching(telling, wanted, happened).lines(case.until, is_open=is_open)
    for check, state, holds in run.found:
        who = names.short(check.subject.name)
        wanted_state = ", ".join(names.value(check.subject.name, each) for each in check.wanted)
        if holds:
            lines.append(Line(check.at, "=", who, f"is {wanted_state}", "", check.place))
        else:
            lines.append(Line(check.at, "-", who, f"is {wanted_state}", f"it is {state}", check.place))
    for deed, reason in run.refused:
        lines.append(Line(deed.at, "!", names.short(deed.target), _done(deed, names), reason, deed.place))
    lines.sort(key=lambda line: round(line.at, 3))  # stable: as they came within a time
    return Outcome(run, lines)


class Telling:
    """Says what happened in a few words."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def name(self, subject: Subject) -> str:
        """Return what people call it."""
        return self._names.short(subject.name) if subject.is_output else subject.name

    def word(self, happening: Happening) -> str:
        """Return what happened, in a word."""
        value = self._names.value(happening.subject.name, happening.what)
        is_set = happening.subject.is_output and happening.what != FAILED
        return f"set to {value}" if is_set else value

    def happened(self, happening: Happening) -> str:
        """Return what happened, with what there is to know of it."""
        facts = happening.facts
        name = happening.subject.name
        if happening.subject.is_output and happening.what == FAILED:
            return f"failed to be set to {self._names.value(name, facts['value'])} by {facts['cause']}  ({facts['reason']})"
        if happening.subject.is_output:
            return f"{self._names.value(name, happening.what)}  (by {facts['cause']})"
        return "  ".join([str(happening.what), *_about(str(happening.what), facts)])

    def expected(self, expected: Expected) -> str:
        """Return what was expected, as it is written."""
        facts = ", ".join(f"{name} {written.text}" for name, written in expected.facts.items())
        until = f"  (until {said(expected.end)})" if expected.end > expected.begin else ""
        what = self._names.value(expected.subject.name, expected.what)
        return f"{what}{'  ' if facts else ''}{facts}{until}"


def _about(what: str, facts: Mapping[str, Value]) -> Iterable[str]:
    """Yield what there is to know of something that happened to an alarm."""
    if what in {"raised", "changed", "repeated"}:
        yield str(facts.get("message", ""))
        yield f"({facts.get('severity', '')})"
    elif what == "cleared" and "duration" in facts:
        yield f"value {number(facts.get('value'))}, after {fact('duration', facts['duration'])}"
    elif what == "flooded":
        yield f"{facts['count']} times more within {fact('within', facts['within'])}"
    if "reason" in facts:
        yield str(facts["reason"])
    if "by" in facts:
        yield f"by {facts['by']}"


class _Matching:
    """What is expected of one alarm or output, and what happened to it."""

    def __init__(self, telling: Telling, wanted: Sequence[Expected], happened: Sequence[Happening]) -> None:
        self._telling = telling
        self._wanted = list(wanted)
        self._happened = list(happened)
        self._lines: list[Line] = []

    def lines(self, until: float, *, is_open: bool) -> list[Line]:
        """Return the timeline of it up to the end of the test; unless `is_open`, other things may happen too."""
        self._pair(lambda one, other: _is_then(one, other) and not differences(one, other))
        self._pair(_is_then)
        self._pair(lambda one, other: not other.echo and same(one.what, other.what))
        for expected in self._wanted:
            self._missing(expected, f"did not happen{self._instead(expected, until)}")
        for happening in self._happened:
            mark = "+" if is_open and not happening.echo else ":"
            note = "not expected" if mark == "+" else ""
            self._lines.append(self._line(happening, mark, note))
        return self._lines

    def _pair(self, fits: Callable[[Expected, Happening], bool]) -> None:
        """Take out each expectation with the nearest of the events that fit, and say how they differ."""
        for expected in list(self._wanted):
            fitting = [each for each in self._happened if fits(expected, each)]
            if not fitting:
                continue
            nearest = min(fitting, key=lambda each: _away(expected, each))
            self._wanted.remove(expected)
            self._happened.remove(nearest)
            wrong = differences(expected, nearest)
            if (away := _late(expected, nearest)) != 0:
                wrong.insert(0, f"{said(abs(away))} {'later' if away > 0 else 'earlier'} than expected")
            if wrong:
                self._missing(expected, "")
                self._lines.append(self._line(nearest, "+", "; ".join(wrong)))
            else:
                self._lines.append(self._line(nearest, "=", "", expected.place))

    def _missing(self, expected: Expected, note: str) -> None:
        who, what = self._telling.name(expected.subject), self._telling.expected(expected)
        self._lines.append(Line(expected.begin, "-", who, what, note, expected.place))

    def _line(self, happening: Happening, mark: str, note: str, place: Place | None = None) -> Line:
        who = self._telling.name(happening.subject)
        return Line(happening.at, mark, who, self._telling.happened(happening), note, place)

    def _instead(self, expected: Expected, until: float) -> str:
        """Say what happened next to where something was expected and did not happen."""
        if expected.end >= until:
            return "; the test ends then, a later until: would show more"
        if not self._happened:
            return ""
        nearest = min(self._happened, key=lambda each: _away(expected, each))
        when = "then" if _late(expected, nearest) == 0 else f"at {said(nearest.at)}"
        return f"; {when} it was {self._telling.word(nearest)}"


def _late(expected: Expected, happening: Happening) -> float:
    """Return how many seconds too late something happened, negative for too early, 0 for in time."""
    late = max(0.0, happening.at - expected.end) or min(0.0, happening.at - expected.begin)
    return 0.0 if abs(late) < EXACT else late


def _away(expected: Expected, happening: Happening) -> float:
    return abs(_late(expected, happening))


def _is_then(expected: Expected, happening: Happening) -> bool:
    """Whether that happened, at that time, whatever else is said of it."""
    return _late(expected, happening) == 0 and same(expected.what, happening.what)


def differences(expected: Expected, happening: Happening) -> list[str]:
    """Say which of the facts that are written are otherwise."""
    wrong = []
    for name, written in expected.facts.items():
        found = happening.facts.get(name)
        tolerance = EXACT if name in TIMES else _precision(written)
        if not same(written.value, found, tolerance):
            shown = "not said" if name not in happening.facts else fact(name, found)
            wrong.append(f"{name} is {shown}, not {written.text}")
    return wrong


def same(wanted: Value, found: Value, tolerance: float = 0.0) -> bool:
    """Whether two values are the same, numbers within a tolerance."""
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return math.isclose(wanted, found, rel_tol=1e-9, abs_tol=tolerance)
    return wanted == found


def _precision(written: Written) -> float:
    """Return how far a number may be off: half of the last decimal that is written, nothing where there is none."""
    _, dot, decimals = written.text.partition(".")
    return 0.5000001 * 10.0 ** -len(decimals) if dot and decimals.isdigit() else 0.0


def fact(name: str, value: Value) -> str:
    """Return a fact as a person reads it."""
    return said(value) if name in TIMES and isinstance(value, int | float) else number(value)


def _inputs(run: Run, names: Names) -> Iterable[Line]:
    """Yield what the test does."""
    case = run.case
    for course in case.courses:
        who = names.short(course.channel)
        for at, value in course.points:
            text = "silent" if isinstance(value, Silent) else names.value(course.channel, value)
            yield Line(at, ":", who, f"{'→ ' if course.ramp and at != course.points[0][0] else ''}{text}")
    for turn in case.turns:
        yield Line(turn.at, ":", turn.device, turn.what if turn.what != "bad" else "says what makes no sense")
    refused = {id(deed) for deed, _ in run.refused}
    for deed in case.deeds:
        if id(deed) not in refused:
            who = names.short(deed.target) if deed.target else "agent"
            yield Line(deed.at, ":", who, _done(deed, names))


def _done(deed: Deed, names: Names) -> str:
    match deed.verb:
        case "set":
            return f"set to {names.value(deed.target, deed.value)} by the test"
        case "shelve" | "restart" | "crash":
            return f"{deed.verb} for {fact('for', deed.value)}"
    return deed.verb
