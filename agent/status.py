"""What a running agent says of itself: what runs, what is down and why, what waits, which alarms are active."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from agent import meter
from agent.clock import iso
from agent.events import Lane
from agent.supervisor import Health

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.clock import Clock
    from agent.courier import Courier
    from agent.eventlog import EventLog
    from agent.events import Value
    from agent.intake import Intake
    from agent.outputs.board import Board
    from agent.requests import Desk
    from agent.rulebook import Rulebook
    from agent.supervisor import Part
    from agent.watchdog import Watchdog

SAMPLE_EVERY: Final = 10.0
"""Seconds between looks at what rises."""

RATES_OVER: Final = 60.0
"""Seconds over which readings and events a second are told."""

WEAR_OVER: Final = meter.DAY

UNANSWERED: Final = 10.0
"""Seconds after which a polled device that has not answered is told of."""

SETTLED: Final = 600.0
"""Seconds after which what is written a day is told: a start writes more than what follows."""

PATIENCE: Final = 2.0
"""Seconds that the log's file may take to tell what waits: the status must come also while a disk stands still."""


class Status:
    """Tells of one agent's parts. All that it is given is looked at anew each time, so parts may come and go."""

    def __init__(
        self,
        about: Mapping[str, Any],
        clock: Clock,
        log: EventLog,
        parts: Sequence[Part],
        intakes: Mapping[str, Intake],
        couriers: Mapping[str, Courier],
        rulebook: Rulebook,
        board: Board,
        desk: Desk,
        watchdog: Watchdog,
    ) -> None:
        """Take what is to be told of.

        Args:
            about: What does not change: gateway, version, simulated.
            clock: The agent's; it counts as started now.
            log: Its event log.
            parts: All that is kept running.
            intakes: By device.
            couriers: By forwarder.
            rulebook: Its rules.
            board: Its outputs.
            desk: Where requests are judged.
            watchdog: What looks whether anything is stuck.
        """
        self._about = about
        self._clock = clock
        self._log = log
        self._parts = parts
        self._intakes = intakes
        self._couriers = couriers
        self._rulebook = rulebook
        self._board = board
        self._desk = desk
        self._watchdog = watchdog
        self._started = clock.monotonic()
        self._readings = meter.Trend(RATES_OVER, 6)
        self._events = meter.Trend(RATES_OVER, 6)
        self._written = meter.Trend(WEAR_OVER, 96)

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self._started

    async def keep(self) -> None:
        """Keep count of what rises, until cancelled."""
        while True:
            now = self._clock.monotonic()
            self._readings.note(now, self._count_readings())
            self._events.note(now, self._log.reader.last)
            self._written.note(now, meter.bytes_written() or 0)
            await asyncio.sleep(SAMPLE_EVERY)

    def _count_readings(self) -> int:
        return sum(intake.readings for intake in self._intakes.values())

    def figures(self) -> dict[str, Value]:
        """Return a few figures for a far side, which come without waiting for anything."""
        now = self._clock.monotonic()
        rates, disk = self._tell_rates(now), self._tell_disk(now)
        return {
            "uptime": round(self.uptime, 1),
            "devices_down": sum(part.kind == "device" and part.health is Health.DOWN for part in self._parts),
            "alarms_active": sum(alarm.active for _, alarm in self._rulebook.alarms),
            "readings_per_second": rates["readings"],
            "events_per_second": rates["events"],
            "dropped": self._log.losses.dropped,
            "written_per_day": disk["per_day"],
            "log_writable": self._log.writer.fault is None,
        }

    async def tell(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        now = self._clock.monotonic()
        parts = self._tell_parts(now)
        for name, intake in self._intakes.items():
            latest = {
                channel: {"value": v, "age": round(now - at, 1)} for channel, (v, at) in intake.latest.items()
            }
            parts["device"][name] |= {"readings": intake.readings, "bad": intake.bad, "latest": latest}
            if intake.is_polled and intake.asked_at is not None and now - intake.asked_at >= UNANSWERED:
                parts["device"][name]["unanswered"] = round(now - intake.asked_at, 1)
            if (output := self._board.status(name)) is not None:
                parts["device"][name]["output"] = output
        for name, courier in list(self._couriers.items()):  # a reload may come while the file is asked
            parts["forwarder"][name] |= {"delivered": courier.delivered, "rejected": courier.rejected}
            parts["forwarder"][name] |= await self._tell_waiting(name)
        return {
            "gateway": self._about["gateway"],
            "version": self._about["version"],
            "pid": os.getpid(),
            "run": self._log.run,
            "uptime": round(self.uptime, 1),
            "simulated": self._about["simulated"],
            "devices": parts["device"],
            "forwarders": parts["forwarder"],
            "brokers": parts["broker"],
            **self._tell_rules(now),
            "stuck": self._watchdog.stuck,
            "rates": self._tell_rates(now),
            "disk": self._tell_disk(now),
            "requests": {"done": self._desk.done, "refused": self._desk.refused},
            "log": {
                "path": str(self._log.path), "last": self._log.reader.last, "dropped": self._log.losses.dropped,
                "fault": self._log.writer.fault,
            },
        }  # fmt: skip

    def _tell_parts(self, now: float) -> dict[str, dict[str, Any]]:
        parts: dict[str, dict[str, Any]] = {"device": {}, "forwarder": {}, "broker": {}}
        for part in self._parts:
            said: dict[str, Any] = {
                "health": part.health, "for": round(now - part.since, 1), "since": iso(self._clock.wall_at(part.since)),
            }  # fmt: skip
            if part.reason:
                said["reason"] = part.reason
            parts[part.kind][part.name] = said
        return parts

    async def _tell_waiting(self, name: str) -> dict[str, Any]:
        """Return how much waits for a forwarder, and how old the oldest of it is in seconds; None for what cannot be read now."""
        said: dict[str, Any] = {"waiting": None, "oldest": None}
        consumer, reader = self._log.consumer(name), self._log.reader
        try:
            async with asyncio.timeout(PATIENCE):
                said["waiting"] = await consumer.waiting()
                heads = [await reader.fetch(lane, consumer.cursor(lane), 1) for lane in Lane]
        except (TimeoutError, sqlite3.Error):
            return said
        times = [found[0].time for found in heads if found]
        if times:
            said["oldest"] = round(max(self._clock.wall() - min(times), 0) / 1e6, 1)
        return said

    def _tell_rates(self, now: float) -> dict[str, Any]:
        """Return readings and events a second, and the seconds over which that was counted."""
        readings = self._readings.rate(now, self._count_readings())
        events = self._events.rate(now, self._log.reader.last)
        if readings is None or events is None:
            return {"readings": None, "events": None, "over": 0.0}
        return {
            "readings": round(readings.per_second, 3), "events": round(events.per_second, 3), "over": round(readings.over, 1),
        }  # fmt: skip

    def _tell_disk(self, now: float) -> dict[str, Any]:
        """Return the bytes written since the start and a day, over how many seconds, and what that means for the disk of the log."""
        said: dict[str, Any] = {
            "written": meter.bytes_written(),
            "per_day": None,
            "over": 0.0,
            "size": None,
            "years": None,
        }
        rate = None if said["written"] is None else self._written.rate(now, said["written"])
        if rate is not None and rate.over >= SETTLED:
            said |= {"per_day": round(rate.per_second * meter.DAY), "over": round(rate.over, 1)}
            try:
                disk = os.statvfs(self._log.path.parent)
            except OSError:
                return said
            said["size"] = disk.f_blocks * disk.f_frsize
            lasts = meter.years(said["per_day"], said["size"])
            said["years"] = None if lasts is None else round(lasts, 1)
        return said

    def _tell_rules(self, now: float) -> dict[str, Any]:
        return {
            "alarms": [
                {
                    "rule": rule, "severity": alarm.severity, "message": alarm.message, "raised": iso(alarm.raised), "state": alarm.state,
                    "suppressed": alarm.suppressed,
                    "shelved_for": None if alarm.shelved_until is None else round(alarm.shelved_until - now, 1),
                }
                for rule, alarm in self._rulebook.alarms
            ],
            "doubtful": [
                {"rule": rule, **doubts.told(), "last": round(now - doubts.last, 1)}
                for rule, doubts in self._rulebook.doubtful
            ],
            "out_of_service": self._rulebook.out_of_service,
        }  # fmt: skip
