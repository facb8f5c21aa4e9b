"""One thing that was found, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from agent.secrecy import without_secrets


class Level(StrEnum):
    """How bad it is, mildest first."""

    OK = "ok"
    NOTE = "note"
    """It works, but may not for long, or not as meant."""
    FAULT = "fault"
    """It stops the agent, or a part of it."""


class Finding(msgspec.Struct, frozen=True):
    """One line of the report.

    Attributes:
        level: How bad it is.
        what: What was found.
        do: What to do about it; "" where nothing is to be done.
    """

    level: Level
    what: str
    do: str = ""


def _plain(level: Level, what: str, do: str = "") -> Finding:
    """Return a finding without secrets: a host or a port may be one."""
    return Finding(level, without_secrets(what), without_secrets(do))


def ok(what: str) -> Finding:
    """Return that something is as it should be."""
    return _plain(Level.OK, what)


def note(what: str, do: str) -> Finding:
    """Return that something should be looked at."""
    return _plain(Level.NOTE, what, do)


def fault(what: str, do: str) -> Finding:
    """Return that something stops the agent, or a part of it."""
    return _plain(Level.FAULT, what, do)


def counted(count: int, word: str) -> str:
    """Return a number and what it counts: `1 event`, `2 events`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def said(error: Exception | str, do: str = "") -> Finding:
    """Return a fault in the words of a part: what is wrong, `; `, and what to do about it."""
    what, _, todo = str(error).partition("; ")
    return fault(what, todo or do or "see what it says")
