"""The words on the command line, each to one call.

Exit status: 0 done, 1 failed, 2 wrong usage, 78 configuration fault (EX_CONFIG of sysexits.h), on which systemd does not
restart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import sqlite3
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent import app, catalog, config, console, foreground
from agent.api import client
from agent.clock import Clock, from_iso
from agent.config import schema
from agent.console import program, say
from agent.contracts import Gateway, Message
from agent.encodings import json as plain_json
from agent.errors import ConfigError, GatepostError
from agent.eventlog import EventStore
from agent.events import EventType
from agent.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.events import Event

DONE: Final = 0
FAILED: Final = 1
CONFIG_FAULT: Final = 78

SERVICE_LOG: Final = Path("/var/lib/gatepost/events.db")
"""The log of the systemd unit, whose StateDirectory only the unit itself is told."""

logger = logging.getLogger("agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.call(options))
    except ConfigError as error:
        paint = console.Style(sys.stderr)
        for fault in error.faults:
            print(paint("red", str(fault)), file=sys.stderr)  # noqa: T201
        return CONFIG_FAULT
    except GatepostError as error:
        print(f"gatepost: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except BrokenPipeError:
        # `gatepost events | head` is no failure; nor is what Python would flush when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return FAILED


# --- run --------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    """Run the gateway in the foreground."""
    console.set_up_logging(verbose=options.verbose)
    configuration = config.load(options.config)
    seed = options.seed if options.seed is not None else random.randrange(2**32)  # noqa: S311
    if options.simulate:
        logger.info("simulated devices, seed %d (repeat this run with --seed %d)", seed, seed)
    gateway = app.App(configuration, simulate=options.simulate, seed=seed)
    is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None where it was closed
    show = is_terminal if options.events is None else options.events
    asyncio.run(foreground.run(gateway, configuration, options.duration, show=show))
    return DONE


# --- what is configured, and what can be ----------------------------------------------------------------------------------


def check(options: argparse.Namespace) -> int:
    """Say every fault of a configuration, or what would run."""
    configuration = config.load(options.config)
    say(f"{configuration.path}: no faults: gateway {configuration.gateway}, {configuration.counted}")
    return DONE


def init(options: argparse.Namespace) -> int:
    """Write a commented starting configuration."""
    target: Path = options.path
    if target.exists() and not options.force:
        raise GatepostError(f"{target} exists already; name another file, or write over it with --force")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(catalog.shared_file("gatepost.yaml"), encoding="utf-8")
        text = schema.text()
        target.with_name("gatepost.schema.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise GatepostError(f"cannot write {target}: {error.strerror}") from error
    say(f"wrote {target} (and gatepost.schema.json beside it, for editors)")
    say(f"next: edit it, then: {program()} check {target} && {program()} run --simulate {target}")
    return DONE


def list_kinds(options: argparse.Namespace) -> int:
    """List what can be configured."""
    found = catalog.kinds(options.role)
    if options.json:
        say(json.dumps(found, indent=2))
    else:
        for line in catalog.table(found):
            say(line)
    return DONE


def show(options: argparse.Namespace) -> int:
    """Show one kind: what it is, its settings, a sample."""
    pages = catalog.pages(options.kind)
    if not pages:
        near = catalog.nearest(options.kind)
        hint = f"; did you mean {near!r}?" if near else f"; see: {program()} list"
        raise GatepostError(f"there is no kind {options.kind!r}{hint}")
    width = min(max(shutil.get_terminal_size().columns, 60), 100)
    say(
        json.dumps(pages, indent=2)
        if options.json
        else "\n\n".join(catalog.text(page, width) for page in pages)
    )
    return DONE


def print_schema(_: argparse.Namespace) -> int:
    """Print the JSON schema of the configuration."""
    say(schema.text().rstrip())
    return DONE


# --- what a running agent tells -------------------------------------------------------------------------------------------


def _log_of(options: argparse.Namespace) -> Path:
    """Find the log of a configuration: that of a simulated run where that one is meant or the only one."""
    configuration = config.load(options.config, with_secrets=False)
    real, simulated = (app.log_path(configuration, simulated=answer) for answer in (False, True))
    if options.simulate:
        return simulated
    logs = [real, simulated] if configuration.log.path else [real, SERVICE_LOG, simulated]
    answering = [path for path in logs if client.answers(app.socket_path(path))]
    there = answering or [path for path in logs if path.exists()]
    if not there:
        raise GatepostError(
            f"there is no event log yet at {real}; start the gateway with: {program()} run {options.config}"
        )
    return there[0]


def events(options: argparse.Namespace) -> int:
    """Read the log, of a running agent or without one."""
    log = _log_of(options)
    store = EventStore(log)
    try:
        store.open_reader()
        units = store.units()
        request: dict[str, Any] = {"get": "events", "follow": options.follow}
        if options.start is None and options.since is None:
            request["last"] = options.last
        else:
            request["after"] = store.since(options.since) if options.start is None else options.start - 1
        paint = console.Style(sys.stdout)

        def is_wanted(event: Event) -> bool:
            return options.type in (None, event.type) and event.time >= (options.since or 0)

        def put(event: Event, line: bytes) -> None:
            rendered = console.render(event, units.get(event.source, {}), paint)
            say(line.decode().rstrip() if options.json else rendered)

        last_of_type = options.type is not None and "last" in request and not options.follow
        if last_of_type:
            request = {"get": "events", "after": 0}  # they may be long ago
        found = _live_events(log, request) or _stored_events(store, request, options)
        wanted = (each for each in found if is_wanted(each[0]))
        for event, line in deque(wanted, maxlen=options.last) if last_of_type else wanted:
            put(event, line)
    except sqlite3.Error as error:
        raise GatepostError(f"cannot read {log}: {error}") from error
    finally:
        store.close()
    return DONE


def _live_events(log: Path, request: dict[str, Any]) -> Iterator[tuple[Event, bytes]] | None:
    """Return the events that a running agent tells, with their JSON; None where none runs."""
    path = app.socket_path(log)
    if not client.answers(path):
        return None

    def read() -> Iterator[tuple[Event, bytes]]:
        encoding = plain_json.Encoding(plain_json.Settings(), Gateway("", "", 0))
        with client.ask(path, request) as answer:
            for line in answer or ():
                yield encoding.decode(Message(line, plain_json.CONTENT_TYPE)), line

    return read()


def _stored_events(
    store: EventStore, request: dict[str, Any], options: argparse.Namespace
) -> Iterator[tuple[Event, bytes]]:
    """Return the events in the file, with their JSON, for no agent runs."""
    if options.follow:
        raise GatepostError(f"no agent runs on {store.path}; leave out --follow to read the log")
    encoding = plain_json.Encoding(
        plain_json.Settings(), Gateway(config.load(options.config, with_secrets=False).gateway, "", 0)
    )
    after = store.last(request["last"]) if "last" in request else request["after"]
    while found := store.read(None, after, None, 1000):
        for event in found:
            yield event, encoding.encode(event).payload
        after = found[-1].seq


def status(options: argparse.Namespace) -> int:
    """Say what runs, what is down and why."""
    log = _log_of(options)
    with client.ask(app.socket_path(log), {"get": "status"}) as answer:
        said = json.loads(next(answer, b"null")) if answer is not None else None
    if said is None:
        raise GatepostError(
            f"no agent runs on {log}; its log can be read with: {program()} events {options.config}"
        )
    if "error" in said:
        raise GatepostError(f"the agent on {log} runs, but says: {said['error']}")
    if options.json:
        say(json.dumps(said, indent=2))
    else:
        for line in console.status_lines(said, console.Style(sys.stdout)):
            say(line)
    return DONE


# --- the words ------------------------------------------------------------------------------------------------------------


def _duration(text: str) -> Duration:
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, expected {Duration.expected}") from None


def _event_type(text: str) -> str:
    known = sorted(value for name, value in vars(EventType).items() if name.isupper())
    if text not in known:
        raise argparse.ArgumentTypeError(f"there is no type {text!r}, expected one of {', '.join(known)}")
    return text


def _moment(text: str) -> int:
    """Read `1h` as an hour ago, or a time in RFC 3339, as microseconds since 1970-01-01 UTC."""
    with contextlib.suppress(ValueError):
        return Clock().wall() - round(Duration.parse(text) * 1e6)
    try:
        return from_iso(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time, expected how long ago, such as 1h, or a time such as 2026-11-23T10:15:00Z"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gatepost",
        description="An edge gateway agent: sensors to a durable log, local rules and MQTT.",
        epilog="Start here: gatepost init, then gatepost run --simulate gatepost.yaml",
    )
    parser.add_argument("--version", action="version", version=f"gatepost {app.version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, call: Callable[[argparse.Namespace], int], said: str, example: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=said, description=f"{said[0].upper()}{said[1:]}.", epilog=f"Example: {example}"
        )
        command.set_defaults(call=call)
        return command

    command = add(
        "run", run, "run the gateway in the foreground", "gatepost run --simulate --for 30s gatepost.yaml"
    )
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument("--simulate", action="store_true", help="replace every device by a simulated one")
    command.add_argument("--seed", type=int, help="make a simulated run repeatable")
    command.add_argument(
        "--for", dest="duration", type=_duration, metavar="TIME", help="stop after that long, e.g. 30s"
    )
    command.add_argument(
        "--events",
        action=argparse.BooleanOptionalAction,
        help="print a line for each event (the default on a terminal)",
    )
    command.add_argument("--verbose", action="store_true", help="say more about what goes on")

    command = add("check", check, "say every fault of a configuration", "gatepost check gatepost.yaml")
    command.add_argument("config", type=Path, help="the configuration file")

    command = add("init", init, "write a commented starting configuration", "gatepost init gatepost.yaml")
    command.add_argument(
        "path", type=Path, nargs="?", default=Path("gatepost.yaml"), help="by default gatepost.yaml"
    )
    command.add_argument("--force", action="store_true", help="write over a file that is there")

    command = add("list", list_kinds, "list what can be configured", "gatepost list drivers")
    command.add_argument("role", nargs="?", choices=catalog.LISTED, help="only these")
    command.add_argument("--json", action="store_true", help="for programs")

    command = add("show", show, "show one kind: its settings and a sample", "gatepost show serial_lines")
    command.add_argument("kind", help="a name that `gatepost list` prints")
    command.add_argument("--json", action="store_true", help="for programs")

    add(
        "schema",
        print_schema,
        "print the JSON schema of the configuration",
        "gatepost schema > gatepost.schema.json",
    )

    command = add("events", events, "read the log", "gatepost events --since 1h --follow gatepost.yaml")
    command.add_argument("config", type=Path, help="the configuration file")
    begin = command.add_mutually_exclusive_group()
    begin.add_argument(
        "--since", type=_moment, metavar="TIME", help="from that time on: 1h (ago) or 2026-11-23T10:15:00Z"
    )
    begin.add_argument("--from", dest="start", type=int, metavar="SEQ", help="from that sequence number on")
    begin.add_argument("--last", type=int, default=20, metavar="N", help="the last N events (20)")
    command.add_argument("--follow", action="store_true", help="go on with what comes")
    command.add_argument("--type", type=_event_type, help="only events of this type, e.g. alarm.raised")
    command.add_argument("--json", action="store_true", help="for programs: a JSON object in each line")
    command.add_argument("--simulate", action="store_true", help="the log of simulated runs")

    command = add("status", status, "say what runs, what is down and why", "gatepost status gatepost.yaml")
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--simulate", action="store_true", help="of the simulated run")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
