"""What a measure reports, and how it is printed: a table for people, a document for machines."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HEADINGS: Final = ("measure", "reached", "aim", "reached/aim", "", "runs: lowest to highest")


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name: What was measured.
        value: The median of the runs.
        unit: Its unit.
        aim: The limit or target; None where there is none.
        better: Which side of the aim is good.
        runs: What each run gave.
        note: What a reader must know beside it.
    """

    name: str
    value: float
    unit: str
    aim: float | None = None
    better: Literal["≤", "≥"] = "≤"
    runs: tuple[float, ...] = ()
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the aim was reached; None where there is none."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.better == "≤" else self.value >= self.aim

    def cells(self) -> tuple[str, ...]:
        """Return the line of the table."""
        verdict = {True: "ok", False: "MISSED", None: ""}[self.ok]
        aim = "—" if self.aim is None else f"{self.better} {_number(self.aim)}"
        ratio = "—" if not self.aim else f"{self.value / self.aim:.2f}"
        spread = f"{_number(min(self.runs))} to {_number(max(self.runs))}" if len(self.runs) > 1 else ""
        beside = " · ".join(part for part in (spread, self.note) if part)
        return (self.name, f"{_number(self.value)} {self.unit}".rstrip(), aim, ratio, verdict, beside)


def row(
    name: str,
    runs: Sequence[float],
    unit: str,
    aim: float | None = None,
    better: Literal["≤", "≥"] = "≤",
    note: str = "",
) -> Row:
    """Return the row of several runs, by their median."""
    return Row(name, statistics.median(runs), unit, aim, better, tuple(runs), note)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all values lies; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def machine() -> str:
    """Return the line that says what was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    parts = [
        f"{model}, {os.cpu_count()} cores",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        f"SQLite {sqlite3.sqlite_version}",
        f"paho-mqtt {importlib.metadata.version('paho-mqtt')}",
        broker_version(),
    ]
    return " · ".join(parts)


def broker_version() -> str:
    """Return which broker is used, and its version."""
    path = mosquitto()
    if path is None:
        return "embedded broker (Mosquitto is not installed)"
    said = subprocess.run([path, "-h"], capture_output=True, text=True, check=False).stdout
    return said.splitlines()[0].replace(" version", "").capitalize() if said else "Mosquitto"


def mosquitto() -> str | None:
    """Return the path of Mosquitto, which Debian puts where only root's PATH looks."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def table(rows: Iterable[Row], put: Callable[[str], None]) -> None:
    """Print rows as an aligned table."""
    lines = [HEADINGS, *(one.cells() for one in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in {1, 2, 3} else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        put("  ".join(cells).rstrip())


def document(rows: Iterable[Row], notes: Iterable[str]) -> str:
    """Return rows as JSON."""
    found = [{**asdict(one), "ok": one.ok} for one in rows]
    return json.dumps(
        {"machine": machine(), "rows": found, "notes": list(notes)}, indent=2, ensure_ascii=False
    )


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
