"""What may be asked for: payloads that make sense, what is allowed, how long it is good, how often it may come."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import VirtualClock, iso
from agent.events import LARGEST_REQUEST, Ask, Request, Value
from agent.outputs.settings import Commands
from agent.quantities import Duration
from agent.requests.judging import BURST, Judge, Settable
from agent.requests.reading import Refused, read

EVERYTHING = frozenset(Ask)


def switch(channel: str, value: Value) -> Value:
    """A relay, as `Output.checked` has it."""
    found = {"on": 1, "off": 0}.get(value) if isinstance(value, str) else value
    if channel != "state" or found not in {0, 1}:
        raise ValueError(f"{value!r} is neither on nor off")
    return found


def level(_: str, value: Value) -> Value:
    """A valve with a position in percent."""
    if not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return value


class Court:
    """A judge of a greenhouse.

    Attributes:
        clock: Its clock.
        known: The keys of what was carried out.
    """

    def __init__(self) -> None:
        self.clock = VirtualClock(now=1000.0)
        self.known: set[str] = set()
        outputs = {
            "fan": Settable(("state",), switch, Commands()),
            "heater": Settable(("state",), switch, None),
            "valve": Settable(("north", "south"), level, Commands(min=0, max=80, at_most=Duration(2))),
        }
        polled = {"air": True, "door": False, "fan": False, "heater": False, "valve": False}
        self.judge = Judge(self.clock, self.known.__contains__, outputs, polled, {"too-hot"})

    def ask(self, to: str, payload: Any, *, is_local: bool = False, **more: Any) -> str:
        """Return what is to be done, such as `set fan.state 1`, or why not."""
        of, *target = to.split("/") if to.startswith("alarm/") else ["device", *to.split("/")]
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        request = Request(of, tuple(target), body, **{"allowed": EVERYTHING} | more)  # type: ignore[arg-type]
        try:
            order = self.judge.judge("mqtt site", request, "1.1", is_local=is_local)
        except Refused as refused:
            return str(refused)
        at = f"{order.target}.{order.channel}" if order.channel else order.target
        value = "" if order.value is None else f" {order.value}"
        return f"{'again ' if order.is_repeated else ''}{order.verb} {at}{value}"


@pytest.fixture
def court() -> Court:
    return Court()


@pytest.mark.parametrize(
    ("to", "payload", "said"),
    [
        ("fan/state", b"on", "set fan.state 1"),
        ("fan", b"OFF", "set fan.state 0"),
        ("fan", b" on\n", "set fan.state 1"),
        ("fan", b'"on"', "set fan.state 1"),
        ("fan", b"true", "set fan.state 1"),
        ("fan", b"0", "set fan.state 0"),
        ("fan", b'{"value": "off", "id": "a", "by": "anna"}', "set fan.state 0"),
        ("valve/south", b"62.5", "set valve.south 62.5"),
        ("air", b"read", "read air"),
        ("air", b'{"do": "read", "id": 7}', "read air"),
        ("alarm/too-hot", b"ack", "acknowledge too-hot"),
        ("alarm/too-hot", b"Acknowledge", "acknowledge too-hot"),
        ("alarm/too-hot", b"shelve", "shelve too-hot"),
        ("alarm/too-hot", b'{"do": "shelve", "for": 3600, "by": "anna", "comment": "new filter"}', "shelve too-hot"),
        ("alarm/too-hot", b'{"do": "unshelve"}', "unshelve too-hot"),
    ],
)  # fmt: skip
def test_what_may_be_asked_for_is_understood(court: Court, to: str, payload: bytes, said: str) -> None:
    assert court.ask(to, payload) == said


@pytest.mark.parametrize(
    ("to", "payload", "reason"),
    [
        ("fan", b"", "neither JSON nor a plain word"),
        ("fan", b"\xff\x00", "neither JSON nor a plain word"),
        ("fan", b"{", "no valid JSON"),
        ("fan", b'{"value": on}', 'no valid JSON, in which texts stand in double quotes: {"value": "on"}'),
        ("fan", b"[" * 4000, "neither JSON nor a plain word"),
        ("fan", b"x" * (LARGEST_REQUEST + 1), "longer than 4096 bytes"),
        ("fan", b"null", "value expects a number"),
        ("fan", b"[1]", "value expects a number"),
        ("fan", b"{}", "expected value (to set an output) or do: read"),
        ("fan", b'{"value": 1, "do": "read"}', "expected value (to set an output) or do: read"),
        ("fan", b'{"value": 1, "valeu": 2}', "unknown key 'valeu', expected value, do, id, time, ttl and by"),
        ("fan", b'{"do": "stop"}', "do expects read"),
        ("fan", b'{"value": 1, "id": ["a"]}', "id expects a text"),
        ("fan", b'{"value": 1, "id": "%s"}' % (b"i" * 65), "id expects a text of at most 64"),
        ("fan", b'{"value": 1, "by": "a\\nb"}', "by expects a text"),
        ("fan", b'{"value": 1, "time": "yesterday"}', "time expects one such as"),
        ("fan", b'{"value": 1, "ttl": -1}', "ttl expects seconds"),
        ("fan", b'{"value": 1, "ttl": true}', "ttl expects seconds"),
        ("fan", b'{"value": 1, "ttl": 10}', "ttl expects time beside it"),
        ("fan", b"half", "'half' is neither on nor off"),
        ("fan", b"1e400", "neither JSON nor a plain word"),
        ("fan/state/x", b"on", "there is no channel 'state/x'"),
        ("fan/speed", b"on", "there is no channel 'speed', expected one of: state"),
        ("fan/", b"on", "there is no channel ''"),
        ("fna", b"on", "there is no device 'fna'"),
        ("", b"on", "there is no device ''"),
        ("x" * 9000, b"on", "there is no device '" + "x" * 64 + "…'"),
        ("air", b"21", "'air' is no output"),
        ("door", b"read", "says by itself what changes"),
        ("air/temperature", b'{"do": "read"}', "of a device, not of a channel"),
        ("heater", b"on", "'heater' takes no commands from far sides"),
        ("valve", b"10", "'valve' has several channels, expected one of: north, south"),
        ("valve/north", b"-1", "-1 is less than the 0 that is allowed"),
        ("valve/north", b"80.5", "80.5 is more than the 80 that is allowed"),
        ("valve/north", b'"open"', "'open' is no number"),
        ("alarm/too-cold", b"ack", "there is no rule 'too-cold'"),
        ("alarm/too-hot/x", b"ack", "there is no rule 'too-hot/x'"),
        ("alarm/too-hot", b"on", "expected ack, shelve, unshelve or an object"),
        ("alarm/too-hot", b'{"do": "forget"}', "do expects ack, shelve or unshelve"),
        ("alarm/too-hot", b'{"do": "ack", "for": 1}', "for has no meaning with acknowledge"),
        ("alarm/too-hot", b'{"do": "ack", "comment": "\\u001b[2J"}', "comment expects a text of at most 500"),
        ("alarm/too-hot", b'{"do": "shelve", "for": "1h"}', "for expects seconds"),
        ("alarm/too-hot", b'{"do": "ack", "value": 1}', "unknown key 'value', expected do, for, comment"),
    ],
)  # fmt: skip
def test_what_may_not_be_asked_for_is_refused_with_the_reason(
    court: Court, to: str, payload: bytes, reason: str
) -> None:
    assert reason in court.ask(to, payload)


@pytest.mark.parametrize(
    ("to", "payload", "needed"),
    [("fan", b"on", Ask.OUTPUTS), ("air", b"read", Ask.READINGS), ("alarm/too-hot", b"ack", Ask.ALARMS)],
)
def test_a_far_side_may_ask_for_what_its_forwarder_lets_it_and_nothing_else(
    court: Court, to: str, payload: bytes, needed: Ask
) -> None:
    others = EVERYTHING - {needed}
    assert court.ask(to, payload, allowed=others) == f"mqtt site may not ask for {needed} (commands)"
    assert court.ask(to, payload, allowed=frozenset({needed})).startswith(("set", "read", "ack"))


def test_who_may_do_anything_needs_no_permission_and_keeps_no_limit_but_what_the_output_can_do(
    court: Court,
) -> None:
    for _ in range(3 * BURST):
        assert court.ask("heater", b"on", is_local=True, allowed=frozenset()) == "set heater.state 1"
    assert court.ask("valve/north", b"95", is_local=True) == "set valve.north 95"
    assert "neither on nor off" in court.ask("heater", b"half", is_local=True)


# --- how long it is good ----------------------------------------------------------------------------------------------


def test_what_was_retained_is_refused(court: Court) -> None:
    assert "it was retained" in court.ask("fan", b"on", is_retained=True)


def test_what_has_expired_on_its_way_is_refused(court: Court) -> None:
    assert court.ask("fan", b"on", good_for=0.5) == "set fan.state 1"
    assert court.ask("fan", b"on", good_for=-2.0) == "it has expired, 2 s ago"


@pytest.mark.parametrize(
    ("age", "ttl", "said"),
    [
        (9, 10, "set fan.state 1"),
        (11, 10, "it has expired, 1 s ago"),
        (59, None, "set fan.state 1"),
        (61, None, "it has expired, 1 s ago"),
        (-30, 10, "set fan.state 1"),
        (-61, 10, "its time is 61 s ahead of the clock of the gateway"),
    ],
)
def test_time_and_ttl_say_how_long_it_is_good(court: Court, age: int, ttl: float | None, said: str) -> None:
    body: dict[str, Any] = {"value": "on", "time": iso(court.clock.wall() - age * 1_000_000)}
    assert court.ask("fan", body if ttl is None else body | {"ttl": ttl}) == said


def test_where_the_clock_is_not_set_what_counts_from_a_time_is_refused_and_anything_else_is_not(
    court: Court,
) -> None:
    court.clock.known = False
    body = {"value": "on", "time": iso(court.clock.wall()), "ttl": 10}
    assert "the clock of the gateway is not set" in court.ask("fan", body)
    assert court.ask("fan", b"on", good_for=10.0) == "set fan.state 1"


def test_the_shortest_of_all_times_counts(court: Court) -> None:
    body = {"value": "on", "time": iso(court.clock.wall() - 4_000_000), "ttl": 10}
    request = Request("device", ("fan",), json.dumps(body).encode(), EVERYTHING, good_for=30.0)
    assert court.judge.judge("mqtt site", request, "1.1").until == pytest.approx(1006.0)


# --- how often --------------------------------------------------------------------------------------------------------


def test_at_most_limits_each_channel_of_an_output(court: Court) -> None:
    assert court.ask("valve/north", b"10") == "set valve.north 10"
    assert "too soon" in court.ask("valve/north", b"11")
    assert court.ask("valve/south", b"12") == "set valve.south 12"
    court.clock.now += 1.9
    assert "too soon" in court.ask("valve/north", b"13")
    court.clock.now += 0.2
    assert court.ask("valve/north", b"14") == "set valve.north 14"


@pytest.mark.parametrize(("to", "payload"), [("fan", b"on"), ("alarm/too-hot", b"shelve")])
def test_without_at_most_a_few_come_at_once_and_two_a_second_after_them(
    court: Court, to: str, payload: bytes
) -> None:
    assert [("too soon" in court.ask(to, payload)) for _ in range(BURST + 1)] == [False] * BURST + [True]
    passed = 0
    for _ in range(100):
        court.clock.now += 0.1
        passed += "too soon" not in court.ask(to, payload)
    assert passed == pytest.approx(20, abs=1)


def test_a_device_is_read_once_a_second_at_most_and_another_one_beside_it(court: Court) -> None:
    assert court.ask("air", b"read") == "read air"
    assert "too soon" in court.ask("air", b"read")
    court.clock.now += 1.01
    assert court.ask("air", b"read") == "read air"


def test_what_is_refused_for_another_reason_does_not_count(court: Court) -> None:
    for _ in range(3):
        assert "more than" in court.ask("valve/north", b"99")
    assert court.ask("valve/north", b"20") == "set valve.north 20"


# --- repeats ----------------------------------------------------------------------------------------------------------


def test_a_repeated_id_is_recognized_for_the_same_target_also_when_it_has_expired(court: Court) -> None:
    court.known.add("fan.state a")
    assert court.ask("fan", {"value": "on", "id": "a"}) == "again set fan.state on"
    assert court.ask("fan/state", {"value": "on", "id": "a"}, good_for=-1.0).startswith("again")
    assert court.ask("fan", {"value": "on", "id": "b"}) == "set fan.state 1"
    assert court.ask("valve/north", {"value": 1, "id": "a"}) == "set valve.north 1"


def test_a_repeat_is_not_told_to_who_may_not_ask(court: Court) -> None:
    court.known.add("fan.state a")
    assert "may not ask" in court.ask("fan", {"value": "on", "id": "a"}, allowed=frozenset())


# --- anything ---------------------------------------------------------------------------------------------------------

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
objects = st.dictionaries(
    st.sampled_from(["value", "do", "id", "time", "ttl", "by", "for", "comment", "x"]), values | st.lists(values)
)  # fmt: skip
payloads = st.binary(max_size=200) | (values | objects).map(lambda said: json.dumps(said).encode())
targets = st.lists(
    st.sampled_from(["fan", "heater", "valve", "air", "door", "state", "north", "too-hot", ""]) | st.text(), max_size=4
)  # fmt: skip


@given(payloads, targets, st.sampled_from(["device", "alarm"]), st.booleans(), st.none() | st.floats())
def test_anything_is_judged_or_refused_and_nothing_is_set_without_permission(
    payload: bytes, target: list[str], of: Any, is_retained: bool, good_for: float | None
) -> None:
    court = Court()
    request = Request(of, tuple(target), payload, frozenset(), is_retained=is_retained, good_for=good_for)
    with pytest.raises(Refused):
        court.judge.judge("mqtt site", request, "1.1")
    request = Request(of, tuple(target), payload, EVERYTHING, is_retained=is_retained, good_for=good_for)
    with contextlib.suppress(Refused):
        order = court.judge.judge("mqtt site", request, "1.1")
        assert not is_retained
        assert order.target != "heater"
        assert (order.target, order.value) in {("fan", 0), ("fan", 1)} or order.target in {
            "valve",
            "air",
            "too-hot",
        }
        assert order.target != "valve" or (isinstance(order.value, int | float) and 0 <= order.value <= 80)


@given(st.binary(max_size=5000))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    for of in ("device", "alarm"):
        try:
            said = read(Request(of, ("fan",), payload))
        except Refused as refused:
            said = refused.said
        assert len(said.id) <= 64
