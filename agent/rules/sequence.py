"""Raises an alarm when conditions come true one after the other within a time, or when the second one does not.

`first` and `then` (or `steps`, from two to eight) must come true in this order, the last at most `within` after the first.
`first` and `without` is the opposite: the alarm is raised when the time is over and `without` has not been true in it.

A condition comes true when a reading makes it so that was seen to be untrue before; one that is true already when the
agent sees it for the first time has not come true. One reading is one step at most. Values of one reading of a device are
taken in together. A value without usable quality, and one of which a condition cannot be said (text where a number must
be), changes nothing. A match uses up what has led to it. Where `first` comes true again, `then` is waited for from there on,
but for `without` the time runs from the first one.

With a `key` each value of it has a sequence of its own, but there is one alarm: the text names the key that raised it, and while
it is active a match of another key is not told (`hold: 0s` clears it at once, so that each match is told). A condition that a reading finds true with another key than before
has come true for that one. Without a known key nothing begins. A reading that brings only the key is no step.

`consecutive: true` means that nothing else happens in between: a value of one of the steps' channels that is another than
before and does not bring the next step ends what has begun. Repeated values do not. With a key, only what is read with the
same key can end what has begun of it, and then repeated values count where another key was read before.

The alarm clears `hold` after the last match (0s: at once). Without `hold` it clears when the last condition ceases; for
`without`, when that comes true after all (for the same key), or when `first` ceases, where it held when the time was over
(and there is no key). While it is active, more matches do no more than prolong `hold`.

All of it survives a restart. Over an absence of the agent `within` goes on for `then`; for `without` only the time counts in
which the agent listened. Memory: one time per step for each key of which something has begun, and 100 such keys; of more,
those that began first are forgotten.

Sample::

    rules:
      fan-starts-hot:
        sequence: {first: air.temperature > 35, then: fan == on, within: 10m, hold: 5m}
      fan-does-not-start:
        sequence: {first: air.temperature > 35, without: fan == on, within: 30s}
        severity: major
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from agent import contracts
from agent.conditions.expressions import Expression
from agent.contracts import Transition, Verdict
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.events import Value

MOST_KEYS: Final = 100
"""Of how many keys something may have begun at once."""

_NO_KEY: Final = ""
_KEEP: Final = Verdict(keep=True)


class Settings(contracts.Settings, frozen=True, kw_only=True):
    """What may be written under `sequence:`.

    Attributes:
        first: The condition that begins it, such as `door == on`.
        then: The condition that must come true after it.
        without: The condition that must not have been true when the time is over.
        steps: Two to eight conditions that must come true after each other, instead of `first` and `then`.
        within: From the first to the last at most.
        key: A channel whose value must be the same for all steps, such as `reader.card`.
        consecutive: Nothing else may happen on the channels of the steps in between.
        hold: Clear so long after the last match; without it, when the last condition ceases.
    """

    first: Expression | None = None
    then: Expression | None = None
    without: Expression | None = None
    steps: Annotated[list[Expression], msgspec.Meta(min_length=2, max_length=8)] | None = None
    within: Duration
    key: Expression | None = None
    consecutive: bool = False
    hold: Duration | None = None

    def __post_init__(self) -> None:
        said = {name for name in ("first", "then", "without", "steps") if getattr(self, name) is not None}
        if said not in ({"first", "then"}, {"first", "without"}, {"steps"}):
            found = " and ".join(sorted(said)) or "none of them"
            raise ValueError(
                f"expected first and then, first and without, or steps with two or more, not {found}"
            )
        for name, each in [*zip(self._names(), self.conditions, strict=True), ("key", self.key)]:
            if each is not None and not each.names:
                raise ValueError(f"{name} ({each}) names no channel, expected {Expression.expected}")
        if self.within <= 0:
            raise ValueError("within expects more than 0s")
        if self.consecutive and self.without is not None:
            raise ValueError("consecutive has no meaning for without, which waits for nothing")

    @property
    def conditions(self) -> list[Expression]:
        """The steps, and what must not come."""
        return [
            each for each in (self.first, *(self.steps or ()), self.then, self.without) if each is not None
        ]

    def _names(self) -> list[str]:
        if self.steps is not None:
            return [f"steps[{index}]" for index in range(len(self.steps))]
        return ["first", "then" if self.then is not None else "without"]


class Rule(contracts.Rule[Settings]):
    """The conditions as they are, what has begun of each key, and the alarm.

    An alarm's value is the seconds from the first step to the last; with a key, that key.
    """

    message = "{of} {limit}"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._conditions = settings.conditions
        self._last = len(self._conditions) - 1
        self._is_absence = settings.without is not None
        self._values: dict[str, Value] = {}
        self._news: set[str] = set()  # channels whose values have changed, and are not looked at yet
        self._read: set[str] = set()  # channels of steps that are in the present reading
        self._truths: list[bool | None] = [None] * len(self._conditions)  # None: never known
        self._keys: list[Value] = [None] * len(self._conditions)  # with which key each came true last
        # By key, the one that began first at the front: the latest beginning of what has one step done, two, …
        self._begun: dict[Value, list[float | None]] = {}
        self._active = False
        self._since = 0.0
        self._until: float | None = None  # when `hold` is over
        self._has_held = False  # whether `first` was true when the alarm was raised
        self._key: Value = _NO_KEY  # of the alarm
        self._value: Value = None
        joint = " without " if self._is_absence else ", then "
        self._of = joint.join(self._conditions)
        self._limit = f"within {settings.within!s}"
        self._channels = {name for each in self._conditions for name in each.names}
        self._must_save = (
            settings.key is not None
            or settings.consecutive
            or any(len(each.names) > 1 for each in self._conditions)
        )

    def watches(self) -> Sequence[str]:
        """Return the channels, those of the key first."""
        key = self.settings.key
        names = [name for each in self._conditions for name in each.names]
        return list(dict.fromkeys([*(key.names if key else ()), *names]))

    # --- readings -------------------------------------------------------------------------------------------------

    def note(self, channel: str, value: Value, at: float) -> bool:  # noqa: ARG002
        """Take in a value."""
        if value is not None and self._values.get(channel) != value:
            self._values[channel] = value
            self._news.add(channel)
            if self._must_save:
                self.is_unsaved = True
        if channel in self._channels:
            self._read.add(channel)
        return True

    def on_reading(self, channel: str, value: Value, at: float) -> Verdict | None:
        """Take in a value, and look at the conditions where something has changed."""
        self.note(channel, value, at)
        if not self._read:
            return None
        if not self._news:
            self._read.clear()
            return None
        looked = [
            index for index, each in enumerate(self._conditions) if not self._read.isdisjoint(each.names)
        ]
        self._read.clear()
        self._news.clear()
        key: Value = _NO_KEY
        if self.settings.key is not None:
            key = self.settings.key.evaluate(self._values)
        came, has_changed = self._look(looked, key)
        if self._is_absence:
            has_begun, began = self._wait(came, key, at), None
        else:
            has_begun, began = self._step(came, key, at)
        transition = self._cease(at) if began is None else self._match(began, key, at)
        self._aim()
        if transition is not None:
            return Verdict(keep=True, transition=transition)
        return _KEEP if has_changed or has_begun else None

    def show_latest(self, latest: Mapping[str, tuple[Value, float]], at: float) -> Verdict | None:
        """Know which conditions are true already, so that they do not come true now."""
        *before, last = latest.items()
        for channel, (value, seen) in before:
            self.note(channel, value, seen)
        return self.on_reading(last[0], last[1][0], at)

    def _look(self, looked: Sequence[int], key: Value) -> tuple[set[int], bool]:
        """Return which conditions have come true, and whether any is another than before."""
        came: set[int] = set()
        has_changed = False
        for index in looked:
            said = self._conditions[index].evaluate(self._values)
            if said is None:
                continue
            truth, before = bool(said), self._truths[index]
            if truth is before and (not truth or self._keys[index] == key):
                continue
            has_changed = True
            self._truths[index], self._keys[index] = truth, key
            if truth and before is not None and key is not None:
                came.add(index)
        return came, has_changed

    def _step(self, came: set[int], key: Value, at: float) -> tuple[bool, float | None]:
        """Go on with what has begun; return whether that has changed, and when what is complete now began."""
        consecutive = self.settings.consecutive
        if key is None or not (came or (consecutive and key in self._begun)):
            return False, None
        before = self._begun.get(key)
        nothing: list[float | None] = [None] * self._last
        begun = list(before or nothing)
        complete = begun[-1] if self._last in came else None
        for index in range(self._last - 1, 0, -1):
            if index in came:
                begun[index] = begun[index - 1]
            elif consecutive:
                begun[index] = None
        if complete is not None and at - complete <= self.settings.within:
            begun = nothing
        else:
            complete = None
        if 0 in came:
            begun[0] = at
            self._begun.pop(key, None)  # it goes to the end
        elif consecutive:
            begun[0] = None
        self._keep_begun(key, begun)
        return begun != before, complete

    def _wait(self, came: set[int], key: Value, at: float) -> bool:
        """Begin to wait for what must not be missing, or end that; return whether something has changed."""
        if self._truths[1] and self._keys[1] == key:
            return self._begun.pop(key, None) is not None
        if 0 in came and key not in self._begun:
            self._keep_begun(key, [at])
            return True
        return False

    def _keep_begun(self, key: Value, begun: list[float | None]) -> None:
        if any(each is not None for each in begun):
            self._begun[key] = begun
            if len(self._begun) > MOST_KEYS:
                del self._begun[next(iter(self._begun))]
        else:
            self._begun.pop(key, None)

    # --- the alarm ------------------------------------------------------------------------------------------------

    def _match(self, began: float, key: Value, at: float) -> Transition | None:
        """Raise the alarm, or prolong it."""
        if self.settings.hold is not None:
            self._until = at + self.settings.hold
        if self._active:
            return None
        self._active, self._since, self._key = True, began, key
        self._has_held = bool(self._truths[0])
        self._value = round(at - began, 3) if self.settings.key is None else key
        return self._transition(began)

    def _cease(self, at: float) -> Transition | None:
        """Clear the alarm where what it is about has ceased, and there is no `hold`."""
        if not self._active or self.settings.hold is not None:
            return None
        if not self._is_absence:
            is_over = not self._truths[self._last]
        elif self._truths[1] and self._keys[1] == self._key:
            is_over = True
        else:
            is_over = self.settings.key is None and self._has_held and not self._truths[0]
        return self._clear(at) if is_over else None

    def _clear(self, at: float) -> Transition:
        self._active, self._until = False, None
        return self._transition(at)

    def _transition(self, since: float) -> Transition:
        key = self.settings.key
        of = self._of if key is None else f"{self._of} ({key} {self._key})"
        return Transition(self._active, of, self._value, self._limit, since)

    # --- time ---------------------------------------------------------------------------------------------------------

    def on_time(self, now: float) -> Verdict | None:
        """Raise the alarm where the time is over for what must not be missing; clear it where `hold` is over."""
        if self.deadline is None or now < self.deadline:
            return None
        verdict = _KEEP
        overdue = next(iter(self._begun.items())) if self._is_absence and self._begun else None
        if overdue is not None and (overdue[1][0] or 0.0) + self.settings.within <= now:
            del self._begun[overdue[0]]
            transition = self._match(overdue[1][0] or 0.0, overdue[0], now)
        else:
            transition = self._clear(now)
        if transition is not None:
            verdict = Verdict(keep=True, transition=transition)
        self._aim()
        return verdict

    def _aim(self) -> None:
        self.deadline = self._until
        if self._is_absence and self._begun:
            over = (next(iter(self._begun.values()))[0] or 0.0) + self.settings.within
            self.deadline = over if self._until is None else min(over, self._until)

    # --- restarts -----------------------------------------------------------------------------------------------------

    def state(self, now: float) -> Mapping[str, Value]:
        """Return the values, the conditions, what has begun, and the alarm."""
        saved: dict[str, Value] = {
            "active": int(self._active), "since": now - self._since, "held": int(self._has_held), "key": self._key,
            "value": self._value, "news": int(bool(self._news)), "left": None if self._until is None else self._until - now,
        }  # fmt: skip
        saved |= {f"is {name}": value for name, value in self._values.items()}
        for index, (truth, key) in enumerate(zip(self._truths, self._keys, strict=True)):
            saved |= {f"truth{index}": None if truth is None else int(truth), f"truth{index} key": key}
        for place, (key, begun) in enumerate(self._begun.items()):
            saved[f"begun{place}"] = key
            saved |= {f"begun{place}.{step}": now - at for step, at in enumerate(begun) if at is not None}
        return saved

    def restore(self, state: Mapping[str, Value], saved: float, now: float) -> None:
        """Go on from a saved state; what must not be missing is waited for as long as there was left."""
        watched = self.watches()
        known = {name: state.get(f"is {name}") for name in watched}
        self._values = {name: value for name, value in known.items() if value is not None}
        for index in range(len(self._conditions)):
            truth = state.get(f"truth{index}")
            self._truths[index] = None if truth is None else bool(truth)
            self._keys[index] = state.get(f"truth{index} key")
        if state.get("news") and self.settings.key is not None:
            self._news.update(self.settings.key.names)  # the key is another, and no step has come with it yet
        since, left = state.get("since"), state.get("left")
        self._active = bool(state.get("active"))
        self._since = saved - since if isinstance(since, float | int) else saved
        self._has_held = bool(state.get("held"))
        self._key, self._value = state.get("key"), state.get("value")
        if self._active and self.settings.hold is not None:
            self._until = saved + (left if isinstance(left, float | int) else self.settings.hold)
        steps = 1 if self._is_absence else self._last
        begin = now if self._is_absence else saved
        for place in range(MOST_KEYS):
            if f"begun{place}" not in state:
                break
            ages = [state.get(f"begun{place}.{step}") for step in range(steps)]
            begun = [begin - age if isinstance(age, float | int) else None for age in ages]
            self._keep_begun(state[f"begun{place}"], begun)
        self._aim()
