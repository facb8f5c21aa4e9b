"""The texts of the unit and its drop-ins, made of the files in systemd/ and of what the configuration needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent import catalog
from agent.service.layout import CONFIG, DROP_INS, PREFIX, SERVICE, plain

if TYPE_CHECKING:
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


def access_text(access: Access, config: Path) -> str:
    """Return the drop-in that lets the service at what its configuration names."""
    lines = [
        f"# Written by `gatepost service install` from {config}; after a change of devices or of the log's place, run that again."
    ]
    modules = sorted({each.module for each in access.classes if each.module})
    if modules:
        units = " ".join(f"modprobe@{module}.service" for module in modules)
        lines += [
            "[Unit]",
            "# So that what is plugged in later is of a class that is allowed.",
            f"Wants={units}",
            f"After={units}",
        ]
    lines.append("[Service]")
    if groups := sorted({each.group for each in access.classes if each.group}):
        lines.append(f"SupplementaryGroups={' '.join(groups)}")
    lines += [f"DeviceAllow={each.devices} rw" for each in access.classes]
    if access.log_folder is not None:
        # The minus: where it is missing the agent runs all the same, in memory.
        lines.append(f"ReadWritePaths=-{plain(access.log_folder)}")
    return "\n".join(lines) + "\n"


def drop_ins(access: Access, config: Path, systemd: int | None) -> dict[Path, str | None]:
    """Return the text by path; None for what is not to be there.

    Args:
        access: What the configuration needs.
        config: The configuration, as the drop-in names it.
        systemd: The version that will read it; None where that is not known.
    """
    slower = _SLOWER if systemd is not None and systemd >= _SLOWER_SINCE else None
    return {
        DROP_INS / "40-restart.conf": slower,
        DROP_INS / "50-devices.conf": access_text(access, config),
    }
