"""Says what of a request may be done. The clock is given, and nothing here waits: the same input gives the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.events import Ask, Value
from agent.requests.reading import Refused, Said, Verb, read, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agent.clock import Clock
    from agent.events import Request
    from agent.outputs.settings import Commands

GOOD_FOR: Final = 60.0
"""Seconds for which a request is good that says when it was sent, and not for how long it is good."""

AHEAD: Final = 60.0
"""Seconds that the sender's clock may be ahead of ours: what claims to come from later could be good for ever."""

READ_AT_MOST: Final = 1.0
"""Seconds between two readings of a device that somebody asks for."""

BURST, EVERY = 5, 0.5
"""Commands to one output without `at_most`, or to one alarm, that may come at once, and seconds for each more."""


class Settable(NamedTuple):
    """A device that can be set.

    Attributes:
        channels: Its channels that can be set.
        checked: Returns a value as a channel has it, or raises ValueError.
        limits: What far sides may do; None where they may not set it.
    """

    channels: Collection[str]
    checked: Callable[[str, Value], Value]
    limits: Commands | None


class Order(NamedTuple):
    """A request that may be carried out.

    Attributes:
        verb: What to do.
        target: The device or the rule.
        channel: The channel to set; "" where none is.
        value: What to set it to.
        id: What the request is called; made up where its sender has not said.
        key: The id together with what it is for, to be remembered; "" where it need not be.
        cause: Who asks.
        seconds: For how long to shelve; None for as long as may be.
        comment: For the log.
        until: When it is no longer good, by the monotonic clock, in seconds; None for never.
        is_repeated: Whether it was carried out before, or is about to be.
    """

    verb: Verb
    target: str
    channel: str
    value: Value
    id: str
    key: str
    cause: str
    seconds: float | None
    comment: str
    until: float | None
    is_repeated: bool = False


class Bucket:
    """So many at once, and one more each time that a while has passed."""

    def __init__(self, burst: int, every: float) -> None:
        self._burst = burst
        self._every = every
        self._left = float(burst)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may be, at a time of the monotonic clock; then it counts."""
        self._left = min(self._burst, self._left + (now - self._at) / self._every)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Judge:
    """Knows what there is, what it allows, and what was done already."""

    def __init__(
        self,
        clock: Clock,
        is_known: Callable[[str], bool],
        outputs: Mapping[str, Settable],
        polled: Mapping[str, bool],
        rules: Collection[str],
    ) -> None:
        """Store what there is.

        Args:
            clock: The clock.
            is_known: Whether what has such a key was carried out already, or is under way.
            outputs: The devices that can be set.
            polled: All devices by name: whether they are polled.
            rules: The names of all rules at work.
        """
        self._clock = clock
        self._is_known = is_known
        self._outputs = outputs
        self._polled = polled
        self._rules = rules
        # By channel or rule, and whether it is read: there are only so many.
        self._buckets: dict[tuple[str, bool], Bucket] = {}

    def judge(self, origin: str, request: Request, number: str, *, is_local: bool = False) -> Order:
        """Return what is to be done.

        Args:
            origin: Who brought the request, such as `mqtt site`.
            request: The request.
            number: What it is called where its sender has not said.
            is_local: Whether somebody asks who may do anything on this machine, so that nothing need be allowed.

        Raises:
            Refused: It may not be done, and why.
        """
        said = read(request)
        try:
            return self._judged(origin, request, said, number, is_local=is_local)
        except Refused as refused:
            refused.said = said
            raise

    def has(self, request: Request) -> bool:
        """Whether there is the device, or the rule, that a request is for."""
        known: Collection[str] = self._rules if request.of == "alarm" else self._polled
        return bool(request.target) and request.target[0] in known

    def _judged(self, origin: str, request: Request, said: Said, number: str, *, is_local: bool) -> Order:
        if request.is_retained:
            raise Refused("it was retained, so nobody can say from when it is; publish it without retain")
        if not is_local and _ASKS[said.verb] not in request.allowed:
            raise Refused(f"{origin} may not ask for {_ASKS[said.verb]} (commands)")
        target, channel = self._found(said.verb, request.target, is_local=is_local)
        # A reading twice does no harm, and remembering costs a write.
        key = f"{target}.{channel} {said.id}" if said.id and said.verb != "read" else ""
        cause = f"{said.by} over {origin}" if said.by else origin
        order = Order(
            said.verb, target, channel, said.value, said.id or number, key, cause, said.seconds, said.comment, None
        )  # fmt: skip
        if key and self._is_known(key):
            return order._replace(is_repeated=True)
        order = order._replace(until=self._until(request, said))
        if said.verb == "set":
            order = order._replace(value=self._checked(order, is_local=is_local))
        if not is_local:
            self._check_rate(order)
        return order

    def _found(self, verb: Verb, target: tuple[str, ...], *, is_local: bool) -> tuple[str, str]:
        """Return the device and the channel that are meant, or the rule and ""."""
        name = target[0] if target else ""
        if verb in {"acknowledge", "shelve", "unshelve"}:
            if len(target) != 1 or name not in self._rules:
                raise Refused(f"there is no rule {shown('/'.join(target))}")
            return name, ""
        if name not in self._polled:
            raise Refused(f"there is no device {shown(name)}")
        if verb == "read":
            if len(target) != 1:
                raise Refused("a reading is asked for of a device, not of a channel")
            if not self._polled[name]:
                raise Refused(f"{name!r} says by itself what changes, and cannot be asked")
            return name, ""
        output = self._outputs.get(name)
        if output is None:
            raise Refused(f"{name!r} is no output")
        if output.limits is None and not is_local:
            raise Refused(f"{name!r} takes no commands from far sides (output: {{commands: true}})")
        known = ", ".join(output.channels)
        if len(target) == 1 and len(output.channels) != 1:
            raise Refused(f"{name!r} has several channels, expected one of: {known}")
        channel = target[1] if len(target) > 1 else next(iter(output.channels))
        if len(target) > 2 or channel not in output.channels:
            raise Refused(f"there is no channel {shown('/'.join(target[1:]))}, expected one of: {known}")
        return name, channel

    def _until(self, request: Request, said: Said) -> float | None:
        """Return until when, by the monotonic clock, a request is good; None for as long as one likes."""
        now = self._clock.monotonic()
        left = [] if request.good_for is None else [request.good_for]
        if said.time is not None:
            if not self._clock.is_set():
                raise Refused(
                    "the clock of the gateway is not set, so nobody can say whether it is still good; leave time and ttl out"
                )
            age = (self._clock.wall() - said.time) / 1e6
            if age < -AHEAD:
                raise Refused(f"its time is {-age:.0f} s ahead of the clock of the gateway")
            left.append((GOOD_FOR if said.ttl is None else said.ttl) - age)
        elif said.ttl is not None:
            raise Refused("ttl expects time beside it: from when on it counts")
        if not left:
            return None
        if min(left) <= 0:
            raise Refused(f"it has expired, {-min(left):.3g} s ago")
        return now + min(left)

    def _checked(self, order: Order, *, is_local: bool) -> Value:
        """Return the value as the output has it."""
        output, value = self._outputs[order.target], order.value
        try:
            value = output.checked(order.channel, value.lower() if value in _SWITCHED else value)
        except ValueError as error:
            raise Refused(str(error)) from None
        limits = output.limits
        if is_local or limits is None or not isinstance(value, int | float):
            return value
        if limits.min is not None and value < limits.min:
            raise Refused(f"{value:g} is less than the {limits.min:g} that is allowed")
        if limits.max is not None and value > limits.max:
            raise Refused(f"{value:g} is more than the {limits.max:g} that is allowed")
        return value

    def _check_rate(self, order: Order) -> None:
        burst, every = BURST, EVERY
        if order.verb == "read":
            burst, every = 1, READ_AT_MOST
        elif (
            order.verb == "set"
            and (limits := self._outputs[order.target].limits) is not None
            and limits.at_most
        ):
            burst, every = 1, limits.at_most
        limited = (f"{order.target}.{order.channel}", order.verb == "read")
        bucket = self._buckets.setdefault(limited, Bucket(burst, every))
        if not bucket.take(self._clock.monotonic()):
            raise Refused(f"it comes too soon after the one before: one in {every:g} s is allowed (at_most)")


_ASKS: Final[Mapping[Verb, Ask]] = {
    "set": Ask.OUTPUTS, "read": Ask.READINGS, "acknowledge": Ask.ALARMS, "shelve": Ask.ALARMS, "unshelve": Ask.ALARMS,
}  # fmt: skip
_SWITCHED: Final = {word for each in ("on", "off") for word in (each, each.upper(), each.capitalize())}
