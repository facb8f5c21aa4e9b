"""The words of `gatepost service`, and what they print."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent import config
from agent.console import Style, say
from agent.errors import ConfigError
from agent.service import state
from agent.service.access import access_of
from agent.service.installing import install
from agent.service.layout import CONFIG, CONFIG_FOLDER, DROP_INS, SERVICE, STATE_FOLDER, Layout
from agent.service.removing import remove
from agent.service.steps import Steps
from agent.service.unit import access_text

if TYPE_CHECKING:
    import argparse

DONE: Final = 0
FAILED: Final = 1


def add_words(command: argparse.ArgumentParser) -> None:
    """Add what `service` takes to its parser."""
    verbs = command.add_subparsers(title="what to do", required=True, metavar="VERB")

    verb = verbs.add_parser("install", help="install it, or bring it up to date", allow_abbrev=False)
    verb.set_defaults(call=_install)
    verb.add_argument(
        "--config", type=Path, default=CONFIG, help=f"the configuration that it runs ({CONFIG})"
    )
    _add_common(verb)

    verb = verbs.add_parser(
        "remove", help="stop and remove it; configuration and log stay", allow_abbrev=False
    )
    verb.set_defaults(call=_remove)
    verb.add_argument("--purge", action="store_true", help="delete its configuration, log and user too")
    _add_common(verb)

    verb = verbs.add_parser("status", help="say whether it runs, and why not", allow_abbrev=False)
    verb.set_defaults(call=status)
    verb.add_argument("--json", action="store_true", help="for programs")


def _add_common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--prefix",
        type=Path,
        default=Path(sys.prefix),
        help="the virtual environment, if it is not the one of this command",
    )
    verb.add_argument("--dry-run", action="store_true", help="only say what would be done")
    verb.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="only write the files, below this folder: for packages and images",
    )


def _layout(options: argparse.Namespace, path: Path = CONFIG) -> Layout:
    root = None if options.root is None else options.root.absolute()
    return Layout(prefix=options.prefix, config=path, root=root)


def _install(options: argparse.Namespace) -> int:
    layout = _layout(options, options.config)
    steps = Steps(layout, say, dry_run=options.dry_run)
    install(layout, steps)
    if not layout.is_prepared and not steps.dry_run:
        say(f"{SERVICE} runs {layout.config}; see: gatepost service status, journalctl -u gatepost")
    return DONE


def _remove(options: argparse.Namespace) -> int:
    layout = _layout(options)
    steps = Steps(layout, say, dry_run=options.dry_run)
    remove(layout, steps, purge=options.purge)
    if not steps.changed:
        say("there is nothing to remove")
    elif not options.purge:
        say(f"kept: {CONFIG_FOLDER}, {STATE_FOLDER} and the user; `--purge` deletes them")
    say(f"the program itself stays in {layout.prefix}")
    return DONE


def status(options: argparse.Namespace) -> int:
    """Say whether the service runs, and why not."""
    found = state.ask()
    faults, stale = _configured(found)
    if options.json:
        told = msgspec.to_builtins(found) | {
            "summary": found.summary,
            "faults": faults,
            "access_changed": stale,
        }
        say(json.dumps(told, indent=2, default=str))
        return DONE if found.is_running else FAILED
    paint = Style(sys.stdout)
    say(f"{paint('bold', SERVICE)}: {paint('green' if found.is_running else 'red', found.summary)}")
    if found.is_installed:
        say(
            f"  starts with the machine: {'yes' if found.is_enabled else 'no; sudo systemctl enable gatepost'}"
        )
        say(f"  unit           {found.unit}")
        if found.config is not None:
            say(f"  configuration  {found.config}")
        if found.memory is not None:
            say(f"  memory         {found.memory / 1e6:.0f} MB")
        if found.says and found.is_running:
            say(f"  says           {found.says}")
    if found.has_faults and not faults:
        say("  which faults: sudo gatepost service status, or journalctl -u gatepost -n 20")
    for fault in faults:
        say(f"  {paint('red', fault)}")
    if stale:
        say(
            "  the devices of the configuration, or the log's place, have changed; let the service at them: sudo gatepost service install"
        )
    if not found.is_running:
        say(f"  next: {_next(found)}")
    return DONE if found.is_running else FAILED


def _next(found: state.State) -> str:
    if not found.is_installed:
        return "sudo gatepost service install"
    if found.has_faults:
        return f"mend {found.config}, then: sudo systemctl start gatepost"
    return "journalctl -u gatepost -n 20, then: sudo systemctl reset-failed gatepost; sudo systemctl start gatepost"


def _configured(found: state.State) -> tuple[list[str], bool]:
    """Return the faults of the configuration, and whether it needs what the unit does not allow, or no longer what it does."""
    if found.config is None or not os.access(found.config, os.R_OK):
        return [], False
    try:
        access = access_of(config.load(found.config, with_secrets=False))
    except ConfigError as error:
        return [str(fault) for fault in error.faults], False
    try:
        written = (DROP_INS / "50-devices.conf").read_text(encoding="utf-8")
    except OSError:
        written = ""
    return [], written != access_text(access, found.config)
