"""What a test may name: the rules, outputs, devices and channels of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent import contracts, registry
from agent.config import expressions, wording
from agent.console import SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Config
    from agent.events import Value


class Names:
    """All names of one configuration.

    Attributes:
        rules: The names of the rules, those out of service too.
        in_service: Those that work.
        quiet: Those that raise no alarm.
        devices: The names of the devices.
        outputs: The safe value by channel of all that can be set.
        units: The unit by channel, as far as it is known.
        every: How often a polled device is read, in seconds.
        stateful: The devices whose present state is their first reading.
        switches: The channels that are on or off.
        watched: The channels that rules look at.
        zone: Where local time is told; None for the machine's own time zone.
    """

    def __init__(self, config: Config) -> None:
        self.rules = list(config.rules)
        self.in_service = [name for name, rule in config.rules.items() if rule.outcome.in_service]
        self.quiet = [name for name, rule in config.rules.items() if not rule.outcome.alarm]
        self.devices = list(config.devices)
        self.outputs: dict[str, Value] = {}
        self.units: dict[str, str] = {}
        self.every: dict[str, float] = {}
        self.stateful: set[str] = set()
        self.switches: set[str] = set()
        self._channels: dict[str, Mapping[str, str] | None] = {}
        self._drivers: dict[str, contracts.Output[Any]] = {}
        for name, device in config.devices.items():
            self._add(name, registry.module("drivers", device.driver).Driver(device.settings))
        self.watched = _watched(config)
        self.zone = config.zone

    def _add(self, name: str, driver: contracts.Driver[Any] | contracts.BlockingDriver[Any]) -> None:
        channels = self._channels[name] = driver.channels()
        known = channels if channels is not None else getattr(driver.settings, "units", {})
        self.units |= {f"{name}.{channel}": unit for channel, unit in known.items()}
        if isinstance(driver, contracts.Output):
            self.outputs |= {f"{name}.{channel}": value for channel, value in driver.safe().items()}
            self._drivers[name] = driver
        tells_state = isinstance(driver, contracts.Driver) and driver.tells_state
        if tells_state or isinstance(getattr(driver.settings, "safe", None), bool):
            self.switches |= {f"{name}.{channel}" for channel in channels or ()}
        if (every := getattr(driver.settings, "every", None)) is not None:
            self.every[name] = float(every)
        if tells_state:
            self.stateful.add(name)

    def channel(self, name: str) -> str:
        """Return a channel's full name: `door` may stand for `door.state`.

        Raises:
            ValueError: There is no such channel, or the name could be one of several.
        """
        device, dot, channel = name.partition(".")
        if device not in self._channels:
            raise ValueError(wording.unknown("device", device, self.devices))
        channels = self._channels[device]
        if channels is None:
            known = [each for each in self.watched if each.partition(".")[0] == device]
            if dot and name in known:
                return name
            if dot:
                raise ValueError(f"no rule looks at {name!r}, expected {wording.one_of(known)}")
        else:
            known = [f"{device}.{each}" for each in channels]
            if dot and channel not in channels:
                raise ValueError(wording.unknown("channel", name, known))
        if not dot and len(known) != 1:
            raise ValueError(f"{device!r} has {len(known)} channels, expected {wording.one_of(known)}")
        return name if dot else known[0]

    def output(self, name: str) -> str:
        """Return the full name of a channel that can be set.

        Raises:
            ValueError: There is no such channel, or it cannot be set.
        """
        full = self.channel(name)
        if full not in self.outputs:
            raise ValueError(
                f"{name!r} is no output, expected {wording.one_of(map(self.short, self.outputs))}"
            )
        return full

    def checked(self, channel: str, value: Value) -> Value:
        """Return a value as an output's readings have it, such as 1 for `on`.

        Raises:
            ValueError: It cannot have that value.
        """
        device, _, name = channel.partition(".")
        return self._drivers[device].checked(name, value)

    def short(self, channel: str) -> str:
        """Return the name by which a person calls a channel: that of its device where it is the only one."""
        device = channel.partition(".")[0]
        channels = self._channels.get(device)
        return device if channels is not None and len(channels) == 1 else channel

    def value(self, channel: str, value: Value) -> str:
        """Return a value of a channel as a person reads it."""
        if value is None:
            return "nothing"
        if channel in self.switches and value in {0, 1}:
            return "on" if value else "off"
        unit = self.units.get(channel, "")
        return f"{number(value)} {SYMBOLS.get(unit, unit)}".rstrip()


def number(value: Value) -> str:
    """Return a value as a person reads it, without a unit."""
    if value is None:
        return "nothing"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _watched(config: Config) -> list[str]:
    """Return the channels that rules look at."""
    found: dict[str, None] = {}
    for entry in config.rules.values():
        rule: contracts.Rule[Any] = registry.module("rules", entry.kind).Rule(entry.settings)
        found |= dict.fromkeys(rule.watches())
    for path in ("devices", "rules"):
        for _, expression in expressions.found(getattr(config, path), path):
            found |= {name: None for name in expression.names if "." in name}
    return list(found)
