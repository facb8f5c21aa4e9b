"""The texts of the unit and its drop-ins, made of the files in systemd/ and of what the configuration needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent import catalog
from agent.service.layout import CONFIG, DROP_INS, PREFIX, SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.service.access import Access
    from agent.service.layout import Layout

_SLOWER_SINCE: Final = 254
"""The version of systemd that first knew RestartSteps, and says so in the journal where it does not."""

_SLOWER: Final = """\
# Written by `gatepost service install`, where systemd is new enough.
[Service]
RestartSteps=10
RestartMaxDelaySec=5min
"""


def unit_text(layout: Layout, version: str) -> str:
    """Return the unit for an environment and a configuration; the version tells one that has been upgraded."""
    text = catalog.shared_file(SERVICE, "systemd")
    sections = text[text.index("[Unit]") :]
    command = f"ExecStart={PREFIX}/bin/python -I -m agent run {CONFIG}\n"
    if sections.count(command) != 1:
        raise AssertionError(f"{SERVICE} no longer has the line {command}")
    ours = f"ExecStart={layout.python} -I -m agent run {layout.config}\n"
    return (
        f"# Written by `gatepost service install` of gatepost {version}; it writes over changes. Yours go into {SERVICE}.d/\n"
        + (sections.replace(command, ours))
    )


def devices_text(access: Sequence[Access], config: Path) -> str:
    """Return the drop-in that lets the service at devices."""
    lines = [
        f"# Written by `gatepost service install` from {config}; after a change of its devices, run that again."
    ]
    modules = sorted({each.module for each in access if each.module})
    if modules:
        units = " ".join(f"modprobe@{module}.service" for module in modules)
        lines += [
            "[Unit]",
            "# So that what is plugged in later is of a class that is allowed.",
            f"Wants={units}",
            f"After={units}",
        ]
    lines.append("[Service]")
    if groups := sorted({each.group for each in access if each.group}):
        lines.append(f"SupplementaryGroups={' '.join(groups)}")
    lines += [f"DeviceAllow={each.devices} rw" for each in access]
    return "\n".join(lines) + "\n"


def drop_ins(access: Sequence[Access], config: Path, systemd: int | None) -> dict[Path, str | None]:
    """Return the text by path; None for what is not to be there.

    Args:
        access: What the configuration needs.
        config: The configuration, as the drop-in names it.
        systemd: The version that will read it; None where that is not known.
    """
    slower = _SLOWER if systemd is not None and systemd >= _SLOWER_SINCE else None
    return {
        DROP_INS / "40-restart.conf": slower,
        DROP_INS / "50-devices.conf": devices_text(access, config),
    }
