"""What a device or a far side needs of the machine, in its own words, so that `gatepost doctor` can look whether it is there.

A class of settings may have a method `needs`, as it may have `claims`: a driver's or a forwarder's `Settings` then says what
must be there before `open` or `connect` can succeed. It only says; it looks at nothing, and is called at any time.

    def needs(self) -> Sequence[Need]:
        return [SerialPort(self.port)]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from agent.events import Event


class SerialPort(msgspec.Struct, frozen=True):
    """A serial port that we want for ourselves.

    Attributes:
        path: Its name under /dev.
    """

    path: str


class GpioLine(msgspec.Struct, frozen=True):
    """A line of a GPIO chip that we want for ourselves.

    Attributes:
        name: What people call it, such as GPIO17.
        offset: Its number on the chip.
        chip: The number of the chip, as in /dev/gpiochip0; None for that of the board's header.
    """

    name: str
    offset: int
    chip: int | None = None


class File(msgspec.Struct, frozen=True):
    """A file, of a device or of the kernel, that we share with others.

    Attributes:
        path: Where it is.
        group: The group that such files usually belong to, such as i2c.
        writable: Whether we write to it, too.
        missing: What to do where it is not there, as a sentence of its own.
    """

    path: str
    group: str = ""
    writable: bool = False
    missing: str = "is the device wired, and its driver loaded?"


class Library(msgspec.Struct, frozen=True):
    """A Python library that is not installed everywhere.

    Attributes:
        module: What is imported.
        install: What installs it.
    """

    module: str
    install: str


class Endpoint(msgspec.Struct, frozen=True):
    """A far side that listens on a TCP port.

    Attributes:
        host: Its name or address.
        port: Its port.
        where: What we call it in messages, such as `the broker site:8883`.
        tls: How we speak TLS with it; None where we do not.
    """

    host: str
    port: int
    where: str
    tls: TlsClient | None = None


class TlsClient(Protocol):
    """The settings of one who speaks TLS."""

    @property
    def certificate(self) -> str | None:
        """The file with our own certificate, PEM."""

    @property
    def key(self) -> str | None:
        """The file with its private key, PEM."""

    @property
    def verify(self) -> bool:
        """Whether the far side's certificate must be one that we trust."""

    def context(self) -> ssl.SSLContext:
        """Return what a client needs.

        Raises:
            Disconnected: A file cannot be read or used.
        """


Need = SerialPort | GpioLine | File | Library | Endpoint


@runtime_checkable
class CanTryOut(Protocol):
    """A forwarder that can be tried out while no agent runs."""

    async def try_out(self, event: Event) -> str:
        """Connect as `connect` does, have the far side take one event, and end the connection.

        The far side keeps nothing of it, and hears nothing that it could take for the agent's own presence.

        Returns:
            What was found, as the end of a sentence that begins with the far side's name.

        Raises:
            Disconnected: It is not there, or refuses us.
            Rejected: It does not take the event.
        """


def needs_of(settings: Any) -> Sequence[Need]:
    """Return what settings say that they need; nothing where they say nothing."""
    found: Sequence[Need] = settings.needs() if hasattr(settings, "needs") else ()
    return found
