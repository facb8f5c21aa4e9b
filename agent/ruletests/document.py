"""Reads a file of tests: YAML to typed cases, or one error with every fault and its place.

    tests:
      a door left open raises an alarm after five minutes, not before:
        given: {door: {0s: off, 2m: on}}
        expect: {7m: {door-open: raised}}

What may be written is told in docs/testing-rules.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from agent.config import documents, wording
from agent.config.decoding import Decoder, Entry, join
from agent.config.variables import Variables
from agent.errors import ConfigError
from agent.ruletests.given import Given, read_deeds
from agent.ruletests.model import Case, Check, Course, Expected
from agent.ruletests.moments import Moments, local_time, said
from agent.ruletests.pages import Page, place_of
from agent.ruletests.wanted import read_checks, read_expected, read_only

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from agent.ruletests.names import Names

TOP_KEYS: Final = ("tests", "given")
MOST_READINGS: Final = 10_000_000
"""Readings of one test: some minutes of work."""

CASE_KEYS: Final = ("start", "given", "do", "until", "expect", "state", "only")


def load(path: Path, names: Names, environment: Mapping[str, str] | None = None) -> list[Case]:
    """Read a file of tests.

    Args:
        path: The file.
        names: What it may name, and the time zone of its local times.
        environment: What `${VARIABLE}` is looked up in, the process's own by default.

    Raises:
        ConfigError: It has faults; all of them, by file, line and column.
    """
    variables = Variables(path.parent, os.environ if environment is None else environment)
    decoder = Decoder(variables)
    root = documents.read(path, str(path), decoder.faults)
    top: dict[str, Entry] = {}
    for entry in decoder.entries(root, "") or []:
        if entry.key in TOP_KEYS:
            top[entry.key] = entry
        else:
            decoder.fault(entry.mark, "", wording.unknown("key", entry.key, TOP_KEYS))
    shared = decoder.entries(top["given"].value, "given") or [] if "given" in top else []
    cases = []
    if root is not None and "tests" not in top:
        decoder.fault(root.start_mark, "", "missing key 'tests', expected a map of tests by what they say")
    for entry in decoder.entries(top["tests"].value, "tests") or [] if "tests" in top else []:
        case = _case(decoder, names, entry, shared)
        if case is not None:
            cases.append(case)
    if "tests" in top and not cases and not decoder.faults:
        decoder.fault(
            top["tests"].mark, "tests", "there is no test, expected a map of tests by what they say"
        )
    if faults := {*decoder.faults, *variables.faults}:
        raise ConfigError(sorted(faults))
    return cases


def _case(decoder: Decoder, names: Names, entry: Entry, shared: list[Entry]) -> Case | None:
    path = join("tests", entry.key)
    entries = decoder.entries(entry.value, path)
    if entries is None:
        return None
    by_key = {each.key: each for each in entries}
    for each in entries:
        if each.key not in CASE_KEYS:
            decoder.fault(each.mark, path, wording.unknown("key", each.key, CASE_KEYS))
    page = Page(decoder, names, _moments(decoder, by_key.get("start"), names.zone, path))

    def inner(key: str) -> list[Entry]:
        return page.entries(by_key[key].value, join(path, key)) if key in by_key else []

    given = Given(page)
    own = inner("given")
    given.read(
        [*own, *(each for each in shared if each.key not in {mine.key for mine in own})], join(path, "given")
    )
    deeds = read_deeds(page, inner("do"), join(path, "do"))
    expected = read_expected(page, inner("expect"), join(path, "expect"))
    checks = read_checks(page, inner("state"), join(path, "state"))
    only = read_only(page, by_key["only"].value, join(path, "only")) if "only" in by_key else None
    last = max(
        [
            0.0,
            *(at for course in given.courses for at, _ in course.points),
            *(turn.at for turn in given.turns),
            *(deed.at if deed.back_at is None else deed.back_at for deed in deeds),
            *(each.end for each in expected),
            *(each.at for each in checks),
        ]
    )
    until = last
    if at := by_key.get("until"):
        text = page.text(at.value, join(path, "until"), "a time")
        ends = (
            None
            if text is None
            else page.asked(page.moments.parse, text.text, at.value.start_mark, join(path, "until"))
        )
        until = last if ends is None else ends
        if until < last:
            what = f"the test ends at {said(until)}, but speaks of {said(last)}"
            page.fault(at.value.start_mark, join(path, "until"), what)
    count = _readings(given.courses, names, until)
    if count > MOST_READINGS:
        what = f"until {said(until)} that is {count} readings, expected {MOST_READINGS} at most: a shorter test, or a longer every:"
        page.fault(entry.mark, path, what)
    if only is not None:
        named: list[Expected | Check] = [*expected, *checks]
        for wanted in named:
            if wanted.subject not in only:
                place = wanted.place
                what = f"{names.short(wanted.subject.name)!r} is not among those that only: names (line {place.line})"
                decoder.fault(by_key["only"].mark, join(path, "only"), what)
    return Case(
        entry.key, place_of(entry.mark), page.moments.epoch, tuple(given.courses), tuple(given.turns), tuple(deeds),
        tuple(expected), tuple(checks), until, only,
    )  # fmt: skip


def _readings(courses: Sequence[Course], names: Names, until: float) -> int:
    """Return about how many readings the devices of a test come to."""
    intervals: dict[str, float] = {}
    for course in courses:
        device = course.channel.partition(".")[0]
        every = names.every.get(device, course.every)
        if every is not None:
            intervals[device] = min(every, intervals.get(device, every))
    return round(sum(until / every for every in intervals.values()))


def _moments(decoder: Decoder, entry: Entry | None, zone: tzinfo | None, path: str) -> Moments:
    """Return the times of a test, from its `start:`."""
    if (
        entry is not None
        and (text := decoder.text(entry.value, join(path, "start"), "a local time")) is not None
    ):
        try:
            return Moments(local_time(text.text), zone)
        except ValueError as error:
            decoder.fault(entry.value.start_mark, join(path, "start"), str(error))
    return Moments(zone=zone)
