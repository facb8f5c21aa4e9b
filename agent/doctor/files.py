"""Files that devices need, and Python libraries."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from agent.doctor import users
from agent.doctor.findings import Finding, fault, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.case import Case
    from agent.needs import File, Library


def examine(need: File, case: Case) -> Iterator[Finding]:
    """Look at a file that a device needs."""
    file = case.machine.at(need.path)
    try:
        allowed = case.user.may(file, write=need.writable)
    except OSError as error:
        yield fault(f"cannot look at {need.path}: {error.strerror}", need.missing)
        return
    if allowed:
        yield ok(f"{need.path} is there")
    else:
        verb = "write to" if need.writable else "read"
        yield fault(f"{case.user.name} may not {verb} {need.path}", users.join(case.user, file, need.group))


def examine_library(need: Library) -> Iterator[Finding]:
    """Look whether a library is installed beside us."""
    if importlib.util.find_spec(need.module) is None:
        yield fault(f"the Python library {need.module} is not installed", need.install)
