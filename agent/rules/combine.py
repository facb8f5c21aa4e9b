"""Raises an alarm while several other rules are active: all of them, any of them, or at least so many.

A rule that has `for` and `clear_for` of its own counts once its own alarm is raised, and until it is cleared. A rule may
combine rules that combine others; that none goes round in a circle is seen to when the configuration is checked.

It lives on alarms alone, which the agent tells it of when it begins as well, so an absence changes nothing; delays go on
meanwhile. Memory: the state of each rule that it combines.

Sample::

    rules:
      too-hot:
        threshold: {of: air.temperature, above: 30}
      too-damp:
        threshold: {of: air.humidity, above: 80}
      mould:
        combine: {all_of: [too-hot, too-damp], for: 2h}
        severity: major
      climate:
        combine: {at_least: 1, of: [too-hot, too-damp]}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from agent import contracts
from agent.conditions.switch import Change, Switch
from agent.contracts import Transition, Verdict
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Value


class Settings(contracts.Settings, frozen=True, kw_only=True):
    """What may be written under `combine:`.

    Attributes:
        all_of: The rules that must all be active.
        any_of: The rules of which one is enough.
        at_least: How many of the rules under `of` must be active.
        of: The rules for `at_least`.
        for_: Raise only after that has been so for that long.
        clear_for: Clear only after it has not been so for that long.
    """

    all_of: list[str] | None = None
    any_of: list[str] | None = None
    at_least: Annotated[int, msgspec.Meta(ge=1)] | None = None
    of: list[str] | None = None
    for_: Duration = msgspec.field(default=Duration(0), name="for")
    clear_for: Duration = Duration(0)

    def __post_init__(self) -> None:
        said = [name for name in ("all_of", "any_of", "of") if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(
                f"expected exactly one of all_of, any_of, of, not {' and '.join(said) or 'none'}"
            )
        if (self.of is None) is not (self.at_least is None):
            raise ValueError("at_least and of expect each other: {at_least: 2, of: [one, other, third]}")
        names = self.names
        if not names:
            raise ValueError(f"{said[0]} expects names of rules, not an empty list")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{said[0]} names {twice!r} twice, expected each rule once")
        if self.needed > len(names):
            raise ValueError(f"at_least ({self.needed}) is more than the {len(names)} rules of `of`")

    @property
    def names(self) -> list[str]:
        """The rules."""
        return self.all_of or self.any_of or self.of or []

    @property
    def needed(self) -> int:
        """How many of them must be active."""
        return len(self.names) if self.all_of is not None else self.at_least or 1


class Rule(contracts.Rule[Settings]):
    """Which rules are active, and whether they are enough."""

    message = "{limit} {of}: {value} active"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._active = dict.fromkeys(settings.names, False)
        self._switch = Switch(settings.for_, settings.clear_for)
        words = {settings.all_of is not None: "all of", settings.any_of is not None: "any of"}
        self._limit = words.get(True, f"at least {settings.needed} of")

    def watches(self) -> Sequence[str]:
        """Return nothing: no reading matters."""
        return ()

    def follows(self) -> Sequence[str]:
        """Return the rules."""
        return self.settings.names

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:  # noqa: ARG002
        """Nothing, for it watches no channel."""
        return None

    def on_rule(self, name: str, at: float, *, active: bool) -> Verdict | None:
        """Count the rules that are active."""
        if self._active[name] is active:
            return None
        self._active[name] = active
        change = self._switch.feed(sum(self._active.values()) >= self.settings.needed, at)
        return self._verdict(change)

    def on_time(self, now: float) -> Verdict | None:
        """Raise or clear, where a delay is over."""
        change = self._switch.on_time(now)
        return None if change is None else self._verdict(change)

    def _verdict(self, change: Change | None) -> Verdict:
        switch = self._switch
        self.deadline = switch.deadline
        if change is not Change.TURNED:
            return Verdict(keep=True)
        value, of = sum(self._active.values()), ", ".join(self._active)
        return Verdict(keep=True, transition=Transition(switch.active, of, value, self._limit, switch.since))

    def state(self, now: float) -> Mapping[str, Value]:
        """Return which rules are active, and what became of that."""
        return self._switch.state(now) | {f"is {name}": int(active) for name, active in self._active.items()}

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:  # noqa: ARG002
        """Go on from a saved state; delays have gone on meanwhile."""
        self._active = {name: bool(state.get(f"is {name}")) for name in self._active}
        self._switch.restore(state, saved)
        self.deadline = self._switch.deadline
