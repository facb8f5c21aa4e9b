"""A tree of files that looks like a machine's /dev, /proc and /sys, and a case that is examined on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from agent import config
from agent.doctor.case import Case
from agent.doctor.machine import Chip, Line, Machine
from agent.doctor.processes import Processes
from agent.doctor.running import Running
from agent.doctor.users import User

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.findings import Finding, Level

ROOT: Final = User("root", 0, frozenset({0}), "/root")


def anna(*groups: int) -> User:
    """Return a user that owns nothing, in some groups."""
    return User("anna", 54321, frozenset(groups), "/home/anna")


class FakeMachine(Machine):
    """A tree whose GPIO chips answer as a test says.

    Attributes:
        lines: The state of each GPIO line, by chip and number; others are free.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.lines: dict[tuple[str, int], Line] = {}

    def write(self, path: str, text: str = "") -> Path:
        """Put a file into the tree."""
        file = self.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def link(self, path: str, target: str) -> None:
        """Put a link into the tree."""
        file = self.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)

    def process(self, pid: int, command: str, *targets: str) -> None:
        """Put a process into the tree that has some files open."""
        self.write(f"/proc/{pid}/cmdline", command.replace(" ", "\0") + "\0")
        self.at(f"/proc/{pid}/fd").mkdir(exist_ok=True)
        for number, target in enumerate(targets, 3):
            self.link(f"/proc/{pid}/fd/{number}", target)

    def chip(self, device: str) -> Chip:
        """Say that every chip is that of a Raspberry Pi 4."""
        os.stat(self.at(device))  # noqa: PTH116 -- it must be there
        return Chip("pinctrl-bcm2711", 58)

    def line(self, device: str, offset: int) -> Line:
        """Say what the test has put there."""
        return self.lines.get((device, offset), Line("", "", is_used=False, is_output=False))


def case(
    machine: FakeMachine, *, user: User = ROOT, agent: Running | None = None, text: str = "gateway: g\n"
) -> Case:
    """Return what is examined on a machine: by default an empty configuration, and no agent."""
    file = machine.write("/etc/gatepost.yaml", text)
    log = machine.at("/var/lib/gatepost/events.db")
    log.parent.mkdir(parents=True, exist_ok=True)
    return Case(config.load(file), "", user, log, machine, Processes(machine), agent or Running(), {})


def of(findings: list[Finding], level: Level) -> list[Finding]:
    """Return the findings of one level."""
    return [finding for finding in findings if finding.level is level]
