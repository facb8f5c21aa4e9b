"""How our user gets at a device file that it may not open."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path


def join_group(device: str, usual: str) -> str:
    """Say what to do, as the end of a sentence.

    The service is let at what its configuration names by its unit, not by the groups of its user.

    Args:
        device: The device file.
        usual: The group that such files usually belong to, where this one does not tell.
    """
    if "STATE_DIRECTORY" in os.environ:  # systemd's, for its services
        return "let the service at it: sudo gatepost service install"
    try:
        group = grp.getgrgid(Path(device).stat().st_gid).gr_name
    except (OSError, KeyError):
        group = usual
    if group == "root":  # that of a file nobody has given to anybody; nobody should join it
        group = usual
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = "gatepost"
    return f"add the user to its group: sudo usermod -aG {group} {user}"
