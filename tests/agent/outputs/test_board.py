"""What outputs do, told as stories on a clock that is turned by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.boards import Table, written

from agent.events import EventType, Severity
from agent.outcome import Action, Reaction
from agent.outputs.settings import Settings

if TYPE_CHECKING:
    from agent.events import Value


@pytest.fixture
def table() -> Table:
    made = Table()
    made.output("fan")
    return made


# --- values, and who has his way -----------------------------------------------------------------------------------


def test_a_value_is_held_while_the_alarm_is_not_over_and_then_released(table: Table) -> None:
    table.rule("hot", "{set: {fan.state: true}}")
    table.raise_(1, "hot")
    table.clear(5, "hot")
    assert table.puts == ["1 fan.state 1 hot", "5 fan.state 0 hot"]


@pytest.mark.parametrize(
    ("otherwise", "puts"),
    [("true", ["1 fan.state 1 hot"]), ("false", ["1 fan.state 1 hot", "5 fan.state 0 hot"]), ("leave", ["1 fan.state 1 hot"])],
)  # fmt: skip
def test_otherwise_is_put_out_as_if_commanded(table: Table, otherwise: str, puts: list[str]) -> None:
    table.rule("hot", f"{{set: {{fan.state: true}}, otherwise: {otherwise}}}")
    table.raise_(1, "hot")
    table.clear(5, "hot")
    assert table.puts == puts
    assert table.ask(6, 0) == ""
    assert table.puts[-1] == "6 fan.state 0 anna"


def test_of_several_rules_the_more_severe_wins_and_then_the_later(table: Table) -> None:
    table.output("valve", safe=0)
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        table.rule(name, f"{{set: {{valve.state: {value}}}}}")
    table.raise_(1, "a", Severity.MINOR)
    table.raise_(2, "b", Severity.MINOR)
    table.raise_(3, "c", Severity.WARNING)
    table.raise_(4, "a", Severity.CRITICAL)  # has become worse
    table.raise_(5, "a", Severity.MINOR)
    table.clear(6, "b")
    table.clear(7, "a")
    table.clear(8, "c")
    assert table.puts == [
        "1 valve.state 1 a", "2 valve.state 2 b", "4 valve.state 1 a", "5 valve.state 2 b", "6 valve.state 1 a",
        "7 valve.state 3 c", "8 valve.state 0 c",
    ]  # fmt: skip


def test_rules_beat_commands_and_a_refused_command_says_which_rule_holds_the_output(table: Table) -> None:
    table.rule("hot", "{set: {fan.state: true}}")
    assert table.ask(0, 1, command_id="7") == ""
    table.raise_(1, "hot")
    assert table.ask(2, 0, command_id="8") == "held by the rule 'hot'"
    table.clear(3, "hot")
    assert table.puts == ["0 fan.state 1 anna"], "it was on already, and stays so as commanded"
    assert table.failures == ["fan 0 anna: held by the rule 'hot'"]
    assert table.log.events[-1].values["command_id"] == "8"


def test_a_released_output_goes_to_what_was_commanded_last(table: Table) -> None:
    table.rule("cold", "{set: {fan.state: false}}")
    table.ask(0, 1)
    table.raise_(1, "cold")
    table.clear(2, "cold")
    assert table.puts == ["0 fan.state 1 anna", "1 fan.state 0 cold", "2 fan.state 1 cold"]


# --- for a time, pulses, toggles, blinking ----------------------------------------------------------------------------


def test_a_value_for_a_time_ends_with_the_time_or_with_the_alarm(table: Table) -> None:
    table.rule("hot", "{set: {fan.state: {value: true, for: 10s}}}")
    table.raise_(1, "hot")
    table.clear(20, "hot")
    table.raise_(30, "hot")
    table.clear(35, "hot")
    table.until(60)
    assert table.puts == [
        "1 fan.state 1 hot",
        "11 fan.state 0 hot",
        "30 fan.state 1 hot",
        "35 fan.state 0 hot",
    ]


def test_after_a_time_otherwise_is_put_out_once(table: Table) -> None:
    table.output("valve", safe=0)
    table.rule("dry", "{set: {valve.state: {value: 100, for: 10s}}, otherwise: 20}")
    table.raise_(1, "dry")
    table.until(15)
    assert table.ask(16, 50, device="valve") == ""
    table.clear(20, "dry")
    assert table.puts == ["1 valve.state 100 dry", "11 valve.state 20 dry", "16 valve.state 50 anna"]


def test_a_pulse_comes_once_and_lasts_though_the_alarm_is_over(table: Table) -> None:
    table.rule("ring", "{set: {fan.state: {pulse: 2s}}}")
    table.raise_(1, "ring")
    table.clear(1.5, "ring")
    table.raise_(10, "ring")
    table.until(60)
    table.clear(60, "ring")
    assert table.puts == [
        "1 fan.state 1 ring",
        "3 fan.state 0 ring",
        "10 fan.state 1 ring",
        "12 fan.state 0 ring",
    ]


def test_a_toggle_turns_what_is_commanded_each_time_the_alarm_is_raised(table: Table) -> None:
    table.rule("button", "{set: {fan.state: {toggle: true}}}")
    for at in (1, 3, 5):
        table.raise_(at, "button")
        table.clear(at + 1, "button")
    assert table.puts == ["1 fan.state 1 button", "3 fan.state 0 button", "5 fan.state 1 button"]


def test_what_blinks_is_told_when_it_begins_and_when_it_ends(table: Table) -> None:
    table.rule("hot", "{set: {fan.state: {blink: {on: 1s, off: 3s}}}}")
    table.raise_(1, "hot")
    table.clear(7.5, "hot")
    assert table.puts == [
        "1 fan.state 1 hot (blinks, 1s on, 3s off)", "2 fan.state 0 hot", "5 fan.state 1 hot", "6 fan.state 0 hot",
        "7.5 fan.state 0 hot",
    ]  # fmt: skip
    assert [put.is_turn for put in table.given] == [False, True, True, True, False]


def test_what_blinks_for_a_time_ends_with_it(table: Table) -> None:
    table.rule("hot", "{set: {fan.state: {blink: 1s, for: 3s}}}")
    table.raise_(0, "hot")
    table.until(60)
    assert [put.split()[0] for put in table.puts] == ["0", "1", "2", "3"]
    assert table.puts[-1] == "3 fan.state 0 hot"
    assert table.board.deadline is None


# --- conditions ----------------------------------------------------------------------------------------------------------


def test_a_reaction_waits_while_its_condition_is_true_and_is_taken_back_when_it_becomes_true(
    table: Table,
) -> None:
    table.rule("hot", '{set: {fan.state: true}, unless: "tank.level < 10", otherwise: true}')
    table.see(0, level=5)
    table.raise_(1, "hot")
    table.see(2, level=20)
    table.see(3, level=5)
    table.see(4, level=20)
    table.see(5, level=5)
    table.clear(6, "hot")
    assert table.puts == ["2 fan.state 1 hot", "3 fan.state 0 hot", "4 fan.state 1 hot", "5 fan.state 0 hot"]
    table.see(7, level=20)
    table.raise_(8, "hot")
    table.clear(9, "hot")
    assert table.puts[-1] == "8 fan.state 1 hot", "otherwise: on, as the reaction was not waiting"


def test_a_reaction_waits_while_its_condition_cannot_be_told(table: Table) -> None:
    table.rule("hot", '{set: {fan.state: true}, unless: "tank.level < 10", max_age: 1m}')
    table.raise_(1, "hot")
    assert table.puts == []
    table.see(2, level=20)
    table.until(100)
    assert table.puts == ["2 fan.state 1 hot", "62 fan.state 0 hot"]


def test_a_pulse_is_not_repeated_and_a_time_goes_on_when_a_condition_comes_and_goes(table: Table) -> None:
    table.output("bell")
    table.rule(
        "hot", '{set: {bell.state: {pulse: 1s}, fan.state: {value: 1, for: 10s}}, unless: "tank.level < 10"}'
    )
    table.see(0, level=20)
    table.raise_(1, "hot")
    for at in range(2, 20, 2):
        table.see(at, level=5)
        table.see(at + 1, level=20)
    assert [put for put in table.puts if "bell" in put] == ["1 bell.state 1 hot", "2 bell.state 0 hot"]
    assert [put.split()[0] for put in table.puts if "fan" in put] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
    ]


def test_an_interlock_forces_the_safe_value_and_gives_way_again(table: Table) -> None:
    table.output("pump", '{unless: "tank.level < 10", min_on: 1h}')
    table.rule("dry", "{set: {pump.state: true}}")
    table.see(0, level=20)
    table.raise_(1, "dry")
    table.see(2, level=9)
    table.see(3, level=8)
    assert table.ask(3, 1, device="pump") == "interlocked: tank.level < 10"
    table.see(4, level=20)
    assert table.puts == [
        "1 pump.state 1 dry",
        "2 pump.state 0 interlock (tank.level < 10)",
        "4 pump.state 1 dry",
    ]


def test_a_rule_that_an_interlock_keeps_from_its_output_is_told_once(table: Table) -> None:
    table.output("pump", '{unless: "tank.level < 10"}')
    table.rule("dry", "{set: {pump.state: true}}")
    table.see(0, level=5)
    table.raise_(1, "dry")
    table.see(2, level=4)
    table.see(3, level=20)
    assert table.failures == ["pump 1 dry: interlocked: tank.level < 10"]
    assert table.puts == ["3 pump.state 1 dry"]


@pytest.mark.parametrize(
    ("level", "reason"), [(None, "tank.level has no usable value"), ("low", "tank.level < 10 cannot be told")]
)
def test_an_interlock_that_cannot_be_judged_is_fail_safe(table: Table, level: Value, reason: str) -> None:
    table.output("pump", '{unless: "tank.level < 10", max_age: 5m}')
    table.rule("dry", "{set: {pump.state: true}}")
    table.raise_(0, "dry")
    assert table.puts == [], "nothing is known of the tank"
    table.see(1, level=20)
    table.see(2, level=level)
    table.see(3, level=20)
    table.board.on_down("tank")
    table.see(10, level=20)
    table.until(1000)
    assert table.puts == [
        "1 pump.state 1 dry", f"2 pump.state 0 interlock ({reason})", "3 pump.state 1 dry",
        "3 pump.state 0 interlock (tank is down)", "10 pump.state 1 dry",
        "310 pump.state 0 interlock (tank.level is older than 5m)",
    ]  # fmt: skip


def test_two_outputs_that_exclude_each_other_are_never_on_together(table: Table) -> None:
    table = Table(slow=True)
    table.output("up", '{unless: "down.state == on"}')
    table.output("down", '{unless: "up.state == on"}')
    for name in ("up", "down"):
        table.rule(f"go-{name}", f"{{set: {{{name}.state: true}}}}")
        table.board.on_reading(name, {"state": 0}, 0)
    table.raise_(1, "go-up")
    table.raise_(1, "go-down")  # before `up` has done it, or reported it
    table.board.on_reading("up", {"state": 0}, 0.5)  # a reading from before
    assert table.puts == ["1 up.state 1 go-up"]
    table.board.done(table.given[-1])
    table.clear(2, "go-up")
    assert table.puts[1:] == ["2 up.state 0 go-up"], "it may still be on"
    table.board.done(table.given[-1])
    assert table.puts[2:] == ["2 down.state 1 go-down"]


@pytest.mark.parametrize("how", ["done", "read"])
def test_an_output_that_is_about_to_be_on_again_frees_nobody_while_it_is_off(how: str) -> None:
    table = Table(slow=True)
    table.output("fan")
    table.output("heater", '{unless: "fan.state == on"}')
    for rule, name in (("hot", "fan"), ("damp", "fan"), ("cold", "heater")):
        table.rule(rule, f"{{set: {{{name}.state: true}}}}")
    table.board.on_reading("fan", {"state": 0}, 0)
    table.raise_(1, "hot")
    table.board.done(table.given[-1])
    table.raise_(2, "cold")
    table.clear(3, "hot")
    table.raise_(3, "damp")  # in the same moment: before the fan is off, it is to be on again
    assert table.puts == ["1 fan.state 1 hot", "3 fan.state 0 hot", "3 fan.state 1 damp"]
    if how == "read":
        table.board.on_reading("fan", {"state": 0}, 3)
    table.board.done(table.given[1])
    assert len(table.puts) == 3
    table.board.done(table.given[2])
    table.clear(4, "damp")
    table.board.done(table.given[3])
    assert table.puts[3:] == ["4 fan.state 0 damp", "4 heater.state 1 cold"]


def test_an_output_that_is_down_frees_nobody_by_being_told_to_switch_off() -> None:
    table = Table(slow=True)
    table.output("up")
    table.output("down", '{unless: "up.state == on"}')
    table.rule("go-up", "{set: {up.state: true}}")
    table.rule("go-down", "{set: {down.state: true}}")
    table.board.on_reading("up", {"state": 0}, 0)
    table.raise_(1, "go-up")
    table.board.done(table.given[-1])
    table.raise_(2, "go-down")
    table.board.on_down("up")
    table.clear(3, "go-up")
    table.board.failed(table.given[-1], "gone")
    assert [put.device for put in table.given] == ["up", "up"]
    assert table.board.status("down") == {
        "state": {"value": 0, "interlocked": "up is down", "rule": "go-down"}
    }  # fmt: skip


# --- minimum times -------------------------------------------------------------------------------------------------------


def test_what_is_wanted_too_soon_waits_and_is_not_forgotten(table: Table) -> None:
    table.output("pump", "{min_on: 30s, min_off: 1m}")
    table.rule("dry", "{set: {pump.state: true}}")
    table.raise_(10, "dry")  # off since the start
    table.clear(70, "dry")
    table.raise_(95, "dry")
    table.until(1000)
    assert table.puts == ["60 pump.state 1 dry", "90 pump.state 0 dry", "150 pump.state 1 dry"]


def test_a_pulse_that_must_wait_comes_in_full_though_the_alarm_is_over(table: Table) -> None:
    table.output("pump", "{min_on: 2s, min_off: 1m}")
    table.rule("dry", "{set: {pump.state: {pulse: 5s}}}")
    table.raise_(10, "dry")
    table.clear(11, "dry")
    table.until(1000)
    assert table.puts == ["60 pump.state 1 dry", "65 pump.state 0 dry"]


def test_a_level_may_change_while_the_output_must_stay_on(table: Table) -> None:
    table.output("valve", "{min_on: 30s}")
    for at, value in ((0, 30), (5, 60), (10, 0)):
        table.ask(at, value, device="valve")
    table.until(60)
    assert table.puts == ["0 valve.state 30 anna", "5 valve.state 60 anna", "30 valve.state 0 anna"]


# --- commands ------------------------------------------------------------------------------------------------------------


def test_a_command_that_must_wait_is_carried_out_later_or_fails_when_its_time_is_over(table: Table) -> None:
    table.output("pump", "{min_off: 1m, commands: true}")
    told: list[str] = []
    assert table.ask(10, 1, device="pump", command_id="a", until=20, on_result=told.append) == ""
    table.until(20)
    assert told == ["its time was over before it could be carried out"]
    assert table.ask(30, 1, device="pump", command_id="b", until=100, on_result=told.append) == ""
    assert table.ask(40, 1, device="pump", command_id="c", on_result=told.append) == ""
    table.until(100)
    assert told[1:] == ["overtaken by a later command", ""]
    assert table.puts == ["60 pump.state 1 anna"]
    assert [put.id for put in table.given] == ["c"]


def test_a_command_that_fails_is_not_carried_out_hours_later(table: Table) -> None:
    told: list[str] = []
    table.broken = "the relay board is gone"
    assert table.ask(1, 1, on_result=told.append) == ""
    assert told == ["the relay board is gone"]
    table.broken = ""
    table.until(7200)
    assert table.puts == ["1 fan.state 1 anna", "2 fan.state 0 agent"], "nobody knows whether it is on"
    table.board.on_down("fan")
    assert table.ask(7200, 1) == "'fan' is down"
    table.board.on_up("fan")
    assert len(table.puts) == 2


@pytest.mark.parametrize(("device", "value", "said"), [("horn", 1, "'horn' is no output")])
def test_a_command_that_makes_no_sense_is_refused(table: Table, device: str, value: Value, said: str) -> None:
    assert table.ask(1, value, device=device) == said
    assert table.board.command("fan", "speed", 1, "anna") == "there is no channel 'speed'; there is state"
    assert len(table.failures) == 2
    assert table.puts == []


def test_a_repeated_command_is_put_out_again_and_confirmed(table: Table) -> None:
    told: list[str] = []
    table.ask(1, 1, on_result=told.append)
    table.ask(2, 1, on_result=told.append)
    assert told == ["", ""]
    assert table.puts == ["1 fan.state 1 anna", "2 fan.state 1 anna"]


def test_a_dead_man_lets_go_where_no_command_comes(table: Table) -> None:
    table.output("pump", "{dead_man: 10s, commands: true}")
    table.rule("dry", "{set: {pump.state: true}, otherwise: true}")
    for at in (0, 9, 18):
        table.ask(at, 1, device="pump")
    table.until(100)
    assert table.puts[3:] == ["28 pump.state 0 dead_man"]
    table.raise_(100, "dry")
    table.clear(101, "dry")
    table.until(200)
    assert table.puts[4:] == ["100 pump.state 1 dry"], "what a rule leaves behind waits for no command"


# --- devices that come and go, restarts ---------------------------------------------------------------------------------


def test_an_output_that_comes_back_is_set_again_but_a_pulse_is_not_repeated(table: Table) -> None:
    table.output("bell")
    table.rule("hot", "{set: {fan.state: true, bell.state: {pulse: 10s}}}")
    table.raise_(1, "hot")
    for device in ("fan", "bell"):
        table.board.on_down(device)
        table.until(table.clock.now + 1)
        table.board.on_up(device)
    table.until(60)
    assert table.puts == ["1 fan.state 1 hot", "1 bell.state 1 hot", "2 fan.state 1 hot"]


def test_nothing_is_put_out_before_the_output_has_come_up_and_a_failure_is_told_where_it_does_not() -> None:
    table = Table()
    table.output("fan", up=False)
    table.rule("hot", "{set: {fan.state: true}}")
    table.raise_(1, "hot")
    table.until(5)
    assert table.puts == []
    table.broken = "not open"
    table.board.on_down("fan")
    assert table.puts == ["5 fan.state 1 hot"]
    table.until(60)
    table.broken = ""
    table.board.on_up("fan")
    assert table.puts[1:] == ["60 fan.state 1 hot"]


def test_what_blinks_does_not_go_on_where_it_fails(table: Table) -> None:
    table.rule("hot", "{set: {fan.state: {blink: 1s}}}")
    table.raise_(0, "hot")
    table.until(2.5)
    table.broken = "the relay board is gone"
    table.board.on_down("fan")
    table.until(60)
    assert [put.split()[0] for put in table.puts] == ["0", "1", "2", "3"]
    table.broken = ""
    table.board.on_up("fan")
    table.until(62)
    assert [put.split()[0] for put in table.puts[4:]] == ["60", "61", "62"]


def test_what_could_not_be_put_out_is_tried_again_and_again_but_ever_more_seldom(table: Table) -> None:
    table.output("pump", '{unless: "tank.level < 10"}')
    table.rule("dry", "{set: {pump.state: true}}")
    table.see(0, level=20)
    table.raise_(1, "dry")
    table.broken = "no answer"
    table.see(2, level=5)
    table.until(200)
    tries = [put.split()[0] for put in table.puts if "interlock" in put]
    assert tries == ["2", "3", "5", "9", "17", "33", "65", "125", "185"]
    table.broken = ""
    table.until(1000)
    assert table.puts[-1] == "245 pump.state 0 interlock (tank.level < 10)"
    assert table.board.deadline is None


THEN = """{set: {fan.state: true, bell.state: {pulse: 10s}, lamp.state: {value: true, for: 10s}, horn.state: {toggle: true},
    siren.state: {blink: 1s}}}"""


@pytest.mark.parametrize(
    ("slept", "lamp"), [(3.0, ["9 lamp.state 1 hot", "16 lamp.state 0 hot"]), (12.0, [])]
)
def test_after_a_restart_values_are_held_times_go_on_and_nothing_is_repeated(
    slept: float, lamp: list[str]
) -> None:
    names = ("fan", "bell", "lamp", "horn", "siren")
    table = Table()
    for name in names:
        table.output(name)
    table.rule("hot", THEN)
    saved: list[dict[str, Value]] = []
    table.board.on_began = lambda rule: saved.append(table.board.state(rule, table.clock.now))
    table.until(6)
    table.raise_(6, "hot")
    assert saved == [{"out lamp.state": 0.0}], "it is saved as it begins"
    table.ask(6, 1, device="horn")
    state = table.board.state("hot", 6)

    again = Table(6 + slept)
    for name in names:
        again.output(name, up=False)
    again.rule("hot", THEN)
    again.board.restore("hot", Severity.WARNING, state, 6)
    for name in names:
        again.board.on_up(name)
    again.until(6 + slept + 20)
    assert [put for put in again.puts if "siren" not in put] == [f"{6 + slept:g} fan.state 1 hot", *lamp]
    assert any("siren" in put for put in again.puts)


# --- too much --------------------------------------------------------------------------------------------------------------


def test_a_rule_that_acts_without_end_is_bounded_and_its_last_state_is_put_out_late(table: Table) -> None:
    table.rule("mad", "{set: {fan.state: true}}")
    for index in range(1000):
        (table.clear if index % 2 else table.raise_)(index / 100, "mad")
    table.raise_(10, "mad")
    assert len(table.puts) == 60, "30 times on, and off again"
    table.until(59.9)
    assert len(table.puts) == 60
    table.until(120)
    assert table.puts[60:] == ["60 fan.state 1 mad"]
    told = [event for event in table.log.events if event.type == EventType.RULE_THROTTLED]
    assert [(event.source, event.values["reason"]) for event in told] == [
        ("mad", "it has acted 30 times within 60 s, and must wait: its last state is put out late")
    ]


def test_an_interlock_and_blinking_are_not_bounded(table: Table) -> None:
    table.output("pump", '{unless: "tank.level < 10"}')
    table.see(0, level=20)
    table.rule("dry", "{set: {pump.state: true, fan.state: {blink: 100ms}}}")
    table.raise_(0, "dry")
    for index in range(1, 200):
        table.see(index / 10, level=20 * (index % 2))
    assert len([put for put in table.puts if "pump" in put]) == 199
    assert len([put for put in table.puts if "fan" in put]) >= 199


# --- what may be written ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{max_age: 5m}", "max_age expects unless"),
        ("{unless: tank.level, max_age: 0s}", "max_age expects more than 0s"),
        ("{unless: 1 > 2}", "names no channel"),
        ("{unless: -tank.level}", "is a number"),
        ("{dead_man: 5m}", "dead_man expects commands"),
        ("{dead_man: 0s, commands: true}", "dead_man expects a time"),
        ("{commands: {min: 2, max: 1}}", "is more than max"),
        ("{commands: {at_most: 0s}}", "at_most expects a time"),
    ],
)
def test_impossible_settings_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        written(Settings, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "not none"),
        ("{toggle: false}", "not none"),
        ("{value: 0, toggle: true}", "not value and toggle"),
        ("{pulse: 0s}", "pulse expects a time longer than 0"),
        ("{pulse: 1s, for: 1s}", "for expects value or blink"),
        ("{blink: {on: 1ms, off: 1s}}", "expect 50ms or longer"),
    ],
)
def test_impossible_actions_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        written(Action, text)


@pytest.mark.parametrize("value", ["0", "0.0", "off", "text", "2.5"])
def test_any_value_may_be_put_out_for_a_time(value: str) -> None:
    assert written(Action, f"{{value: {value}, for: 1s}}").value is not None


@pytest.mark.parametrize("text", ["{commands: true}", "{commands: {}}", "{commands: {max: 5}, dead_man: 1s}"])
def test_commands_are_allowed_where_that_is_said(text: str) -> None:
    assert written(Settings, text).allowed is not None
    assert written(Settings, "{}").allowed is None


@pytest.mark.parametrize(
    "unless", ["door.state", "not door.state", "a.b > 1 and c.d < 2", "door.state == on"]
)
def test_a_condition_may_be_a_switch_or_a_comparison(unless: str) -> None:
    assert written(Reaction, f"{{set: {{}}, unless: {unless}}}").unless == unless


def test_what_a_critical_alarm_wants_for_safety_does_not_wait_for_min_on() -> None:
    table = Table()
    table.output("fan", "{min_on: 60s, min_off: 10s}")
    table.rule("filling", "{set: {fan.state: true}}")
    table.rule("dry-run", "{set: {fan.state: false}}")
    table.raise_(20, "filling")
    table.raise_(25, "dry-run", Severity.MAJOR)
    table.until(26)
    assert table.puts == ["20 fan.state 1 filling"]
    table.raise_(30, "dry-run", Severity.CRITICAL)
    table.clear(31, "dry-run")
    table.until(100)
    assert table.puts[1:] == ["30 fan.state 0 dry-run", "40 fan.state 1 filling"]
