"""Small disks that can be full or read-only while an agent has its log on them."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from support.agents import Agent

SIZE: Final = 8 * 1024**2
"""Bytes of a small disk."""


class SmallDisk:
    """A file system of its own, mounted until it is ended. Only root can have one.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        """Mount it, or skip the test where that cannot be done.

        Args:
            folder: Where to mount it; a file beside it holds what is on it.
            kind: `ext4`, on a loop device, or `tmpfs`.
        """
        if os.geteuid() != 0:
            pytest.skip("only root can mount a file system")
        folder.mkdir(parents=True)
        self.path = folder
        self._filler = folder / "somebody-else"
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)]
        else:
            if shutil.which("mkfs.ext4") is None:
                pytest.skip("mkfs.ext4 is not installed")
            image = folder.with_suffix(".img")
            with image.open("wb") as file:
                file.truncate(SIZE)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
            command = ["mount", "-o", "loop", str(image), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a {kind}: {done.stderr.strip()}")

    def fill(self) -> None:
        """Fill it to the last byte with a file that is not the agent's."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (65_536, 1024, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\xff" * size):
                        pass
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())  # ext4 takes blocks only when it writes

    def free(self) -> None:
        """Take that file away."""
        self._filler.unlink()

    def make_read_only(self) -> None:
        """Let nobody write to it."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)

    def make_writable(self) -> None:
        """Let it be written again."""
        subprocess.run(["mount", "-o", "remount,rw", str(self.path)], check=True)

    def end(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


class Folder:
    """A folder that its owner may make read-only; root writes to it all the same.

    Attributes:
        path: Where it is.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = folder

    def make_read_only(self) -> None:
        """Let nobody write to what is in it."""
        self._change(0o555, 0o444)

    def make_writable(self) -> None:
        """Let it be written again."""
        self._change(0o755, 0o644)

    def end(self) -> None:
        """Let it be removed."""
        self.make_writable()

    def _change(self, folders: int, files: int) -> None:
        self.path.chmod(0o755)
        for path in [*self.path.rglob("*"), self.path]:
            if not path.is_socket():
                path.chmod(folders if path.is_dir() else files)


class FileLimit:
    """What anybody can do: no file of the agent may grow any more (setrlimit(2), RLIMIT_FSIZE), so SQLite cannot write."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def fill(self) -> None:
        """Let the write-ahead log grow no further."""
        size = Path(f"{self._agent.log}-wal").stat().st_size
        self._limit(size)

    def free(self) -> None:
        """Let files grow."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        _, hard = resource.prlimit(self._agent.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._agent.pid, resource.RLIMIT_FSIZE, (size, hard))
