"""The systemd unit, where it is installed: how it went, its watchdog; and the limit of open files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from agent.doctor.findings import Finding, counted, fault, note, ok

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.doctor.case import Case

_CONFIG_FAULT: Final = "78"

USUAL_FILES: Final = 40
FILES_EACH: Final = 4
"""Open files that an agent has anyhow, and at most for each device and forwarder."""


def examine(case: Case) -> Iterator[Finding]:
    """Look at the unit."""
    yield from judge(case.unit, case.user.name)


def judge(unit: Mapping[str, str], user: str) -> Iterator[Finding]:
    """Say how the unit is, from its properties (org.freedesktop.systemd1(5))."""
    if not unit:
        return
    state = unit.get("ActiveState", "")
    log = "see: journalctl -u gatepost -n 50"
    if state == "failed" and unit.get("ExecMainStatus") == _CONFIG_FAULT:
        yield fault("the service gave up: its configuration has faults", f"gatepost check says which; {log}")
    elif state == "failed":
        yield fault(
            f"the service has failed ({unit.get('Result', 'unknown')})",
            f"{log}; then: sudo systemctl restart gatepost",
        )
    elif state == "inactive":
        yield note("the service is installed, but not started", "sudo systemctl enable --now gatepost")
    else:
        yield ok(f"the service is {state}")
    if unit.get("NRestarts", "0") not in {"", "0"}:
        yield note(f"systemd has restarted the service {counted(int(unit['NRestarts']), 'time')}", log)
    if state == "active" and unit.get("WatchdogUSec", "") in {"0", "infinity"}:  # before the start it is 0
        yield note("systemd does not watch whether the agent hangs", "put WatchdogSec=30 into the unit")
    if (runs_as := unit.get("User", "")) and runs_as != user:
        yield note(
            f"the service runs as {runs_as}, and this was for {user}",
            f"sudo gatepost doctor --user {runs_as} …",
        )


def files(case: Case) -> Iterator[Finding]:
    """Say whether the limit of open files is enough, of the running agent or else of a session such as this one."""
    import resource  # noqa: PLC0415 -- only here

    needed = USUAL_FILES + FILES_EACH * (len(case.config.devices) + len(case.config.forward))
    limit, used = resource.getrlimit(resource.RLIMIT_NOFILE)[0], 0
    if case.agent.pid is not None:
        for line in case.machine.text(f"/proc/{case.agent.pid}/limits").splitlines():
            if line.startswith("Max open files"):
                limit = int(line.split()[3]) if line.split()[3].isdecimal() else limit
        with contextlib.suppress(OSError):
            used = sum(1 for _ in case.machine.at(f"/proc/{case.agent.pid}/fd").iterdir())
    if max(needed, used + USUAL_FILES) > limit:
        yield fault(
            f"only {limit} files may be open at a time, and {max(needed, used)} may be needed",
            "put LimitNOFILE=1024 into the unit, or: ulimit -n 1024",
        )
    else:
        yield ok(f"{limit} files may be open at a time" + (f", {used} are" if used else ""))
