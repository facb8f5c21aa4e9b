"""The desk: what is passed on, what is logged and answered, what is done once, and what floods cost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.boards import written
from support.desks import Front
from support.waiting import eventually

from agent import eventlog
from agent.clock import VirtualClock
from agent.errors import BadReading, Disconnected
from agent.eventlog import EventLog
from agent.events import Event, EventType
from agent.outputs.settings import Settings
from agent.requests import desk as desks
from agent.requests import ids
from agent.requests.ids import PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[EventLog]:
    log = EventLog(folder / "events.db", eventlog.Settings(), VirtualClock())
    await log.open([], "1.0")
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def front_of(folder: Path, **output: Any) -> AsyncIterator[Front]:
    async with opened(folder) as log, Front(log, VirtualClock(), **output) as front:
        yield front


async def logged(front: Front, type_: str) -> list[Event]:
    return [event for event in await front.log.reader.history(0, 10_000) if event.type == type_]


async def answered(answers: list[dict[str, Any]]) -> dict[str, Any]:
    await eventually(lambda: answers, "an answer")
    (answer,) = answers
    return answer


# --- what becomes of it -----------------------------------------------------------------------------------------------


async def test_a_command_sets_the_output_is_logged_with_its_id_and_answered_when_it_is_done(
    tmp_path: Path,
) -> None:
    async with front_of(tmp_path) as front:
        answers = front.ask("lamp/level", {"value": 3, "id": "a", "by": "anna"})
        assert not answers, "not before it is done"
        assert await answered(answers) == {"id": "a", "done": True}
        assert front.lamp.written == [3]
        facts = {"channel": "level", "value": 3, "cause": "anna over mqtt site", "command_id": "a"}
        for type_ in (EventType.COMMAND, EventType.COMMAND_DONE):
            (event,) = await logged(front, type_)
            assert (event.source, event.values) == ("lamp", facts)


async def test_a_command_without_an_id_is_given_one_that_never_repeats(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        async with front_of(tmp_path) as front:
            for _ in range(2):
                found.append((await answered(front.ask("lamp", b"3")))["id"])
                front.desk._judge._clock.now += 1  # type: ignore[attr-defined]
    assert len(set(found)) == 4


async def test_a_command_that_the_device_cannot_carry_out_is_answered_with_the_reason(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        answer = await answered(front.ask("lamp", {"value": 9, "id": "a"}))
        assert answer == {"id": "a", "error": "the lamp is broken"}
        (event,) = await logged(front, EventType.COMMAND_FAILED)
        assert (event.values["command_id"], event.values["reason"]) == ("a", "the lamp is broken")


async def test_what_an_output_does_not_allow_is_refused_with_an_event_and_an_answer(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        answer = await answered(front.ask("siren", {"value": 1, "id": "a"}))
        assert "takes no commands" in answer["error"]
        assert not front.siren.written
        (event,) = await logged(front, EventType.COMMAND_FAILED)
        assert event.source == "siren"
        assert event.values == {
            "cause": "mqtt site",
            "command_id": "a",
            "value": 1,
            "reason": answer["error"],
        }


async def test_a_name_from_outside_never_becomes_the_source_of_an_event(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        for to in ("no-such-device", "x" * 5000, "alarm/no-such-rule", "alarm", "a/b/c/d", "lamp/x"):
            assert "error" in await answered(front.ask(to, b"1"))
        events = await logged(front, EventType.COMMAND_FAILED)
        assert [event.source for event in events] == ["agent"] * 5 + ["lamp"]
        assert max(len(str(value)) for event in events for value in event.values.values()) < 200


async def test_a_command_that_waits_is_answered_with_the_reason_when_its_time_is_over(tmp_path: Path) -> None:
    async with front_of(tmp_path, min_off=60.0) as front:
        answers = front.ask("lamp", b"3", good_for=30.0)
        assert not answers
        clock = front.desk._clock
        clock.now += 31  # type: ignore[attr-defined]
        front.desk._board.on_time(clock.monotonic())
        assert "its time was over" in (await answered(answers))["error"]
        assert not front.lamp.written


async def test_who_waits_when_the_agent_ends_is_told_so_and_who_comes_then(tmp_path: Path) -> None:
    async with front_of(tmp_path, min_off=60.0) as front:
        waiting = front.ask("lamp", b"3")
        front.desk.close()
        late = front.ask("lamp", b"4")
        assert waiting == late == [{"error": "the agent ends"}]


async def test_an_interlock_holds_for_everybody_and_the_safe_value_is_let_through(tmp_path: Path) -> None:
    hot = written(Settings, "{unless: air.temperature > 30}").unless
    async with front_of(tmp_path, unless=hot) as front:
        assert (await answered(front.ask("lamp", b"3")))["done"] is True
        front.desk._board.on_reading("air", {"temperature": 40}, front.desk._clock.monotonic())
        for is_local in (False, True):
            front.desk._clock.now += 1  # type: ignore[attr-defined]
            answer = await answered(front.ask("lamp", b"4", is_local=is_local))
            assert "interlocked: air.temperature > 30" in answer["error"]
            assert "done" in await answered(front.ask("lamp", b"0", is_local=True))
        assert 4 not in front.lamp.written


async def test_a_bug_in_a_driver_is_said_and_harms_no_other_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(*_: object) -> None:
        raise TypeError("unexpected")

    async with front_of(tmp_path) as front:
        lamp = front.desk._outputs["lamp"]
        monkeypatch.setitem(front.desk._outputs, "lamp", lamp._replace(checked=stumble))
        assert "failed on a bug" in (await answered(front.ask("lamp", b"3")))["error"]
        assert "TypeError: unexpected" in caplog.text
        assert (await answered(front.ask("air", b"read")))["done"] is True


async def test_what_has_failed_on_a_bug_may_be_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise TypeError("unexpected")

    async with front_of(tmp_path) as front:
        with monkeypatch.context() as patched:
            patched.setattr(front.desk._board, "command", stumble)
            assert "failed on a bug" in (await answered(front.ask("lamp", {"value": 3, "id": "a"})))["error"]
        front.desk._clock.now += 1  # type: ignore[attr-defined]
        assert await answered(front.ask("lamp", {"value": 3, "id": "a"})) == {"id": "a", "done": True}


# --- readings and alarms ----------------------------------------------------------------------------------------------


async def test_a_reading_is_answered_when_it_was_read_and_logged_whatever_is_kept_else(
    tmp_path: Path,
) -> None:
    async with front_of(tmp_path) as front:
        answer = await answered(front.ask("air", {"do": "read", "id": "r"}))
        assert answer == {"id": "r", "done": True, "values": {"temperature": 2}}
        assert [event.values for event in await logged(front, EventType.READING)][-1] == {"temperature": 2}
        (event,) = await logged(front, EventType.COMMAND_DONE)
        assert (event.source, event.values) == (
            "air",
            {"do": "read", "cause": "mqtt site", "command_id": "r"},
        )


@pytest.mark.parametrize(
    "fault", [BadReading("the checksum is wrong", "x"), Disconnected("it was unplugged")]
)
async def test_a_reading_that_fails_is_answered_with_the_reason(tmp_path: Path, fault: Exception) -> None:
    async with front_of(tmp_path) as front:
        front.air.fault = fault
        answer = await answered(front.ask("air", b"read"))
        assert answer["error"] in {str(fault), "air was lost before it was read"}


async def test_an_alarm_is_acknowledged_shelved_and_unshelved_by_who_says_so(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        front.heat(36.0)
        for payload, type_ in (
            ({"do": "ack", "by": "anna", "comment": "seen", "id": "1"}, EventType.ALARM_ACKNOWLEDGED),
            ({"do": "shelve", "for": 60, "id": "2"}, EventType.ALARM_SHELVED),
            ({"do": "unshelve"}, EventType.ALARM_UNSHELVED),
        ):
            assert (await answered(front.ask("alarm/too-hot", payload)))["done"] is True
            (event,) = await logged(front, type_)
            assert event.values["by"] == ("anna over mqtt site" if "by" in payload else "mqtt site")
        assert [event.values["command_id"] for event in await logged(front, EventType.COMMAND_DONE)][:2] == [
            "1",
            "2",
        ]


async def test_shelving_without_a_time_is_for_as_long_as_may_be(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        assert (await answered(front.ask("alarm/too-hot", b"shelve")))["done"] is True
        (event,) = await logged(front, EventType.ALARM_SHELVED)
        assert event.values["for"] == 8 * 3600


async def test_what_cannot_be_done_to_an_alarm_is_answered_with_the_reason(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        assert "nothing to acknowledge" in (await answered(front.ask("alarm/too-hot", b"ack")))["error"]
        answer = await answered(front.ask("alarm/too-hot", {"do": "shelve", "for": 1e6}))
        assert "8h at most" in answer["error"]


# --- repeats ----------------------------------------------------------------------------------------------------------


async def test_a_repeated_id_is_carried_out_once_and_answered_each_time(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        assert await answered(front.ask("lamp", {"value": 3, "id": "a"})) == {"id": "a", "done": True}
        again = await answered(front.ask("lamp", {"value": 3, "id": "a"}))
        assert again == {"id": "a", "done": True, "repeated": True}
        assert front.lamp.written == [3]
        assert len(await logged(front, EventType.COMMAND)) == 1


async def test_who_repeats_what_is_under_way_is_answered_when_it_is_done(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        front.lamp.slow.clear()
        first, second = (front.ask("lamp", {"value": 3, "id": "a"}) for _ in range(2))
        await asyncio.sleep(0)
        assert not first + second
        front.lamp.slow.set()
        assert await answered(first) == await answered(second) == {"id": "a", "done": True}
        assert front.lamp.written == [3]


async def test_what_was_not_carried_out_may_be_tried_again_with_the_same_id(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        assert "error" in await answered(front.ask("lamp", {"value": 9, "id": "a"}))
        front.desk._clock.now += 1  # type: ignore[attr-defined]
        assert await answered(front.ask("lamp", {"value": 4, "id": "a"})) == {"id": "a", "done": True}
        assert front.lamp.written[-1] == 4


async def test_ids_are_known_after_a_restart_also_those_of_alarms(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        await answered(front.ask("lamp", {"value": 3, "id": "a"}))
        await answered(front.ask("alarm/too-hot", {"do": "shelve", "id": "a"}))
    async with front_of(tmp_path) as front:
        for to, payload in (
            ("lamp", {"value": 3, "id": "a"}),
            ("alarm/too-hot", {"do": "shelve", "id": "a"}),
        ):
            assert (await answered(front.ask(to, payload)))["repeated"] is True
        assert not front.lamp.written


async def test_an_id_is_written_with_the_event_of_its_command_and_not_before(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        front.ask("lamp", {"value": 3, "id": "a"})
        pending = front.log._memory.pending  # nothing has run in between: what one transaction would take
        assert PREFIX + "lamp.level a" in pending.states
        assert [event.type for event in pending.events if event.source == "lamp"] == [EventType.COMMAND]
    async with front_of(tmp_path, min_off=60.0) as front:
        front.ask("lamp", {"value": 3, "id": "b"})
        assert PREFIX + "lamp.level b" not in front.log._memory.states, (
            "it waits, and may never be carried out"
        )


async def test_only_the_last_ids_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "KEPT", 20)
    async with front_of(tmp_path) as front:
        for number in range(ids.KEPT + 10):
            front.desk._clock.now += 1  # type: ignore[attr-defined]
            await answered(front.ask("lamp", {"value": number % 5, "id": f"i{number}"}))
        saved = {part for part in front.log.saved_parts() if part.startswith(PREFIX)}
        assert len(saved) == ids.KEPT
        assert PREFIX + "lamp.level i9" not in saved
    async with front_of(tmp_path) as front:
        await answered(front.ask("lamp", {"value": 1, "id": "new"}))
        saved = {part for part in front.log.saved_parts() if part.startswith(PREFIX)}
        assert len(saved) == ids.KEPT
        assert PREFIX + "lamp.level i10" not in saved
        assert PREFIX + "lamp.level i11" in saved


# --- floods -----------------------------------------------------------------------------------------------------------


async def test_a_flood_of_what_is_refused_writes_a_few_events_and_one_in_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "TELL_EVERY", 0.05)
    async with front_of(tmp_path) as front:
        answers = [front.ask("lamp", b"garbage{") for _ in range(1000)]
        assert all(len(each) == 1 for each in answers), "each is answered"
        await eventually(lambda: front.desk._untold == 0, "the sum is told")
        events = await logged(front, EventType.COMMAND_FAILED)
        assert len(events) == desks.REFUSALS + 1
        assert events[-1].values["count"] == 1000 - desks.REFUSALS
        assert front.desk.refused == 1000


async def test_what_was_not_told_is_told_at_the_end(tmp_path: Path) -> None:
    async with front_of(tmp_path) as front:
        for _ in range(desks.REFUSALS + 5):
            front.ask("lamp", b"garbage{")
        front.desk.close()
        assert (await logged(front, EventType.COMMAND_FAILED))[-1].values["count"] == 5
