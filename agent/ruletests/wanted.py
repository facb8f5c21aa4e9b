"""What a test expects: what must happen to alarms and outputs (`expect:`), and how they must be (`state:`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from agent.alarms import State
from agent.config import wording
from agent.config.decoding import Entry, join
from agent.events import ALARMS, Severity
from agent.ruletests.model import BLINKING, FAILED, TIMES, Check, Expected, Subject, Written
from agent.ruletests.pages import key_value, place_of, value_of, written

if TYPE_CHECKING:
    from yaml.error import Mark

    from agent.events import Value
    from agent.ruletests.pages import Page, Timed

WORDS: Final = tuple(sorted([*(each.removeprefix("alarm.") for each in ALARMS), "throttled"]))
"""What may happen to an alarm, and to what its rule does."""

FACTS: Final = (
    "severity", "of", "value", "limit", "message", "state", "duration", "before", "by", "comment", "for", "count", "within",
    "shelved", "suppressed", "reason",
)  # fmt: skip
"""What may be said of an event of an alarm."""
OUTPUT_FACTS: Final = ("cause", "reason", "value")
STATES: Final = (*(each.value for each in State), "active", "shelved", "suppressed")


def read_expected(page: Page, entries: list[Entry], path: str) -> list[Expected]:
    """Return what must happen, from the entries of `expect:`."""
    found: list[Expected] = []
    for at in page.times(entries, path, spans=True):
        for node in page.items(at.node):
            for entry in page.told(node, at.path, "{too-hot: raised}"):
                here = join(at.path, entry.key)
                made = (_expected(page, entry, item, at, here) for item in page.items(entry.value))
                found.extend(each for each in made if each is not None)
    return found


def _expected(page: Page, entry: Entry, node: yaml.Node, at: Timed, path: str) -> Expected | None:
    facts: list[Entry] | yaml.Node = []
    mark = node.start_mark
    if isinstance(node, yaml.MappingNode):
        inner = page.entries(node, path)
        if len(inner) != 1:
            page.fault(
                mark, path, f"found {len(inner)} keys, expected one, such as raised: {{severity: critical}}"
            )
            return None
        word, mark, shown = key_value(inner[0].key), inner[0].mark, inner[0].key
        value = inner[0].value
        facts = value if isinstance(value, yaml.ScalarNode) else page.entries(value, path)
    else:
        text = page.text(node, path, f"{wording.one_of(WORDS)}, or the value of an output")
        if text is None:
            return None
        word, shown = value_of(text), text.text
    subject = subject_of(page, entry.key, entry.mark, path, is_alarm=word in WORDS)
    if subject is None:
        return None
    if not subject.is_output and word not in WORDS:
        page.fault(mark, path, wording.unknown("change of an alarm", shown, WORDS))
        return None
    if subject.is_output and word not in {FAILED, BLINKING}:
        word = _checked(page, subject.name, word, mark, path)
    return Expected(at.begin, at.end, subject, word, _facts(page, facts, path, subject), place_of(mark))


def _checked(page: Page, channel: str, value: Value, mark: Mark, path: str) -> Value:
    """Return a value as an output has it; one that it cannot have is a fault."""
    try:
        return page.names.checked(channel, value)
    except ValueError as error:
        page.fault(
            mark,
            path,
            f"{error}, expected a value that it can have, {BLINKING} or {FAILED}",
        )
        return value


def _facts(page: Page, facts: list[Entry] | yaml.Node, path: str, subject: Subject) -> dict[str, Written]:
    """Return what is said of an event; a word alone is the severity."""
    if isinstance(facts, yaml.Node):
        text = page.text(facts, path, "a severity, or a map of facts")
        if text is None or text.nothing:
            return {}
        if text.text not in set(Severity) or subject.is_output:
            what = f"found {text.shown}, expected a map of facts"
            page.fault(
                facts.start_mark,
                path,
                what if subject.is_output else f"{what} or {wording.expected(Severity)}",
            )
        return {"severity": written(text)}
    known = OUTPUT_FACTS if subject.is_output else FACTS
    found: dict[str, Written] = {}
    for entry in facts:
        here = join(path, entry.key)
        if entry.key not in known:
            page.fault(entry.mark, path, wording.unknown("fact", entry.key, known))
        elif entry.key in TIMES:
            seconds = page.duration(entry.value, here)
            if seconds is not None and isinstance(entry.value, yaml.ScalarNode):
                found[entry.key] = Written(str(entry.value.value), seconds)
        elif (text := page.text(entry.value, here, "a value")) is not None:
            found[entry.key] = written(text)
            if entry.key in {"severity", "before"} and text.text not in set(Severity):
                what = f"found {text.shown}, expected {wording.expected(Severity)}"
                page.fault(entry.value.start_mark, here, what)
            elif entry.key == "of" and "." not in text.text and text.text in page.names.devices:
                full = page.asked(page.names.channel, text.text, entry.value.start_mark, here)
                found[entry.key] = Written(text.text, full or text.text)
    return found


def read_checks(page: Page, entries: list[Entry], path: str) -> list[Check]:
    """Return how things must be, from the entries of `state:`."""
    found: list[Check] = []
    for at in page.times(entries, path):
        for entry in page.told(at.node, at.path, "{too-hot: active}"):
            here = join(at.path, entry.key)
            wanted: list[Value] = []
            shown: list[str] = []
            for node in page.items(entry.value):
                text = page.text(node, here, "a state, or the value of an output")
                if text is not None:
                    wanted.append(value_of(text))
                    shown.append(text.text)
            is_state = any(each in STATES for each in wanted)
            subject = subject_of(page, entry.key, entry.mark, here, is_alarm=is_state)
            if subject is None:
                continue
            if not subject.is_output:
                for each in shown:
                    if each not in STATES:
                        page.fault(entry.value.start_mark, here, wording.unknown("state", each, STATES))
            else:
                mark = entry.value.start_mark
                wanted = [
                    each if each == BLINKING else _checked(page, subject.name, each, mark, here)
                    for each in wanted
                ]
            found.append(Check(at.begin, subject, tuple(wanted), place_of(entry.mark)))
    return found


def read_only(page: Page, node: yaml.Node, path: str) -> frozenset[Subject]:
    """Return what a test is about, from `only:`."""
    found: set[Subject] = set()
    for each in page.items(node):
        text = page.text(each, path, "the name of a rule or an output")
        if text is None:
            continue
        is_rule_name = text.text in page.names.rules
        subject = subject_of(page, text.text, each.start_mark, path, is_alarm=is_rule_name)
        if subject is not None:
            found.add(subject)
    return frozenset(found)


def subject_of(page: Page, name: str, mark: Mark, path: str, *, is_alarm: bool) -> Subject | None:
    """Return the alarm or the output that a name stands for; what is said of it decides where both have that name."""
    names = page.names
    outputs = {names.short(each): each for each in names.outputs} | {each: each for each in names.outputs}
    if name in names.rules and (is_alarm or name not in outputs):
        return Subject(is_output=False, name=name) if page.is_rule(name, mark, path) else None
    if name in outputs:
        return Subject(is_output=True, name=outputs[name])
    known = [*names.rules, *(names.short(each) for each in names.outputs)]
    page.fault(mark, path, wording.unknown("rule or output", name, known))
    return None
