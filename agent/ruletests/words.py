"""The words of `gatepost test`, apart from what plays them: every command reads these, and an agent that runs never plays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent import words

if TYPE_CHECKING:
    import argparse


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
