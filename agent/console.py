"""How events, faults and the program's own messages look on a terminal."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from agent.events import ALARMS, EventType, Severity
from agent.meter import AMPLIFICATION, CELL_WRITES
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.events import Event, Value

SYMBOLS: Final = {
    "Cel": "°C",
    "degC": "°C",
    "[degF]": "°F",
    "degF": "°F",
    "By": "B",
    "By/s": "B/s",
    "Ohm": "Ω",
}
"""How people write a unit, by its UCUM code."""

LONG: Final = 100
"""Years that are not told apart any more."""

_STYLES: Final = {
    "dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "alarm": "1;97;41",
    "warning": "1;30;43",
}  # fmt: skip


class Style:
    """Paints text where the stream is a terminal that shows colour (and https://no-color.org/ is respected)."""

    def __init__(self, stream: TextIO) -> None:
        self.on = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def __call__(self, style: str, text: str) -> str:
        """Return the text, painted."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.on else text


def render(event: Event, units: Mapping[str, str], paint: Style) -> str:
    """Return an event as a line for a person.

    Args:
        event: Any event.
        units: The unit by channel of its device, as far as it is known.
        paint: How to colour it.
    """
    when = datetime.fromtimestamp(event.time // 1_000_000, UTC).astimezone()
    clock = paint("dim", f"{when:%H:%M:%S}.{event.time // 1000 % 1000:03d}")
    source = f"{event.source:<12}"
    facts = event.values
    match event.type:
        case EventType.READING:
            said = "  ".join(_channel(event, name, value, units, paint) for name, value in facts.items())
            return f"{clock}  {paint('cyan', source)}  {said}"
        case EventType.ALARM_RAISED | EventType.ALARM_CHANGED:
            severity = str(facts["severity"])
            style = "alarm" if severity in (Severity.CRITICAL, Severity.MAJOR) else "warning"
            return f"{clock}  {paint(style, f' ALARM {event.source} ')}  {paint('bold', str(facts['message']))}  ({severity})"
        case EventType.ALARM_CLEARED:
            lasted = f", after {facts['duration']} s" if "duration" in facts else ""
            value = (
                f"{facts['of']} is {_number(facts['value'])}" if "of" in facts else facts.get("reason", "")
            )
            return f"{clock}  {paint('green', f' clear {event.source} ')}  {value}{lasted}"
        case kind if kind in ALARMS:
            return f"{clock}  {paint('yellow', f' {event.source} ')}  {_of_alarm(event)}  {paint('dim', str(facts.get('state', '')))}"
        case EventType.COMMAND_DONE if "do" in facts:
            return f"{clock}  {paint('blue', source)}  {facts['do']}: done, asked by {facts['cause']}"
        case EventType.COMMAND | EventType.COMMAND_DONE:
            verb = "set" if event.type == EventType.COMMAND else "is now"
            why = f" ({facts['reason']})" if "reason" in facts else ""
            said = f"{facts['channel']} {verb} {_number(facts['value'])}, asked by {facts['cause']}{why}"
            return f"{clock}  {paint('blue', source)}  {said}"
        case (
            EventType.DEVICE_DOWN
            | EventType.COMMAND_FAILED
            | EventType.BAD_READING
            | EventType.LOG_DROPPED
            | EventType.LOG_RECOVERED
            | EventType.RULE_THROTTLED
        ):
            said = "  ".join(f"{name}: {value}" for name, value in facts.items())
            return f"{clock}  {paint('yellow', source)}  {paint('yellow', event.type)}  {said}"
    if event.type == EventType.DEVICE_ABOUT:
        said = f"{facts['driver']}: " + ", ".join(_described(facts))
        return f"{clock}  {paint('cyan', source)}  {paint('dim', said)}"
    said = "  ".join(f"{name}: {value}" for name, value in facts.items() if value != "")
    return f"{clock}  {paint('dim', f'{source}  {event.type}  {said}')}"


def _of_alarm(event: Event) -> str:
    """Return what has become of an alarm that is neither raised nor cleared."""
    facts = event.values
    comment = f": {facts['comment']}" if "comment" in facts else ""
    match event.type:
        case EventType.ALARM_REPEATED:
            return f"still: {facts['message']}"
        case EventType.ALARM_SHELVED:
            return f"shelved by {facts['by']} for {_lasted(_seconds(facts['for']))}{comment}"
        case EventType.ALARM_FLOODED:
            return f"has changed {facts['count']} times more within {_lasted(_seconds(facts['within']))}"
    by = f" by {facts['by']}" if "by" in facts else ""
    return f"{event.type.removeprefix('alarm.')}{by}{comment}"


def _seconds(value: Value) -> float:
    return float(value) if isinstance(value, float | int) else 0.0


def _channel(event: Event, name: str, value: Value, units: Mapping[str, str], paint: Style) -> str:
    doubt = f" ({event.quality[name].value})" if event.quality and name in event.quality else ""
    return f"{paint('dim', name)} {_with_unit(value, units.get(name, ''))}{paint('yellow', doubt) if doubt else ''}"


def _described(facts: Mapping[str, Value]) -> Iterator[str]:
    """Return a device's channels with their units, from what is said about it."""
    for key, unit in facts.items():
        if key.startswith("channel."):
            channel = key.removeprefix("channel.")
            yield f"{channel} ({SYMBOLS.get(str(unit), unit)})" if unit else channel


def _with_unit(value: Value, unit: str) -> str:
    if unit == "By" and isinstance(value, int | float):
        power = min(int(math.log10(max(abs(value), 1)) // 3), 4)
        return f"{value / 1000**power:.3g} {('', 'k', 'M', 'G', 'T')[power]}B"
    return f"{_number(value)} {SYMBOLS.get(unit, unit)}".rstrip()


def _number(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def say(text: str = "") -> None:
    """Print a line to the standard output."""
    print(text, flush=True)  # noqa: T201 -- this is the command line


def program() -> str:
    """Return how this program was called, to be repeated in a hint."""
    return sys.argv[0] if Path(sys.argv[0]).name == "gatepost" else "gatepost"


class Progress:
    """How far something has come: a bar on a terminal, elsewhere a line for each tenth."""

    WIDTH: Final = 30

    def __init__(self, title: str, begin: int, end: int) -> None:
        self._title = title
        self._begin, self._end = begin, end
        self._began = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._tenth = 0
        self._is_held_up = False

    def show(self, at: int, count: int, *, is_held_up: bool = False) -> None:
        """Show that it has come to `at`, with `count` things done; or that it waits for a connection."""
        share = (at - self._begin) / max(1, self._end - self._begin)
        rate = count / max(0.001, time.monotonic() - self._began)
        how = "waiting for a connection" if is_held_up else f"{rate:.0f}/s"
        said = f"{self._title}: {share:4.0%}  {count} events, {how}"
        if self._is_terminal:
            bar = "#" * round(share * self.WIDTH)
            sys.stderr.write(f"\r[{bar:<{self.WIDTH}}] {said}\x1b[K")
        elif int(share * 10) > self._tenth or is_held_up is not self._is_held_up:
            self._tenth = int(share * 10)
            sys.stderr.write(said + "\n")
        self._is_held_up = is_held_up
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._is_terminal:
            sys.stderr.write("\n")


class Printer:
    """Prints in a thread of its own: a terminal that is paused (Ctrl-S, a stalled ssh) must not pause the gateway."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(500)
        self._thread = threading.Thread(target=self._print, name="printer", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether the terminal is far behind."""
        return self._lines.full()

    def put(self, line: str) -> None:
        """Have a line printed; not while it is full."""
        self._lines.put_nowait(line)

    def end(self) -> bool:
        """Print what is still to be printed, where that goes quickly; whether it did."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(1)
        return not self._thread.is_alive()

    def _print(self) -> None:
        # Not through `sys.stdout`: a thread that holds its lock could not be left behind.
        with contextlib.suppress(OSError):
            while (line := self._lines.get()) is not None:
                rest = line.encode(sys.stdout.encoding, "replace") + b"\n"
                while rest:
                    rest = rest[os.write(sys.stdout.fileno(), rest) :]


def status_lines(said: Mapping[str, Any], paint: Style) -> Iterator[str]:
    """Return what a running agent says of itself as lines for a person."""
    simulated = ", simulated devices" if said["simulated"] else ""
    yield f"{paint('bold', said['gateway'])}: up {_lasted(said['uptime'])}, gatepost {said['version']}, process {said['pid']}{simulated}"
    for title, key in (("devices", "devices"), ("forwarders", "forwarders"), ("broker", "brokers")):
        if said[key]:
            yield ""
            yield paint("dim", title)
        for name, part in said[key].items():
            health = paint("green" if part["health"] == "up" else "yellow", f"{part['health']:<8}")
            yield f"  {name:<14}  {health} {_lasted(part['for']):>5}  {_part(part)}"
    yield ""
    yield from alarm_lines(said, paint)
    requests = said["requests"]
    if requests["done"] or requests["refused"]:
        yield f"requests from afar or at the machine: {requests['done']} carried out, {requests['refused']} not"
    log = said["log"]
    yield ""
    yield f"log {log['path']}: last event {log['last']}, {log['dropped']} dropped"
    yield from _rates(said.get("rates", {}), said.get("disk", {}))  # an agent that runs may be an older one
    if log["fault"]:
        yield paint("red", f"the log cannot be written: {log['fault']}")
    for name in said.get("stuck", []):
        yield paint("red", f"{name} stands still: a bug in gatepost; please report it")


def _rates(rates: Mapping[str, Any], disk: Mapping[str, Any]) -> Iterator[str]:
    """Return how much goes through, and what is written, as far as it has been counted."""
    if rates.get("readings") is not None:
        over = _lasted(rates["over"])
        yield f"{rates['readings']:.3g} readings/s, {rates['events']:.3g} events/s in the last {over}"
    if disk.get("written") is None:
        return
    a_day = ""
    if disk["per_day"] is not None:
        a_day = f", {_with_unit(disk['per_day'], 'By')} a day by the last {_lasted(disk['over'])}"
    yield f"disk: {_with_unit(disk['written'], 'By')} written since the start{a_day}"
    if disk["years"] is not None:
        lasts = f"{disk['years']:.0f}" if disk["years"] < LONG else f"more than {LONG}"
        yield (
            f"      {_with_unit(disk['size'], 'By')} of flash memory bear that for {lasts} years, if each cell bears {CELL_WRITES} writes "
            f"and {AMPLIFICATION} bytes are written for each"
        )


def alarm_lines(said: Mapping[str, Any], paint: Style) -> Iterator[str]:
    """Return the alarms of a running agent as lines for a person."""
    yield paint("dim", "alarms") if said["alarms"] else "no alarm is active"
    for alarm in said["alarms"]:
        is_active = str(alarm["state"]).startswith("active")
        facts = [alarm["severity"], alarm["state"]]
        if alarm["state"] != "inactive":
            facts.append(f"since {_moment(alarm['raised'])}")
        if alarm["shelved_for"] is not None:
            facts.append(f"shelved for {_lasted(alarm['shelved_for'])} more")
        if alarm["suppressed"]:
            facts.append("suppressed")
        is_loud = is_active and alarm["shelved_for"] is None and not alarm["suppressed"]
        name = paint("alarm" if is_loud else "warning", f" {alarm['rule']} ")
        yield f"  {name}  {alarm['message']}  ({', '.join(facts)})"
    for doubtful in said.get("doubtful", []):  # an agent that runs may be an older one
        counts = [
            f"{doubtful[grade]} values of {grade} quality ({doubtful[f'{grade}_values']})"
            for grade in ("uncertain", "bad")
            if grade in doubtful
        ]
        yield paint(
            "yellow", f"  {doubtful['rule']}: {', '.join(counts)}, the last {_lasted(doubtful['last'])} ago"
        )
    if said["out_of_service"]:
        yield f"out of service: {', '.join(said['out_of_service'])}"


def _part(part: Mapping[str, Any]) -> str:
    since = f"since {_moment(part['since'])}: " if "since" in part else ""
    why = f"{since}{part['reason']}" if "reason" in part else ""
    if "delivered" in part:
        rejected = f", {part['rejected']} rejected" if part["rejected"] else ""
        waiting = "an unknown number" if part["waiting"] is None else part["waiting"]
        oldest = "" if part.get("oldest") is None else f", the oldest for {_lasted(part['oldest'])}"
        counts = f"{part['delivered']} delivered, {waiting} waiting{oldest}{rejected}"
        return f"{counts}; {why}" if why else counts
    if why:
        return why
    hangs = f"  (has not answered for {_lasted(part['unanswered'])})" if "unanswered" in part else ""
    latest = "  ".join(
        f"{name} {_number(seen['value'])}" for name, seen in list(part.get("latest", {}).items())[:6]
    )
    bad = f"  ({part['bad']} bad readings)" if part.get("bad") else ""
    return latest + hangs + bad + "".join(f"  ({why})" for why in _holders(part.get("output", {})))


def _holders(output: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Return who has a say in an output, where somebody does."""
    for name, said in output.items():
        if "interlocked" in said:
            yield f"{name} is interlocked: {said['interlocked']}"
        elif "rule" in said:
            yield f"{name} is held by {said['rule']}"
        elif "cause" in said:
            yield f"{name} was set by {said['cause']}"


def _moment(iso: str) -> str:
    """Return a time as a clock on the wall shows it."""
    return f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M:%S}"


def _lasted(seconds: float) -> str:
    return str(Duration(round(seconds)))
