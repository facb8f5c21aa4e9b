"""Holds the entries of a configuration against each other: what they take alone, and what rules watch and set.

A device with faults is still known by its name here, so that no rule is blamed for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec import structs

from agent import contracts
from agent.conditions.expressions import Expression
from agent.config import expressions, wording
from agent.config.circles import circles
from agent.config.decoding import join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yaml.error import Mark

    from agent import reporter
    from agent.config.decoding import Decoder
    from agent.outcome import RuleOutcome

    AnyDriver = contracts.Driver[Any] | contracts.BlockingDriver[Any]


S = TypeVar("S", bound=msgspec.Struct)


class _Wired(NamedTuple):
    """What a rule may know of one device.

    Attributes:
        channels: The unit by channel, None where only the device knows.
        units: The unit by channel, as far as it is known.
        output: The driver, where it can be set.
    """

    channels: Mapping[str, str] | None
    units: Mapping[str, str]
    output: contracts.Output[Any] | None


class Wiring:
    """The devices of a configuration and their channels. All faults go to the decoder."""

    def __init__(self, decoder: Decoder, devices: Mapping[str, Mark]) -> None:
        """Store where to say what is wrong, and the place of each device that is written, sound or not."""
        self._decoder = decoder
        self._devices = devices
        self._wired: dict[str, _Wired] = {}
        self._taken: dict[str, tuple[str, Mark]] = {}

    def add(self, name: str, driver: AnyDriver, report: reporter.Settings) -> None:
        """Take in a sound device."""
        channels = driver.channels()
        units = channels if channels is not None else getattr(driver.settings, "units", {})
        self._wired[name] = _Wired(channels, units, driver if isinstance(driver, contracts.Output) else None)
        if isinstance(report.change, dict) and channels is not None:
            path = f"devices.{name}.report.change"
            for channel in report.change.keys() - channels:
                mark = self._decoder.places[join(path, channel)].key
                self._decoder.fault(mark, path, wording.unknown("channel", channel, channels))
        self.claim(driver.settings, f"devices.{name}", self._devices[name])

    def claim(self, settings: contracts.Settings, path: str, mark: Mark) -> None:
        """Refuse an entry that would take the same pin, port or client id as an earlier one."""
        if not hasattr(settings, "claims"):
            return
        what = settings.claims()
        first, there = self._taken.setdefault(what, (path, mark))
        if first != path:
            at, where = self._find(what, path, mark)
            taken = f"{what} is already taken by {first} ({there.name}:{there.line + 1})"
            self._decoder.fault_of_values(at, where, taken)

    def watched(self, rule: contracts.Rule[Any], path: str, mark: Mark) -> contracts.Settings:
        """Return a rule's settings with the channels in its field `of` and in its expressions named in full."""
        settings: contracts.Settings = rule.settings
        watched = set(rule.watches())
        found = [
            (where, expression)
            for where, expression in expressions.found(settings, path)
            if watched.issuperset(expression.names)  # another is the name of a device whose events are heard
        ]
        for _, source in () if watched else rule.hears():
            if source not in self._devices:
                self._decoder.fault_of_values(
                    *self._find(source, path, mark), wording.unknown("device", source, self._devices)
                )
        full, faulty = self._full_names(found, mark)
        for name in rule.watches():
            if name in full or name in faulty:
                continue
            try:
                full[name] = self._channel(name)
            except ValueError as error:
                what = str(error)
                if len(name.split()) > 1:
                    what = f"{name!r} is no channel; a rule of the kind compare takes expressions"
                self._decoder.fault_of_values(*self._find(name, path, mark), what)
        return self._named(settings, full)

    def named(self, settings: S, path: str, mark: Mark) -> S:
        """Return settings with the channels in all their expressions named in full."""
        full, _ = self._full_names(list(expressions.found(settings, path)), mark)
        named: S = expressions.renamed(settings, full)
        return named

    def gate(self, outcome: RuleOutcome, path: str, mark: Mark) -> RuleOutcome:
        """Return what is said of a rule beside its kind with the channels of its gate named in full."""
        if outcome.where is None:
            return outcome
        full, _ = self._full_names([(join(path, "where"), outcome.where)], mark)
        return structs.replace(outcome, where=outcome.where.renamed(full))

    def _full_names(
        self, found: Sequence[tuple[str, Expression]], mark: Mark
    ) -> tuple[dict[str, str], set[str]]:
        """Return the full names of the channels in expressions, and the names that are none; units must fit together."""
        full: dict[str, str] = {}
        faulty: set[str] = set()
        for where, expression in found:
            for name in expression.names:
                try:
                    full[name] = self._channel(name)
                except ValueError as error:
                    faulty.add(name)
                    self._fault(where, mark, f"{error}{self._tip(name, expression)}")
            if faulty.isdisjoint(expression.names):
                self._check_units(expression.renamed(full), where, mark)
        return full, faulty

    def follow(
        self, named: Mapping[str, tuple[str, Sequence[str]]], marks: Mapping[str, Mark], what: str
    ) -> None:
        """Refuse rules that name none that there is, or each other in a circle.

        Args:
            named: The rules that each sound rule names, with the path where it does.
            marks: The place of each rule that is written, sound or not.
            what: What they do by naming others: follow, or are suppressed by.
        """
        for name, (path, others) in named.items():
            for other in others:
                if other not in marks:
                    at, where = self._find(other, path, marks[name])
                    self._decoder.fault_of_values(at, where, wording.unknown("rule", other, marks))
        for circle in circles({name: others for name, (_, others) in named.items()}):
            at, where = self._find(circle[1], named[circle[0]][0], marks[circle[0]])
            self._decoder.fault(at, where, f"rules {what} each other in a circle: {' → '.join(circle)}")

    @staticmethod
    def _named(settings: contracts.Settings, full: Mapping[str, str]) -> contracts.Settings:
        named: contracts.Settings = expressions.renamed(settings, full)
        of: Any = getattr(named, "of", None)
        if isinstance(of, str) and not isinstance(of, Expression):
            return structs.replace(named, of=full.get(of, of))
        if isinstance(of, list | tuple):
            return structs.replace(
                named, of=type(of)(full.get(each, each) if isinstance(each, str) else each for each in of)
            )
        return named

    def _tip(self, name: str, expression: Expression) -> str:
        """Return what to add to the fault of an unknown name: what may have been meant."""
        for device in self._devices:
            if device[0].isdigit() and device in expression:
                return (
                    f" (an expression cannot name {device!r}, which begins with a digit: rename the device)"
                )
        for left, right in expressions.subtractions(name):
            if self._is_channel(left) or self._is_channel(right):
                return f" (for a subtraction, put spaces around the minus: {left} - {right})"
        if name in expressions.compared_words(expression) and not wording.nearest(name, self._devices):
            return f" (if it is a text, write it in quotes: '{name}')"
        return ""

    def _is_channel(self, name: str) -> bool:
        try:
            self._channel(name)
        except ValueError:
            return False
        return True

    def _check_units(self, expression: Expression, where: str, mark: Mark) -> None:
        units: dict[str, str] = {}
        for name in expression.names:
            device, _, channel = name.partition(".")
            if device in self._wired:
                units[name] = self._wired[device].units.get(channel, "")
        if clash := expressions.clash(expression, units):
            self._fault(where, mark, clash)

    def _fault(self, where: str, otherwise: Mark, what: str) -> None:
        """Say what is wrong where an expression is written, or else (it is a default) with the rule."""
        place = self._decoder.places.get(where)
        self._decoder.fault_of_values(place.mark if place else otherwise, where, what)

    def _channel(self, name: str) -> str:
        """Return the full name of a channel: `door` may stand for `door.state`.

        Raises:
            ValueError: There is no such channel, or the name could be one of several.
        """
        device, dot, channel = name.partition(".")
        if device not in self._devices:
            raise ValueError(wording.unknown("device", device, self._devices))
        if device not in self._wired:
            return name
        channels = self._wired[device].channels
        if channels is None:
            if dot:
                return name
            what = f"the channels of {device!r} are known only when it runs"
            raise ValueError(f"{what}, expected one by name: {device}.channel")
        known = [f"{device}.{each}" for each in channels]
        if dot and channel not in channels:
            raise ValueError(wording.unknown("channel", name, known))
        if not dot and len(known) != 1:
            raise ValueError(f"{device!r} has {len(known)} channels, expected {wording.one_of(known)}")
        return name if dot else known[0]

    def output(self, name: str) -> tuple[str, contracts.Output[Any] | None]:
        """Return the full name of a channel that can be set, and the driver that can; None where it has faults.

        Raises:
            ValueError: There is no such channel, or it cannot be set.
        """
        device = name.partition(".")[0]
        wired = self._wired.get(device)
        if wired is not None and wired.output is None:
            outputs = [each for each, other in self._wired.items() if other.output is not None]
            raise ValueError(f"{device!r} is no output, expected {wording.one_of(outputs)}")
        return self._channel(name), None if wired is None else wired.output

    def _find(self, value: str, path: str, otherwise: Mark) -> tuple[Mark, str]:
        """Return where a value is written under a path, and its own path."""
        for where, place in self._decoder.places.items():
            if where.startswith((f"{path}.", f"{path}[")) and str(place.value) == value:
                return place.mark, where
        return otherwise, path
