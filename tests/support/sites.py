"""A site: an agent, its instruments and its brokers, all taken down when the test is over."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Self

import pytest
from support import brokers
from support.agents import Agent
from support.certificates import Authority
from support.disks import Folder, SmallDisk
from support.gates import Gate
from support.instruments import CountingScale, SerialInstrument
from support.listeners import Listener
from support.proxies import Proxy
from support.subscribers import Subscriber

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from support.brokers import Broker


class Site:
    """Makes what a test asks for.

    Attributes:
        folder: Where all its files are; a short path, for those of Unix sockets must be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._agents: list[Agent] = []

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down, the last made first."""
        self._stack.close()
        for agent in self._agents:  # pytest shows it where the test has failed
            with contextlib.suppress(FileNotFoundError):
                sys.stderr.write(f"--- {agent.path}\n{agent.said()}")

    def broker(self) -> Broker:
        """Start a broker: Mosquitto where it is installed, else the embedded one."""
        made = (
            brokers.mosquitto(self.folder) if brokers.MOSQUITTO is not None else brokers.embedded(self.folder)
        )
        return self._started(made)

    def embedded(self) -> Broker:
        """Start an embedded broker."""
        return self._started(brokers.embedded(self.folder))

    def mosquitto(self, **options: Any) -> Broker:
        """Start a Mosquitto with options, or skip the test where it is not installed."""
        if brokers.MOSQUITTO is None:
            pytest.skip("Mosquitto is not installed")
        return self._started(brokers.mosquitto(self.folder, **options))

    def authority(self, name: str = "authority") -> Authority:
        """Make a certificate authority."""
        return Authority(self.folder, name)

    def _started(self, broker: Broker) -> Broker:
        self._stack.callback(broker.stop)
        broker.start()
        return broker

    def gate(self, to: int) -> Gate:
        """Put an open gate before a port."""
        gate = Gate(to)
        self._stack.callback(gate.end)
        gate.open()
        return gate

    def proxy(self, to: int) -> Proxy:
        """Put a network between us and a port that can become bad."""
        proxy = Proxy(to)
        self._stack.callback(proxy.end)
        return proxy

    def subscriber(self, port: int, **options: Any) -> Subscriber:
        """Subscribe to everything."""
        subscriber = Subscriber(port, **options)
        self._stack.callback(subscriber.close)
        return subscriber

    def instrument(self, name: str = "ttyUSB0") -> SerialInstrument:
        """Plug in a serial instrument."""
        instrument = SerialInstrument(self.folder / name)
        self._stack.callback(instrument.unplug)
        return instrument

    def counting_scale(self) -> CountingScale:
        """Plug in a scale that numbers its lines."""
        return CountingScale(self.instrument())

    def listener(self, treat: Callable[[socket.socket], None]) -> Listener:
        """Listen, and treat each connection with a function."""
        listener = Listener(treat)
        self._stack.callback(listener.close)
        return listener

    def small_disk(self, kind: str) -> SmallDisk:
        """Let the state of the agent `a` be on a small disk: call it before the agent is made."""
        disk = SmallDisk(self.folder / "a" / "state", kind)
        self._stack.callback(disk.end)
        return disk

    def state_folder(self) -> SmallDisk | Folder:
        """Let the state of the agent `a` be where it can be made read-only: call it before the agent is made."""
        if os.geteuid() == 0:
            return self.small_disk("ext4")
        folder = Folder(self.folder / "a" / "state")
        self._stack.callback(folder.end)
        return folder

    def agent(
        self, configuration: Mapping[str, Any] | str, *arguments: str, name: str = "a", **environment: str
    ) -> Agent:
        """Make an agent, not started yet."""
        agent = Agent(self.folder / name, configuration, *arguments, **environment)
        self._agents.append(agent)
        self._stack.callback(agent.kill)
        return agent
