"""`gatepost doctor`: examines, reports, and ends with 0 where nothing would stop the agent."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Final

from agent.console import Style, say
from agent.doctor import case, examination, report
from agent.doctor.findings import Level

if TYPE_CHECKING:
    import argparse

DONE: Final = 0
FAILED: Final = 1


def doctor(options: argparse.Namespace) -> int:
    """Say what on this machine would stop the agent."""
    taken = case.take(options.config, options.user)
    areas = examination.examine(taken)
    if options.json:
        say(json.dumps(report.document(areas, taken), indent=2))
    else:
        width = min(max(shutil.get_terminal_size().columns, 60), 100)
        for line in report.lines(areas, taken, Style(sys.stdout), width):
            say(line)
    return FAILED if any(area.level is Level.FAULT for area in areas) else DONE
