"""What single words on the command line mean; a fault of them is wrong usage."""

from __future__ import annotations

import argparse
import contextlib

from agent import catalog, messages
from agent.clock import Clock, from_iso
from agent.events import EventType
from agent.quantities import Duration


def duration(text: str) -> Duration:
    """Read a length of time, such as `30s`."""
    try:
        return Duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, expected {Duration.expected}") from None


def log_level(text: str) -> messages.Level:
    """Read how much is to be said, such as `courier=debug`."""
    try:
        return messages.Level.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def event_type(text: str) -> str:
    """Read the type of an event."""
    known = sorted(value for name, value in vars(EventType).items() if name.isupper())
    if text not in known:
        raise argparse.ArgumentTypeError(f"there is no type {text!r}, expected one of {', '.join(known)}")
    return text


def example(text: str) -> str:
    """Read the name of a set-up that comes with gatepost."""
    known = catalog.examples()
    if text not in known:
        raise argparse.ArgumentTypeError(f"there is no example {text!r}, expected one of {', '.join(known)}")
    return text


def moment(text: str) -> int:
    """Read `1h` as an hour ago, or a time in RFC 3339, as microseconds since 1970-01-01 UTC."""
    with contextlib.suppress(ValueError):
        return Clock().wall() - round(Duration.parse(text) * 1e6)
    try:
        return from_iso(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time, expected how long ago, such as 1h, or a time such as 2026-11-23T10:15:00Z"
        ) from None
