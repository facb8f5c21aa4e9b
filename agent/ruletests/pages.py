"""A file of tests on its way from YAML nodes to a test: names, times and values, each fault with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import yaml

from agent.config import wording
from agent.config.decoding import Entry, join
from agent.config.variables import plain
from agent.quantities import Duration
from agent.ruletests.model import Place, Written
from agent.ruletests.moments import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yaml.error import Mark

    from agent.config.decoding import Decoder
    from agent.config.variables import Text
    from agent.events import Value
    from agent.ruletests.moments import Moments
    from agent.ruletests.names import Names

T = TypeVar("T")


class Timed(NamedTuple):
    """What is written at a time: from `begin` to `end`, the same twice but for a span."""

    begin: float
    end: float
    node: yaml.Node
    mark: Mark
    path: str


class Page:
    """What is needed to read one test; all faults go to the decoder.

    Attributes:
        decoder: Reads nodes and collects faults.
        names: What there is to name.
        moments: The times of this test.
    """

    def __init__(self, decoder: Decoder, names: Names, moments: Moments) -> None:
        self.decoder = decoder
        self.names = names
        self.moments = moments

    def fault(self, mark: Mark, path: str, what: str) -> None:
        """Collect a fault."""
        self.decoder.fault(mark, path, what)

    def entries(self, node: yaml.Node | None, path: str) -> list[Entry]:
        """Return the entries of a map, none where it is none (a fault) or nothing is written."""
        return self.decoder.entries(node, path) or []

    def told(self, node: yaml.Node, path: str, example: str) -> list[Entry]:
        """Return the entries of a map that somebody may take for a text; then the fault has an example."""
        if isinstance(node, yaml.ScalarNode):
            text = self.decoder.text(node, path, example)
            if text is not None:
                found = "nothing" if text.nothing else text.shown
                self.fault(node.start_mark, path, f"found {found}, expected a map such as {example}")
            return []
        return self.entries(node, path)

    def text(self, node: yaml.Node, path: str, expected: str) -> Text | None:
        """Return a scalar, None where it is none; that is a fault."""
        return self.decoder.text(node, path, expected)

    def items(self, node: yaml.Node) -> list[yaml.Node]:
        """Return the items of a list, or the node itself: one thing may be written without brackets."""
        return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]

    def asked(self, ask: Callable[[str], T], text: str, mark: Mark, path: str) -> T | None:
        """Return what a text stands for; None where it raises ValueError, which is a fault."""
        try:
            return ask(text)
        except ValueError as error:
            self.fault(mark, path, str(error))
            return None

    def times(self, entries: list[Entry], path: str, *, spans: bool = False) -> Iterator[Timed]:
        """Yield what is written at each time, by rising time; each may be written once.

        Args:
            entries: Those of a map whose keys are times.
            path: That of the map.
            spans: Whether a key may be a span of time, such as `15m..20m`.
        """
        found: list[Timed] = []
        seen: dict[tuple[float, float], int] = {}
        for entry in entries:
            if ".." in entry.key and not spans:
                self.fault(entry.mark, path, f"found the span {entry.key!r}, expected a time")
                continue
            span = self.asked(self.moments.span, entry.key, entry.mark, path)
            if span is None:
                continue
            if span in seen:
                what = f"{entry.key!r} is {said(span[0])}, which is on line {seen[span]} already"
                self.fault(entry.mark, path, what)
            else:
                seen[span] = entry.mark.line + 1
                found.append(Timed(*span, entry.value, entry.mark, join(path, entry.key)))
        yield from sorted(found, key=lambda each: (each.begin, each.end))

    def duration(self, node: yaml.Node, path: str) -> float | None:
        """Return a length of time in seconds."""
        text = self.text(node, path, "a duration such as 30s or 5m")
        if text is None:
            return None
        try:
            return float(Duration.parse(0 if text.text == "0" else text.text))
        except ValueError as error:
            self.fault(node.start_mark, path, f"{error}, expected {Duration.expected}")
            return None

    def is_rule(self, name: str, mark: Mark, path: str) -> bool:
        """Whether a rule of that name raises alarms; otherwise that is a fault."""
        if name not in self.names.rules:
            self.fault(mark, path, wording.unknown("rule", name, self.names.rules))
        elif name not in self.names.in_service:
            self.fault(mark, path, f"the rule {name!r} is out of service")
        elif name in self.names.quiet:
            self.fault(mark, path, f"the rule {name!r} raises no alarm, expected the outputs that it sets")
        else:
            return True
        return False


def place_of(mark: Mark) -> Place:
    """Return where a mark is, for people."""
    return Place(mark.name, mark.line + 1, mark.column + 1)


def value_of(text: Text) -> Value:
    """Return a scalar as a channel can hold it: a switch is 0 or 1."""
    value = text.value()
    return int(value) if isinstance(value, bool) else value


def written(text: Text) -> Written:
    """Return a fact as it is written."""
    return Written(text.text, value_of(text))


def key_value(key: str) -> Value:
    """Return the value that a key stands for, such as `on`."""
    return value_of(plain(key))
