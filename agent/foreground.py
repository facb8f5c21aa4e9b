"""Runs a gateway in the foreground: signals, and what a person at the terminal sees."""

from __future__ import annotations

import asyncio
import faulthandler
import resource
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from agent import app, console
from agent.console import program, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import Config
    from agent.quantities import Duration


def _raise_file_limit() -> None:
    """Allow as many open files as we may: a serial port takes five."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run(gateway: app.App, configuration: Config, duration: Duration | None, *, show: bool) -> None:
    """Run a gateway until a signal, or for a time.

    Args:
        gateway: What to run.
        configuration: What it was built from, to introduce it.
        duration: When to stop by itself; None for never.
        show: Whether to print what it is and a line for each event.

    Raises:
        GatepostError: The log cannot be used.
        ConfigError: A device cannot be simulated.
    """
    _raise_file_limit()
    if sys.stderr is not None:
        faulthandler.enable()  # where we hang when the watchdog's SIGABRT comes, for the journal
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the last: the terminal was closed
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
            loop.add_signal_handler(number, stop.set)
    if duration is not None:
        loop.call_later(duration, stop.set)
    if not show:
        await gateway.run(stop)
        return
    viewer: list[asyncio.Task[None]] = []
    printer = console.Printer()
    for line in _introduction(configuration, gateway):
        say(line)
    await gateway.run(stop, lambda: viewer.append(loop.create_task(_show_events(gateway, printer))))
    for task in viewer:
        task.cancel()
    if not printer.end():
        return  # the terminal takes nothing more
    fault = gateway.log.writer.fault
    end = f"the log could not be written: {fault}" if fault else "everything is written"
    say(console.Style(sys.stdout)("dim", f"stopped; {end}"))


def _introduction(configuration: Config, gateway: app.App) -> Iterator[str]:
    paint = console.Style(sys.stdout)
    yield (
        paint("bold", f"gatepost {app.version()}")
        + f" · gateway {configuration.gateway} · {configuration.path}"
    )
    yield f"  {configuration.counted}"
    yield f"  log        {gateway.log.path}"
    if configuration.broker is not None:
        broker = configuration.broker
        where = f"-h {broker.host} -p {broker.port}"
        yield f"  broker     {broker.host}:{broker.port} (MQTT 3.1.1), {broker.host}:{broker.port_v5} (MQTT 5)"
        command = f"mosquitto_sub {where} -t 'gatepost/#' -v"
        missing = "" if shutil.which("mosquitto_sub") else paint("dim", "   (apt install mosquitto-clients)")
        yield f"  subscribe  {paint('bold', command)}{missing}"
    simulate = "--simulate " if gateway.simulated else ""
    yield f"  status     {paint('bold', f'{program()} status {simulate}{configuration.path}')}"
    yield "  stop       Ctrl-C"
    yield ""


async def _show_events(gateway: app.App, printer: console.Printer) -> None:
    """Print a line for each event, from this run's first."""
    paint = console.Style(sys.stdout)
    wake = asyncio.Event()
    log = gateway.log.reader
    stop_listening = log.listen(wake.set)
    after = log.first - 1
    try:
        while True:
            wake.clear()
            for event in await log.history(after, 500):
                while printer.is_full:  # noqa: ASYNC110 -- the thread cannot set an asyncio.Event
                    await asyncio.sleep(0.1)
                printer.put(console.render(event, gateway.log.units(event.source), paint))
                after = event.seq
            if after == log.last:
                await wake.wait()
    finally:
        stop_listening()
