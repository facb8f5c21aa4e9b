"""The words on the command line, each to one call.

Exit status: 0 done, 1 failed, 2 wrong usage, 78 configuration fault (EX_CONFIG of sysexits.h), on which systemd does not
restart.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import (
    alarmview,
    app,
    asking,
    catalog,
    catalogview,
    config,
    console,
    foreground,
    logview,
    messages,
    words,
)
from agent.console import say
from agent.errors import ConfigError, GatepostError
from agent.quantities import Duration
from agent.ruletests import words as ruletests
from agent.sdnotify import notify
from agent.service import command as service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


DONE: Final = 0
FAILED: Final = 1
CONFIG_FAULT: Final = 78

logger = logging.getLogger("agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.call(options))
    except ConfigError as error:
        notify(f"STATUS={error.faults[0]}")  # `systemctl status` shows it
        paint = console.Style(sys.stderr)
        for fault in error.faults:
            print(messages.error_prefix() + paint("red", str(fault)), file=sys.stderr)  # noqa: T201
        return CONFIG_FAULT
    except GatepostError as error:
        print(f"{messages.error_prefix()}gatepost: {error}", file=sys.stderr)  # noqa: T201
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
    messages.set_up([messages.Level(None, "debug")] * options.verbose + options.log_level)
    configuration = config.load(options.config)
    seed = options.seed if options.seed is not None else random.randrange(2**32)  # noqa: S311
    if options.simulate:
        logger.info("simulated devices, seed %d (repeat this run with --seed %d)", seed, seed)
    gateway = app.App(configuration, simulate=options.simulate, seed=seed)
    is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None where it was closed
    show = is_terminal if options.events is None else options.events
    asyncio.run(foreground.run(gateway, configuration, options.duration, show=show))
    return DONE


def doctor(options: argparse.Namespace) -> int:
    """Say what on this machine would stop the gateway."""
    from agent.doctor import command  # noqa: PLC0415 -- a megabyte that the gateway does without

    return command.doctor(options)


# --- what is configured, and what can be ----------------------------------------------------------------------------------


def check(options: argparse.Namespace) -> int:
    """Say every fault of a configuration, or what would run."""
    configuration = config.load(options.config)
    say(f"{configuration.path}: no faults: gateway {configuration.gateway}, {configuration.counted}")
    return DONE


def test(options: argparse.Namespace) -> int:
    """Play tests of the rules, or a log."""
    from agent.ruletests import command  # noqa: PLC0415 -- 1.5 MB of memory that an agent which runs never uses

    return command.test(options)


# --- the words ------------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gatepost",
        description="An edge gateway agent: sensors to a durable log, local rules and MQTT.",
        epilog="Start here: gatepost init, then gatepost run --simulate gatepost.yaml",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gatepost {app.version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, call: Callable[[argparse.Namespace], int], said: str, example: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=said,
            description=f"{said[0].upper()}{said[1:]}.",
            epilog=f"Example: {example}",
            allow_abbrev=False,  # --simulat must not run the real devices
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
        "--for", dest="duration", type=words.duration, metavar="TIME", help="stop after that long, e.g. 30s"
    )
    command.add_argument(
        "--events",
        action=argparse.BooleanOptionalAction,
        help="print a line for each event (the default on a terminal)",
    )
    command.add_argument(
        "--log-level",
        type=words.log_level,
        action="append",
        default=[],
        metavar="[PART=]LEVEL",
        help=f"what to say: {', '.join(messages.LEVELS)}; of a part only, e.g. courier=debug, of: {', '.join(messages.PARTS)}",
    )
    command.add_argument("--verbose", action="store_true", help="the same as --log-level debug")

    command = add("check", check, "say every fault of a configuration", "gatepost check gatepost.yaml")
    command.add_argument("config", type=Path, help="the configuration file")

    command = add(
        "test",
        test,
        "play tests of the rules on a virtual clock",
        "gatepost test gatepost.yaml cold-room.tests.yaml",
    )
    # Before the configuration, --replay would take it for the log: argparse's own line has it last.
    command.usage = "%(prog)s config [tests ...] [options]\n       %(prog)s config --replay [LOG] [options]"
    ruletests.add_words(command)

    command = add(
        "init",
        catalogview.init,
        "write a commented starting configuration",
        "gatepost init --example cold-room",
    )
    command.add_argument(
        "path", type=Path, nargs="?", help="by default gatepost.yaml, or the example's name with .yaml"
    )
    command.add_argument(
        "--example",
        type=words.example,
        metavar="NAME",
        help="one that is ready to be adapted, with the tests of its rules, such as boiler; another name lists them",
    )
    command.add_argument("--force", action="store_true", help="write over a file that is there")

    command = add("list", catalogview.list_kinds, "list what can be configured", "gatepost list drivers")
    command.add_argument("role", nargs="?", choices=catalog.LISTED, help="only these")
    command.add_argument("--json", action="store_true", help="for programs")

    command = add(
        "show", catalogview.show, "show one kind: its settings and a sample", "gatepost show serial_lines"
    )
    command.add_argument("kind", help="a name that `gatepost list` prints")
    command.add_argument("--json", action="store_true", help="for programs")

    add(
        "schema",
        catalogview.print_schema,
        "print the JSON schema of the configuration",
        "gatepost schema > gatepost.schema.json",
    )

    command = add(
        "events", logview.events, "read the log", "gatepost events --since 1h --follow gatepost.yaml"
    )
    command.add_argument("config", type=Path, help="the configuration file")
    begin = command.add_mutually_exclusive_group()
    begin.add_argument(
        "--since",
        type=words.moment,
        metavar="TIME",
        help="from that time on: 1h (ago) or 2026-11-23T10:15:00Z",
    )
    begin.add_argument("--from", dest="start", type=int, metavar="SEQ", help="from that sequence number on")
    begin.add_argument("--last", type=int, default=20, metavar="N", help="the last N events (20)")
    command.add_argument("--follow", action="store_true", help="go on with what comes")
    command.add_argument("--type", type=words.event_type, help="only events of this type, e.g. alarm.raised")
    command.add_argument("--rejected", action="store_true", help="those that a far side refused, and why")
    command.add_argument("--json", action="store_true", help="for programs: a JSON object in each line")
    command.add_argument("--simulate", action="store_true", help="the log of simulated runs")

    command = add(
        "replay",
        logview.replay,
        "send a stretch of the log once more",
        "gatepost replay --since 2h --forwarder site gatepost.yaml",
    )
    command.add_argument("config", type=Path, help="the configuration file")
    begin = command.add_mutually_exclusive_group(required=True)
    begin.add_argument(
        "--since",
        type=words.moment,
        metavar="TIME",
        help="from that time on: 1h (ago) or 2026-11-23T10:15:00Z",
    )
    begin.add_argument("--from", dest="start", type=int, metavar="SEQ", help="from that sequence number on")
    end = command.add_mutually_exclusive_group()
    end.add_argument(
        "--until", type=words.moment, metavar="TIME", help="up to that time; without it all there is"
    )
    end.add_argument("--to", dest="end", type=int, metavar="SEQ", help="up to that sequence number")
    command.add_argument("--forwarder", metavar="NAME", help="which one; not needed where there is one only")
    command.add_argument(
        "--rate", type=float, default=200, metavar="N", help="events a second at most (200); 0 for no limit"
    )
    command.add_argument("--simulate", action="store_true", help="of the simulated run")

    command = add(
        "status", logview.status, "say what runs, what is down and why", "gatepost status gatepost.yaml"
    )
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--simulate", action="store_true", help="of the simulated run")

    command = add(
        "metrics",
        logview.show_metrics,
        "print the metrics of a running agent for Prometheus",
        "gatepost metrics gatepost.yaml --write /var/lib/prometheus/node-exporter/gatepost.prom",
    )
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument(
        "--write", type=Path, metavar="FILE", help="to a file in place of the terminal, whole or not at all"
    )
    command.add_argument("--simulate", action="store_true", help="of the simulated run")

    command = add(
        "doctor",
        doctor,
        "say what on this machine would stop the gateway, and what to do",
        "sudo gatepost doctor gatepost.yaml",
    )
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument(
        "--user",
        metavar="NAME",
        help="who would run it; by default who runs it now, else you, or for root the service's user",
    )
    command.add_argument("--json", action="store_true", help="for programs")

    command = add(
        "alarms",
        alarmview.alarms,
        "show the alarms, acknowledge or shelve one",
        "gatepost alarms gatepost.yaml ack too-hot --comment 'filter changed'",
    )
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument("verb", nargs="?", choices=list(alarmview.VERBS), help="what to do to one")
    command.add_argument("rule", nargs="?", help="the rule whose alarm it is")
    command.add_argument(
        "--for", dest="duration", type=words.duration, metavar="TIME", help="shelve it for so long, e.g. 1h"
    )
    command.add_argument("--comment", default="", metavar="TEXT", help="is logged with it")
    command.add_argument("--by", metavar="NAME", help="who does it; by default the user's name")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--simulate", action="store_true", help="of the simulated run")

    command = add(
        "set",
        asking.set_output,
        "set an output of a running agent; any output, also one that takes no commands from far sides, but neither "
        "against its interlock nor against a rule that holds it",
        "gatepost set gatepost.yaml fan on",
    )
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument("output", help="the device, or device.channel where it has several")
    command.add_argument("value", help="on, off, a number or a text")
    command.add_argument(
        "--wait", type=words.duration, default=Duration(10), metavar="TIME",
        help="how long it may take, where min_on or min_off delays it (10s)",
    )  # fmt: skip
    command.add_argument("--by", metavar="NAME", help="who does it; by default the user's name")
    command.add_argument("--simulate", action="store_true", help="of the simulated run")

    command = add(
        "read",
        asking.read_device,
        "have a polled device of a running agent read now",
        "gatepost read gatepost.yaml air",
    )
    command.add_argument("config", type=Path, help="the configuration file")
    command.add_argument("device", help="the device")
    command.add_argument("--by", metavar="NAME", help="who asks; by default the user's name")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--simulate", action="store_true", help="of the simulated run")

    command = add(
        "service", service.status, "install gatepost as a service of systemd", "sudo gatepost service install"
    )
    service.add_words(command)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
