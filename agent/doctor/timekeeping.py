"""The clock: whether somebody has set it, and whether it is kept right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import clock
from agent.clock import iso
from agent.doctor.findings import Finding, note, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

_SET: str = "sudo timedatectl set-ntp true; it needs an NTP server that answers on UDP port 123: timedatectl timesync-status"


def examine() -> Iterator[Finding]:
    """Look at the machine's clock."""
    yield judge(
        clock.Clock().wall(), is_synchronized=clock.is_synchronized(), has_battery=clock.has_battery()
    )


def judge(wall: int, *, is_synchronized: bool, has_battery: bool) -> Finding:
    """Say whether the time can be trusted.

    Args:
        wall: What the clock says, in microseconds since 1970-01-01 UTC.
        is_synchronized: Whether an NTP client keeps it.
        has_battery: Whether the machine knew the time when it was switched on.
    """
    now = f"{iso(wall)[:16].replace('T', ' ')} UTC"
    if wall <= clock.NO_EARLIER:
        return note(
            f"the clock is not set: it says {now}; events are marked, and TLS trusts no certificate", _SET
        )
    if is_synchronized:
        return ok(f"the clock is synchronised: {now}")
    if has_battery:
        return note(f"the clock is not synchronised: it says {now}; is that right?", _SET)
    return note(
        f"the clock is not synchronised and has no battery: it says {now}; events are marked until it is set",
        _SET,
    )
