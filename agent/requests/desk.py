"""Passes requests on that may be carried out, logs what became of each, and answers.

What is refused is an event too, but a flood of it is told in sum: the log is not written full by who may only publish.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.errors import GatepostError
from agent.events import EventType
from agent.requests.ids import Ids
from agent.requests.judging import Bucket, Judge
from agent.requests.reading import Refused, Said, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.clock import Clock
    from agent.eventlog import EventLog
    from agent.events import Request, Value
    from agent.intake import Intake
    from agent.outputs.board import Board
    from agent.outputs.puts import Put
    from agent.requests.judging import Order, Settable
    from agent.rulebook import Rulebook

logger = logging.getLogger(__name__)

REFUSALS, REFUSALS_EVERY = 20, 3.0
"""Refusals that are told one by one at once, and seconds for each more."""

TELL_EVERY: Final = 60.0
"""Seconds after which those that were not told one by one are told in sum."""

ENDS: Final = "the agent ends"

ASKING: Final = 8
"""Repeats of a command that is under way that are answered when it is done."""


class Desk:
    """Takes all requests.

    Attributes:
        done: How many were carried out since the start.
        refused: How many were not.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        board: Board,
        rulebook: Rulebook,
        intakes: Mapping[str, Intake],
    ) -> None:
        self.done = 0
        self.refused = 0
        self._log = log
        self._clock = clock
        self._board = board
        self._rulebook = rulebook
        self._intakes = intakes
        self._outputs: dict[str, Settable] = {}
        self._ids = Ids(log)
        self._polled: dict[str, bool] = {}
        self._judge = Judge(clock, self._is_known, self._outputs, self._polled, rulebook.names)
        # By key: who waits for what is under way.
        self._asking: dict[str, list[Callable[[bytes], None] | None]] = {}
        self._refusals = Bucket(REFUSALS, REFUSALS_EVERY)
        self._untold = 0
        self._teller: asyncio.TimerHandle | None = None
        self._number = 0
        self._is_closed = False

    def add(self, device: str, output: Settable) -> None:
        """Take in a device that can be set."""
        self._outputs[device] = output

    def restore(self) -> None:
        """Begin, when the log is open and all devices and rules are there."""
        self._ids.restore()
        self._polled |= {name: intake.is_polled for name, intake in self._intakes.items()}

    def _is_known(self, key: str) -> bool:
        return key in self._asking or key in self._ids

    def take(self, origin: str, request: Request, *, is_local: bool = False) -> None:
        """Judge a request, have it carried out, and return without waiting.

        Args:
            origin: Who brought it, such as `mqtt site`.
            request: The request.
            is_local: Whether somebody asks who may do anything on this machine, so that nothing need be allowed.
        """
        if self._is_closed:
            self._say(request.answer, {"error": ENDS})
            return
        self._number += 1
        number = f"{self._log.run}.{self._number}"
        try:
            self._take(self._judge.judge(origin, request, number, is_local=is_local), request)
        except Refused as refused:
            self._refuse(origin, request, refused.said, refused.said.id or number, str(refused))
        except Exception:
            logger.exception(
                "a request by %s has failed on a bug in gatepost or a driver; please report it", origin
            )
            self.refused += 1
            self._say(
                request.answer, {"id": number, "error": "it failed on a bug; see the journal of the gateway"}
            )

    def _take(self, order: Order, request: Request) -> None:
        if order.key in self._asking:  # it is under way: who asks again is answered with the first
            if len(self._asking[order.key]) < ASKING:
                self._asking[order.key].append(request.answer)
        elif order.is_repeated:
            self._say(request.answer, {"id": order.id, "done": True, "repeated": True})
        elif order.verb == "set":
            self._set(request, order)
        elif order.verb == "read":
            self._read(request, order)
        else:
            self._change_alarm(request, order)

    # --- outputs --------------------------------------------------------------------------------------------------------

    def _set(self, request: Request, order: Order) -> None:
        key = order.key or f" {order.id}"  # no other key begins with a space
        self._asking[key] = [request.answer]
        try:
            reason = self._board.command(
                order.target, order.channel, order.value, order.cause,
                order.id, order.until, partial(self._on_set, order, key),
            )  # fmt: skip
        except Exception:
            self._asking.pop(key, None)  # or a repeat would wait for ever
            raise
        if reason:
            self._on_set(order, key, reason)

    def on_command(self, put: Put) -> None:
        """Remember a command that is about to be carried out; to be called as its event is logged, for one transaction."""
        key = f"{put.device}.{put.channel} {put.id}"
        if key in self._asking:
            self._ids.note(key)

    def _on_set(self, order: Order, key: str, fault: str) -> None:
        if fault:
            self.refused += 1
            self._ids.forget(order.key)  # it may be tried again
        else:
            self.done += 1
        said = {"id": order.id, "error": fault} if fault else {"id": order.id, "done": True}
        for answer in self._asking.pop(key, ()):
            self._say(answer, said)

    # --- readings -------------------------------------------------------------------------------------------------------

    def _read(self, request: Request, order: Order) -> None:
        try:
            asked = self._intakes[order.target].trigger()
        except GatepostError as error:
            self._fail(request, order, str(error))
        else:
            asked.add_done_callback(partial(self._on_read, request, order))

    def _on_read(self, request: Request, order: Order, asked: asyncio.Future[None]) -> None:
        if asked.cancelled():
            return
        if (fault := asked.exception()) is not None:
            self._fail(request, order, str(fault))
            return
        values = {channel: value for channel, (value, _) in self._intakes[order.target].latest.items()}
        self._finish(request, order, values=values)

    # --- alarms ---------------------------------------------------------------------------------------------------------

    def _change_alarm(self, request: Request, order: Order) -> None:
        rule, by = order.target, order.cause
        try:
            match order.verb:
                case "acknowledge":
                    self._rulebook.acknowledge(rule, by, order.comment)
                case "shelve":
                    self._rulebook.shelve(rule, order.seconds, by, order.comment)
                case _:
                    self._rulebook.unshelve(rule, by)
        except GatepostError as error:
            self._fail(request, order, str(error))
        else:
            if order.key:
                self._ids.note(order.key)
            self._finish(request, order)

    # --- what became of it ----------------------------------------------------------------------------------------------

    def _finish(self, request: Request, order: Order, **more: Any) -> None:
        self.done += 1
        facts: dict[str, Value] = {"do": order.verb, "cause": order.cause, "command_id": order.id}
        self._log.append(EventType.COMMAND_DONE, order.target, facts)
        self._say(request.answer, {"id": order.id, "done": True, **more})

    def _fail(self, request: Request, order: Order, reason: str) -> None:
        facts: dict[str, Value] = {"do": order.verb, "cause": order.cause, "command_id": order.id}
        self._tell_refused(order.target, facts, reason)
        self._say(request.answer, {"id": order.id, "error": reason})

    def _refuse(self, origin: str, request: Request, said: Said, name: str, reason: str) -> None:
        """Tell that a request is not carried out; of what is unknown no event takes its name from outside."""
        source = "agent"
        facts: dict[str, Value] = {
            "cause": f"{said.by} over {origin}" if said.by else origin,
            "command_id": name,
        }
        if self._judge.has(request):
            source = request.target[0]
            if said.value is not None:
                facts["value"] = said.value
        else:
            facts["target"] = shown("/".join(request.target))
        self._tell_refused(source, facts, reason)
        self._say(request.answer, {"id": name, "error": reason})

    def _tell_refused(self, source: str, facts: dict[str, Value], reason: str) -> None:
        self.refused += 1
        if self._refusals.take(self._clock.monotonic()):
            logger.warning("refused, asked by %s for %s: %s", facts["cause"], source, reason)
            self._log.append(EventType.COMMAND_FAILED, source, facts | {"reason": reason})
            return
        self._untold += 1
        if self._teller is None:
            self._teller = asyncio.get_running_loop().call_later(TELL_EVERY, self._tell_untold)

    def _tell_untold(self) -> None:
        count, self._untold, self._teller = self._untold, 0, None
        reason = "too many were refused to tell of each"
        logger.warning("%d more requests were refused", count)
        self._log.append(EventType.COMMAND_FAILED, "agent", {"reason": reason, "count": count})

    def close(self) -> None:
        """End, and tell what is still to be told; what has not been carried out will not be."""
        self._is_closed = True
        for answers in self._asking.values():
            for answer in answers:
                self._say(answer, {"error": ENDS})
        self._asking.clear()
        if self._teller is not None:
            self._teller.cancel()
            self._tell_untold()

    @staticmethod
    def _say(answer: Callable[[bytes], None] | None, said: dict[str, Any]) -> None:
        if answer is not None:
            answer(msgspec.json.encode(said))
