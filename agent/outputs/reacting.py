"""What one rule does to outputs while its alarm is not over: a pure state machine over the channels that it sets."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.events import Severity
from agent.outcome import LEAVE
from agent.outputs.channel import Claim
from agent.outputs.interlock import Interlock

if TYPE_CHECKING:
    from agent.events import Value
    from agent.outcome import Action, Reaction
    from agent.outputs.channel import Channel

MOST: Final = 30
"""How often a rule may act within `WITHIN`; what it does it may always end, so that nothing is held too long."""

WITHIN: Final = 60.0
"""Seconds."""

_RANKS: Final = {severity: rank for rank, severity in enumerate(Severity)}


class Part(NamedTuple):
    """What a rule does to one channel.

    Attributes:
        device: The output.
        name: The channel's name.
        channel: The channel.
        action: What is done.
        value: The value put out for it, as the channel has it.
        otherwise: The value put out when it is over, as the channel has it; None where none is said, or `leave`.
    """

    device: str
    name: str
    channel: Channel
    action: Action
    value: Value
    otherwise: Value

    @property
    def target(self) -> str:
        """Device and channel."""
        return f"{self.device}.{self.name}"


class Reacting:
    """One rule's reaction. Times are of the monotonic clock, in seconds.

    Attributes:
        rule: The rule's name.
        parts: What it does.
        interlock: The condition under which it waits; None where there is none.
        is_wanted: Whether its alarm is not over.
        is_applied: Whether it has its claims on the channels.
        has_fired: Whether it has done what it does once an alarm: pulses and toggles.
        began: By target, when what it does for a time has begun, also where that time is over.
        put_off_until: When it may act again, as it has acted too often; None where it need not wait.
    """

    def __init__(self, rule: str, then: Reaction, parts: list[Part]) -> None:
        self.rule = rule
        self.parts = parts
        self.interlock = None if then.unless is None else Interlock(then.unless, then.max_age)
        self.is_wanted = self.is_applied = self.has_fired = False
        self.began: dict[str, float] = {}
        self.put_off_until: float | None = None
        self._leaves = then.otherwise == LEAVE
        self._rank = self._order = 0
        self._acted: deque[float] = deque(maxlen=MOST)
        self._told_at: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether it should have its claims on the channels."""
        return self.is_wanted and (self.interlock is None or not self.interlock.reason)

    def want(self, severity: Severity, order: int) -> None:
        """Note that its alarm is not over, of what severity, and since which of all raised alarms."""
        if not self.is_wanted:
            self.is_wanted, self._order = True, order
        self._rank = _RANKS[severity]

    def may_act(self, now: float) -> bool:
        """Count that it acts; False where it has done so too often and must wait until `put_off_until`."""
        self.put_off_until = None
        if len(self._acted) == MOST and now < self._acted[0] + WITHIN:
            self.put_off_until = self._acted[0] + WITHIN
            return False
        self._acted.append(now)
        return True

    def must_tell(self, now: float) -> bool:
        """Whether it is to be said that it acts too often: once, until it has been calm for as long."""
        told, self._told_at = self._told_at, now
        return told is None or now - told > WITHIN

    def start(self, part: Part, now: float) -> None:
        """Claim a channel."""
        action, channel = part.action, part.channel
        if action.toggle or action.pulse is not None:
            if not self.has_fired and action.toggle:
                channel.toggle(self.rule)
            elif not self.has_fired:
                channel.claim(self._claim(part, action.pulse, is_pulse=True))
            return
        began = self.began.get(part.target)
        if action.for_ is not None and began is not None and now >= began + action.for_:
            return  # its time was over before it was taken back, or before a restart
        channel.claim(self._claim(part, action.for_, began=began))

    def _claim(
        self, part: Part, lasts: float | None, *, is_pulse: bool = False, began: float | None = None
    ) -> Claim:
        return Claim(
            self.rule, self._rank, self._order, part.value, lasts=lasts, blink=part.action.turns,
            is_pulse=is_pulse, began=began, otherwise=None if lasts is None or is_pulse else part.otherwise,
        )  # fmt: skip

    def rank_again(self, part: Part) -> None:
        """Let a claim have the present severity."""
        if (claim := part.channel.claims.get(self.rule)) is not None:
            claim.rank = self._rank

    def stop(self, part: Part) -> None:
        """Let go of a channel: for good where the alarm is over, else until it may act again."""
        channel, is_over = part.channel, not self.is_wanted
        is_spent = part.target in self.began and self.rule not in channel.claims
        claim = channel.release(self.rule, keeps_pulse=is_over)
        if not is_over:
            return
        if self._leaves and claim is not None:
            channel.leave(claim.value, self.rule)
        elif part.otherwise is not None and not is_spent:
            channel.leave(part.otherwise, self.rule)

    def end(self) -> None:
        """Forget what it did, as its alarm is over: the next one is another."""
        self.began.clear()
        self.has_fired = False
