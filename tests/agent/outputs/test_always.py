"""What must hold of outputs whatever happens, in whatever order."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.boards import Table

from agent.events import Severity
from agent.outputs.channel import is_on

MIN_ON, MIN_OFF = 5.0, 8.0
RULES = {
    "held": "{set: {pump.state: true}}",
    "off": "{set: {pump.state: false}}",
    "timed": "{set: {pump.state: {value: true, for: 20s}}}",
    "pulsed": "{set: {pump.state: {pulse: 6s}}}",
    "blinking": "{set: {pump.state: {blink: {on: 5s, off: 9s}}}}",
    "careful": '{set: {pump.state: true}, unless: "tank.level > 50"}',
}
LEAVING = RULES | {
    "toggling": "{set: {pump.state: {toggle: true}}}",
    "leaving": "{set: {pump.state: true}, otherwise: leave}",
    "otherwise": "{set: {pump.state: {value: false, for: 3s}}, otherwise: true}",
}
WAITS = st.floats(0, 30, allow_nan=False)


def steps(rules: dict[str, str]) -> st.SearchStrategy[list[tuple[float, tuple[str, Any, Any]]]]:
    """Return what may happen, each after a time."""
    names = st.sampled_from(sorted(rules))
    happens = st.one_of(
        st.tuples(st.just("raise"), names, st.sampled_from(list(Severity))),
        st.tuples(st.just("clear"), names, st.none()),
        st.tuples(st.just("ask"), st.sampled_from([0, 1]), st.sampled_from([None, 10.0])),
        st.tuples(st.just("see"), st.sampled_from([0, 20, 60, None]), st.none()),
        st.tuples(st.just("tank"), st.none(), st.none()),
        st.tuples(st.just("pump"), st.none(), st.none()),
    )
    return st.lists(st.tuples(WAITS, happens), max_size=40)


def played(rules: dict[str, str], happened: list[tuple[float, tuple[str, Any, Any]]], output: str) -> Table:
    """Play steps to an output, and hold after each what must always hold."""
    table = Table()
    table.output("pump", output)
    for name, then in rules.items():
        table.rule(name, then)
    for wait, (what, which, more) in happened:
        now = table.clock.now + wait
        match what:
            case "raise":
                table.raise_(now, which, more)
            case "clear":
                table.clear(now, which)
            case "ask":
                table.ask(now, which, device="pump", until=None if more is None else now + more)
            case "see":
                table.see(now, level=which)
            case "broken":
                table.until(now)
                table.broken = which
            case "tank":
                table.until(now)
                table.board.on_down("tank")
            case _:
                table.until(now)
                table.board.on_down("pump")
                table.board.on_up("pump")
        hold(table)
    return table


def hold(table: Table) -> None:
    """Say what always holds."""
    state = table.board.status("pump")
    assert state is not None
    if "interlocked" in state["state"]:
        assert state["state"]["value"] in {0, None}  # None: it has failed, and is tried again
    if state["state"]["value"] is None:
        assert table.board.deadline is not None
    assert table.board.deadline is None or table.board.deadline > table.clock.now, (
        "it never asks for what is past"
    )


BREAKS = st.tuples(WAITS, st.tuples(st.just("broken"), st.sampled_from(["", "gone"]), st.none())).map(
    lambda one: [one]
)
INTERLOCK = 'unless: "tank.level < 10", max_age: 40s'


@given(steps(LEAVING))
def test_an_interlock_always_wins(happened: list[tuple[float, tuple[str, Any, Any]]]) -> None:
    played(LEAVING, happened, f"{{{INTERLOCK}, min_on: 5s, min_off: 8s, dead_man: 1m, commands: true}}")


@given(steps(LEAVING), st.booleans())
def test_it_never_switches_sooner_than_min_on_and_min_off(
    happened: list[tuple[float, tuple[str, Any, Any]]], has_interlock: bool
) -> None:
    happened = [
        (
            wait,
            (what, which, Severity.MAJOR if more is Severity.CRITICAL else more),
        )  # which is not kept waiting
        for wait, (what, which, more) in happened
        if what != "pump"  # an output that is gone switches by itself
    ]
    text = f"{{{INTERLOCK + ', ' if has_interlock else ''}min_on: 5s, min_off: 8s}}"
    table = played(LEAVING, happened, text)
    table.until(table.clock.now + 100)
    was_on, since = False, 0.0
    for at, put in zip(table.times, table.given, strict=True):
        if is_on(put.value) is not was_on:
            if put.cause != "interlock":
                assert at >= since + (MIN_ON if was_on else MIN_OFF)
            was_on, since = is_on(put.value), at


@given(steps(RULES))
def test_when_all_is_released_the_output_is_safe(happened: list[tuple[float, tuple[str, Any, Any]]]) -> None:
    table = played(RULES, happened, "{min_on: 5s, min_off: 8s, dead_man: 1m, commands: true}")
    for name in RULES:
        table.clear(table.clock.now, name)
    table.until(table.clock.now + 200)
    assert table.board.status("pump") == {"state": {"value": 0}}
    assert table.board.deadline is None


@given(st.lists(st.one_of(steps(RULES).map(lambda some: some[:5]), BREAKS), max_size=12))
def test_an_output_that_fails_now_and_then_is_safe_in_the_end(
    happened: list[list[tuple[float, tuple[str, Any, Any]]]],
) -> None:
    table = played(RULES, list(itertools.chain(*happened)), f"{{{INTERLOCK}, min_on: 5s, min_off: 8s}}")
    table.broken = ""
    table.board.on_down("pump")
    table.board.on_up("pump")
    for name in RULES:
        table.clear(table.clock.now, name)
    table.ask(table.clock.now, 0, device="pump")
    table.until(table.clock.now + 200)
    state = table.board.status("pump")
    assert state is not None
    assert state["state"]["value"] == 0
    assert len(table.puts) <= 60 * (len(RULES) + table.clock.now), "it is not tried without end"


@given(steps({name: RULES[name] for name in ("held", "off")}))
def test_without_times_the_output_has_what_the_first_in_rank_wants(
    happened: list[tuple[float, tuple[str, Any, Any]]],
) -> None:
    rules = {name: RULES[name] for name in ("held", "off")}
    values, active, commanded = {"held": 1, "off": 0}, dict[str, tuple[int, int]](), 0
    table = played(rules, [], "{}")
    for index, (wait, (what, which, more)) in enumerate(happened):
        now = table.clock.now + wait
        if what == "raise":
            table.raise_(now, which, more)
            order = active[which][1] if which in active else index
            active[which] = (list(Severity).index(more), order)
        elif what == "clear":
            table.clear(now, which)
            active.pop(which, None)
        elif what == "ask":
            refused = table.ask(now, which, device="pump")
            assert bool(refused) is bool(active)
            commanded = commanded if refused else which
        wanted = values[max(active, key=active.__getitem__)] if active else commanded
        state = table.board.status("pump")
        assert state is not None
        assert state["state"]["value"] == wanted
