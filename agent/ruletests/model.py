"""A test as it is written, read and checked: all times in seconds from its start, all names in full."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from agent.events import Value


class Silent:
    """Stands for a value that a channel does not say at all."""

    def __repr__(self) -> str:
        return "silent"


SILENT: Final = Silent()

Trace = list[tuple[float, str, dict[str, Value]]]
"""Readings: time, device, values."""

TIMES: Final = frozenset({"duration", "for", "within"})
"""The facts of an alarm that are lengths of time, in seconds."""

BLINKING: Final = "blinking"
"""What an output that blinks is said to be."""

FAILED: Final = "failed"
"""What happens to an output that is not set: a command or a rule is kept from it."""


class Place(NamedTuple):
    """Where something is written: a file, with line and column counted from 1."""

    file: str
    line: int
    column: int


class Course(msgspec.Struct, frozen=True):
    """What a channel says over time.

    Attributes:
        channel: Its full name.
        points: What it holds from when on, or, on a ramp, at that time; by rising time.
        ramp: Whether it goes from point to point in a straight line.
        every: How often its device says it, where that is said here.
        noise: How far it strays at most, from reading to reading, always the same way.
    """

    channel: str
    points: tuple[tuple[float, Value | Silent], ...]
    ramp: bool = False
    every: float | None = None
    noise: float = 0.0


class Turn(NamedTuple):
    """A device goes down, comes up, or says something that makes no sense.

    Attributes:
        at: When.
        device: Which.
        what: `down`, `up` or `bad`.
    """

    at: float
    device: str
    what: str


class Deed(NamedTuple):
    """Something that somebody does.

    Attributes:
        at: When.
        verb: `ack`, `shelve`, `unshelve`, `set`, `restart` or `crash`.
        target: The rule or the output; "" for the agent itself.
        value: What is set, or for how many seconds it is shelved or away.
        place: Where it is written.
    """

    at: float
    verb: str
    target: str
    value: Value
    place: Place

    @property
    def back_at(self) -> float | None:
        """When the agent is back; None where this does not send it away."""
        if self.verb in {"restart", "crash"} and isinstance(self.value, float):
            return self.at + self.value
        return None


class Subject(NamedTuple):
    """What something happens to: an alarm by the name of its rule, or an output by its channel."""

    is_output: bool
    name: str


class Written(NamedTuple):
    """A fact as it is written, and what it stands for."""

    text: str
    value: Value


class Expected(NamedTuple):
    """One thing that must happen.

    Attributes:
        begin: When, at the earliest.
        end: When, at the latest; the same as `begin` for an exact time.
        subject: To what.
        what: For an alarm the end of the event's type, such as `raised`; for an output its new value.
        facts: What is said of it.
        place: Where it is written.
    """

    begin: float
    end: float
    subject: Subject
    what: Value
    facts: dict[str, Written]
    place: Place


class Check(NamedTuple):
    """How something must be at a time.

    Attributes:
        at: When, after all that happens then.
        subject: What.
        wanted: The states of an alarm, or the value of an output.
        place: Where it is written.
    """

    at: float
    subject: Subject
    wanted: tuple[Value, ...]
    place: Place


class Case(msgspec.Struct, frozen=True):
    """One test.

    Attributes:
        name: What it says.
        place: Where it begins.
        epoch: The wall time at its start, in microseconds since 1970-01-01 UTC.
        courses: What channels say.
        turns: What becomes of devices.
        deeds: What somebody does.
        expected: What must happen, by time.
        checks: How things must be, by time.
        until: When it ends.
        only: What it is about, where that is not everything.
    """

    name: str
    place: Place
    epoch: int
    courses: tuple[Course, ...]
    turns: tuple[Turn, ...]
    deeds: tuple[Deed, ...]
    expected: tuple[Expected, ...]
    checks: tuple[Check, ...]
    until: float
    only: frozenset[Subject] | None


class Happening(msgspec.Struct, frozen=True):
    """One thing that happened.

    Attributes:
        at: When.
        subject: To what.
        what: For an alarm the end of the event's type, such as `raised`; for an output its new value.
        facts: What the event says.
        echo: Whether it only repeats what the test itself did, so that it need not be expected.
    """

    at: float
    subject: Subject
    what: Value
    facts: dict[str, Value]
    echo: bool = False


class Found(NamedTuple):
    """How something was when a check looked."""

    check: Check
    state: str
    holds: bool
