"""What systemd says of the unit, where it is installed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.doctor.machine import Machine

UNIT: Final = "gatepost.service"
PATIENCE: Final = 3.0
"""Seconds for systemctl."""

_FOLDERS: Final = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_PROPERTIES: Final = (
    "LoadState", "ActiveState", "Result", "ExecMainStatus", "NRestarts", "WatchdogUSec", "User", "SupplementaryGroups",
)  # fmt: skip


def is_installed(machine: Machine) -> bool:
    """Whether the unit is there."""
    return any(machine.at(f"{folder}/{UNIT}").exists() for folder in _FOLDERS)


def properties(machine: Machine) -> dict[str, str]:
    """Ask systemd about the unit (org.freedesktop.systemd1(5)); nothing where there is none, or no answer."""
    program = shutil.which("systemctl")
    if program is None or not machine.at("/run/systemd/system").exists():  # sd_booted(3)
        return {}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 -- a fixed command
            [program, "show", UNIT, f"--property={','.join(_PROPERTIES)}"],
            capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        return found if found.get("LoadState") == "loaded" else {}
    return {}
