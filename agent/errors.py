"""Every error we raise, sorted by who must act on it.

    GatepostError
        ConfigError    the operator: every fault at once; exit status 78
        Disconnected   the runner: open again after backoff
        BadReading     the runner: count it, keep the evidence, go on
        Rejected       the runner: the far side refuses these events; count, set aside, go on

Anything else is a bug: it stops that part loudly and the supervisor restarts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class GatepostError(Exception):
    """The root of all errors that gatepost raises on purpose."""


class Fault(NamedTuple):
    """One thing wrong in a configuration file, and where.

    Attributes:
        file: The file as the operator named it.
        line: Counted from 1; 0 where the fault is of the whole file.
        column: Counted from 1; 0 where the fault is of the whole file.
        path: The place in the document, such as `devices.air.every`; empty at the top.
        what: What is wrong, and what was expected.
    """

    file: str
    line: int
    column: int
    path: str
    what: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.what}" if self.path else f"{place}: {self.what}"


class ConfigError(GatepostError):
    """The configuration cannot be used; it holds every fault that was found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


class Disconnected(GatepostError):  # noqa: N818 -- a state that the runner ends, named as people say it
    """The device or the far side is not there (any more); the runner opens it again after backoff.

    The text is for a technician: what is wrong and what to do about it.
    """


class BadReading(GatepostError):  # noqa: N818
    """What arrived cannot be understood; the runner counts it and keeps the evidence.

    Attributes:
        reason: What was wrong with it.
        evidence: What arrived, as text, cut to a sensible length.
    """

    def __init__(self, reason: str, evidence: str = "") -> None:
        super().__init__(f"{reason}: {evidence!r}" if evidence else reason)
        self.reason = reason
        self.evidence = evidence


class Rejected(GatepostError):  # noqa: N818
    """The far side refuses some events of a batch for good; the others of that batch were acknowledged.

    Attributes:
        reasons: By the sequence number of each refused event, the far side's reason.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(dict.fromkeys(reasons.values())))
        self.reasons = reasons
