"""Removes the service. Configuration and log stay, unless they are to go too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.errors import GatepostError
from agent.service.installing import require_machine
from agent.service.layout import CONFIG_FOLDER, DROP_INS, RULES, SERVICE, STATE_FOLDER, UNIT, USER

if TYPE_CHECKING:
    from agent.service.layout import Layout
    from agent.service.steps import Steps

_OURS: Final = ("40-restart.conf", "50-devices.conf")


def remove(layout: Layout, steps: Steps, *, purge: bool) -> None:
    """Stop the service and delete its files; with `purge` its configuration, log and user, too.

    Raises:
        GatepostError: It cannot be done; the text says why.
    """
    require_machine(layout, steps)
    if layout.is_packaged:
        verb = "purge" if purge else "remove"
        raise GatepostError(
            f"this gatepost comes from a package, which brings its service: sudo apt {verb} gatepost"
        )
    if layout.at(UNIT).exists():
        steps.run("systemctl", "disable", "--now", "--quiet", SERVICE)
    steps.delete(UNIT)
    for name in _OURS:
        steps.delete(DROP_INS / name)
    for path in RULES.values():
        steps.delete(path)
    if purge:
        for folder in (DROP_INS, STATE_FOLDER, CONFIG_FOLDER):
            steps.delete(folder)
    if steps.changed:
        steps.run("systemctl", "daemon-reload")
        steps.run("systemctl", "reset-failed", SERVICE, may_fail=True)
    if purge:
        steps.run("userdel", USER, may_fail=True)
