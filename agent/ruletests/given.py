"""What a test gives: the values of channels over time, devices that go and come back, and what somebody does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from agent.config import wording
from agent.config.decoding import Entry, join
from agent.errors import Fault
from agent.quantities import Duration
from agent.ruletests.model import SILENT, Course, Deed, Silent, Turn
from agent.ruletests.moments import said
from agent.ruletests.pages import place_of, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.events import Value
    from agent.ruletests.pages import Page, Timed

TURNS: Final = ("down", "up", "bad")
COURSE_KEYS: Final = ("ramp", "every", "noise")
VERBS: Final = ("ack", "shelve", "unshelve", "set", "restart", "crash")


class Given:
    """Reads `given:` of one test.

    Attributes:
        courses: What channels say.
        turns: What becomes of devices, by time.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self.courses: list[Course] = []
        self.turns: list[Turn] = []
        self._first: dict[str, int] = {}

    def read(self, entries: list[Entry], path: str) -> None:
        """Take in the entries of the map."""
        for entry in entries:
            self._entry(entry, join(path, entry.key))
        self.turns.sort()
        self._check_turns(entries, path)

    def _entry(self, entry: Entry, path: str) -> None:
        page, names = self._page, self._page.names
        device, dot, _ = entry.key.partition(".")
        if device not in names.devices:
            page.fault(entry.mark, path, wording.unknown("device", device, names.devices))
            return
        inner = self._inner(entry.value, path)
        settings = {each.key: each for each in inner if each.key in COURSE_KEYS}
        timed = [each for each in inner if each.key not in COURSE_KEYS]
        points: list[tuple[float, Value | Silent]] = []
        for at in page.times(timed, path):
            for node in page.items(at.node):
                if not dot and (turn := _word(node)) in TURNS:
                    self.turns.append(Turn(at.begin, device, str(turn)))
                elif (point := self._point(node, at)) is not None:
                    points.append(point)
        if points or settings:
            self._course(entry, path, points, settings)

    def _inner(self, node: yaml.Node, path: str) -> list[Entry]:
        """Return the entries of a map of times; a value alone holds from the start."""
        if isinstance(node, yaml.ScalarNode):
            return [Entry("0s", node.start_mark, node)]
        return self._page.entries(node, path)

    def _point(self, node: yaml.Node, at: Timed) -> tuple[float, Value | Silent] | None:
        if _word(node) == "silent":
            return at.begin, SILENT
        text = self._page.text(node, at.path, "a value")
        return None if text is None else (at.begin, value_of(text))

    def _course(
        self,
        entry: Entry,
        path: str,
        points: list[tuple[float, Value | Silent]],
        settings: dict[str, Entry],
    ) -> None:
        page = self._page
        channel = page.asked(page.names.channel, entry.key, entry.mark, path)
        if channel is None:
            return
        if channel in page.names.outputs:
            short = page.names.short(channel)
            what = f"{short!r} is an output, which says what it is set to; expected do: {{…: {{set: {{{short}: …}}}}}}"
            page.fault(entry.mark, path, what)
            return
        line = self._first.setdefault(channel, entry.mark.line + 1)
        if any(each.channel == channel for each in self.courses):
            page.fault(entry.mark, path, f"{channel!r} is given on line {line} already")
            return
        ramp = settings.get("ramp")
        if ramp is not None:
            if points:
                page.fault(ramp.mark, path, "found times and a ramp, expected all times in the ramp")
                return
            timed = page.times(page.entries(ramp.value, join(path, "ramp")), join(path, "ramp"))
            found = (self._point(at.node, at) for at in timed)
            points.extend(point for point in found if point is not None)
        every = self._positive(settings.get("every"), path)
        noise = self._noise(settings.get("noise"), path)
        device = channel.partition(".")[0]
        if every is not None and device in page.names.every:
            what = f"{device!r} is read every {Duration(page.names.every[device])}, as the configuration says; leave it out"
            page.fault(settings["every"].mark, path, what)
        if ramp is not None and every is None and device not in page.names.every:
            what = f"{device!r} speaks by itself, expected how often beside the ramp: every: 1m"
            page.fault(ramp.mark, path, what)
        self._check_values(entry, path, channel, points, is_ramp=ramp is not None)
        if not points:
            page.fault(entry.mark, path, "nothing is given, expected values by time such as {0s: 4, 10m: 9}")
        self.courses.append(Course(channel, tuple(points), ramp is not None, every, noise))

    def _check_values(
        self,
        entry: Entry,
        path: str,
        channel: str,
        points: list[tuple[float, Value | Silent]],
        *,
        is_ramp: bool,
    ) -> None:
        unit = self._page.names.units.get(channel)
        for at, value in points:
            if is_ramp and not isinstance(value, int | float):
                what = f"found {value!r} on a ramp at {said(at)}, expected numbers"
            elif channel in self._page.names.switches and value not in {0, 1, None, SILENT}:
                what = f"found {value!r} at {said(at)}, expected on or off"
            elif unit and isinstance(value, str):
                what = f"found {value!r} at {said(at)}, expected a number: {channel} is in {unit}"
            else:
                continue
            self._page.fault(entry.value.start_mark, path, what)

    def _positive(self, entry: Entry | None, path: str) -> float | None:
        if entry is None:
            return None
        seconds = self._page.duration(entry.value, join(path, entry.key))
        if seconds == 0:
            self._page.fault(entry.value.start_mark, join(path, entry.key), "expected some time, such as 10s")
            return None
        return seconds

    def _noise(self, entry: Entry | None, path: str) -> float:
        if entry is None:
            return 0.0
        text = self._page.text(entry.value, join(path, entry.key), "a number")
        value = None if text is None else text.value()
        if text is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            self._page.fault(
                entry.value.start_mark,
                join(path, entry.key),
                f"found {text.shown}, expected a number of at least 0",
            )
        return float(value) if isinstance(value, int | float) else 0.0

    def _check_turns(self, entries: list[Entry], path: str) -> None:
        """Refuse devices that go down or come up twice."""
        marks = {entry.key: entry.mark for entry in entries}
        is_down: dict[str, float] = {}
        for at, device, what in self.turns:
            wrong = ""
            if what == "down" and device in is_down:
                wrong = f"{device!r} is down at {said(at)} already, since {said(is_down[device])}"
            elif what == "up" and device not in is_down:
                wrong = f"{device!r} comes up at {said(at)}, but was not down"
            if wrong:
                self._page.fault(marks[device], join(path, device), wrong)
            if what == "down":
                is_down[device] = at
            elif what == "up":
                is_down.pop(device, None)


def _word(node: yaml.Node) -> str | None:
    """Return a word without quotes."""
    is_word = isinstance(node, yaml.ScalarNode) and node.style is None
    return str(node.value) if is_word else None


def read_deeds(page: Page, entries: list[Entry], path: str) -> list[Deed]:
    """Return what somebody does, from the entries of `do:`."""
    deeds: list[Deed] = []
    for at in page.times(entries, path):
        for node in page.items(at.node):
            for entry in page.told(node, at.path, "{ack: too-hot}"):
                if entry.key in VERBS:
                    deeds += _deed(page, entry, at)
                else:
                    page.fault(entry.mark, at.path, wording.unknown("deed", entry.key, VERBS))
    away = 0.0
    for deed in deeds:
        if deed.at < away:
            what = f"at {said(deed.at)} the agent is away, until {said(away)}"
            page.decoder.faults.append(Fault(*deed.place, path, what))
        if deed.back_at is not None:
            away = deed.back_at
    return deeds


def _deed(page: Page, entry: Entry, at: Timed) -> Iterator[Deed]:
    path, place = join(at.path, entry.key), place_of(entry.mark)
    match entry.key:
        case "ack" | "unshelve":
            for node in page.items(entry.value):
                rule = _rule(page, node, path)
                if rule is not None:
                    yield Deed(at.begin, entry.key, rule, None, place)
        case "shelve":
            for each in page.entries(entry.value, path):
                seconds = page.duration(each.value, join(path, each.key))
                if page.is_rule(each.key, each.mark, path) and seconds is not None:
                    yield Deed(at.begin, "shelve", each.key, seconds, place)
        case "set":
            for each in page.entries(entry.value, path):
                output = page.asked(page.names.output, each.key, each.mark, path)
                text = page.text(each.value, join(path, each.key), "a value")
                if output is not None and text is not None:
                    yield Deed(at.begin, "set", output, value_of(text), place)
        case _:
            seconds = page.duration(entry.value, path)
            if seconds == 0:
                page.fault(entry.value.start_mark, path, "expected how long the agent is away, such as 30s")
            elif seconds is not None:
                yield Deed(at.begin, entry.key, "", seconds, place)


def _rule(page: Page, node: yaml.Node, path: str) -> str | None:
    text = page.text(node, path, "the name of a rule")
    return text.text if text is not None and page.is_rule(text.text, node.start_mark, path) else None
