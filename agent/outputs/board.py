"""Knows what every output is to put out, and why: rules, commands and interlocks come together here.

It waits for nothing: what is to be put out now it gives to `put`, and is told by `done` and `failed` what became of it. It
looks at the clock for the present time only, and asks for the time by `deadline`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.conditions.quality import without_bad
from agent.events import EventType
from agent.outcome import LEAVE
from agent.outputs.channel import Channel
from agent.outputs.interlock import Interlock, Interlocks
from agent.outputs.puts import Command, Put, facts_of
from agent.outputs.reacting import MOST, WITHIN, Part, Reacting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.clock import Clock
    from agent.eventlog.journal import Journal
    from agent.events import Quality, Severity, Value
    from agent.outcome import Reaction
    from agent.outputs.settings import Settings

logger = logging.getLogger(__name__)

_SAVED: Final = "out "
"""Begins the names under which a rule's state has the ages of what it put out for a time."""


class _Output(NamedTuple):
    """One device that can be set."""

    checked: Callable[[str, Value], Value]
    channels: dict[str, Channel]
    interlock: Interlock | None
    under_way: list[Put]  # given to be put out, and it is not known yet what became of them


class Board:
    """All outputs of the gateway.

    Attributes:
        deadline: When it next wants the time, in seconds of the monotonic clock; None where it does not.
        wake: Called when that has become earlier.
        on_began: Called with the name of a rule when what it does for a time has begun, so that its state is saved.
    """

    def __init__(self, log: Journal, clock: Clock, put: Callable[[Put], None]) -> None:
        self.deadline: float | None = None
        self.wake: Callable[[], None] = lambda: None
        self.on_began: Callable[[str], None] = lambda _: None
        self._log = log
        self._clock = clock
        self._put = put
        self._outputs: dict[str, _Output] = {}
        self._up: dict[str, bool] = {}  # not in it while it has been neither up nor down
        self._reactions: dict[str, Reacting] = {}
        self._put_off: dict[str, Reacting] = {}
        self._interlocks = Interlocks()
        self._order = 0

    # --- building ---------------------------------------------------------------------------------------------------

    def add(
        self,
        device: str,
        settings: Settings,
        safe: Mapping[str, Value],
        checked: Callable[[str, Value], Value],
    ) -> None:
        """Take an output in charge, before rules and readings; it counts as just switched to its safe value.

        Args:
            device: Its name.
            settings: What may be done to it.
            safe: The safe value by channel.
            checked: What the driver makes of a value: see `Output.checked`.
        """
        times = (settings.min_on, settings.min_off, settings.dead_man, self._clock.monotonic())
        channels = {name: Channel(value, *times) for name, value in safe.items()}
        interlock = None if settings.unless is None else Interlock(settings.unless, settings.max_age)
        self._outputs[device] = _Output(checked, channels, interlock, [])
        if interlock is not None:
            self._interlocks.add(interlock, lambda at: self._lock(device, at), self._clock.monotonic())

    def add_rule(self, rule: str, then: Reaction) -> None:
        """Take in what a rule does when its alarm is raised, before any reading."""
        parts = []
        for target, action in then.actions().items():
            device, _, name = target.partition(".")
            output = self._outputs[device]
            otherwise = None if then.otherwise in {None, LEAVE} else output.checked(name, then.otherwise)
            value = output.checked(name, 1 if action.value is None else action.value)
            parts.append(Part(device, name, output.channels[name], action, value, otherwise))
        reacting = self._reactions[rule] = Reacting(rule, then, parts)
        if reacting.interlock is not None:
            now = self._clock.monotonic()
            self._interlocks.add(reacting.interlock, lambda at: self._bring_in_line(reacting, at), now)

    # --- what devices say -------------------------------------------------------------------------------------------

    def on_reading(
        self,
        device: str,
        values: Mapping[str, Value],
        at: float,
        quality: Mapping[str, Quality] | None = None,
    ) -> None:
        """Show a reading to the interlocks, as `Rulebook.on_reading` to rules, and before it; a bad value is missing."""
        if device in self._interlocks:
            sound = values if quality is None else without_bad(values, quality)
            self._interlocks.note(device, sound, at, self._clock.monotonic(), self._coming(device))
            self._aim()

    def _coming(self, device: str) -> list[dict[str, Value]]:
        """Return what is on its way to a device that is an output: it comes right after whatever the device says now."""
        output = self._outputs.get(device)
        return [] if output is None else [{put.channel: put.value} for put in output.under_way]

    def on_up(self, device: str) -> None:
        """Set an output that has come (back) up with its safe value to what is wanted of it."""
        self._up[device] = True
        if (output := self._outputs.get(device)) is not None:
            now = self._clock.monotonic()
            for name, channel in output.channels.items():
                channel.restart(now)
                self._settle(device, name, now)
            self._aim()

    def on_down(self, device: str) -> None:
        """Note that a device is down: its values count no longer."""
        was_starting = device not in self._up
        self._up[device] = False
        now = self._clock.monotonic()
        self._interlocks.note_down(device, now)
        if was_starting and device in self._outputs:  # what waits for it is tried once, and said to fail
            for name in self._outputs[device].channels:
                self._settle(device, name, now)
        self._aim()

    def _lock(self, device: str, now: float) -> None:
        output = self._outputs[device]
        assert output.interlock is not None  # noqa: S101 -- it is what has changed
        for name, channel in output.channels.items():
            channel.interlock = output.interlock.reason
            self._settle(device, name, now)

    # --- what rules want --------------------------------------------------------------------------------------------

    def act(self, rule: str, severity: Severity) -> None:
        """Do what a rule has to do as its alarm is raised, or has another severity."""
        if (reacting := self._reactions.get(rule)) is not None:
            now = self._catch_up()
            self._order += 1
            reacting.want(severity, self._order)
            self._bring_in_line(reacting, now)
            self._aim()

    def release(self, rule: str) -> None:
        """End what a rule does, as its alarm is over."""
        if (reacting := self._reactions.get(rule)) is not None:
            now = self._catch_up()
            reacting.is_wanted = False
            self._bring_in_line(reacting, now)
            self._aim()

    def state(self, rule: str, now: float) -> dict[str, Value]:
        """Return what must survive a restart of what a rule does, at a time of the monotonic clock; times are ages, in seconds."""
        reacting = self._reactions.get(rule)
        began = {} if reacting is None else reacting.began
        return {f"{_SAVED}{target}": now - at for target, at in began.items()}

    def restore(self, rule: str, severity: Severity, state: Mapping[str, Value], saved: float) -> None:
        """Go on with what a rule did in an earlier run; pulses and toggles are not repeated.

        Args:
            rule: The rule.
            severity: That of its alarm, which is not over.
            state: What `state` said, among other things.
            saved: When that was, in seconds of this run's monotonic clock.
        """
        if (reacting := self._reactions.get(rule)) is not None:
            ages = {name.removeprefix(_SAVED): age for name, age in state.items() if name.startswith(_SAVED)}
            reacting.began = {name: saved - age for name, age in ages.items() if isinstance(age, float | int)}
            reacting.has_fired = True
            self.act(rule, severity)

    def _bring_in_line(self, reacting: Reacting, now: float) -> None:
        """Put in force what a rule wants at present, unless it has done so much that it must wait."""
        self._put_off.pop(reacting.rule, None)
        is_due = reacting.is_due
        if is_due is not reacting.is_applied:
            if is_due and not reacting.may_act(now):
                self._put_off[reacting.rule] = reacting
                if reacting.must_tell(now):
                    self._tell_put_off(reacting.rule)
                return
            reacting.is_applied = is_due
            for part in reacting.parts:
                if is_due:
                    reacting.start(part, now)
                    self._tell_locked(part, reacting.rule)
                else:
                    reacting.stop(part)
            reacting.has_fired = reacting.has_fired or is_due
        else:
            for part in reacting.parts:
                reacting.rank_again(part)
        if not reacting.is_wanted:
            reacting.end()
        for part in reacting.parts:
            self._settle(part.device, part.name, now)

    def _tell_put_off(self, rule: str) -> None:
        reason = (
            f"it has acted {MOST} times within {WITHIN:g} s, and must wait: its last state is put out late"
        )
        logger.warning("rule %s: %s", rule, reason)
        self._log.append(EventType.RULE_THROTTLED, rule, {"reason": reason})

    def _tell_locked(self, part: Part, rule: str) -> None:
        """Say that a rule is kept from its output; not before the output has begun, when nothing can be known yet."""
        claim, channel = part.channel.claims.get(rule), part.channel
        if (
            channel.interlock
            and claim is not None
            and claim.value != channel.safe
            and part.device in self._up
        ):
            self._tell_failed(part.device, part.name, claim.value, rule, f"interlocked: {channel.interlock}")

    # --- what people want -------------------------------------------------------------------------------------------

    def command(
        self,
        device: str,
        channel: str,
        value: Value,
        cause: str,
        command_id: str | None = None,
        until: float | None = None,
        on_result: Callable[[str], None] | None = None,
    ) -> str:
        """Set an output as somebody asks, and keep it so until the next command; rules come first.

        What becomes of it is logged, `command.failed` where it is refused, and told to `on_result`, where it is not.

        Args:
            device: The output.
            channel: Its channel.
            value: What to put out.
            cause: Who asks, for the log.
            command_id: What they call it.
            until: When it is too late to put it out (it may have to wait for `min_on` or `min_off`), by the monotonic clock.
            on_result: Called once, with "" when it was put out, or with the reason why not.

        Returns:
            "", or the reason why it is refused, such as `held by the rule 'too-hot'` or `interlocked: tank.level < 10`.
        """
        now = self._catch_up()
        output, reason = self._outputs.get(device), ""
        if output is None:
            reason = f"{device!r} is no output"
        elif not self._up.get(device, False):
            reason = f"{device!r} is down"
        else:
            try:
                value = output.checked(channel, value)
                reason = output.channels[channel].refusal(value)
            except ValueError as error:
                reason = str(error)
        if reason or output is None:
            self._tell_failed(device, channel, value, cause, reason, command_id)
            return reason
        output.channels[channel].command(Command(value, cause, command_id, until, on_result))
        self._settle(device, channel, now)
        self._aim()
        return ""

    # --- what became of it ------------------------------------------------------------------------------------------

    def done(self, put: Put) -> None:
        """Take in that something is put out."""
        self._outputs[put.device].under_way.remove(put)
        self._outputs[put.device].channels[put.channel].confirm(put.value)
        if put.command is not None and put.command.on_result is not None:
            put.command.on_result("")
        self.on_reading(put.device, {put.channel: put.value}, self._clock.monotonic())

    def failed(self, put: Put, reason: str) -> None:
        """Take in that something could not be put out, and why."""
        now = self._clock.monotonic()
        self._outputs[put.device].channels[put.channel].fail(put.value, now, is_up=self._up[put.device])
        self.overtaken(put, reason)
        if self._up[put.device]:  # what it puts out is not known: fail safe
            self._interlocks.note(put.device, {put.channel: None}, now, now)
        self._aim()

    def overtaken(self, put: Put, reason: str) -> None:
        """Take in that something was not put out, for something else is wanted meanwhile; its command is over."""
        self._outputs[put.device].under_way.remove(put)
        self._outputs[put.device].channels[put.channel].forget(put.command)
        if put.command is not None and put.command.on_result is not None:
            put.command.on_result(reason)

    def _settle(self, device: str, name: str, now: float) -> None:
        """Put out what is to be put out now; nothing before the device has been up, or is known to be down."""
        if device not in self._up:
            return
        channel = self._outputs[device].channels[name]
        change = channel.decide(now)
        began, channel.began = channel.began, []
        for claim in began:
            self._reactions[claim.rule].began[f"{device}.{name}"] = now
            self.on_began(claim.rule)
        dropped, channel.dropped = channel.dropped, []
        for command, reason in dropped:
            self._tell_failed(device, name, command.value, command.cause, reason, command.id)
            if command.on_result is not None:
                command.on_result(reason)
        if change is not None:
            # Another output whose interlock is about this one must not be put out in the time until this one reports.
            put = Put(device, name, *change)
            self._outputs[device].under_way.append(put)
            self._interlocks.note(device, {}, now, now, self._coming(device))
            self._put(put)

    def _tell_failed(
        self, device: str, channel: str, value: Value, cause: str, reason: str, command_id: str | None = None
    ) -> None:
        self._log.append(
            EventType.COMMAND_FAILED, device, facts_of(channel, value, cause, command_id, reason)
        )

    # --- time -------------------------------------------------------------------------------------------------------

    def on_time(self, now: float) -> None:
        """Take in the time, at or after `deadline`, in seconds of the monotonic clock."""
        self._interlocks.on_time(now)
        for reacting in list(self._put_off.values()):
            if reacting.put_off_until is not None and reacting.put_off_until <= now:
                self._bring_in_line(reacting, now)
        for device, name, channel in self._channels():
            if channel.deadline is not None and channel.deadline <= now:
                self._settle(device, name, now)
        self._aim()

    def _catch_up(self) -> float:
        """Do what is due, and return the present time."""
        now = self._clock.monotonic()
        if self.deadline is not None and self.deadline <= now:
            self.on_time(now)
        return now

    def _channels(self) -> Iterator[tuple[str, str, Channel]]:
        for device, output in self._outputs.items():
            if device in self._up:
                for name, channel in output.channels.items():
                    yield device, name, channel

    def _aim(self) -> None:
        before = self.deadline
        times = [self._interlocks.deadline]
        times += [reacting.put_off_until for reacting in self._put_off.values()]
        times += [channel.deadline for _, _, channel in self._channels()]
        self.deadline = min((each for each in times if each is not None), default=None)
        if self.deadline is not None and (before is None or self.deadline < before):
            self.wake()

    # --- telling ----------------------------------------------------------------------------------------------------

    def status(self, device: str) -> dict[str, Any] | None:
        """Return what each channel of an output puts out and why, ready for JSON; None where it is no output."""
        output = self._outputs.get(device)
        return None if output is None else {name: each.status() for name, each in output.channels.items()}
