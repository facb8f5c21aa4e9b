"""`gatepost test --replay`: reads a log, plays it to today's rules, and tells what would be otherwise."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import console, logview
from agent.console import say
from agent.errors import GatepostError
from agent.eventlog import EventStore
from agent.ruletests import figures, replay
from agent.ruletests.moments import said
from agent.ruletests.timeline import Telling
from agent.whereabouts import log_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from agent.config import Config
    from agent.console import Style
    from agent.events import Event
    from agent.ruletests.names import Names
    from agent.ruletests.replay import Difference, Replayed

DONE: Final = 0
FAILED: Final = 1

_AT_A_TIME: Final = 2_000
_PAINT: Final = {"=": "green", "~": "yellow", "-": "red", "+": "yellow"}


def run(options: argparse.Namespace, config: Config, names: Names) -> int:
    """Play a log and tell; the exit status is 1 where today's rules would do otherwise, as that of diff(1)."""
    path = log_of(options) if options.replay == Path() else options.replay
    since = options.since or 0
    until = 2**62 if options.until is None else options.until
    began = time.perf_counter()
    replayed = replay.play(config, names, events(path), since, until, with_trace=options.plot is not None)
    if replayed is None or replayed.end < replayed.begin:
        raise GatepostError(f"{path} has no events there")
    found = replay.differences(replayed)
    paint = console.Style(sys.stdout)
    clock = _Clock(replayed.epoch, names.zone)
    first, last = clock.said(replayed.begin), clock.said(replayed.end)
    runs = "1 run" if replayed.runs == 1 else f"{replayed.runs} runs"
    took = said(time.perf_counter() - began)
    say(f"{path}: {first} to {last}, {replayed.events} events, {runs}, in {took}")
    if replayed.failure:
        say(paint("red", replayed.failure))
    for line in (
        *_lines(found, names, clock, paint),
        *_counts(replayed, names, paint),
        *_unknown(config, names, replayed, paint),
    ):
        say(line)
    if options.plot is not None:
        title = f"{path}: {first} to {last}"
        figures.write(
            options.plot,
            f"replay {path.stem}",
            figures.of_replay(config, names, replayed, title, clock.short),
            Counter(),
        )
    is_same = not replayed.failure and all(each.mark == "=" for each in found)
    return DONE if is_same else FAILED


def events(path: Path) -> Iterator[Event]:
    """Yield all events of a log: those in its file, and those that an agent that runs on it has not written yet.

    Raises:
        GatepostError: It cannot be read.
    """
    store = EventStore(path)
    try:
        store.open_reader()
        after = 0
        while found := store.read(None, after, None, _AT_A_TIME):
            yield from found
            after = found[-1].seq
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise GatepostError(f"cannot read {path}: {error}") from error
    finally:
        store.close()
    for event, _ in logview.live_events(path, {"get": "events", "after": after, "follow": False}) or ():
        yield event


class _Clock:
    """Local times of a replay."""

    def __init__(self, epoch: int, zone: tzinfo | None) -> None:
        self._epoch = epoch
        self._zone = zone

    def said(self, at: float) -> str:
        return f"{datetime.fromtimestamp(self._epoch / 1e6 + at).astimezone(self._zone):%a %Y-%m-%d %H:%M:%S}"

    def short(self, at: float) -> str:
        return f"{datetime.fromtimestamp(self._epoch / 1e6 + at).astimezone(self._zone):%d %H:%M:%S}"


def _lines(found: Sequence[Difference], names: Names, clock: _Clock, paint: Style) -> Iterator[str]:
    telling = Telling(names)
    width = max((len(each.happening.subject.name) for each in found), default=0)
    for mark, happening, note in found:
        text = f"{mark} {clock.said(happening.at)}  {happening.subject.name:<{width}}  {telling.happened(happening)}"
        yield f"  {paint(_PAINT[mark], text)}{paint('bold', f'  ← {note}') if note else ''}"


def _counts(replayed: Replayed, names: Names, paint: Style) -> Iterator[str]:
    """Return how often each rule raised its alarm, then and now."""
    then, now = (
        Counter(each.subject.name for each in told if each.what == "raised")
        for told in (replayed.then, replayed.now)
    )
    rules = [name for name in dict.fromkeys([*names.in_service, *then]) if then[name] or now[name]]
    yield ""
    if not rules:
        yield "no alarm was raised, then or now"
    width = max((len(name) for name in rules), default=0)
    for name in rules:
        gone = (
            ""
            if name in names.in_service
            else "  (no such rule now)"
            if name not in names.rules
            else "  (out of service)"
        )
        text = f"  {name:<{width}}  raised {then[name]} times then, {now[name]} now{gone}"
        yield text if then[name] == now[name] else paint("bold", text)


def _unknown(config: Config, names: Names, replayed: replay.Replayed, paint: Style) -> Iterator[str]:
    told = replay.unknown(config, names)
    yield ""
    yield paint(
        "dim", "what came before the log begins is not known: alarms that were active, windows that were full"
    )
    for channel in replayed.missing:
        yield paint("yellow", f"{channel}: the log has no reading of it")
    for line in told:
        yield paint("yellow", line)
