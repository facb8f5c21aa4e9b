"""Asks a running agent to set an output, or to read a device now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from agent.console import say
from agent.whereabouts import PATIENCE, ask_once, user

if TYPE_CHECKING:
    import argparse

DONE: Final = 0
READING: Final = 60.0
"""Seconds that a device may take to be read."""


def set_output(options: argparse.Namespace) -> int:
    """Set an output, as if somebody had commanded it from afar who may set any."""
    request = {
        "set": options.output, "value": _value(options.value), "by": options.by or user(), "wait": float(options.wait),
    }  # fmt: skip
    ask_once(options, request, options.wait + PATIENCE)
    say(f"{options.output} is set to {options.value}")
    return DONE


def read_device(options: argparse.Namespace) -> int:
    """Have a polled device read now, and print what it says."""
    said = ask_once(options, {"read": options.device, "by": options.by or user()}, READING)
    if options.json:
        say(json.dumps(said["values"], indent=2))
    else:
        for channel, value in said["values"].items():
            say(f"{channel}: {value}")
    return DONE


def _value(text: str) -> Any:
    """Return 0.5 for `0.5` and true for `true`; any other text, such as `on`, as it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text
