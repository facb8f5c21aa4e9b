"""Conditions over the latest values of channels that keep outputs safe: what cannot be judged counts as true.

A value counts until there is another, until it is older than `max_age`, or until its device is down. One without usable
quality is missing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.conditions.expressions import Expression
    from agent.events import Value
    from agent.quantities import Duration


class Interlock:
    """One condition. Times are of the monotonic clock, in seconds.

    Attributes:
        reason: Why it holds the output back, as it was judged last, such as `tank.level < 10`; "" where it does not.
        deadline: When it wants to be judged again though nothing was noted; None where it does not.
    """

    def __init__(self, unless: Expression, max_age: Duration | None) -> None:
        self.reason = ""
        self.deadline: float | None = None
        self._unless = unless
        self._max_age = math.inf if max_age is None else float(max_age)
        self._age_said = str(max_age)
        self._values: dict[str, Value] = dict.fromkeys(unless.names)
        self._seen = dict.fromkeys(unless.names, -math.inf)
        self._down: set[str] = set()

    @property
    def devices(self) -> set[str]:
        """The devices whose values it is about."""
        return {name.partition(".")[0] for name in self._values}

    def note(self, device: str, values: Mapping[str, Value], at: float) -> None:
        """Take in the values of a device; those from before the latest known are passed over."""
        for name in self._values:
            source, _, channel = name.partition(".")
            if source == device and channel in values and at >= self._seen[name]:
                self._down.discard(device)
                self._values[name] = values[channel]
                self._seen[name] = at

    def note_down(self, device: str) -> None:
        """Forget the values of a device that is down."""
        self._down.add(device)
        for name in self._values:
            if name.partition(".")[0] == device:
                self._values[name] = None

    def judge(self, now: float) -> str:
        """Return why it holds the output back; "" where it does not."""
        self.reason = self._judged(self._values, now)
        expiry = min(self._seen.values()) + self._max_age
        self.deadline = expiry if now < expiry < math.inf else None
        return self.reason

    def would_hold(self, device: str, values: Mapping[str, Value]) -> bool:
        """Whether it would be true, were these the values of a device; not where that cannot be told."""
        supposed = {f"{device}.{channel}": value for channel, value in values.items()}
        return bool(self._unless.evaluate({**self._values, **supposed}))

    def _judged(self, values: Mapping[str, Value], now: float) -> str:
        for name, seen in self._seen.items():
            device = name.partition(".")[0]
            if device in self._down:
                return f"{device} is down"
            if values[name] is None:
                return f"{name} has no usable value"
            if now >= seen + self._max_age:
                return f"{name} is older than {self._age_said}"
        said = self._unless.evaluate(values)
        if said is None:
            return f"{self._unless} cannot be told"
        return str(self._unless) if said else ""


_Watched = tuple[Interlock, "Callable[[float], None]"]
"""A condition, and what is to be done when it has changed."""


class Interlocks:
    """All conditions, each with what is to be done when it has changed. Times are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._all: list[_Watched] = []
        self._by_device: dict[str, list[_Watched]] = {}

    def __contains__(self, device: str) -> bool:
        """Whether one of them is about a device."""
        return device in self._by_device

    @property
    def deadline(self) -> float | None:
        """When the first of them wants to be judged again; None where none does."""
        times = (interlock.deadline for interlock, _ in self._all)
        return min((each for each in times if each is not None), default=None)

    def add(self, interlock: Interlock, changed: Callable[[float], None], now: float) -> None:
        """Take one in and judge it; `changed` is called with the present time whenever its reason has become another."""
        watched = interlock, changed
        self._all.append(watched)
        for device in interlock.devices:
            self._by_device.setdefault(device, []).append(watched)
        _judge(watched, now)

    def note(
        self,
        device: str,
        values: Mapping[str, Value],
        at: float,
        now: float,
        coming: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        """Take in the values of a device, seen at a time, and judge.

        Args:
            device: The device.
            values: By channel.
            at: When they were seen.
            now: The present time.
            coming: What the device, an output, is about to have after that; it counts where it makes a condition true, for what
                would free an output must be seen.
        """
        for watched in self._by_device.get(device, ()):
            watched[0].note(device, values, at)
            for each in coming:
                if watched[0].would_hold(device, each):
                    watched[0].note(device, each, now)
            _judge(watched, now)

    def note_down(self, device: str, now: float) -> None:
        """Forget the values of a device that is down, and judge."""
        for watched in self._by_device.get(device, ()):
            watched[0].note_down(device)
            _judge(watched, now)

    def on_time(self, now: float) -> None:
        """Judge those whose deadline has come."""
        for watched in self._all:
            if watched[0].deadline is not None and watched[0].deadline <= now:
                _judge(watched, now)


def _judge(watched: _Watched, now: float) -> None:
    interlock, changed = watched
    before = interlock.reason
    if interlock.judge(now) != before:
        changed(now)
