"""Raises an alarm while a channel is above, below, inside or outside limits.

`clear` gives hysteresis, so that a value that hovers at the limit does not raise the alarm again and again. `for` and
`clear_for` are the on-delay and off-delay of ISA-18.2: the condition must hold that long without a break.

Sample::

    rules:
      too-hot:
        threshold: {of: air.temperature, above: 35, clear: 33, for: 30s}
        severity: critical
        message: "{of} is {value}, {limit}"
        then: {set: {fan: on}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.conditions.limits import LimitRule, Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.contracts import Verdict
    from agent.events import Value


class Settings(Limits, frozen=True, kw_only=True):
    """What may be written under `threshold:`.

    Attributes:
        of: The channel to watch, such as `air.temperature`.
    """

    of: str


class Rule(LimitRule[Settings]):
    """The channel's own value against the limits."""

    @property
    def of(self) -> str:
        """The channel."""
        return self.settings.of

    def watches(self) -> Sequence[str]:
        """Return the one channel."""
        return (self.settings.of,)

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Hold a value against the limits; text and missing values change nothing."""
        if value is None or isinstance(value, str):
            return None
        return self.judge(value, at)
