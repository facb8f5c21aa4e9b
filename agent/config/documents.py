"""Reads a YAML file into nodes that know their place, within limits, and says in plain words where it cannot.

PyYAML's own loader in Python is used, not the one in C: its places are those of the text in characters, and a
deeply nested file cannot exhaust the C stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

import yaml

from agent.errors import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from yaml.error import Mark

MAX_BYTES: Final = 1024**2
MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 50

SECRET_TAG: Final = "!secret"  # noqa: S105 -- the name of the tag

_TAG = "this tag is not known, expected !secret NAME; a text that begins with ! needs quotes"
_COLON = "a text with a colon and a space in it needs quotes, and keys of one map line up"
_PLAIN_WORDS: Final = {
    "mapping values are not allowed here": f"a colon is not expected here; {_COLON}",
    "could not find expected ':'": "this line is no key: expected a name, a colon and a space",
    "found character '\\t' that cannot start any token": "a tab, expected spaces: YAML indents with spaces only",
    "found unexpected end of stream": "the file ends before this quote is closed",
    "found unexpected document separator": "the document ends before this quote is closed",
    "but found another document": "a second document begins here, expected one per file",
    "second occurrence": "this anchor was set before, expected a name of its own",
    "sequence entries are not allowed here": "a list item is not expected here; expected it on a line of its own",
}
"""What PyYAML says, and what we say."""
_IN_TAG: Final = ("while scanning a tag", "while parsing a tag")
_AT_CONTEXT: Final = ("could not find expected ':'", "found unexpected")
"""The problems whose place is where the thing began, not where it was given up."""


def read(path: Path, name: str, faults: list[Fault]) -> yaml.Node | None:
    """Read one file; None where it is empty or cannot be read, and then `faults` says why.

    Args:
        path: The file.
        name: What to call it in faults; the marks of all nodes carry it too.
        faults: Where to add what is wrong.
    """
    before = len(faults)
    text = _text(path, name, faults)
    if text is None:
        return None
    root = compose(text, name, faults)
    if root is None and len(faults) == before:
        faults.append(Fault(name, 0, 0, "", "the file is empty, expected a map"))
    return root


def compose(text: str, name: str, faults: list[Fault]) -> yaml.Node | None:
    """Return the root node of a text, None where it is empty or is no YAML."""
    try:
        loader = _Loader(text, name)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        what = f"the character U+{ord(text[error.position]):04X} cannot be in YAML, expected a text file"
        faults.append(Fault(name, line, column, "", what))
    except yaml.MarkedYAMLError as error:
        mark, what = _plainly(error)
        faults.append(Fault(name, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, "", what))
    except (ValueError, OverflowError):
        # PyYAML lets Python's own errors through for impossible escapes and version numbers.
        mark = loader.get_mark()
        what = "not valid YAML: an escape or a number that cannot be"
        faults.append(Fault(name, mark.line + 1, mark.column + 1, "", what))
    else:
        faults += loader.faults
        return root
    return None


def _text(path: Path, name: str, faults: list[Fault]) -> str | None:
    """Return the text of a file, None where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        what = "there is no such file"
    except IsADirectoryError:
        what = "this is a directory, expected a file"
    except PermissionError:
        what = "this file may not be read by this user"
    except (OSError, ValueError) as error:
        what = f"the file cannot be read: {getattr(error, 'strerror', None) or error}"
    else:
        if len(data) > MAX_BYTES:
            what = "the file is larger than 1 MiB, which no configuration is"
        else:
            try:
                return data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                good = data[: error.start]
                line, start = good.count(b"\n") + 1, good.rfind(b"\n") + 1
                column = len(good[start:].decode("utf-8-sig", "replace")) + 1
                what = f"the byte 0x{data[error.start]:02X} is not UTF-8, expected a text file in UTF-8"
                faults.append(Fault(name, line, column, "", what))
                return None
    faults.append(Fault(name, 0, 0, "", what))
    return None


def storable(text: str) -> bool:
    """Whether a text can be written anywhere: Python also has texts with halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits, and with no tag but !secret."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name
        self.faults: list[Fault] = []
        self._depth = 0
        self._deepest = 0
        self._count = 0
        self._anchored: dict[str, _Extent | None] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node within the limits, counting those behind an alias each time that they are used."""
        event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._grow(self._extent(event), event)
            return super().compose_node(parent, index)
        self._check_scalar(event)
        count, deepest = self._count, self._deepest
        self._deepest = self._depth
        self._grow(_Extent(nodes=1, levels=1), event)
        if event.anchor:
            self._anchored.setdefault(event.anchor, None)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor:
            self._anchored[event.anchor] = _Extent(self._count - count, self._deepest - self._depth)
        self._deepest = max(deepest, self._deepest)
        return node

    def _check_scalar(self, event: yaml.NodeEvent) -> None:
        """Refuse tags that we do not know, and texts that could not be written again."""
        scalar = isinstance(event, yaml.ScalarEvent)
        tag = getattr(event, "tag", None)
        if tag is not None and not (tag == SECRET_TAG and scalar):
            mark = _mark(event)
            self.faults.append(Fault(self.name, mark.line + 1, mark.column + 1, "", _TAG))
        if isinstance(event, yaml.ScalarEvent) and not storable(event.value):
            what = "this text holds half a character (a lone surrogate), expected whole ones"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=_mark(event))

    def _extent(self, event: yaml.AliasEvent) -> _Extent:
        """Return how much an alias stands for. Its name is never quoted: it may be a password without quotes."""
        if event.anchor not in self._anchored:
            what = "there is no anchor of that name; a text that begins with * needs quotes"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=_mark(event))
        extent = self._anchored[event.anchor]
        if extent is None:
            what = "an alias inside of its own anchor never ends"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=_mark(event))
        return extent

    def _grow(self, extent: _Extent, event: yaml.NodeEvent) -> None:
        self._count += extent.nodes
        self._deepest = max(self._deepest, self._depth + extent.levels)
        if self._count > MAX_NODES:
            what = (
                f"with its aliases the file holds more than {MAX_NODES} values, which no configuration does"
            )
        elif self._deepest > MAX_DEPTH:
            what = f"nested more than {MAX_DEPTH} levels deep, which no configuration is"
        else:
            return
        raise yaml.MarkedYAMLError(problem=what, problem_mark=_mark(event))


class _Extent(NamedTuple):
    """How much a node holds, aliases filled in: how many nodes, in how many levels."""

    nodes: int
    levels: int


def _mark(event: yaml.NodeEvent) -> Mark:
    """Return where an event begins, which the parser always says."""
    return cast("Mark", event.start_mark)


def _plainly(error: yaml.MarkedYAMLError) -> tuple[Mark | None, str]:
    """Return the place and the problem in our words. Nothing of the context is said: it may quote a secret."""
    problem = error.problem or "it cannot be read"
    mark = error.problem_mark or error.context_mark
    if problem.startswith(_AT_CONTEXT):
        mark = error.context_mark or mark
    if error.context in _IN_TAG or problem.startswith("found undefined tag"):
        return error.context_mark or mark, _TAG
    if problem in _PLAIN_WORDS:
        return mark, _PLAIN_WORDS[problem]
    if problem.startswith("found character"):
        character = problem.split(maxsplit=3)[2]
        return mark, f"a text that begins with {character} needs quotes"
    if problem.startswith("expected <block end>"):
        return mark, "this does not line up with the lines above, check the indentation"
    if problem.startswith("expected ',' or") and error.context_mark:
        closing = problem[len("expected ',' or '")]
        opened = error.context_mark.line + 1
        return mark, f"expected a comma or {closing}, to close what line {opened} opens"
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError | yaml.composer.ComposerError):
        return mark, f"not valid YAML: {problem}"
    return mark, problem
