"""The clock of a board without a battery: in 1970 whenever it is switched on, until it is told the time."""

from __future__ import annotations

from agent.clock import VirtualClock

NOW = 1_780_000_000_000_000
"""What the network says the time is, at the monotonic clock's 0."""


class BootClock(VirtualClock):
    """A clock of a board that can be switched off and on.

    Attributes:
        boots: How often it was switched on.
    """

    boots = 1

    def boot(self) -> str:
        return f"boot-{self.boots}"

    def switch_on(self) -> None:
        """Begin in 1970 again, with a monotonic clock of a new boot."""
        self.boots += 1
        self.now, self.epoch, self.known = 0.0, 0, False

    def set(self, epoch: int = NOW) -> None:
        """Be told the time."""
        self.epoch, self.known = epoch, True


def unset() -> BootClock:
    clock = BootClock(epoch=0)
    clock.known = False
    return clock
