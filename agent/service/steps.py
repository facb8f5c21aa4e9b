"""What is done to a machine, step by step and said as it is done; with `dry_run` it is only said."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from agent.errors import GatepostError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.service.layout import Layout

PATIENCE: Final = 300.0
"""Seconds for a command; systemd itself waits 90 s for a service to be ready."""


class Steps:
    """Does what is not done yet.

    Attributes:
        changed: Whether anything was not yet as it should be.
        dry_run: Whether nothing is done.
    """

    def __init__(self, layout: Layout, say: Callable[[str], None], *, dry_run: bool) -> None:
        self.changed = False
        self.dry_run = dry_run
        self._layout = layout
        self._say = say

    def write(self, path: Path, text: str, mode: int = 0o644, group: str = "root") -> bool:
        """Write a file whole, or leave it if it says just this already; return whether it had to be written.

        Raises:
            GatepostError: It cannot be written.
        """
        target = self._layout.at(path)
        try:
            if target.is_file() and target.read_text(encoding="utf-8") == text:
                self._say(f"as it should be: {target}")
                return False
            self._did(f"write {target}")
            if self.dry_run:
                return True
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.new")
            part.write_text(text, encoding="utf-8")
            part.chmod(mode)
            if self._layout.is_here:
                shutil.chown(part, "root", group)
            part.replace(target)
        except (OSError, LookupError, UnicodeDecodeError) as error:
            raise _cannot("write", target, error) from error
        return True

    def delete(self, path: Path) -> bool:
        """Delete a file, or a folder with all that is in it; return whether it was there.

        Raises:
            GatepostError: It cannot be deleted.
        """
        target = self._layout.at(path)
        if not os.path.lexists(target):
            return False
        self._did(f"delete {target}")
        if not self.dry_run:
            try:
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink()
            except OSError as error:
                raise _cannot("delete", target, error) from error
        return True

    def run(self, *command: str, may_fail: bool = False) -> bool:
        """Run a command, unless only files are prepared; return whether it succeeded.

        Raises:
            GatepostError: It failed, and may not.
        """
        if self._layout.is_prepared:
            return True
        self._say(f"{'would run' if self.dry_run else 'run'} {shlex.join(command)}")
        if self.dry_run:
            return True
        try:
            done = subprocess.run(  # noqa: S603 -- the words are our own
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            if may_fail:
                return False
            raise GatepostError(f"cannot run {command[0]}: {error}") from error
        if done.returncode and not may_fail:
            said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
            raise GatepostError(f"{shlex.join(command)} failed: {said}")
        return done.returncode == 0

    def _did(self, what: str) -> None:
        self.changed = True
        self._say(f"would {what}" if self.dry_run else what)


def _cannot(what: str, target: Path, error: Exception) -> GatepostError:
    reason = error.strerror if isinstance(error, OSError) else error  # an unknown group, or no text in UTF-8
    return GatepostError(f"cannot {what} {target}: {reason}")
