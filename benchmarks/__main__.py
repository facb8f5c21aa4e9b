"""Measures gatepost on this machine: `python -m benchmarks [NAME…] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import (
    alarm,
    drain,
    flood,
    footprint,
    outage,
    reaction,
    rules,
    ruletests,
    soak,
    startup,
    steady,
    wear,
    windows,
)
from benchmarks._results import Row, document, machine, table

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURES: Final[dict[str, Callable[..., list[Row]]]] = {
    "flood": flood.measure,
    "steady": steady.measure,
    "drain": drain.measure,
    "alarm": alarm.measure,
    "reaction": reaction.measure,
    "wear": wear.measure,
    "footprint": footprint.measure,
    "startup": startup.measure,
    "windows": windows.measure,
    "rules": rules.measure,
    "ruletests": ruletests.measure,
}

NAMED_ONLY: Final = ("outage", "soak")
"""What takes long, or installs something: only where it is named."""


def main() -> int:
    """Measure, print, and return the exit status: 0 where every aim was reached, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures gatepost on this machine."
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(MEASURES)} (all by default), or {' or '.join(NAMED_ONLY)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: a first impression")
    parser.add_argument("--minutes", type=float, default=10, help="how long the soak lasts (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too, for programs")
    options = parser.parse_args()
    unknown = set(options.names) - {*MEASURES, *NAMED_ONLY}
    if unknown:
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    began = time.monotonic()
    rows: list[Row] = []
    for name in options.names or MEASURES:
        if name == "soak":
            rows += soak.measure(minutes=options.minutes)
        elif name == "outage":
            rows += outage.measure(quick=options.quick)
        else:
            rows += MEASURES[name](quick=options.quick)
    notes = startup.import_costs() if not options.names or "startup" in options.names else []
    put(f"\n{machine()}")
    put(f"measured in {time.monotonic() - began:.0f} s; each number is the median of its runs\n")
    table(rows, put)
    for note in notes:
        put(note)
    if options.json is not None:
        options.json.write_text(document(rows, notes) + "\n", encoding="utf-8")
    return int(any(one.ok is False for one in rows))


def put(text: str) -> None:
    """Print a line of the result."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
