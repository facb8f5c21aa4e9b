"""Makes a picture of what a test or a replay came to."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from agent import registry
from agent.conditions.limits import Limits
from agent.console import SYMBOLS
from agent.errors import GatepostError
from agent.ruletests.model import FAILED, Happening, Subject
from agent.ruletests.moments import said
from agent.ruletests.plot import Figure, Limit, Panel, Row, Span, Wrong, svg

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.config import Config
    from agent.contracts import Rule
    from agent.ruletests.model import Trace
    from agent.ruletests.names import Names
    from agent.ruletests.replay import Replayed
    from agent.ruletests.timeline import Outcome

MISSING: Final = 3
"""Intervals without a reading after which a device that speaks at an interval is drawn as silent."""


def of_test(config: Config, names: Names, outcome: Outcome) -> Figure:
    """Return the picture of a test; what was not as expected is marked."""
    run = outcome.run
    wrong: dict[str, list[Wrong]] = {}
    for line in outcome.lines:
        if line.is_wrong:
            what = f"{said(line.at)}: {line.what}" + (f": {line.note}" if line.note else "")
            wrong.setdefault(line.who, []).append(Wrong(line.at, what, line.mark == "-"))
    subjects = dict.fromkeys(
        [*(each.subject for each in run.case.expected), *(each.subject for each in run.happenings)]
    )
    rows = _rows(names, subjects, run.happenings, run.case.until)
    said_here = ((each.channel.partition(".")[0], each.every) for each in run.case.courses)
    every = names.every | {device: seconds for device, seconds in said_here if seconds is not None}
    marked = [row._replace(wrong=wrong.get(row.name, ())) for row in rows]
    return Figure(run.case.name, 0.0, run.case.until, _panels(config, names, run.trace, every), marked, said)


def of_replay(
    config: Config, names: Names, replayed: Replayed, title: str, clock: Callable[[float], str]
) -> Figure:
    """Return the picture of a replay, with the alarms of then and now."""
    rows: list[Row] = []
    for subject in dict.fromkeys(each.subject for each in [*replayed.then, *replayed.now]):
        for when, told in (("then", replayed.then), ("now", replayed.now)):
            (row,) = _rows(names, [subject], told, replayed.end, replayed.begin)
            rows.append(row._replace(name=f"{row.name} ({when})"))
    return Figure(
        title, replayed.begin, replayed.end, _panels(config, names, replayed.trace, names.every), rows, clock
    )


def write(folder: Path, name: str, figure: Figure, taken: Counter[str]) -> None:
    """Write a picture, under a name that a file can have and that is not taken yet.

    Raises:
        GatepostError: It cannot be written.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80] or "test"
    taken[slug] += 1
    path = folder / (f"{slug}.svg" if taken[slug] == 1 else f"{slug}-{taken[slug]}.svg")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(svg(figure), encoding="utf-8")
    except OSError as error:
        raise GatepostError(f"cannot write {path}: {error.strerror}") from error


def _panels(config: Config, names: Names, trace: Trace, every: Mapping[str, float]) -> list[Panel]:
    """Return the channels that rules look at and that have said numbers."""
    wanted = dict.fromkeys(names.watched)
    points: dict[str, list[tuple[float, float | None]]] = {}
    for at, device, values in trace:
        for channel, value in values.items():
            full = f"{device}.{channel}"
            if full in wanted and full not in names.outputs:
                told = points.setdefault(full, [])
                if told and at - told[-1][0] > MISSING * every.get(device, math.inf):
                    told.append((told[-1][0] + every[device], None))
                told.append((at, float(value) if isinstance(value, int | float) else None))
    limits = _limits(config)
    panels = []
    for full, told in points.items():
        if any(value is not None for _, value in told):
            unit = names.units.get(full, "")
            name = f"{names.short(full)} {SYMBOLS.get(unit, unit)}".rstrip()
            is_switch = full in names.switches
            panels.append(Panel(name, told, () if is_switch else limits.get(full, ()), is_switch))
    return panels


def _limits(config: Config) -> dict[str, list[Limit]]:
    """Return the limits by channel, of rules that hold the channel itself against them."""
    found: dict[str, list[Limit]] = {}
    for entry in config.rules.values():
        if entry.kind != "threshold" or not isinstance(entry.settings, Limits):
            continue
        rule: Rule[Any] = registry.module("rules", entry.kind).Rule(entry.settings)
        (channel,) = rule.watches()
        told = found.setdefault(channel, [])
        for step in entry.settings.steps():
            for raising, clearing in zip(step.raising, step.clearing, strict=True):
                if math.isfinite(raising):
                    told.append(Limit(raising, f"{raising:g} {entry.name}"))
                if math.isfinite(clearing) and clearing != raising:
                    told.append(Limit(clearing, f"{clearing:g} clear", is_clear=True))
    return found


def _rows(
    names: Names, subjects: Iterable[Subject], happenings: Sequence[Happening], end: float, begin: float = 0.0
) -> list[Row]:
    rows = []
    for subject in sorted(subjects):
        told = [each for each in happenings if each.subject == subject]
        if subject.is_output:
            rows.append(Row(names.short(subject.name), _output(names, subject.name, told, end)))
        else:
            rows.append(Row(subject.name, _alarm(told, begin, end)))
    return rows


def _alarm(happenings: Sequence[Happening], begin: float, end: float) -> list[Span]:
    """Return when an alarm was active, in pieces of one severity."""
    spans: list[Span] = []
    since: float | None = None
    severity = ""
    for each in happenings:
        if each.what not in {"raised", "changed", "cleared"}:
            continue
        if each.what != "raised" and since is None:
            since, severity = begin, str(each.facts.get("before", each.facts.get("severity", "warning")))
        if since is not None:
            spans.append(Span(since, each.at, severity, severity))
        since = None if each.what == "cleared" else each.at
        severity = str(each.facts.get("severity", "warning"))
    if since is not None:
        spans.append(Span(since, end, severity, severity))
    return spans


def _output(names: Names, channel: str, happenings: Sequence[Happening], end: float) -> list[Span]:
    """Return when an output was not at its safe value."""
    spans: list[Span] = []
    safe = value = names.outputs[channel]
    since = 0.0
    for each in [*happenings, Happening(end, Subject(is_output=True, name=channel), safe, {})]:
        if each.what == FAILED:
            continue
        if value != safe:
            spans.append(Span(since, each.at, "output", names.value(channel, value)))
        value, since = each.what, each.at
    return spans
