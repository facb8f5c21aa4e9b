"""Plays a story to one rule: readings, events, time and restarts; and notes what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from agent import registry
from agent.events import Event

if TYPE_CHECKING:
    from agent.contracts import Rule, Transition, Verdict
    from agent.events import Value


def settings(kind: str, written: str) -> Any:
    """Return settings from what an operator would write, such as `{of: air.temperature, longer_than: 2m}`."""
    said = yaml.safe_load(written)
    return msgspec.convert(
        said, registry.module("rules", kind).Settings, dec_hook=lambda wanted, raw: wanted.parse(raw)
    )


class Play:
    """One rule, from a time on.

    Attributes:
        rule: The rule.
        at: The present time, in seconds.
        transitions: What it derived, with the times.
        kept: The times at which it said that a reading, or the time, matters.
        turns: How often it was given the time.
    """

    def __init__(self, kind: str, written: str, at: float = 0.0) -> None:
        self._settings = settings(kind, written)
        self._kind = kind
        self.at = at
        self.transitions: list[tuple[float, Transition]] = []
        self.kept: list[float] = []
        self.turns = 0
        self.rule = self._made()
        self.rule.restore({}, at, at)

    def _made(self) -> Rule[Any]:
        rule: Rule[Any] = registry.module("rules", self._kind).Rule(self._settings)
        return rule

    def _note(self, verdict: Verdict | None, at: float) -> None:
        if verdict is not None:
            self.kept.append(at)
            if verdict.transition is not None:
                self.transitions.append((at, verdict.transition))

    def until(self, at: float) -> None:
        """Let time go on, and give it to the rule whenever it has asked for it."""
        assert at >= self.at
        while (due := self.rule.deadline) is not None and due <= at:
            self.turns += 1
            self._note(self.rule.on_time(due), due)
        self.at = at

    def see(self, at: float, value: Value, channel: str = "") -> None:
        """Show a reading, of the only channel where none is named."""
        self.until(at)
        self._note(self.rule.on_reading(channel or self.rule.watches()[0], value, at), at)

    def tell(self, at: float, *, active: bool) -> None:
        """Tell of the alarm of the only rule that it follows."""
        self.until(at)
        self._note(self.rule.on_rule(self.rule.follows()[0], at, active=active), at)

    def hear(self, at: float, **facts: Value) -> None:
        """Show the only event that it hears."""
        self.until(at)
        type_, source = self.rule.hears()[0]
        self._note(self.rule.on_event(Event(1, 1, type_, source, 0, facts), at), at)

    def restart(self, down_for: float = 0.0, written: str | None = None) -> None:
        """End the agent and start it a while later, perhaps with other settings."""
        state = msgspec.json.decode(
            msgspec.json.encode(dict(self.rule.state(self.at)))
        )  # as the log keeps it
        if written is not None:
            self._settings = settings(self._kind, written)
        self.rule = self._made()
        saved, self.at = self.at, self.at + down_for
        self.rule.restore(state, saved, self.at)

    @property
    def said(self) -> list[str]:
        """What it derived, such as `5 raised air.temperature 36`."""
        return [
            f"{at:g} {'raised' if said.active else 'cleared'} {said.of} {_plain(said.value)}"
            for at, said in self.transitions
        ]

    @property
    def message(self) -> str:
        """The text of the last alarm."""
        said = self.transitions[-1][1]
        return self.rule.message.format(of=said.of, value=said.value, limit=said.limit)


def _plain(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)
