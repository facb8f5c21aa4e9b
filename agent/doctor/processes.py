"""Which process holds what: open files (proc_pid_fd(5)), GPIO lines and locks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from agent.doctor.machine import Machine

LONGEST: Final = 60
"""Characters of a command that are shown."""


class Process(NamedTuple):
    """A process, for people.

    Attributes:
        pid: Its number.
        program: What it runs.
    """

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program} (process {self.pid})"


class Processes:
    """What all processes hold, as it was when this was made; we ourselves count for nothing.

    Attributes:
        unseen: How many processes did not let us look, because they are another user's.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.unseen = 0
        self._files: dict[str, set[int]] = {}
        self._lines: dict[tuple[str, int], set[int]] = {}
        self._untold: set[int] = set()
        for folder in machine.at("/proc").glob("[0-9]*"):
            pid = int(folder.name) if folder.name.isdecimal() else os.getpid()
            if pid != os.getpid():
                self._look(folder, pid)

    def _look(self, folder: Path, pid: int) -> None:
        try:
            descriptors = list((folder / "fd").iterdir())
        except PermissionError:
            self.unseen += 1
            return
        except OSError:
            return  # it has ended meanwhile
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                target = str(descriptor.readlink())
                self._files.setdefault(target, set()).add(pid)
                if target.startswith("anon_inode:gpio-"):
                    self._look_at_lines(folder / "fdinfo" / descriptor.name, pid)

    def _look_at_lines(self, info: Path, pid: int) -> None:
        """Note the lines that one descriptor holds: linereq_show_fdinfo in drivers/gpio/gpiolib-cdev.c of newer kernels."""
        chip = ""
        text = info.read_text()
        if "gpio-line:" not in text:  # of an older kernel, or taken by ABI v1
            self._untold.add(pid)
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key == "gpio-chip":
                chip = value.strip()
            elif key == "gpio-line":
                self._lines.setdefault((chip, int(value)), set()).add(pid)

    def holding(self, path: str) -> list[Process]:
        """Return the processes that have a file open, by a name without links."""
        return [self.named(pid) for pid in sorted(self._files.get(path, ()))]

    def holding_line(self, chip: str, offset: int) -> list[Process]:
        """Return the processes that have a GPIO line, as far as the kernel tells it."""
        return [self.named(pid) for pid in sorted(self._lines.get((chip, offset), ()))]

    def holding_some_line(self) -> list[Process]:
        """Return the processes that have GPIO lines, and the kernel does not tell which."""
        return [self.named(pid) for pid in sorted(self._untold)]

    def named(self, pid: int) -> Process:
        """Return a process by its number."""
        command = self._machine.text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        shown = command if len(command) <= LONGEST else f"{command[:LONGEST]}…"
        return Process(pid, shown or self._machine.text(f"/proc/{pid}/comm") or "a program")

    def owner(self, pid: int) -> int | None:
        """Return the number of the user whose process it is; None where it has ended."""
        try:
            return self._machine.at(f"/proc/{pid}").stat().st_uid
        except OSError:
            return None

    def locking(self, file: Path) -> int | None:
        """Return the process that has claimed a file with flock(2), None where none has: proc_locks(5)."""
        try:
            found = file.stat()
        except OSError:
            return None
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        holders = self._files.get(str(Path(os.path.realpath(file))), set())
        for line in self._machine.text("/proc/locks").splitlines():
            match line.split():
                case [_, "FLOCK", _, "WRITE", pid, where, *_] if where == device or (
                    int(pid) in holders and where.endswith(f":{found.st_ino}")
                ):
                    return int(pid)
        return None
