"""All examiners at the same time, each within a time of its own."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.doctor import (
    devices,
    far_sides,
    log_file,
    own_broker,
    power,
    running,
    service,
    storage,
    timekeeping,
)
from agent.doctor.findings import Finding, Level, note, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent.doctor.case import Case

PATIENCE: Final = 15.0
"""Seconds after which an examiner that hangs is left behind: a silent name server, a disk that does not answer."""


class Area(NamedTuple):
    """What was found about one thing.

    Attributes:
        name: The thing, such as `device scale`.
        findings: At least one.
    """

    name: str
    findings: list[Finding]

    @property
    def level(self) -> Level:
        """The worst of them."""
        return max((finding.level for finding in self.findings), key=list(Level).index)


def examine(case: Case) -> list[Area]:
    """Examine everything; areas about which there is nothing to say are left out."""
    examiners = [_Examiner(name, look) for name, look in _areas(case)]
    until = time.monotonic() + PATIENCE
    areas = [Area(each.name, each.findings(until)) for each in examiners]
    return [area for area in areas if area.findings]


def _areas(case: Case) -> Iterator[tuple[str, Callable[[], Iterable[Finding]]]]:
    yield "agent", partial(running.examine, case.agent, case.log)
    yield "user", partial(_user, case)
    yield "service", partial(service.examine, case)
    yield "limits", partial(service.files, case)
    for device in case.config.devices.values():
        yield f"device {device.name}", partial(devices.examine, device, case)
    for entry in case.config.forward.values():
        yield f"forwarder {entry.name}", partial(far_sides.examine, entry, case)
    if case.config.broker is not None:
        yield "broker", partial(own_broker.examine, case.config.broker, case)
    yield "disk", partial(storage.examine, case)
    yield "log", partial(log_file.examine, case)
    yield "clock", timekeeping.examine
    yield "power", partial(power.examine, case.machine)


def _user(case: Case) -> Iterator[Finding]:
    if case.user.lacks:
        yield note(
            f"this session of {case.user.name} does not have the groups yet that {case.user.name} was given: "
            f"{', '.join(case.user.lacks)}",
            "log out and in again",
        )
    if case.secrets and case.config.forward and case.agent.is_there:
        yield ok(f"secrets are not there for us, only for the service: {case.secrets}")


class _Examiner:
    """One examiner in a thread of its own, which does not keep the program from ending."""

    def __init__(self, name: str, look: Callable[[], Iterable[Finding]]) -> None:
        self.name = name
        self._look = look
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self._look():
                self._found.append(finding)
        except Exception as error:  # noqa: BLE001 -- the other areas still count
            self._found.append(
                note(
                    f"a bug in the doctor: {type(error).__name__}: {error}",
                    "report it; the rest of this is sound",
                )
            )

    def findings(self, until: float) -> list[Finding]:
        """Return what was found until a time of the monotonic clock."""
        self._thread.join(max(0.0, until - time.monotonic()))
        found = list(self._found)
        if self._thread.is_alive():
            found.append(
                note(
                    "this could not be looked at in time",
                    "call this again; if it stays so, something hangs there",
                )
            )
        return found
