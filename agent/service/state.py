"""How the service is, as systemd knows it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import GatepostError
from agent.service.layout import SERVICE

CONFIG_FAULT: Final = 78
"""The exit status of an agent whose configuration has faults: EX_CONFIG of sysexits.h."""

_ASKED: Final = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "NRestarts", "UnitFileState",
    "FragmentPath", "ExecStart", "StateChangeTimestamp", "StatusText", "MemoryCurrent", "NeedDaemonReload",
)  # fmt: skip


class State(msgspec.Struct, frozen=True):
    """What systemd says of the service.

    Attributes:
        is_installed: Whether there is a unit.
        is_running: Whether it is ready.
        is_enabled: Whether it starts with the machine.
        active: systemd's word, such as active, activating or failed.
        result: systemd's word for how it ended, such as exit-code, signal or watchdog; success where it did not fail.
        exit_status: Of its last process; 0 where that still runs.
        restarts: How often systemd has started it again by itself.
        since: When it came into this state, as systemd writes it.
        says: What the agent last told systemd.
        unit: The file of the unit; None where there is none.
        python: The interpreter that it runs; None where that cannot be told.
        config: The configuration that it runs; None where that cannot be told.
        memory: Bytes that it takes; None where the kernel does not count.
        is_outdated: Whether the files of the unit have changed since systemd read them.
    """

    is_installed: bool
    is_running: bool
    is_enabled: bool
    active: str
    result: str
    exit_status: int
    restarts: int
    since: str
    says: str
    unit: str | None
    python: Path | None
    config: Path | None
    memory: int | None
    is_outdated: bool

    @property
    def has_faults(self) -> bool:
        """Whether it stands still for its configuration has faults."""
        return self.active == "failed" and self.exit_status == CONFIG_FAULT

    @property
    def summary(self) -> str:
        """How it is, in a sentence without a capital and a stop."""
        if not self.is_installed:
            return "the service is not installed"
        times = "once" if self.restarts == 1 else f"{self.restarts} times"
        again = f", started again {times}" if self.restarts else ""
        if self.is_running:
            return f"it runs since {self.since}{again}"
        if self.has_faults:
            return "it stands still: its configuration has faults, and systemd does not try again until it is told to"
        if self.active == "failed":
            return f"it has failed ({self.result}, exit status {self.exit_status}){again}, and systemd has given up"
        return f"it is {self.active}{again}"


def ask() -> State:
    """Ask systemd.

    Raises:
        GatepostError: It does not answer.
    """
    said = _show(SERVICE, *_ASKED)
    command = re.search(r"argv\[\]=(\S+) -I -m agent run (\S+) ;", said["ExecStart"])
    return State(
        is_installed=said["LoadState"] == "loaded",
        is_running=said["ActiveState"] in {"active", "reloading"},
        is_enabled=said["UnitFileState"] == "enabled",
        active=said["ActiveState"],
        result=said["Result"],
        exit_status=_number(said["ExecMainStatus"]) or 0,
        restarts=_number(said["NRestarts"]) or 0,
        since=said["StateChangeTimestamp"],
        says=said["StatusText"],
        unit=said["FragmentPath"] or None,
        python=Path(command[1]) if command else None,
        config=Path(command[2]) if command else None,
        memory=_number(said["MemoryCurrent"]),
        is_outdated=said["NeedDaemonReload"] == "yes",
    )


def version() -> int | None:
    """Return the version of systemd that is installed here, None where it cannot be told; it need not run."""
    try:
        found = re.match(r"systemd (\d+)", _systemctl("--version"))
    except GatepostError:
        return None
    return int(found[1]) if found else None


def _show(unit: str, *properties: str) -> dict[str, str]:
    lines = _systemctl("show", f"--property={','.join(properties)}", unit).splitlines()
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    return {name: said.get(name, "") for name in properties}


def _systemctl(*words: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- the words are our own
            ["/usr/bin/systemctl", *words], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GatepostError(f"cannot ask systemd: {error}") from error
    if done.returncode:
        raise GatepostError(f"systemd does not answer: {done.stderr.strip()}")
    return done.stdout


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() and int(text) < 2**63 else None
