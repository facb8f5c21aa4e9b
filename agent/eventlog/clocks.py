"""Which clock events were stamped with, and what their times really are.

A board without a battery clock starts in 1970, or where it was switched off, until the network tells the time. So the
log keeps, for each stretch of events, how far the wall clock was ahead of the monotonic clock, in which boot, and whether
it was set. Once it is set, all stretches of the same boot are known to have been off by the difference, over restarts of
the agent too. Nothing is written anew for it: the correction of the stretch is added when an event is read.
"""

from __future__ import annotations

import bisect
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.events import Event

JUMP: Final = 500_000
"""Microseconds by which the wall clock must leave the monotonic one at once to have jumped; NTP slews 500 ppm at most."""


class Stretch(msgspec.Struct):
    """Events that were stamped with one clock.

    Attributes:
        first_seq: Its first sequence number; it lasts until the next stretch begins.
        boot: The kernel's boot id: the monotonic clock is one for each boot.
        offset: Microseconds that the wall clock was ahead of the monotonic clock.
        is_set: Whether the wall clock was set.
        correction: Microseconds to be added to its times, once that is known of a clock that was not set.
    """

    first_seq: int
    boot: str
    offset: int
    is_set: bool
    correction: int | None = None


class Clocks:
    """All stretches of a log.

    Attributes:
        unset_upto: The last sequence number that may be of a clock that was not set; -1 where there is none.
    """

    def __init__(self, stretches: Iterable[Stretch] = ()) -> None:
        self._stretches = sorted(stretches, key=attrgetter("first_seq"))
        self._offset = 0  # as it was last seen: a slewed clock leaves the monotonic one slowly
        self.unset_upto = -1
        self._find_unset()

    def begin(self, first_seq: int, boot: str, offset: int, *, is_set: bool) -> list[Stretch]:
        """Begin a stretch, at the start of a run or where the clock has jumped; return what is new or corrected.

        Args:
            first_seq: The sequence number that the next event will have.
            boot: The kernel's boot id.
            offset: Microseconds that the wall clock is now ahead of the monotonic clock.
            is_set: Whether the wall clock is set.
        """
        changed = self._correct(boot, offset) if is_set else []
        self._stretches = [each for each in self._stretches if each.first_seq < first_seq]
        self._stretches.append(Stretch(first_seq, boot, offset, is_set))
        self._offset = offset
        self._find_unset()
        return [*changed, self._stretches[-1]]

    def _correct(self, boot: str, offset: int) -> list[Stretch]:
        """Correct the stretches of a boot whose clock is set now; return them."""
        changed = []
        for stretch in self._stretches:
            if stretch.boot == boot and not stretch.is_set and stretch.correction is None:
                stretch.correction = offset - stretch.offset
                changed.append(stretch)
        return changed

    def join(self, earlier: Clocks) -> list[Stretch]:
        """Put what a file knows that was found late before what this run knows; return all that the file does not know."""
        own, current = list(self._stretches), self._stretches[-1]
        self._stretches = [each for each in earlier._stretches if each.first_seq < own[0].first_seq] + own
        changed = self._correct(current.boot, self._offset) if current.is_set else []
        self._find_unset()
        return [*changed, *own]

    def of_run(self, first_seq: int) -> list[Stretch]:
        """Return the stretches of a run that is the last one, by its first sequence number."""
        return [each for each in self._stretches if each.first_seq >= first_seq]

    def is_steady(self, boot: str, offset: int) -> bool:
        """Whether the wall clock has stood where it stands for all that is known of this boot, or nothing is known at all."""
        of_boot = [each for each in self._stretches if each.boot == boot]
        if not of_boot:
            return not self._stretches
        return all(-JUMP <= offset - each.offset <= JUMP for each in of_boot)

    def has_jumped(self, offset: int) -> bool:
        """Whether the wall clock is elsewhere than it was last seen."""
        return not -JUMP <= offset - self._offset <= JUMP

    def observe(self, next_seq: int, offset: int, *, is_set: bool) -> tuple[list[Stretch], int]:
        """Look at the clock again; the arguments are those of `begin`.

        Returns:
            The stretches that are new or corrected, and by how many microseconds the clock has jumped; ([], 0) is the
            usual answer.
        """
        current = self._stretches[-1]
        jumped = offset - self._offset
        self._offset = offset
        if -JUMP <= jumped <= JUMP:
            jumped = 0
        is_set = is_set or current.is_set  # what was set once stays so, for its own jumps are seen
        if is_set == current.is_set and not jumped:
            return [], 0
        return self.begin(next_seq, current.boot, offset, is_set=is_set), jumped

    def _find_unset(self) -> None:
        self.unset_upto = -1
        for index, stretch in enumerate(self._stretches):
            if not stretch.is_set:
                following = self._stretches[index + 1 : index + 2]
                self.unset_upto = following[0].first_seq - 1 if following else 2**62  # it has no end yet

    def stretch_of(self, seq: int) -> Stretch | None:
        """Return the stretch that a sequence number belongs to."""
        index = bisect.bisect_right(self._stretches, seq, key=attrgetter("first_seq")) - 1
        return self._stretches[index] if index >= 0 else None

    def correction_of(self, seq: int) -> int:
        """Return the microseconds to be added to the time of an event, as far as that is known."""
        stretch = self.stretch_of(seq)
        return (stretch.correction or 0) if stretch is not None else 0

    def known_from(self, seq: int) -> int:
        """Return the first sequence number, at or after one, that may be of an event whose time is known."""
        index = bisect.bisect_right(self._stretches, seq, key=attrgetter("first_seq")) - 1
        if index < 0:
            return seq
        for stretch in self._stretches[index:]:
            if stretch.is_set or stretch.correction is not None:
                return max(seq, stretch.first_seq)
        return 2**62

    def mended(self, event: Event) -> Event:
        """Return an event with the time that it happened at, or marked where that is not known."""
        if event.seq > self.unset_upto:
            return event
        stretch = self.stretch_of(event.seq)
        if stretch is None or stretch.is_set:
            return event
        if stretch.correction is None:
            return msgspec.structs.replace(event, clock_unset=True)
        recorded = None if event.recorded is None else event.recorded + stretch.correction
        return msgspec.structs.replace(
            event, time=event.time + stretch.correction, recorded=recorded, clock_unset=False
        )
