"""Any interleaving of what can happen to a log, against a model of it in plain Python that says what must hold."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from support.chances import rounds
from support.log_model import Key, Model
from support.real_log import RealLog, torn

from agent.clock import VirtualClock
from agent.events import Event, EventType, Lane, Quality, Value

if TYPE_CHECKING:
    from collections.abc import Coroutine

DAY: Final = 86_400
BOUND: Final = 64 * 1024
"""A log so small that a few large readings fill it; its tables alone take two thirds of that."""

MEMORY: Final = 15
"""Events kept in memory while the disk refuses."""

Channel = tuple[Value, Quality | None]
NUMBERS = st.one_of(st.integers(-9, 99), st.floats(-9, 99))
CHANNELS = st.one_of(
    st.tuples(st.one_of(NUMBERS, st.text(max_size=3)), st.sampled_from([None, None, Quality.UNCERTAIN])),
    st.just((None, Quality.BAD)),
)
LOOKS = st.dictionaries(st.sampled_from(["t", "h", "text"]), CHANNELS, max_size=3)
"""What a device shows in one look: value and quality by channel."""

NAMES = ["a", "b", "c"]
CONSUMERS = st.sampled_from([NAMES[:2], NAMES[:2], NAMES, NAMES[1:], NAMES[:1], []])
LANES = st.sampled_from([Lane.READINGS, Lane.READINGS, Lane.URGENT])


class LogMachine(RuleBasedStateMachine):
    """One log that much happens to, beside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="gatepost-")
        self.clock = VirtualClock()
        self.consumers = NAMES[:2]

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    @initialize(
        retains=st.booleans(),
        commits_first=st.booleans(),
        when_full=st.sampled_from([None, None, "oldest", "newest", "newest", "thin"]),
    )
    def begin(self, retains: bool, commits_first: bool, when_full: Any) -> None:
        is_bounded = when_full is not None
        self.retain_for = 7.0 * DAY if retains else 0.0
        bounds: Any = (BOUND if is_bounded else None, when_full or "oldest")
        self.log = RealLog(
            Path(self.folder.name), self.clock, self.retain_for, 0 if commits_first else 1, bounds, MEMORY
        )
        self.model = Model(self.retain_for, commits_first=commits_first, is_bounded=is_bounded, memory=MEMORY)
        self.do(self.log.open(self.consumers))
        self.begin_run(was_clean=True)

    def begin_run(self, *, was_clean: bool) -> None:
        run, first, known_as_clean = self.log.begun
        assert known_as_clean is was_clean
        self.model.reopen(run, first, self.consumers)
        for key in self.model.now.at:
            self.model.adopt(key, self.log.undelivered(key), was_clean=was_clean)

    # --- what producers do --------------------------------------------------------------------------------------

    def append(
        self, kind: str, source: str, values: dict[str, Value], late: float = 0.0, **quality: Quality
    ) -> None:
        wall = self.clock.wall()
        time = wall - round(late * 1e6)
        event = self.log.append(kind, source, values, time if late else None, quality or None)
        recorded = wall if late > 1 else None
        self.model.append(
            Event(self.model.run, event.seq, kind, source, time, values, quality or None, recorded)
        )
        assert event == self.model.now.events[event.seq]

    @rule(
        source=st.sampled_from(["air", "soil"]),
        looks=st.lists(LOOKS, min_size=1, max_size=6),
        late=st.sampled_from([0.0, 0.0, 0.5, 60.0, 9.0 * DAY]),
    )
    def append_readings(self, source: str, looks: list[dict[str, Channel]], late: float) -> None:
        for look in looks:
            quality = {name: quality for name, (_, quality) in look.items() if quality}
            values = {name: value for name, (value, _) in look.items()}
            self.append(EventType.READING, source, values, late, **quality)

    @rule(count=st.integers(1, 12))
    def append_large_readings(self, count: int) -> None:
        for _ in range(count):
            self.append(EventType.READING, "scale", {"text": "x" * 2500})

    @rule(part=st.sampled_from(["r", "s"]), number=st.none() | NUMBERS)
    def append_urgent(self, part: str, number: float | None) -> None:
        self.append(EventType.ALARM_RAISED, part, {"value": number or 0})
        state: dict[str, Value] | None = None if number is None else {"value": number}
        self.log.put_state(part, state)
        self.model.now.states.pop(part, None)
        if state is not None:
            self.model.now.states[part] = state

    # --- what consumers do --------------------------------------------------------------------------------------

    def acknowledge(self, key: Key, after: int, upto: int) -> None:
        self.log.acknowledge(key, after, upto)
        self.model.acknowledge(key, after, upto)

    @precondition(lambda self: self.consumers)
    @rule(data=st.data(), lane=LANES, count=st.integers(1, 20))
    def deliver_in_order(self, data: st.DataObject, lane: Lane, count: int) -> None:
        key = (data.draw(st.sampled_from(self.consumers)), lane)
        self.deliver(key, *self.log.undelivered(key)[0], 0, count)

    @precondition(lambda self: self.consumers)
    @rule(data=st.data(), lane=LANES, skip=st.integers(0, 3), count=st.integers(1, 6))
    def deliver_ahead(self, data: st.DataObject, lane: Lane, skip: int, count: int) -> None:
        """Deliver what overtakes a backlog, as live events do."""
        key = (data.draw(st.sampled_from(self.consumers)), lane)
        self.deliver(key, *data.draw(st.sampled_from(self.log.undelivered(key))), skip, count)

    def deliver(self, key: Key, after: int, upto: int | None, skip: int, count: int) -> None:
        """Read some of a stretch, and acknowledge it but for the first few."""
        found = self.do(self.log.read(key, after, upto, skip + count))
        batch = found[skip:]
        if batch:
            self.acknowledge(key, batch[0].seq - 1 if skip else after, batch[-1].seq)
            after = batch[-1].seq
        if upto is not None and (batch or not found) and len(found) < skip + count:
            self.acknowledge(key, after, upto)  # nothing more is there up to its end

    @precondition(lambda self: self.consumers)
    @rule(data=st.data(), lane=LANES)
    def reject(self, data: st.DataObject, lane: Lane) -> None:
        consumer = data.draw(st.sampled_from(self.consumers))
        after, upto = self.log.undelivered((consumer, lane))[0]
        for event in self.do(self.log.read((consumer, lane), after, upto, 1)):
            self.log.reject(consumer, event, "too large")
            rejection = (event, consumer, self.clock.wall(), "too large")
            self.model.now.rejected[event.id, consumer] = rejection
            self.acknowledge((consumer, lane), after, event.seq)

    # --- what time and the disk do ------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 61.0, 3600.0, 8.0 * DAY, 31.0 * DAY]), is_looked_at=st.booleans())
    def pass_time(self, seconds: float, is_looked_at: bool) -> None:
        """Let time pass, and perhaps let go is too old or too much."""
        self.clock.now += seconds
        if is_looked_at and not self.log.has_fault:
            if self.model.now.rejected.keys() - self.model.file.rejected.keys():
                self.do(self.commit_while(set(), None))  # what the log itself does before it lets go
            self.retain()

    @rule(
        meanwhile=st.sets(st.sampled_from(["reading", "urgent", "acknowledge"])),
        refused=st.sampled_from([None, None, "before", "within", "after"]),
    )
    def commit(self, meanwhile: set[str], refused: str | None) -> None:
        self.do(self.commit_while(meanwhile, refused))

    async def commit_while(self, meanwhile: set[str], refused: str | None) -> None:
        model, log = self.model, self.log
        ready = [
            (key, after, event.seq)
            for key in (model.now.at if "acknowledge" in meanwhile else ())
            for after, upto in log.undelivered(key)[:1]
            for event in await log.read(key, after, upto, 1)
        ]
        had_fault = log.has_fault
        group, last, passed = model.taken(), model.last, model.passed()
        committing = asyncio.create_task(log.commit(refused))
        await asyncio.sleep(0)  # it has taken what it writes
        if "reading" in meanwhile:
            self.append(EventType.READING, "air", {"t": 1})
        if "urgent" in meanwhile:
            self.append_urgent("r", None if "reading" in meanwhile else 7)
        for each in ready:
            self.acknowledge(*each)
        if await committing:
            model.committed(group, last)
            await self.look_for_losses(passed, 0)
            model.agrees_on_losses(all_of_them=had_fault)
            return
        if refused == "after":
            for seq in model.pending() - log.stored().events.keys():
                group.events.pop(seq, None)  # kept off the file, for it is full
            model.file = group
        seen = {event.seq for event in await log.history()}
        nobody = dict.fromkeys(Lane, 0)  # without consumers, the file was what readings were for
        model.lose(model.pending() - seen, model.passed() if self.consumers else nobody, 0)
        await self.look_for_losses(model.passed(), 0)

    async def look_for_losses(self, passed: dict[Lane, int], before: float) -> None:
        """Tell the model what is gone from the file, and what the log says of it."""
        self.model.look_at_file(self.log.stored().events.keys(), passed, before)
        self.model.hear(await self.log.history())

    def retain(self) -> None:
        now = self.clock.wall()
        is_due = self.model.is_telling_due(now)
        self.do(self.log.retain())
        self.do(self.look_for_losses(self.model.passed(), now - self.retain_for * 1e6))
        self.model.expire(now)
        self.model.agrees_on_losses(all_of_them=is_due)

    # --- ends and starts ----------------------------------------------------------------------------------------

    @rule(consumers=CONSUMERS, part=st.none() | st.integers(0, 16), is_crash=st.booleans())
    def stop_and_start(self, consumers: list[str], part: int | None, is_crash: bool) -> None:
        """End a run: by a kill, by a kill in a commit that has written so many sixteenths of it, or cleanly."""
        if not is_crash:
            self.end(consumers)
        elif part is None:
            self.consumers = consumers
            self.log.crash(self.log.bytes_of_files())
            self.do(self.log.open(consumers))
            self.begin_run(was_clean=False)
        else:
            self.crash_in_a_commit(part)

    def crash_in_a_commit(self, part: int) -> None:
        before, file_before = self.log.bytes_of_files(), self.model.file.copy()
        self.do(self.commit_while(set(), None))
        self.log.crash(torn(before, self.log.bytes_of_files(), part))
        self.do(self.log.open(self.consumers))
        if part < 16 and self.log.stored().facts() == file_before.facts():
            self.model.file = file_before
        self.begin_run(was_clean=False)

    def end(self, consumers: list[str]) -> None:
        model, passed = self.model, self.model.passed()
        model.committed(model.taken(), model.last)
        self.do(self.log.close())
        self.consumers = consumers
        self.do(self.log.open(consumers))
        stored = self.log.stored().events
        model.look_at_file(stored.keys(), passed, 0)
        model.hear(stored.values())
        model.file.events |= stored
        model.agrees_on_losses(all_of_them=True)
        self.begin_run(was_clean=True)

    # --- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def the_file_holds_what_was_committed(self) -> None:
        stored = self.log.stored()
        assert stored.facts() == self.model.file.facts()
        assert all(seq <= self.model.file.at[key] for key, seq in stored.at.items())

    @invariant()
    def everybody_reads_what_there_is(self) -> None:
        self.do(self.read_all())

    async def read_all(self) -> None:
        model, log = self.model, self.log
        model.is_seen(await log.history(), [model.now.events[seq] for seq in sorted(model.now.events)])
        for key in model.now.at:
            ranges = log.undelivered(key)
            assert ranges == model.ranges(key)
            seen = [event for after, upto in ranges for event in await log.read(key, after, upto)]
            model.is_seen(seen, model.readable(key))
        assert log.states() == model.now.states
        for consumer in self.consumers:
            at_least, at_most = model.waits(consumer)
            assert at_least <= await log.waiting(consumer) <= at_most

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.end()
        self.runner.close()
        self.folder.cleanup()


def test_whatever_happens_to_a_log_what_was_committed_is_delivered_and_nothing_else_is_lost() -> None:
    run_machine(
        LogMachine,
        settings=settings(
            max_examples=rounds(50, 2000),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
