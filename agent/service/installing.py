"""Installs the service, and brings one that is installed up to date. Again, it does only what is not done yet.

What belongs to the operator is never written over: the configuration, the log and the state of rules in it, and drop-ins
of other names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent import app, catalog, config
from agent.config import schema
from agent.errors import GatepostError
from agent.service import state
from agent.service.access import Access, access_of
from agent.service.layout import CONFIG, RULES, SERVICE, UNIT, USER, hidden
from agent.service.unit import drop_ins, unit_text

if TYPE_CHECKING:
    from agent.service.layout import Layout
    from agent.service.steps import Steps


def install(layout: Layout, steps: Steps) -> None:
    """Write what is missing, and start the service.

    Raises:
        ConfigError: The configuration has faults; nothing has been done.
        GatepostError: It cannot be done; the text says why.
    """
    layout.check()
    require_machine(layout, steps)
    os.umask(0o022)  # what is written is for all to read, unless a mode says otherwise
    if not layout.is_prepared:
        _require_sight(layout)
    access = _access(layout)
    added = drop_ins(access, layout.config, state.version() if layout.is_here else None)
    if not layout.is_packaged:
        _write_unit(layout, steps)
    if not layout.at(layout.config).exists():
        # For the service's group, but for no others: who writes a password into it has not told everybody.
        steps.write(layout.config, catalog.shared_file("gatepost.yaml"), 0o640, USER)
        steps.write(layout.config.with_name("gatepost.schema.json"), schema.text(), 0o644)
    for path, text in added.items():
        if text is None:
            steps.delete(path)
        else:
            steps.write(path, text)
    if not layout.is_prepared:
        _start(layout, steps)


def require_machine(layout: Layout, steps: Steps) -> None:
    """Refuse a machine without systemd, and a user who may not.

    Raises:
        GatepostError: One of both.
    """
    if layout.is_prepared:
        return
    if not Path("/run/systemd/system").is_dir():
        raise GatepostError("systemd does not run here; `--root DIR` only writes the files, below a folder")
    if os.geteuid() != 0 and not steps.dry_run:
        raise GatepostError(
            "only root may do this: sudo gatepost service …; `--dry-run` says what it would do"
        )


def _require_sight(layout: Layout) -> None:
    """Refuse an environment or a configuration that the service would not see.

    Raises:
        GatepostError: It is in somebody's home.
    """
    code = Path(app.__file__).parents[1]
    running = [code, Path(sys.base_prefix)] if layout.prefix == Path(sys.prefix) else []
    for path in (layout.prefix.resolve(), *running):
        if hidden(path):
            raise GatepostError(
                f"gatepost runs from {path}, which a service may not see; give it an environment of its own:\n"
                f"  sudo /usr/bin/python3 -m venv /opt/gatepost && sudo /opt/gatepost/bin/pip install gatepost\n"
                f"  sudo /opt/gatepost/bin/gatepost service install"
            )
    if hidden(layout.config.resolve()):
        raise GatepostError(
            f"{layout.config} is where a service may not see it, expected it in /etc, such as {CONFIG}"
        )


def _access(layout: Layout) -> Access:
    """Return what the configuration needs; one that is still to be written needs nothing."""
    path = layout.at(layout.config)
    return access_of(config.load(path, with_secrets=False)) if path.exists() else Access()


def _write_unit(layout: Layout, steps: Steps) -> None:
    steps.write(UNIT, unit_text(layout, app.version()))
    for name, path in RULES.items():
        new = steps.write(path, catalog.shared_file(name, "systemd"))
        if name.endswith("sysusers.conf"):
            steps.run("systemd-sysusers", str(path))
        elif name.endswith("tmpfiles.conf"):
            steps.run("systemd-tmpfiles", "--create", str(path))
        elif new:
            steps.run("udevadm", "control", "--reload", may_fail=True)  # a container has none
            subsystems = (f"--subsystem-match={name}" for name in ("gpio", "i2c-dev", "spidev"))
            steps.run("udevadm", "trigger", *subsystems, may_fail=True)


def _start(layout: Layout, steps: Steps) -> None:
    """Start the service, or start it again where it is not what it was.

    Raises:
        GatepostError: It does not start.
    """
    if not steps.dry_run and not _is_readable(layout.config):
        raise GatepostError(
            f"the service's user cannot read {layout.config}: sudo chgrp {USER} {layout.config} && sudo chmod g+r {layout.config}"
        )
    before = state.ask()
    is_new = (
        steps.changed or before.is_outdated
    )  # written, perhaps by an installation that did not come to its end
    if is_new:
        steps.run("systemctl", "daemon-reload")
    steps.run("systemctl", "enable", "--quiet", SERVICE)
    if before.active == "failed":
        steps.run("systemctl", "reset-failed", SERVICE)
    # Only where it has to be: outputs go to their safe values meanwhile.
    verb = "restart" if is_new else "start"
    if not steps.run("systemctl", verb, SERVICE, may_fail=True):
        raise GatepostError(
            f"{SERVICE} does not start; {state.ask().summary}; its last words: journalctl -u gatepost -n 20"
        )


def _is_readable(path: Path) -> bool:
    done = subprocess.run(  # noqa: S603 -- the words are our own
        ["/usr/bin/test", "-r", path], user=USER, group=USER, extra_groups=[], check=False, timeout=60
    )
    return done.returncode == 0
