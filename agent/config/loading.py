"""YAML to typed, frozen settings, or one error that lists every fault with file, line and column.

`load` reads the main file and `conf.d/*.yaml` beside it, decodes each entry with the settings of its own kind, and
then holds the entries against each other: what rules watch and set, and what two devices would both take.
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml
from msgspec import structs

from agent import contracts, courier, eventlog, registry, reporter, supervisor
from agent.config import documents, wording, zones
from agent.config.decoding import Decoder, Entry, join
from agent.config.model import (
    CARRIED_KEYS,
    DEVICE_KEYS,
    FORWARD_KEYS,
    NAME,
    RESERVED,
    SECTIONS,
    TOP_KEYS,
    BrokerSettings,
    Config,
    Device,
    ForwardEntry,
    RuleEntry,
)
from agent.config.outputs import OutputWiring
from agent.config.variables import Variables
from agent.config.wiring import Wiring
from agent.errors import ConfigError, Fault
from agent.outcome import RuleOutcome
from agent.outputs.settings import Settings as OutputSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType
    from zoneinfo import ZoneInfo

    from yaml.error import Mark

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


def load(path: Path, environment: Mapping[str, str] | None = None, *, with_secrets: bool = True) -> Config:
    """Read a configuration and everything that it refers to.

    Args:
        path: The main file; `conf.d/*.yaml` and `secrets.yaml` are looked for beside it.
        environment: What `${VARIABLE}` and secrets are looked up in, the process's own by default.
        with_secrets: False looks no secrets up, for who only looks at what runs.

    Raises:
        ConfigError: It has faults; all of them, by file, line and column.
    """
    variables = Variables(
        path.parent, os.environ if environment is None else environment, with_secrets=with_secrets
    )
    return _Loading(path, variables).config()


def host_name() -> str:
    """Return the name of this machine, as a gateway may be called."""
    short = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0]).lstrip("-_")
    return short or "gateway"


class _Loading:
    """One run of the loader."""

    def __init__(self, path: Path, variables: Variables) -> None:
        self._path = path
        self._variables = variables
        self._decoder = Decoder(self._variables)
        self._top: dict[str, Entry] = {}
        self._named: dict[str, dict[str, Entry]] = {section: {} for section in SECTIONS}

    def config(self) -> Config:
        for path in [self._path, *self._drop_ins()]:
            self._read(path)
        gateway = self._gateway()
        devices = self._section("devices", self._device)
        rules = self._section("rules", self._rule)
        forward = self._section("forward", self._forwarder)
        log = self._settings("log", eventlog.Settings)
        broker = self._settings("broker", BrokerSettings) if "broker" in self._top else None
        zone = self._time_zone()
        devices, rules = self._wire(devices, rules, forward)
        if faults := {*self._decoder.faults, *self._variables.faults}:
            raise ConfigError(sorted(faults))
        return Config(self._path, gateway, devices, rules, forward, log or eventlog.Settings(), broker, zone)

    # --- files ------------------------------------------------------------------------------------------------------

    def _drop_ins(self) -> list[Path]:
        """Return the files in conf.d, in the order of their names."""
        folder = self._path.parent / "conf.d"
        try:
            paths = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            what = f"this folder cannot be read: {error.strerror}"
            self._decoder.faults.append(Fault(str(folder), 0, 0, "", what))
            return []
        return [path for path in paths if path.suffix == ".yaml" and not path.name.startswith(".")]

    def _read(self, path: Path) -> None:
        """Take in the entries of one file, and refuse those that an earlier file has."""
        root = documents.read(path, str(path), self._decoder.faults)
        for entry in self._decoder.entries(root, "") or []:
            if entry.key in SECTIONS:
                for named in self._decoder.entries(entry.value, entry.key) or []:
                    if ":" in named.key:
                        self._decoder.fault(named.mark, entry.key, wording.unknown("key", named.key, []))
                    else:
                        self._add(self._named[entry.key], named, join(entry.key, named.key))
            elif entry.key in TOP_KEYS:
                self._add(self._top, entry, entry.key)
            else:
                self._decoder.fault(entry.mark, "", wording.unknown("key", entry.key, TOP_KEYS))

    def _add(self, entries: dict[str, Entry], entry: Entry, path: str) -> None:
        first = entries.setdefault(entry.key, entry)
        if first is not entry:
            place = f"{first.mark.name}:{first.mark.line + 1}"
            self._decoder.fault(entry.mark, path, f"{entry.key!r} is also in {place}, expected it once")

    # --- sections ---------------------------------------------------------------------------------------------------

    def _section(self, section: str, read: Callable[[str, Entry, str], T | None]) -> dict[str, T]:
        """Read all entries of one section; those with faults are left out."""
        made: dict[str, T] = {}
        for name, entry in self._named[section].items():
            path = join(section, name)
            if not re.fullmatch(NAME, name):
                what = f"{name!r} is no name, expected letters, digits, '_' and '-'"
                self._decoder.fault(entry.mark, section, what)
            elif section == "devices" and name in RESERVED:
                self._decoder.fault(entry.mark, path, f"{name!r} is gatepost's own, expected another name")
            if (value := read(name, entry, path)) is not None:
                made[name] = value
        return made

    def _gateway(self) -> str:
        entry = self._top.get("gateway")
        if entry is None:
            return host_name()
        text = self._decoder.text(entry.value, "gateway", "a name")
        if text is None:
            return ""
        if not re.fullmatch(NAME, text.text):
            found = "nothing" if text.nothing else text.shown
            what = f"found {found}, expected a name of letters, digits, '_' and '-'"
            self._decoder.fault(entry.value.start_mark, "gateway", what)
        return text.text

    def _time_zone(self) -> ZoneInfo | None:
        """Return the time zone that is named, None for the machine's own."""
        entry = self._top.get("time_zone")
        if entry is None:
            return None
        name = self._decoder.decode(entry.value, str, "time_zone", entry.mark)
        if not isinstance(name, str):
            return None  # said already
        try:
            return zones.zone(name)
        except ValueError as error:
            self._decoder.fault_of_values(entry.value.start_mark, "time_zone", str(error))
            return None

    def _settings(self, key: str, cls: type[S]) -> S | None:
        entry = self._top.get(key)
        return self._decoder.settings(cls, entry.value, key, entry.mark) if entry else None

    def _module(self, role: str, kind: str, path: str, mark: Mark, shown: str = "") -> ModuleType | None:
        """Return the module of a kind, None where it cannot be had."""
        try:
            return registry.module(role, kind)
        except registry.UnknownKind as error:
            what = role.removesuffix("s")
            unknown = wording.unknown(what, kind, error.known)
            if shown:
                unknown = f"found {shown}, expected {wording.one_of(error.known)}"
            self._decoder.fault(mark, path, unknown)
        except registry.MissingLibrary as error:
            self._decoder.fault(mark, path, str(error))
        return None

    def _chosen(self, role: str, node: yaml.Node, path: str) -> tuple[str, ModuleType | None]:
        """Return the kind that a scalar names and its module, None where it cannot be had."""
        text = self._decoder.text(node, path, f"the kind of {role.removesuffix('s')}")
        if text is None:
            return "", None
        shown = "nothing" if text.nothing else text.shown if text.filled else ""
        return text.text, self._module(role, text.text, path, node.start_mark, shown)

    def _device(self, name: str, entry: Entry, path: str) -> Device | None:
        decoder = self._decoder
        entries = decoder.entries(entry.value, path)
        if entries is None:
            return None
        common = {each.key: each for each in entries if each.key in DEVICE_KEYS}
        own = [each for each in entries if each.key not in DEVICE_KEYS]
        report: reporter.Settings | None = reporter.Settings()
        if at := common.get("report"):
            report = decoder.settings(reporter.Settings, at.value, join(path, "report"), at.mark)
        at = common.get("description")
        description = decoder.decode(at.value, str, join(path, "description")) if at else ""
        at = common.get("driver")
        if at is None:
            known = wording.one_of(registry.kinds("drivers"))
            decoder.fault(entry.mark, path, f"missing key 'driver', expected {known}")
            return None
        kind, driver = self._chosen("drivers", at.value, join(path, "driver"))
        if driver is None:
            return None
        output: OutputSettings | None = None
        is_output = issubclass(driver.Driver, contracts.Output)
        if at := common.get("output"):
            output = decoder.settings(OutputSettings, at.value, join(path, "output"), at.mark)
            if not is_output:
                decoder.fault(at.mark, join(path, "output"), f"{kind} is no output, expected this left out")
        beside = [key for key in DEVICE_KEYS if is_output or key != "output"]
        settings = decoder.struct(settings_of(driver), own, path, entry.mark, beside)
        simulate = self._simulate(kind, common.get("simulate"), join(path, "simulate"), entry.mark)
        if settings is None:
            return None
        # Faults beside the settings end the run all the same, but do not keep rules from being checked.
        report, output = report or reporter.Settings(), output or OutputSettings()
        return Device(name, kind, settings, report, output, simulate, str(description))

    def _simulate(self, kind: str, at: Entry | None, path: str, mark: Mark) -> contracts.Settings | None:
        """Return what shapes a device's simulation, None where it stays real.

        Without a simulator the plain `Settings` are returned, so that only a simulated run has to refuse it.
        """
        if at is None:
            try:
                simulator = registry.module("simulators", kind)
            except (registry.UnknownKind, registry.MissingLibrary):
                return contracts.Settings()
            return self._decoder.settings(settings_of(simulator), None, path, mark)
        node: yaml.Node | None = at.value
        if isinstance(node, yaml.ScalarNode):
            text = self._decoder.text(node, path, "a map or false")
            if text is None or text.value() is False:
                return None
            if not text.nothing and text.value() is not True:
                self._decoder.fault(node.start_mark, path, f"found {text.shown}, expected a map or false")
                return None
            node = None
        module = self._module("simulators", kind, path, at.mark)
        return self._decoder.settings(settings_of(module), node, path, at.mark) if module else None

    def _rule(self, name: str, entry: Entry, path: str) -> RuleEntry | None:
        entries = self._decoder.entries(entry.value, path)
        if entries is None:
            return None
        fields = [field.encode_name for field in structs.fields(RuleOutcome)]
        common = [each for each in entries if each.key in fields]
        outcome = self._decoder.struct(RuleOutcome, common, path, entry.mark)
        made = self._of_kind("rules", entries, fields, path, entry.mark)
        limits = [getattr(made[1], each, None) for each in ("above", "below")] if made else []
        if any(isinstance(each, dict) for each in limits):
            for each in common:
                if each.key == "severity":
                    self._decoder.fault(each.mark, path, "severity is said with the limits already")
        return RuleEntry(name, *made, outcome or RuleOutcome()) if made else None

    def _forwarder(self, name: str, entry: Entry, path: str) -> ForwardEntry | None:
        decoder = self._decoder
        entries = decoder.entries(entry.value, path)
        if entries is None:
            return None
        common = {each.key: each for each in entries if each.key in FORWARD_KEYS}
        reconnect: supervisor.Backoff | None = supervisor.Backoff()
        if at := common.get("reconnect"):
            reconnect = decoder.settings(supervisor.Backoff, at.value, join(path, "reconnect"), at.mark)
        encoding = self._encoding(common.get("encoding"), path, entry.mark)
        carried = decoder.struct(
            courier.Settings, [each for each in entries if each.key in CARRIED_KEYS], path, entry.mark
        )
        made = self._of_kind("forwarders", entries, FORWARD_KEYS, path, entry.mark)
        if made is None or encoding is None or reconnect is None or carried is None:
            return None
        if carried.batch is not None and not self._can_join(*encoding):
            decoder.fault(
                common["batch"].mark,
                join(path, "batch"),
                f"{encoding[0]} in this mode has no batches; leave it out",
            )
        return ForwardEntry(name, *made, *encoding, reconnect, carried)

    @staticmethod
    def _can_join(kind: str, settings: contracts.Settings) -> bool:
        encoding: contracts.Encoding[Any] = registry.module("encodings", kind).Encoding(
            settings, contracts.Gateway("", "", 0)
        )
        return encoding.joined_type is not None

    def _of_kind(
        self, role: str, entries: Sequence[Entry], others: Sequence[str], path: str, mark: Mark
    ) -> tuple[str, contracts.Settings] | None:
        """Return the kind of a rule or a forwarder, which is one of its keys, and its settings."""
        kinds, what = registry.kinds(role), role.removesuffix("s")
        found = [each for each in entries if each.key in kinds]
        strange = [each for each in entries if each.key not in kinds and each.key not in others]
        module = self._module(role, found[0].key, path, found[0].mark) if found else None
        inside = {field.encode_name for field in structs.fields(settings_of(module))} if module else set()
        for each in strange:
            where = f"in {found[0].key!r}, not beside it" if each.key in inside else ""
            known = [*kinds, *others]
            self._decoder.fault(each.mark, path, wording.unknown("key", each.key, known, elsewhere=where))
        for each in found[1:]:
            self._decoder.fault(each.mark, path, f"a second kind of {what}, expected {found[0].key!r} alone")
        if not found and not strange:
            self._decoder.fault(mark, path, f"missing the kind of {what}, expected {wording.one_of(kinds)}")
        if module is None:
            return None
        kind, mark, node = found[0]
        settings = self._decoder.settings(settings_of(module), node, join(path, kind), mark, others)
        return None if settings is None else (kind, settings)

    def _encoding(self, at: Entry | None, path: str, mark: Mark) -> tuple[str, contracts.Settings] | None:
        """Return the kind of encoding and its settings: `encoding: json` or `encoding: {json: {}}`."""
        path = join(path, "encoding")
        node: yaml.Node | None = None
        if at is None:
            kind, module = "json", self._module("encodings", "json", path, mark)
        elif isinstance(at.value, yaml.MappingNode):
            entries = self._decoder.entries(at.value, path) or []
            if len(entries) != 1:
                what = f"found {len(entries)} keys, expected one: the kind of encoding"
                self._decoder.fault(at.mark, path, what)
                return None
            kind, mark, node = entries[0]
            module = self._module("encodings", kind, path, mark)
        else:
            kind, module = self._chosen("encodings", at.value, path)
        if module is None:
            return None
        settings = self._decoder.settings(settings_of(module), node, join(path, kind), mark)
        return None if settings is None else (kind, settings)

    def _wire(
        self,
        devices: Mapping[str, Device],
        rules: Mapping[str, RuleEntry],
        forward: Mapping[str, ForwardEntry],
    ) -> tuple[dict[str, Device], dict[str, RuleEntry]]:
        """Hold the entries against each other, and return devices and rules with their channels named in full."""
        wiring = Wiring(self._decoder, {name: entry.mark for name, entry in self._named["devices"].items()})
        for name, device in devices.items():
            wiring.add(name, registry.module("drivers", device.driver).Driver(device.settings), device.report)
        for name, forwarder in forward.items():
            wiring.claim(forwarder.settings, f"forward.{name}", self._named["forward"][name].mark)
        outputs = OutputWiring(self._decoder, wiring)
        set_up: dict[str, Device] = {}
        for name, device in devices.items():
            mark = self._named["devices"][name].mark
            set_up[name] = structs.replace(device, output=outputs.device(name, device.output, mark))
        wired: dict[str, RuleEntry] = {}
        feeding: dict[str, tuple[Sequence[str], Sequence[str], RuleOutcome]] = {}
        marks = {name: entry.mark for name, entry in self._named["rules"].items()}
        machines: dict[str, tuple[str, contracts.Rule[Any]]] = {}
        for name, rule in rules.items():
            path = f"rules.{name}.{rule.kind}"
            machine = registry.module("rules", rule.kind).Rule(rule.settings)
            machines[name] = path, machine
            settings = wiring.watched(machine, path, marks[name])
            outcome = wiring.gate(rule.outcome, f"rules.{name}", marks[name])
            outcome = outputs.rule(name, outcome, marks[name])
            wired[name] = structs.replace(rule, settings=settings, outcome=outcome)
            where = () if outcome.where is None else outcome.where.names
            watches = [*registry.module("rules", rule.kind).Rule(settings).watches(), *where]
            feeding[name] = machine.follows(), watches, outcome
        followed = {name: (path, machine.follows()) for name, (path, machine) in machines.items()}
        wiring.follow(followed, marks, "follow")
        suppressed = {
            name: (f"rules.{name}.suppressed_by", rule.outcome.suppressed_by) for name, rule in rules.items()
        }
        wiring.follow(suppressed, marks, "suppress")
        outputs.follow(feeding, marks)
        return set_up, wired


def settings_of(module: ModuleType) -> type[contracts.Settings]:
    """Return a module's `Settings`; one that has none takes none."""
    settings: type[contracts.Settings] = getattr(module, "Settings", contracts.Settings)
    return settings
