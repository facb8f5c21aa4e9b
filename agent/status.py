"""What a running agent says of itself: what runs, what is down and why, what waits, which alarms are active."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from agent.clock import iso

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.clock import Clock
    from agent.courier import Courier
    from agent.eventlog import EventLog
    from agent.intake import Intake
    from agent.outputs.board import Board
    from agent.requests import Desk
    from agent.rulebook import Rulebook
    from agent.supervisor import Part


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
        self._started = clock.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._clock.monotonic() - self._started

    async def tell(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        now = self._clock.monotonic()
        parts = self._tell_parts(now)
        for name, intake in self._intakes.items():
            latest = {
                channel: {"value": v, "age": round(now - at, 1)} for channel, (v, at) in intake.latest.items()
            }
            parts["device"][name] |= {"readings": intake.readings, "bad": intake.bad, "latest": latest}
            if (output := self._board.status(name)) is not None:
                parts["device"][name]["output"] = output
        for name, courier in self._couriers.items():
            waiting = await self._log.consumer(name).waiting()
            parts["forwarder"][name] |= {
                "delivered": courier.delivered, "rejected": courier.rejected, "waiting": waiting,
            }  # fmt: skip
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
            "requests": {"done": self._desk.done, "refused": self._desk.refused},
            "log": {
                "path": str(self._log.path), "last": self._log.reader.last, "dropped": self._log.losses.dropped,
                "fault": self._log.writer.fault,
            },
        }  # fmt: skip

    def _tell_parts(self, now: float) -> dict[str, dict[str, Any]]:
        parts: dict[str, dict[str, Any]] = {"device": {}, "forwarder": {}, "broker": {}}
        for part in self._parts:
            said: dict[str, Any] = {"health": part.health, "for": round(now - part.since, 1)}
            if part.reason:
                said["reason"] = part.reason
            parts[part.kind][part.name] = said
        return parts

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
