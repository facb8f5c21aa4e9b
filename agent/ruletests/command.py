"""`gatepost test`: plays files of tests and tells what became of them."""

from __future__ import annotations

import fnmatch
import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import config, console, words
from agent.console import say
from agent.errors import ConfigError, GatepostError
from agent.ruletests import document, figures, junit, playing, replaying, report, timeline
from agent.ruletests.names import Names

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from agent.errors import Fault
    from agent.ruletests.model import Case
    from agent.ruletests.timeline import Outcome

DONE: Final = 0
FAILED: Final = 1


def test(options: argparse.Namespace) -> int:
    """Play tests; the exit status says whether all passed."""
    logging.getLogger("agent").addHandler(logging.NullHandler())  # an agent's log of what is only played
    configuration = config.load(options.config, with_secrets=False)
    names = Names(configuration)
    if options.replay is not None:
        if options.tests or options.filter or options.junit or options.json:
            raise GatepostError(
                "--replay takes a log in place of tests; leave out the tests, --filter, --junit and --json"
            )
        return replaying.run(options, configuration, names)
    if options.since is not None or options.until is not None:
        raise GatepostError("--since and --until are for --replay")
    paths: Sequence[Path] = options.tests or [_beside(options.config)]
    began = time.perf_counter()
    cases = _chosen(_load(paths, names), options.filter)
    paint = console.Style(sys.stdout)
    taken: Counter[str] = Counter()
    files: dict[str, list[tuple[Outcome, float]]] = {}
    for case in cases:
        if case.place.file not in files and not options.json:
            say(case.place.file)
        before = time.perf_counter()
        played = playing.play(configuration, names, case, with_trace=options.plot is not None)
        outcome = timeline.compare(played, names)
        took = time.perf_counter() - before
        if options.plot is not None:
            name = f"{Path(case.place.file).stem} {case.name}"
            figures.write(options.plot, name, figures.of_test(configuration, names, outcome), taken)
        files.setdefault(case.place.file, []).append((outcome, took))
        if not options.json:
            for line in report.told(outcome, took, paint, is_verbose=options.verbose):
                say(line)
    outcomes = [outcome for each in files.values() for outcome, _ in each]
    if options.json:
        say(json.dumps([report.for_programs(*each) for told in files.values() for each in told], indent=2))
    else:
        say(report.summary(outcomes, time.perf_counter() - began, paint))
    if options.junit is not None:
        _write(options.junit, junit.text(files))
    return DONE if all(outcome.passed for outcome in outcomes) else FAILED


def _beside(path: Path) -> Path:
    """Return the file of tests that goes with a configuration."""
    beside = path.with_suffix(".tests.yaml")
    if not beside.exists():
        raise GatepostError(
            f"which tests? there is no {beside}; name a file of tests, or a log with --replay"
        )
    return beside


def _load(paths: Sequence[Path], names: Names) -> list[Case]:
    """Read all files, and say the faults of all of them."""
    cases: list[Case] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            cases += document.load(path, names)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return cases


def _chosen(cases: list[Case], pattern: str | None) -> list[Case]:
    """Return the tests whose name contains or matches a pattern."""
    if pattern is None:
        return cases
    chosen = [
        case
        for case in cases
        if pattern.lower() in case.name.lower() or fnmatch.fnmatchcase(case.name.lower(), pattern.lower())
    ]
    if not chosen:
        raise GatepostError(f"no test is called {pattern!r}; there are {len(cases)}")
    return chosen


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GatepostError(f"cannot write {path}: {error.strerror}") from error


def add_words(command: argparse.ArgumentParser) -> None:
    """Add what may be said behind `gatepost test`."""
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument(
        "tests", type=Path, nargs="*", help="files of tests; by default CONFIG with the ending .tests.yaml"
    )
    command.add_argument(
        "--filter", metavar="NAME", help="only tests whose name contains that, or matches it"
    )
    command.add_argument("--junit", type=Path, metavar="FILE", help="also tell it in JUnit's XML, for CI")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("-v", "--verbose", action="store_true", help="show the timelines of all tests")
    command.add_argument(
        "--replay",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="LOG",
        help="in place of tests play a log, by default the configuration's own, and tell what would be otherwise",
    )
    command.add_argument(
        "--since",
        type=words.moment,
        metavar="TIME",
        help="of a replay: tell from that time on, e.g. 1d (ago)",
    )
    command.add_argument("--until", type=words.moment, metavar="TIME", help="of a replay: up to that time")
    command.add_argument(
        "--plot", type=Path, metavar="DIR", help="also draw what rules saw, an SVG for each test"
    )
    command.set_defaults(simulate=False)
