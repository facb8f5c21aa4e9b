"""What is only in memory so far, and how old it is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.eventlog.clocks import Stretch
    from agent.eventlog.group import Rejection
    from agent.events import Event, Value

MARKS: Final = 1_000
"""Times that are remembered; with fewer spans than that, of a disk that has refused for long, the oldest are no longer known."""


@dataclass
class Pending:
    """What the next commit writes.

    Attributes:
        events: Oldest first.
        states: By part; None where a part's state is to be forgotten.
        clocks: Stretches of the clock that are new or corrected.
        rejections: Events that were refused for good.
        is_urgent: Whether it must not wait.
    """

    events: list[Event] = field(default_factory=list)
    states: dict[str, Mapping[str, Value] | None] = field(default_factory=dict)
    clocks: list[Stretch] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    is_urgent: bool = False

    @property
    def has_facts(self) -> bool:
        """Whether there is anything but events."""
        return bool(self.states or self.clocks or self.rejections)

    def take(self) -> Pending:
        """Return all of it, and begin anew."""
        taken = replace(self)
        self.events, self.states, self.clocks, self.rejections, self.is_urgent = [], {}, [], [], False
        return taken

    def put_back(self, taken: Pending) -> None:
        """Take back what could not be written, before what has come since."""
        self.events = taken.events + self.events
        self.states = taken.states | self.states
        self.clocks = taken.clocks + self.clocks
        self.rejections = taken.rejections + self.rejections
        self.is_urgent = True


class Ages:
    """About when events were appended: of a few in each span of time, for there are many."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._marks: deque[tuple[int, float]] = deque(maxlen=MARKS)

    def note(self, seq: int, now: float) -> None:
        """Note that an event was appended at a time of the monotonic clock, in seconds."""
        if not self._marks or now - self._marks[-1][1] > self._span:
            self._marks.append((seq, now))

    def of(self, seq: int) -> float:
        """Return about when an event was appended, at the earliest; those before it are forgotten."""
        while len(self._marks) > 1 and self._marks[1][0] <= seq:
            self._marks.popleft()
        return self._marks[0][1]

    def clear(self) -> None:
        """Forget all."""
        self._marks.clear()
