"""Holds what is said of outputs against what they are: the values that rules set, times that cannot be, and circles."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from msgspec import structs

from agent.config.circles import circles
from agent.config.decoding import join
from agent.outcome import LEAVE, Action
from agent.outputs.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yaml.error import Mark

    from agent import contracts
    from agent.config.decoding import Decoder
    from agent.config.wiring import Wiring
    from agent.outcome import Plain, Reaction, RuleOutcome


class OutputWiring:
    """The outputs of a configuration. All faults go to the decoder."""

    def __init__(self, decoder: Decoder, wiring: Wiring) -> None:
        self._decoder = decoder
        self._wiring = wiring
        self._settings: dict[str, Settings] = {}
        self._setters: dict[str, list[str]] = {}  # the rules that set it, by output

    def device(self, name: str, settings: Settings, mark: Mark) -> Settings:
        """Return what may be done to a sound device, with the channels of its condition named in full."""
        path = f"devices.{name}.output"
        named = self._wiring.named(settings, path, mark)
        if named.unless is not None:
            own = [each for each in named.unless.names if each.partition(".")[0] == name]
            if own:
                what = f"{own[0]} is of this very output, which would switch itself off and on"
                self._fault(join(path, "unless"), mark, f"{what}, expected channels of others")
        self._settings[name] = named
        return named

    def rule(self, name: str, outcome: RuleOutcome, mark: Mark) -> RuleOutcome:
        """Return what a rule leads to, with the outputs that it sets and the channels of its condition named in full."""
        then = outcome.then
        if then is None:
            return outcome
        path = f"rules.{name}.then"
        full: dict[str, Plain | Action] = {}
        for written, action in then.set.items():
            where = join(join(path, "set"), written)
            key = self._decoder.places[where].key
            try:
                target, driver = self._wiring.output(written)
            except ValueError as error:
                what = str(error)
                if written in {field.encode_name for field in structs.fields(type(then))}:
                    what = f"{written!r} is out of place, expected it beside 'set', not in it"
                self._decoder.fault(key, join(path, "set"), what)
                continue
            if target in full:
                self._decoder.fault(key, join(path, "set"), f"{target!r} is set here already")
            full[target] = action
            if driver is not None:
                self._setters.setdefault(target, []).append(name)
                self._check(driver, target, action, where)
                if then.otherwise not in {None, LEAVE}:
                    self._check_value(driver, target, then.otherwise, join(path, "otherwise"))
        named: Reaction = self._wiring.named(then, path, mark)
        return structs.replace(outcome, then=structs.replace(named, set=full))

    def _check(self, driver: contracts.Output[Any], target: str, action: Plain | Action, where: str) -> None:
        """Refuse what an output cannot do, and what its `min_on` and `min_off` would spoil."""
        if not isinstance(action, Action):
            self._check_value(driver, target, action, where)
            return
        if action.value is not None:
            self._check_value(driver, target, action.value, join(where, "value"))
        if action.value is None and not _is_switch(driver, target):
            self._fault(where, None, f"{target} is no switch, expected a value")
            return
        settings, turns = self._settings.get(target.partition(".")[0], Settings()), action.turns
        short = [
            ("for", action.for_, "min_on", settings.min_on),
            ("pulse", action.pulse, "min_on", settings.min_on),
            ("blink", None if turns is None else turns.on, "min_on", settings.min_on),
            ("blink", None if turns is None else turns.off, "min_off", settings.min_off),
        ]
        for name, time, limit, least in short:
            if time is not None and time < least:
                what = f"{time} is shorter than {limit} of {target.partition('.')[0]!r}, which is {least}"
                self._fault(join(where, name), None, what)

    def _check_value(self, driver: contracts.Output[Any], target: str, value: Any, where: str) -> None:
        channel = target.partition(".")[2]
        try:
            driver.checked(channel, value)
        except ValueError as error:
            if channel in driver.safe():  # else it is told that there is no such channel
                self._fault(where, None, f"{target} cannot have this value: {error}")

    def _fault(self, where: str, otherwise: Mark | None, what: str) -> None:
        place = self._decoder.places.get(where)
        mark = place.mark if place is not None else otherwise
        if mark is not None:
            self._decoder.fault_of_values(mark, where, what)

    def follow(
        self, rules: Mapping[str, tuple[Iterable[str], Iterable[str], RuleOutcome]], marks: Mapping[str, Mark]
    ) -> None:
        """Refuse rules that feed themselves in a circle through the outputs that they set.

        A latched rule is no part of one: it lets go of its outputs only when somebody has acknowledged its alarm.

        Args:
            rules: By rule: the rules that it follows, the channels that it watches, and what it leads to.
            marks: The place of each rule.
        """
        # By rule: the rules that feed it, each with the output by which it does, "" where it is followed.
        fed: dict[str, dict[str, str]] = {}
        for name, (follows, watches, outcome) in rules.items():
            fed[name] = dict.fromkeys(follows, "")
            unless = None if outcome.then is None else outcome.then.unless
            for channel in (*watches, *(() if unless is None else unless.names)):
                for setter in self._setters.get(channel, ()):
                    if setter not in rules or not rules[setter][2].latch:
                        fed[name].setdefault(setter, channel)
        for circle in circles({name: list(by) for name, by in fed.items()}):
            steps = [fed[rule][by] for rule, by in itertools.pairwise(circle)]
            if any(steps):
                said = "".join(
                    f" → {channel} → {rule}" if channel else f" → {rule}"
                    for rule, channel in zip(reversed(circle[:-1]), reversed(steps), strict=True)
                )
                what = f"rules feed themselves in a circle through outputs: {circle[-1]}{said}"
                self._decoder.fault(marks[circle[0]], f"rules.{circle[0]}", what)


def _is_switch(driver: contracts.Output[Any], target: str) -> bool:
    """Whether a channel takes on and off, as far as that can be told."""
    try:
        for value in (0, 1):
            driver.checked(target.partition(".")[2], value)
    except ValueError:
        return False
    return True
