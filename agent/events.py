"""Reading, Event and Request: the only values that travel."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Final, Literal

import msgspec

Value = float | int | str | None
"""What a channel can hold. Switches are 0 and 1. None means that there is no usable value: see the quality."""

INT64_MAX: Final = 2**63 - 1


class Quality(StrEnum):
    """How far a value can be trusted, in the words of OPC UA (Part 8, status codes)."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Severity(StrEnum):
    """How bad an alarm is, in the words of ITU-T X.733 (perceived severity), mildest first."""

    WARNING = "warning"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class Lane(IntEnum):
    """Urgent events overtake a backlog of readings; order within a lane is kept."""

    URGENT = 0
    READINGS = 1


class Delivery(StrEnum):
    """How an event comes to a far side."""

    LIVE = "live"
    HISTORICAL = "historical"
    """It waited while there was no connection, or too long."""
    REPLAYED = "replayed"
    """It is sent once more because somebody asked for it."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a driver saw in one look at a device. Many, cheap, in memory only.

    Attributes:
        values: Value by channel.
        at: When it was seen, in seconds of the monotonic clock; None for now.
        quality: Only the channels whose quality is not good; None where all are.
    """

    values: dict[str, Value]
    at: float | None = None
    quality: dict[str, Quality] | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """A significant occurrence or change of state: immutable, logged, forwarded.

    Attributes:
        run: Which start of the agent it belongs to: a number that grows with each, and does not repeat.
        seq: Its place in the log. `run` and `seq` together never repeat.
        type: What happened: one of the names in `EventType`.
        source: The device, the rule or the part that it is about.
        time: When it happened, in microseconds since 1970-01-01 UTC.
        values: A reading's values by channel; for other types the facts of the event by name.
        quality: Only the channels whose quality is not good; None where all are.
        recorded: When it was logged, in microseconds since 1970-01-01 UTC, where that is over a second after `time`.
        clock_unset: Whether the clock was not set when it happened, so that `time` is not to be trusted.
    """

    run: int
    seq: int
    type: str
    source: str
    time: int
    values: dict[str, Value]
    quality: dict[str, Quality] | None = None
    recorded: int | None = None
    clock_unset: bool = False

    @property
    def id(self) -> str:
        """The identity by which a receiver drops repeats, such as `3-1041`."""
        return f"{self.run}-{self.seq}"

    @property
    def lane(self) -> Lane:
        """The lane that it travels in."""
        return lane_of(self.type)


class Ask(StrEnum):
    """What a far side may be let to ask for."""

    OUTPUTS = "outputs"
    ALARMS = "alarms"
    READINGS = "readings"


LARGEST_REQUEST: Final = 4096
"""Bytes of the payload of a request at most; a longer one is refused, of which it is enough to see that it is."""


class Request(msgspec.Struct, frozen=True):
    """What a far side asks for, as it came; nobody has judged it yet.

    Attributes:
        of: Whether it is for a device or an alarm.
        target: The device, or the device and a channel; for an alarm its rule.
        payload: What is asked for, in JSON or as a plain word: see `agent.requests`.
        allowed: What this far side may ask for.
        is_retained: Whether the far side had kept it, so that nobody can say from when it is.
        good_for: For how many seconds more it is good; None where the far side does not say.
        answer: Called once at most, at any time, with what became of it in JSON; None where nobody waits for it.
    """

    of: Literal["device", "alarm"]
    target: tuple[str, ...]
    payload: bytes
    allowed: frozenset[Ask] = frozenset()
    is_retained: bool = False
    good_for: float | None = None
    answer: Callable[[bytes], None] | None = None


class EventType:
    """The types of event, and what their `values` hold."""

    READING: Final = "reading"  # value by channel
    # Of all alarms: severity, of, value, limit, message, state; shelved and suppressed (1) where it is
    ALARM_RAISED: Final = "alarm.raised"
    ALARM_CHANGED: Final = "alarm.changed"  # before (the severity it had)
    ALARM_CLEARED: Final = "alarm.cleared"  # duration (s), or reason
    ALARM_REPEATED: Final = "alarm.repeated"  # it is still active, and not acknowledged
    ALARM_ACKNOWLEDGED: Final = "alarm.acknowledged"  # by, comment
    ALARM_SHELVED: Final = "alarm.shelved"  # by, comment, for (s)
    ALARM_UNSHELVED: Final = "alarm.unshelved"  # by
    ALARM_SUPPRESSED: Final = "alarm.suppressed"
    ALARM_UNSUPPRESSED: Final = "alarm.unsuppressed"
    ALARM_FLOODED: Final = "alarm.flooded"  # count (of changes that are not told one by one), within (s)
    # Of all commands: channel, value, cause (a rule, who asked, interlock, dead_man); command_id where it has one
    COMMAND: Final = "command"  # reason, where the cause does not say it all
    COMMAND_DONE: Final = "command.done"  # of readings and alarms that were asked for: do, cause, command_id
    # Of what failed, and of what was refused: reason; target, where that is unknown; count, where it is told in sum.
    COMMAND_FAILED: Final = "command.failed"
    RULE_THROTTLED: Final = "rule.throttled"  # reason: it has set outputs too often, and must wait
    DEVICE_UP: Final = "device.up"  # down_for (s)
    DEVICE_DOWN: Final = "device.down"  # reason
    DEVICE_ABOUT: Final = "device.about"  # driver, and for each channel `channel.<name>`: its unit or ""
    BAD_READING: Final = "reading.bad"  # reason, evidence, count (since the last such event)
    AGENT_STARTED: Final = "agent.started"  # version, gateway, clean (1 if the last run ended by itself)
    AGENT_STOPPED: Final = "agent.stopped"  # uptime (s)
    LOG_RECOVERED: Final = (
        "log.recovered"  # reason, set_aside (the damaged file), salvaged, unreadable (pages)
    )
    LOG_DROPPED: Final = "log.dropped"  # from, to, count, reason
    CLOCK_SET: Final = "clock.set"  # by (s): how far off the times of this boot were
    CLOCK_JUMPED: Final = "clock.jumped"  # by (s)


ALARMS: Final = frozenset(value for name, value in vars(EventType).items() if name.startswith("ALARM_"))
"""The types of event that say what state an alarm is in."""

_READING_LANE = frozenset({EventType.READING, EventType.BAD_READING})


def lane_of(event_type: str) -> Lane:
    """Return the lane that events of a type travel in."""
    return Lane.READINGS if event_type in _READING_LANE else Lane.URGENT


def number(value: float | bool) -> float | int:
    """Return a number as a channel can hold it: a switch as 0 or 1, a huge integer as a float.

    Raises:
        ValueError: It is not finite, so neither JSON nor SQLite could keep it.
    """
    if isinstance(value, int):
        if -INT64_MAX <= value <= INT64_MAX:
            return int(value)
        try:
            value = float(value)
        except OverflowError:
            raise ValueError("an integer of that size is no number that can be kept") from None
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value
