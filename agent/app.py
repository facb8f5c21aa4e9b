"""The composition root: builds what the configuration names, wires it, runs it until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from agent import registry
from agent.api.local import LocalApi
from agent.broker import EmbeddedBroker
from agent.busthreads import BusThreads
from agent.clock import Clock
from agent.commander import Commander
from agent.contracts import Gateway, Output
from agent.courier import Courier
from agent.errors import ConfigError, Fault, GatepostError
from agent.eventlog import EventLog
from agent.events import Event, EventType
from agent.intake import Intake
from agent.quantities import Duration
from agent.reporter import Reporter
from agent.requests import Desk, Settable
from agent.rulebook import Rulebook
from agent.sdnotify import notify
from agent.status import Status
from agent.supervisor import Backoff, Health, Part, keep_running
from agent.watchdog import Watchdog, dues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.config import Config, Device, ForwardEntry
    from agent.contracts import Driver, Forwarder, Settings, Simulator
    from agent.events import Value

logger = logging.getLogger(__name__)

DEVICE_BACKOFF: Final = Backoff(min=Duration(1), max=Duration(30))
FAREWELL: Final = 2.0
"""Seconds that couriers get, when the agent stops, to deliver what they can; the rest waits in the log."""

RUNTIME_FOLDER: Final = Path("/run/gatepost")
"""The RuntimeDirectory of the systemd unit, which only the unit itself is told."""

_ABOUT: Final = "about:"
_Start = Callable[[], Coroutine[Any, Any, None]]
"""What runs a part until it is cancelled, once it is called."""


def version() -> str:
    """Return the version of gatepost that is installed."""
    try:
        return importlib.metadata.version("gatepost")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def log_path(config: Config, *, simulated: bool) -> Path:
    """Return where the event log of a configuration is; a simulated run never writes to that of the real one.

    Where `log: {path: …}` says, else in `$STATE_DIRECTORY` under systemd, else in the XDG state folder.
    """
    if config.log.path is not None:
        path = Path(config.log.path)
    elif state := os.environ.get("STATE_DIRECTORY"):
        path = Path(state.partition(":")[0]) / "events.db"
    else:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        path = Path(home) / "gatepost" / config.gateway / "events.db"
    return path.with_stem(f"{path.stem}-simulated") if simulated else path


def socket_paths(log: Path, *, serving: bool = False) -> list[Path]:
    """Return where the agent that writes to a log answers local programs: beside it, or where its disk takes nothing.

    That is the folder that systemd gives a service for as long as it runs, which others see too, unlike its /tmp; an agent
    without one (`serving`) takes the temporary folder.
    """
    name = f"gatepost-{zlib.crc32(str(log.absolute()).encode()):08x}.sock"
    given = os.environ.get("RUNTIME_DIRECTORY", "" if serving else str(RUNTIME_FOLDER))
    folders = [*filter(None, given.split(":")), tempfile.gettempdir()]
    return [log.with_suffix(".sock"), *(Path(folder) / name for folder in folders)]


class App:
    """One gateway. Built from a configuration, run once.

    Attributes:
        log: The event log, open while `run` runs.
        simulated: Whether devices are simulated.
    """

    def __init__(self, config: Config, *, simulate: bool = False, seed: int = 0) -> None:
        self.log = EventLog(log_path(config, simulated=simulate), config.log, Clock())
        self._config = config
        self.simulated = simulate
        self._seed = seed
        self._clock = Clock()
        self._clock.zone = config.zone
        self._threads = BusThreads()
        self._parts: list[Part] = []
        self._simulators: list[Simulator[Any]] = []
        self._intakes: dict[str, Intake] = {}
        self._couriers: dict[str, Courier] = {}
        self._abouts: dict[str, Event] = {}
        self._broker_tried = asyncio.Event()
        self._commander = Commander(self.log, self._clock)
        self._board = self._commander.board
        self._rulebook = Rulebook(self.log, self._clock, self._board)
        self._desk = Desk(self.log, self._clock, self._board, self._rulebook, self._intakes)
        self._commander.on_command = self._desk.on_command
        self._watchdog = Watchdog(
            self._clock,
            lambda: dues(
                self._parts, self._intakes, self._couriers, self.log, self._rulebook, self._commander
            ),
        )
        about = {"gateway": config.gateway, "version": version(), "simulated": simulate}
        self._status = Status(
            about, self._clock, self.log, self._parts, self._intakes, self._couriers, self._rulebook, self._board, self._desk,
            self._watchdog,
        )  # fmt: skip

    # --- running --------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, on_start: Callable[[], None] | None = None) -> None:
        """Run until `stop` is set, then end with everything flushed.

        Args:
            stop: Set by whoever wants the agent to end.
            on_start: Called once when the log is open and every part was started.

        Raises:
            GatepostError: The log cannot be used.
        """
        try:
            await self.log.open(list(self._config.forward), version())
        except OSError as error:
            raise GatepostError(f"cannot write the event log {self.log.path}: {error.strerror}") from error
        gateway = Gateway(self._config.gateway, version(), self.log.run)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.log.close)
            stack.callback(self._threads.close)
            sources = await self._build_devices(stack)
            self._build_rules()
            couriers = self._build_couriers(gateway)
            api = LocalApi(
                socket_paths(self.log.path, serving=True),
                self.log.reader,
                _encoding("json", None, gateway),
                self._status.tell,
                self._couriers,
                self._rulebook,
                self._desk,
            )
            facts: dict[str, Value] = {
                "version": gateway.version, "gateway": gateway.name, "clean": int(self.log.was_clean),
                "simulated": int(self.simulated),
            }  # fmt: skip
            self.log.append(EventType.AGENT_STARTED, "agent", facts)
            if not self.log.was_clean:
                logger.warning("the last run did not end by itself: a power cut, a kill, or a crash")
            if self.simulated and self._config.forward:
                names = ", ".join(self._config.forward)
                logger.warning(
                    "what is simulated goes where the configuration says (%s), as if it were real", names
                )
            services: list[_Start] = [
                self.log.keep, self._rulebook.keep_time, self._commander.keep_time, api.serve, self._watchdog.feed,
                self._status.keep,
            ]  # fmt: skip
            if self._config.broker is not None:
                services.append(self._embedded_broker)
            else:
                self._broker_tried.set()
            running = [asyncio.create_task(service()) for service in services]
            sensing = [asyncio.create_task(source()) for source in sources]
            carrying = [asyncio.create_task(self._after_broker(courier)) for courier in couriers]
            self._rulebook.restore()
            self._desk.restore()
            notify("READY=1", f"STATUS={self._config.counted}")
            _settle_memory()
            if on_start is not None:
                on_start()
            stopping = asyncio.create_task(stop.wait())
            try:
                done, _ = await asyncio.wait(
                    {stopping, *running, *sensing, *carrying}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done - {stopping}:
                    task.result()  # none of them ends by itself: this is a bug, and is said as one
            finally:
                stopping.cancel()
                notify("STOPPING=1")
                await self._commander.close()
                self._desk.close()
                await _end(sensing)
                self._rulebook.save()
                self.log.append(EventType.AGENT_STOPPED, "agent", {"uptime": round(self._status.uptime, 3)})
                await self._say_farewell()
                await _end(carrying)  # before the broker, so that it hears that we stopped
                await _end(running)

    async def _say_farewell(self) -> None:
        """Let the couriers that are connected deliver what they can."""
        connected = [
            part.name for part in self._parts if part.kind == "forwarder" and part.health is Health.UP
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await asyncio.gather(*(self._couriers[name].drained() for name in connected))

    # --- building -------------------------------------------------------------------------------------------------

    def _part(self, kind: str, name: str) -> Part:
        part = Part(kind, name, self._clock, self._on_change)
        self._parts.append(part)
        return part

    async def _build_devices(self, stack: contextlib.AsyncExitStack) -> list[_Start]:
        sources: list[_Start] = []
        for device in self._config.devices.values():
            settings = device.settings
            if self.simulated and device.simulate is not None:
                settings = await self._simulated(device, stack)
            driver: Driver[Any] = registry.module("drivers", device.driver).Driver(settings)
            if isinstance(driver, Output):
                self._commander.add(device.name, driver, device.output)
                self._desk.add(
                    device.name, Settable(tuple(driver.safe()), driver.checked, device.output.allowed)
                )
            reporter = Reporter(device.report, polled=hasattr(settings, "every"))
            intake = Intake(
                device.name, driver, reporter, self._board, self._rulebook, self.log, self._clock, self._threads,
            )  # fmt: skip
            self._intakes[device.name] = intake
            units = driver.channels()
            if units is not None:
                self._describe(device, dict(units))
            else:
                intake.on_new_channels = partial(self._on_new_channels, device)
            part = self._part("device", device.name)
            sources.append(partial(keep_running, part, partial(intake.run, part), DEVICE_BACKOFF))
        return sources

    async def _simulated(self, device: Device, stack: contextlib.AsyncExitStack) -> Settings:
        """Bring up a simulated device and return the driver's settings with its address."""
        seed = zlib.crc32(f"{self._seed}:{device.name}".encode())
        try:
            module = registry.module("simulators", device.driver)
            simulator: Simulator[Any] = module.Simulator(device.settings, device.simulate, seed)
            stack.push_async_callback(simulator.close)
            settings: Settings = await simulator.open()
        except (ValueError, registry.UnknownKind) as error:
            what = f"{error}; `simulate: false` keeps the device real"
            path = f"devices.{device.name}.simulate"
            raise ConfigError([Fault(str(self._config.path), 0, 0, path, what)]) from error
        return settings

    def _build_rules(self) -> None:
        for entry in self._config.rules.values():
            rule = registry.module("rules", entry.kind).Rule(entry.settings)
            self._rulebook.add(entry.name, rule, entry.outcome)

    def _build_couriers(self, gateway: Gateway) -> list[_Start]:
        couriers: list[_Start] = []
        for entry in self._config.forward.values():
            forwarder = forwarder_of(entry, gateway)
            forwarder.on_request = partial(self._desk.take, f"{entry.kind} {entry.name}")
            forwarder.figures = self._status.figures
            courier = Courier(
                self.log.consumer(entry.name), forwarder, lambda: list(self._abouts.values()), entry.carried
            )
            self._couriers[entry.name] = courier
            part = self._part("forwarder", entry.name)
            couriers.append(partial(keep_running, part, partial(courier.run, part), entry.reconnect))
        return couriers

    async def _embedded_broker(self) -> None:
        settings = self._config.broker
        assert settings is not None  # noqa: S101 -- asked by the caller
        broker = EmbeddedBroker(settings.host, settings.port, settings.port_v5)
        part = self._part("broker", "embedded")
        await keep_running(part, partial(broker.run, part), DEVICE_BACKOFF)

    async def _after_broker(self, courier: _Start) -> None:
        """Start a courier when the embedded broker, where there is one, has been given its chance to listen."""
        await self._broker_tried.wait()
        await courier()

    # --- what devices are -----------------------------------------------------------------------------------------

    def _describe(self, device: Device, units: dict[str, str]) -> None:
        """Say once what a device's channels are: an event where that has changed since the last run."""
        self.log.describe(device.name, units)
        facts: dict[str, Value] = {"driver": device.driver}
        if device.description:
            facts["description"] = device.description
        facts |= {f"channel.{channel}": unit for channel, unit in units.items()}
        part = _ABOUT + device.name
        saved = dict(self.log.state(part) or {})
        identity = {key: saved.pop(key, 0) for key in ("run", "seq", "time")}
        if saved == facts:
            run, seq, time = (cast("int", identity[key]) for key in ("run", "seq", "time"))
            self._abouts[device.name] = Event(run, seq, EventType.DEVICE_ABOUT, device.name, time, facts)
            return
        event = self._abouts[device.name] = self.log.append(EventType.DEVICE_ABOUT, device.name, facts)
        self.log.put_state(part, {**facts, "run": event.run, "seq": event.seq, "time": event.time})

    def _on_new_channels(self, device: Device, channels: Sequence[str]) -> None:
        """Note channels that only the device itself could tell."""
        units = getattr(device.settings, "units", {})
        self._describe(device, {channel: units.get(channel, "") for channel in channels})

    def _on_change(self, part: Part, lasted: float) -> None:
        """Log that a device has gone or is back."""
        if part.kind == "broker":
            self._broker_tried.set()
        if part.kind != "device":
            return
        if part.health is Health.DOWN:
            self._board.on_down(part.name)
            self._rulebook.on_event(
                self.log.append(EventType.DEVICE_DOWN, part.name, {"reason": part.reason})
            )
        elif part.health is Health.UP:
            if part.was_down:
                back = self.log.append(EventType.DEVICE_UP, part.name, {"down_for": round(lasted, 3)})
                self._rulebook.on_event(back)
            self._board.on_up(part.name)


def forwarder_of(entry: ForwardEntry, gateway: Gateway) -> Forwarder[Any]:
    """Return the forwarder that an entry under `forward:` means, not connected yet."""
    encoding = _encoding(entry.encoding, entry.encoding_settings, gateway)
    forwarder: Forwarder[Any] = registry.module("forwarders", entry.kind).Forwarder(
        entry.settings, gateway, encoding
    )
    return forwarder


def _encoding(kind: str, settings: Any, gateway: Gateway) -> Any:
    module = registry.module("encodings", kind)
    return module.Encoding(module.Settings() if settings is None else settings, gateway)


def _settle_memory() -> None:
    """Spare the garbage collector what will stay, and most of its looks: events hold nothing in circles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have cleaned up; what they raise then is said, not passed on."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            logger.error("while stopping: %s: %s", type(result).__name__, result)
