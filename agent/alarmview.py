"""Shows the alarms of a running agent, and acknowledges and shelves them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from agent import console
from agent.console import say
from agent.errors import GatepostError
from agent.whereabouts import ask_once, user

if TYPE_CHECKING:
    import argparse

DONE: Final = 0
VERBS: Final = {"ack": "acknowledge", "shelve": "shelve", "unshelve": "unshelve"}


def alarms(options: argparse.Namespace) -> int:
    """Show the alarms, or change the state of one."""
    if options.verb is None:
        said = ask_once(options, {"get": "status"})
        if options.json:
            say(json.dumps(said["alarms"], indent=2))
        else:
            for line in console.alarm_lines(said, console.Style(sys.stdout)):
                say(line)
        return DONE
    if options.rule is None:
        raise GatepostError(f"{options.verb} expects the name of a rule")
    request: dict[str, Any] = {
        "alarm": VERBS[options.verb], "rule": options.rule, "by": options.by or user(), "comment": options.comment,
    }  # fmt: skip
    if options.verb == "shelve":
        if options.duration is None:
            raise GatepostError("shelve expects how long: --for 1h")
        request["for"] = float(options.duration)
    ask_once(options, request)
    done = {
        "ack": "acknowledged",
        "shelve": f"shelved for {options.duration}",
        "unshelve": "no longer shelved",
    }
    say(f"{options.rule} is {done[options.verb]}")
    return DONE
