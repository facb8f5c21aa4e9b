"""The ledger itself: it says so when something is missing, changed, out of order or there too often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.instruments import HEAVY, CountingScale, Line
from support.ledger import SLACK, Ledger
from support.subscribers import Received

from agent.contracts import Gateway
from agent.encodings import json as plain_json
from agent.events import Event, EventType, Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.events import Value

NOBODY: Any = None
ENCODING = plain_json.Encoding(plain_json.Settings(), Gateway("g", "", 0))
KILLED_AT = 100.0


class Story:
    """A sound history: a first run of six lines, of which the fifth is an alarm's, a kill, and a second of four."""

    def __init__(self) -> None:
        self.scale = CountingScale(NOBODY)
        times = [10.0] * 5 + [99.9] + [110.0] * 4
        self.scale.lines = [
            Line(n, HEAVY + n if n == 4 else n / 8, time) for n, time in enumerate(times)
        ]  # fmt: skip
        alarm = Event(1, 7, EventType.ALARM_RAISED, "heavy", 7, {"value": HEAVY + 4})
        first = [Event(1, 1, EventType.AGENT_STARTED, "agent", 1, {})]
        first += [self.reading(1, n + 2, n) for n in range(5)]
        second = [Event(2, 9, EventType.AGENT_STARTED, "agent", 1, {})]
        second += [self.reading(2, n + 4, n) for n in range(6, 10)]
        self.committed = [*first, alarm]  # line 5 was in memory only
        self.cursors = {("site", Lane.READINGS): 4, ("site", Lane.URGENT): 7}
        again = [event for event in first if event.lane is Lane.READINGS and event.seq > 4]
        self.received = [online(1), *map(message, [*first[:5], alarm, first[5]])]
        self.received += [online(2), *map(message, [*second[:1], *again, *second[1:]])]

    def reading(self, run: int, seq: int, n: int) -> Event:
        values: dict[str, Value] = {"n": n, "weight": self.scale.lines[n].weight}
        return Event(run, seq, EventType.READING, "scale", 1_000 + seq, values)

    def faults(self, **more: Any) -> list[str]:
        ledger = Ledger(self.scale, **more)
        ledger.note_kill(KILLED_AT, self.committed, self.cursors)
        return ledger.faults(self.received)


def online(run: int) -> Received:
    body = b'{"state":"online","run":%d}' % run
    return Received("gatepost/g/status", body, retain=False, repeated=False, content_type=None, attributes={})


def message(event: Event) -> Received:
    payload = ENCODING.encode(event).payload
    return Received("gatepost/g/x", payload, retain=False, repeated=False, content_type=None, attributes={})


def at(story: Story, event_id: str) -> int:
    """Return where an event arrived first."""
    return next(i for i, each in enumerate(story.received) if f'"{event_id}"'.encode() in each.payload)


def lose_what_was_committed(story: Story) -> None:
    del story.received[at(story, "1-1")]


def lose_a_line_of_an_undisturbed_time(story: Story) -> None:
    del story.received[at(story, "2-11")]


def lose_a_line_that_was_old_when_the_kill_came(story: Story) -> None:
    story.scale.lines[5] = story.scale.lines[5]._replace(at=KILLED_AT - 1.0 - SLACK - 0.1)


def lose_an_alarm(story: Story) -> None:
    story.committed = [event for event in story.committed if event.type != EventType.ALARM_RAISED]
    del story.received[at(story, "1-7")]


def lose_an_alarm_that_was_new_when_the_kill_came_though_its_reading_was_logged(story: Story) -> None:
    lose_an_alarm(story)
    story.scale.lines[4] = story.scale.lines[4]._replace(at=KILLED_AT)


def change_what_was_committed(story: Story) -> None:
    story.committed[1] = story.reading(1, 2, 1)


def change_a_weight(story: Story) -> None:
    story.received[at(story, "2-11")] = message(
        Event(2, 11, EventType.READING, "scale", 0, {"n": 7, "weight": 1})
    )


def use_an_id_twice(story: Story) -> None:
    story.received.append(message(story.reading(2, 11, 8)))


def make_a_line_up(story: Story) -> None:
    story.received.append(message(Event(2, 14, EventType.READING, "scale", 0, {"n": 10, "weight": 1.25})))


def log_a_line_twice(story: Story) -> None:
    story.received.append(message(story.reading(2, 14, 9)))


def swap_two(story: Story) -> None:
    here, there = at(story, "2-11"), at(story, "2-12")
    story.received[here], story.received[there] = story.received[there], story.received[here]


def repeat_within_a_connection(story: Story) -> None:
    story.received.append(story.received[at(story, "2-11")])


def repeat_what_was_known_to_be_delivered(story: Story) -> None:
    story.received.insert(at(story, "2-9") + 1, story.received[at(story, "1-4")])


def repeat_more_than_the_window_without_a_kill(story: Story) -> None:
    story.received += [online(2), *(story.received[at(story, f"2-{seq}")] for seq in (11, 12, 13))]


def drop_and_say_so(story: Story) -> None:
    story.received.append(message(Event(2, 14, EventType.LOG_DROPPED, "agent", 0, {"count": 3})))


def test_a_sound_history_has_no_faults() -> None:
    assert Story().faults() == []


def test_what_was_in_memory_when_the_kill_came_may_be_missing_and_is_the_only_one() -> None:
    story = Story()
    assert not any(b'"n":5' in each.payload for each in story.received)
    ledger = Ledger(story.scale)
    assert any(fault.startswith("missing: Line(n=5,") for fault in ledger.faults(story.received))


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lose_what_was_committed, "lost"),
        (lose_a_line_of_an_undisturbed_time, "missing"),
        (lose_a_line_that_was_old_when_the_kill_came, "missing"),
        (lose_an_alarm, "no alarm"),
        (lose_an_alarm_that_was_new_when_the_kill_came_though_its_reading_was_logged, "no alarm"),
        (change_what_was_committed, "changed"),
        (change_a_weight, "changed"),
        (use_an_id_twice, "changed"),
        (make_a_line_up, "invented"),
        (log_a_line_twice, "twice"),
        (swap_two, "order"),
        (repeat_within_a_connection, "repeated"),
        (repeat_what_was_known_to_be_delivered, "repeated"),
        (drop_and_say_so, "dropped"),
    ],
)
def test_each_fault_is_told(spoil: Callable[[Story], None], kind: str) -> None:
    story = Story()
    spoil(story)

    assert kind in {fault.partition(":")[0] for fault in story.faults()}


def test_without_a_kill_no_more_than_the_window_may_come_again() -> None:
    story = Story()
    repeat_more_than_the_window_without_a_kill(story)

    assert story.faults(window=3) == []
    (told,) = story.faults(window=2)
    assert told.startswith("repeated: 3 events")


def test_what_vanishes_from_the_file_or_changes_in_it_is_told() -> None:
    story = Story()
    ledger = Ledger(story.scale)
    ledger.note_kill(KILLED_AT, story.committed, story.cursors)
    ledger.note_kill(KILLED_AT, [*story.committed[1:5], story.reading(1, 6, 3)], story.cursors)

    told = ledger.faults(story.received)

    assert any(fault.startswith("gone: 1-1 ") for fault in told)
    assert any(fault.startswith("changed:") for fault in told)


def test_the_message_names_the_seed_and_counts_what_it_does_not_show() -> None:
    story = Story()
    ledger = Ledger(story.scale)

    with pytest.raises(AssertionError, match=r"GATEPOST_FAULTS_SEED=.*") as caught:
        ledger.check([])

    assert "10 times missing" in str(caught.value)
    assert "1 times no alarm" in str(caught.value)
