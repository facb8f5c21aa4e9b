"""Where the files of the service are: below / on this machine, or below another folder that becomes one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import GatepostError

SERVICE: Final = "gatepost.service"
USER: Final = "gatepost"
PREFIX: Final = Path("/opt/gatepost")
"""Where the Debian package has its environment, and where the unit in systemd/ looks for one."""

CONFIG: Final = Path("/etc/gatepost/gatepost.yaml")
CONFIG_FOLDER: Final = CONFIG.parent
STATE_FOLDER: Final = Path("/var/lib/gatepost")
UNIT: Final = Path("/etc/systemd/system", SERVICE)
DROP_INS: Final = Path("/etc/systemd/system", f"{SERVICE}.d")
PACKAGED_UNIT: Final = Path("/usr/lib/systemd/system", SERVICE)
RULES: Final = {
    "gatepost.sysusers.conf": Path("/etc/sysusers.d/gatepost.conf"),
    "gatepost.tmpfiles.conf": Path("/etc/tmpfiles.d/gatepost.conf"),
    "gatepost.udev.rules": Path("/etc/udev/rules.d/60-gatepost.rules"),
}
"""By its name in systemd/, where a file is installed; a package has the same ones below /usr/lib."""

_PLAIN: Final = re.compile(r"/[A-Za-z0-9/._+@-]*")
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 -- none is written to
"""What a service with ProtectHome and PrivateTmp does not see."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What is installed, and where.

    Attributes:
        prefix: The virtual environment that the service runs.
        config: The configuration that it runs.
        root: The folder below which files are only prepared, for a package, an image, or a machine whose systemd does
            not run now (then /); None for the machine that runs.
    """

    prefix: Path
    config: Path = CONFIG
    root: Path | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether only files are written, and nothing that runs is touched."""
        return self.root is not None

    @property
    def is_here(self) -> bool:
        """Whether the files are those of the machine that this is, with its users and its systemd."""
        return self.root in {None, Path("/")}

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.prefix / "bin" / "python"

    @property
    def is_packaged(self) -> bool:
        """Whether a package has brought the unit for just this environment."""
        try:
            return f"ExecStart={self.python} " in self.at(PACKAGED_UNIT).read_text(encoding="utf-8")
        except OSError:
            return False

    def at(self, path: Path) -> Path:
        """Return where a path of the machine is now."""
        return path if self.root is None else self.root / path.relative_to("/")

    def check(self) -> None:
        """Refuse what a unit cannot hold.

        Raises:
            GatepostError: A path is not absolute, or is not plain.
        """
        plain(self.prefix)
        plain(self.config)
        if self.is_packaged and self.config != CONFIG:
            raise GatepostError(
                f"the package's service runs {CONFIG}; for another file: sudo systemctl edit {SERVICE}"
            )


def plain(path: Path) -> Path:
    """Return a path that may stand in a unit, where some characters mean something.

    Raises:
        GatepostError: This one may not.
    """
    if not _PLAIN.fullmatch(str(path)):
        raise GatepostError(
            f"{path} cannot stand in a unit, expected an absolute path of letters, digits and . _ + @ -"
        )
    return path


def hidden(path: Path) -> bool:
    """Tell whether the service would not see a file."""
    return any(path.is_relative_to(folder) for folder in _HIDDEN)
