"""What one channel of an output puts out: a pure state machine, which looks at no clock.

The interlock comes first, then rules, the more severe alarm before the milder and the later before the earlier, then the
last command, then the safe value. What is wanted too soon after the last switch (`min_on`, `min_off`) waits and is not
forgotten; only what protects is not kept waiting: the interlock, and a critical alarm that wants the safe value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.events import Severity

if TYPE_CHECKING:
    from agent.events import Value
    from agent.outcome import Blink
    from agent.outputs.puts import Command

INTERLOCK: Final = "interlock"
"""The cause of what an interlock puts out."""

DEAD_MAN: Final = "dead_man"
"""The cause of the safe value where commands have ceased."""

WORST: Final = len(Severity) - 1
"""The rank of a critical alarm."""

SHORTEST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 60.0
"""Seconds until what could not be put out is tried again: doubled each time."""


class Claim:
    """What a rule wants of the channel. Times are of the monotonic clock, in seconds.

    Attributes:
        rule: The rule's name.
        rank: How severe its alarm is; the highest wins.
        order: Of equal ranks the highest wins.
        value: What it wants put out; while blinking, when it is lit.
        lasts: For how long, from when it is put out; None for as long as the alarm.
        blink: How it blinks; None where it does not.
        is_pulse: Whether it lasts also when the alarm is over.
        otherwise: What is put out as if commanded when its time is over; None for nothing.
        began: When it was put out; None where it has not been yet.
        is_lit: Where it blinks, whether it is on at present.
        turn_at: Where it blinks, when it turns; None while it does not.
    """

    def __init__(
        self,
        rule: str,
        rank: int,
        order: int,
        value: Value,
        *,
        lasts: float | None = None,
        blink: Blink | None = None,
        is_pulse: bool = False,
        otherwise: Value = None,
        began: float | None = None,
    ) -> None:
        self.rule = rule
        self.rank = rank
        self.order = order
        self.value = value
        self.lasts = lasts
        self.blink = blink
        self.is_pulse = is_pulse
        self.otherwise = otherwise
        self.began = began
        self.is_lit = True
        self.turn_at: float | None = None

    @property
    def end(self) -> float | None:
        """When its time is over; None where it has none, or has not begun."""
        return None if self.began is None or self.lasts is None else self.began + self.lasts


class Change(NamedTuple):
    """What is to be put out now.

    Attributes:
        value: The value.
        cause: Who wants it.
        reason: Why, where the cause does not say it all.
        is_turn: Whether it is only another turn of what blinks already.
        command: The command that it carries out; None where it carries out none.
        blinks: Whether it blinks.
    """

    value: Value
    cause: str
    reason: str = ""
    is_turn: bool = False
    command: Command | None = None
    blinks: bool = False


class Channel:
    """One channel. Times are of the monotonic clock, in seconds.

    Attributes:
        safe: The safe value.
        current: What is put out; None where that is not known.
        claims: What rules want, by rule.
        base: The value as it was last commanded; None for the safe value.
        waiting: A command that is not carried out yet.
        interlock: Why only the safe value is allowed; "" where all are.
        deadline: When `decide` must be asked again though nothing else has happened; None where it need not.
        dropped: Commands that will not be carried out, each with the reason, for the board to tell.
        began: The claims for a time that have begun since the board last looked.
    """

    def __init__(
        self, safe: Value, min_on: float, min_off: float, dead_man: float | None, now: float
    ) -> None:
        self.safe = self.current = safe
        self.claims: dict[str, Claim] = {}
        self.base: Value = None
        self.waiting: Command | None = None
        self.interlock = ""
        self.deadline: float | None = None
        self.dropped: list[tuple[Command, str]] = []
        self.began: list[Claim] = []
        self._min_on, self._min_off, self._dead_man = min_on, min_off, dead_man
        self._switched = now
        self._is_on = is_on(safe)
        self._dead_at: float | None = None
        self._carried: Command | None = None  # the command that the base is from
        self._cause = ""  # whose the base is
        self._failures = 0  # in a row
        self._retry_at: float | None = None
        self._blinks = False  # whether what is put out does
        self._actor = ""  # who brought about what may still be waiting

    @property
    def holder(self) -> Claim | None:
        """The rule that has its way; None where none wants anything."""
        return max(self.claims.values(), key=lambda each: (each.rank, each.order), default=None)

    # --- what may happen to it --------------------------------------------------------------------------------------

    def claim(self, claim: Claim) -> None:
        """Take in what a rule wants, in place of what it wanted before."""
        self.claims[claim.rule] = claim

    def release(self, rule: str, *, keeps_pulse: bool) -> Claim | None:
        """Let go of what a rule wanted, and return it.

        Args:
            rule: The rule.
            keeps_pulse: A pulse goes on to its end where it has begun, or is only kept waiting by `min_off`.
        """
        claim = self.claims.get(rule)
        if claim is None:
            return None
        if claim.is_pulse and keeps_pulse:
            is_due = claim.began is not None or (self.holder is claim and not self.interlock)
            if is_due:
                return None
        self._actor = rule
        return self.claims.pop(rule)

    def toggle(self, rule: str) -> None:
        """Turn what is put out while no rule holds it."""
        self.leave(int(not is_on(self.safe if self.base is None else self.base)), rule)

    def leave(self, value: Value, rule: str) -> None:
        """Put a value out as if it were commanded, and stay so."""
        self.base, self._carried, self._dead_at = value, None, None
        self._cause = self._actor = rule

    def refusal(self, value: Value) -> str:
        """Return why a command cannot be carried out at present; "" where it can."""
        if self.interlock and value != self.safe:
            return f"interlocked: {self.interlock}"
        holder = self.holder
        return "" if holder is None else f"held by the rule {holder.rule!r}"

    def command(self, command: Command) -> None:
        """Take in a command that `refusal` has let pass."""
        self._drop("overtaken by a later command")
        self.waiting = command

    def confirm(self, value: Value) -> None:
        """Note that a value was put out."""
        self._failures, self._retry_at = 0, None
        if self.current is None:
            self.current = value

    def fail(self, value: Value, now: float, *, is_up: bool) -> None:
        """Note that a value was not put out; it is tried again after a while, or when the output comes up."""
        if self.current == value:  # else the next is on its way
            self.current = None
            for each in self.claims.values():
                each.turn_at, each.is_lit = None, True
            if is_up:
                self._retry_at = now + min(SHORTEST_RETRY * 2**self._failures, LONGEST_RETRY)
                self._failures += 1
            self._aim(now)

    def forget(self, command: Command | None) -> None:
        """Let go of a command that could not be carried out, so that it is not carried out hours later."""
        if command is not None and self._carried is command:
            self.base, self._carried, self._dead_at, self._cause = None, None, None, ""

    def restart(self, now: float) -> None:
        """Note that the output has come up with its safe value; a pulse that was under way is not repeated."""
        self.claims = {
            rule: each for rule, each in self.claims.items() if not each.is_pulse or each.began is None
        }
        for each in self.claims.values():
            each.turn_at, each.is_lit = None, True
        if self.current != self.safe:
            self._note_switch(self.safe, now)
        self.current, self._blinks = self.safe, False

    def status(self) -> dict[str, Value]:
        """Return what it puts out and why."""
        holder = self.holder
        said: dict[str, Value] = {"value": self.current}
        if self.interlock:
            said["interlocked"] = self.interlock
        if holder is not None:
            said["rule"] = holder.rule
        elif self.base is not None:
            said["cause"] = self._cause
        return said

    # --- what comes of it -------------------------------------------------------------------------------------------

    def decide(self, now: float) -> Change | None:
        """Return what is to be put out now, if anything; to be asked after whatever happened, and at `deadline`."""
        self._retry_at = None
        self._end_what_is_over(now)
        change = self._change(now)
        if change is not None:
            if self.current is None or change.value != self.current:
                self._note_switch(change.value, now)
            self.current, self._blinks = change.value, change.blinks
            self._actor = ""
        self._begin(now)
        self._aim(now)
        return change

    def _end_what_is_over(self, now: float) -> None:
        for claim in list(self.claims.values()):
            if claim.end is not None and now >= claim.end:
                del self.claims[claim.rule]
                self._actor = claim.rule
                if claim.otherwise is not None:
                    self.leave(claim.otherwise, claim.rule)
        if self._dead_at is not None and now >= self._dead_at:
            self.base, self._dead_at, self._actor = None, None, DEAD_MAN
        if self.waiting is not None:
            if self.waiting.until is not None and now >= self.waiting.until:
                self._drop("its time was over before it could be carried out")
            elif refusal := self.refusal(self.waiting.value):
                self._drop(refusal)
        holder = None if self.interlock else self.holder
        for claim in self.claims.values():
            if claim is not holder:
                claim.turn_at, claim.is_lit = None, True
            elif claim.turn_at is not None and claim.blink is not None and now >= claim.turn_at:
                claim.is_lit = not claim.is_lit
                claim.turn_at = now + (claim.blink.on if claim.is_lit else claim.blink.off)

    def _change(self, now: float) -> Change | None:
        if self.interlock and (self.current != self.safe or self._blinks):
            return Change(self.safe, INTERLOCK, self.interlock)
        if self.interlock and self.waiting is None:
            return None
        wanted = self._wanted()
        if wanted.command is not None:
            if not self._may(wanted.value, now):
                return None
            self._carry(wanted.command, now)
            return wanted
        is_there = wanted.value == self.current and wanted.blinks is self._blinks
        return wanted if not is_there and self._may(wanted.value, now) else None

    def _wanted(self) -> Change:
        if self.waiting is not None:
            return Change(self.waiting.value, self.waiting.cause, command=self.waiting)
        holder = self.holder
        if holder is None:
            cause = self._actor or self._cause or "agent"
            return Change(self.safe if self.base is None else self.base, cause)
        if holder.blink is None:
            return Change(holder.value, holder.rule)
        value = holder.value if holder.is_lit else int(not is_on(holder.value))
        is_turn = holder.turn_at is not None
        return Change(value, holder.rule, f"blinks, {holder.blink}", is_turn=is_turn, blinks=True)

    def _carry(self, command: Command, now: float) -> None:
        self.waiting, self._carried = None, command
        self.base = None if command.value == self.safe else command.value
        self._cause = command.cause
        self._dead_at = None if self._dead_man is None or self.base is None else now + self._dead_man

    def _may(self, value: Value, now: float) -> bool:
        """Whether a value may be put out already."""
        return is_on(value) is self._is_on or now >= self._free_at or self._protects(value)

    def _protects(self, value: Value) -> bool:
        """Whether it is a critical alarm that wants the safe value."""
        holder = self.holder
        return value == self.safe and holder is not None and (holder.value, holder.rank) == (value, WORST)

    @property
    def _free_at(self) -> float:
        return self._switched + (self._min_on if self._is_on else self._min_off)

    def _note_switch(self, value: Value, now: float) -> None:
        if is_on(value) is not self._is_on:
            self._is_on, self._switched = is_on(value), now

    def _begin(self, now: float) -> None:
        """Let the time of what is put out begin to run."""
        holder = self.holder
        if holder is None or self.interlock:
            return
        if holder.began is None and self.current == holder.value:
            holder.began = now
            if holder.lasts is not None and not holder.is_pulse:
                self.began.append(holder)
        if holder.blink is not None and holder.turn_at is None and self.current == holder.value:
            holder.turn_at = now + holder.blink.on

    def _aim(self, now: float) -> None:
        times = [self._dead_at, self._retry_at, None if self.waiting is None else self.waiting.until]
        for claim in self.claims.values():
            times += [claim.end, claim.turn_at]
        wants = self._wanted().value
        if not self.interlock and wants != self.current and not self._may(wants, now):
            times.append(self._free_at)
        self.deadline = min((each for each in times if each is not None), default=None)

    def _drop(self, reason: str) -> None:
        if self.waiting is not None:
            self.dropped.append((self.waiting, reason))
            self.waiting = None


def is_on(value: Value) -> bool:
    """Whether a value is on, for the sake of `min_on` and `min_off`: anything but nothing, 0 and `off`."""
    return value not in {None, 0, "", "off"}
