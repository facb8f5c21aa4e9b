"""Looks into a log, of a running agent or without one: events, status, replay."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from agent import config, console, metrics
from agent.api import client
from agent.clock import iso
from agent.console import program, say
from agent.contracts import Gateway, Message
from agent.encodings import json as plain_json
from agent.errors import GatepostError
from agent.eventlog import EventStore
from agent.whereabouts import PATIENCE, ask_once, asked, log_of, socket_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import Config
    from agent.events import Event

DONE: Final = 0
FAILED: Final = 1


def events(options: argparse.Namespace) -> int:
    """Read the log, of a running agent or without one."""
    log = log_of(options)
    store = EventStore(log)
    try:
        store.open_reader()
        units = store.units()
        if options.rejected:
            return _rejected(store, options)
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
        found = live_events(log, request) or _stored_events(store, request, options)
        wanted = (each for each in found if is_wanted(each[0]))
        for event, line in deque(wanted, maxlen=options.last) if last_of_type else wanted:
            put(event, line)
    except sqlite3.Error as error:
        raise GatepostError(f"cannot read {log}: {error}") from error
    finally:
        store.close()
    return DONE


def _rejected(store: EventStore, options: argparse.Namespace) -> int:
    """List what far sides have refused for good, and why."""
    gateway = config.load(options.config, with_secrets=False).gateway
    encoding = plain_json.Encoding(plain_json.Settings(), Gateway(gateway, "", 0))
    paint = console.Style(sys.stdout)
    units = store.units()
    if options.follow:
        raise GatepostError("--rejected lists what there is; leave out --follow")
    wanted = [
        each
        for each in store.rejected()
        if options.type in (None, each.event.type)
        and each.event.time >= (options.since or 0)
        and each.event.seq >= (options.start or 0)
    ]
    if options.since is None and options.start is None:
        wanted = wanted[max(len(wanted) - options.last, 0) :]
    for event, consumer, time, reason in wanted:
        if options.json:
            said = json.loads(encoding.encode(event).payload)
            said |= {"rejected": {"forwarder": consumer, "time": iso(time), "reason": reason}}
            say(json.dumps(said))
        else:
            why = paint("yellow", f"{consumer}: {reason}")
            say(f"{console.render(event, units.get(event.source, {}), paint)}  {why}")
    return DONE


def live_events(log: Path, request: dict[str, Any]) -> Iterator[tuple[Event, bytes]] | None:
    """Return the events that a running agent tells, with their JSON; None where none runs."""
    if not client.answers(socket_of(log)):
        return None

    def read() -> Iterator[tuple[Event, bytes]]:
        encoding = plain_json.Encoding(plain_json.Settings(), Gateway("", "", 0))
        if request.get("follow"):  # it may be silent for long, once it has shown that it answers
            with asked(log, {"get": "status"}) as answer:
                next(answer or iter(()), None)
        with asked(log, request, None if request.get("follow") else PATIENCE) as answer:
            for line in answer or ():
                if line.startswith(b'{"error"'):
                    raise GatepostError(json.loads(line)["error"])
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
    said = ask_once(options, {"get": "status"})
    if options.json:
        say(json.dumps(said, indent=2))
    else:
        for line in console.status_lines(said, console.Style(sys.stdout)):
            say(line)
    return DONE


def show_metrics(options: argparse.Namespace) -> int:
    """Print the metrics of a running agent, or write them to a file, whole or not at all."""
    target: Path | None = options.write
    if target is None:
        say(_metrics(options).rstrip())
        return DONE
    try:
        page, fault = _metrics(options), None
    except GatepostError as error:
        page, fault = metrics.nothing(), error
    draft = target.with_name(f".{target.name}.{os.getpid()}")  # the textfile collector reads *.prom only
    try:
        draft.write_text(page, encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(target)
    except OSError as error:
        raise GatepostError(f"cannot write {target}: {error.strerror}") from error
    if fault is not None:
        raise fault
    return DONE


def _metrics(options: argparse.Namespace) -> str:
    log = log_of(options)
    with asked(log, {"get": "metrics"}) as answer:
        page = "" if answer is None else b"".join(answer).decode()
    if page.startswith("{"):
        raise GatepostError(f"the agent on {log} runs, but says: {json.loads(page)['error']}")
    if not page:
        raise GatepostError(f"no agent runs on {log}")
    return page


def replay(options: argparse.Namespace) -> int:
    """Have a running agent send a stretch of its log to a forwarder once more, and show how far it has come."""
    configuration = config.load(options.config, with_secrets=False)
    forwarder = _forwarder(configuration, options.forwarder)
    log = log_of(options)
    after, upto = _stretch(log, options)
    request = {"replay": forwarder, "after": after, "upto": upto, "rate": options.rate}
    bar = console.Progress(f"replay to {forwarder}", after, upto)
    said: dict[str, Any] = {"landed": after, "acknowledged": 0, "done": False}
    try:
        with asked(log, request) as answer:
            if answer is None:
                raise GatepostError(
                    f"no agent runs on {log}; start it with: {program()} run {'--simulate ' if options.simulate else ''}{options.config}"
                )
            for line in answer:
                told = json.loads(line)
                if "error" in told:
                    raise GatepostError(told["error"])
                said = told
                bar.show(said["landed"], said["acknowledged"], is_held_up=not said["connected"])
    finally:
        bar.end()
        if said["acknowledged"] and not said["done"]:
            say(f"ended after event {said['landed']}; go on with --from {said['landed'] + 1}")
    if not said["done"]:
        raise GatepostError("the agent has ended before the replay")
    say(f"{said['acknowledged']} events replayed to {forwarder}")
    return DONE


def _forwarder(configuration: Config, name: str | None) -> str:
    """Return the forwarder that is meant; where there is one, it need not be named."""
    known = list(configuration.forward)
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        missing = "say which with --forwarder" if name is None else f"there is no forwarder {name!r}"
        raise GatepostError(f"{missing}, expected one of: {', '.join(known) or 'none is configured'}")
    return name


def _stretch(log: Path, options: argparse.Namespace) -> tuple[int, int]:
    """Return the sequence number before the stretch that is meant, and its last one."""
    store = EventStore(log)
    try:
        store.open_reader()
        newest = store.last(0)
        after = store.since(options.since) if options.start is None else options.start - 1
        upto = newest if options.until is None else store.since(options.until)
        if options.end is not None:
            upto = min(options.end, newest)
    except sqlite3.Error as error:
        raise GatepostError(f"cannot read {log}: {error}") from error
    finally:
        store.close()
    if upto <= after:
        raise GatepostError(f"the log has no events there; its last one is {newest}")
    return after, upto
