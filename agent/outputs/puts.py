"""What the board is asked for, and what it hands to who puts it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.events import Value


class Command(NamedTuple):
    """What somebody asked for.

    Attributes:
        value: What to put out.
        cause: Who asked.
        id: What they call it; None where they do not.
        until: When it is too late to put it out, by the monotonic clock; None for never.
        on_result: Called with "" when it is carried out, or with the reason why not.
    """

    value: Value
    cause: str
    id: str | None = None
    until: float | None = None
    on_result: Callable[[str], None] | None = None


class Put(NamedTuple):
    """What is to be put out now: a device, a channel, and all of a `Change` of it, in its order.

    Attributes:
        device: The output.
        channel: Its channel.
        value: The value, as the channel's readings have it.
        cause: Who wants it: a rule, who gave a command, `interlock`, `dead_man`.
        reason: Why, where the cause does not say it all.
        is_turn: Whether it is only another turn of what blinks already, which the log need not have.
        command: The command that it carries out; None where it carries out none.
        blinks: Whether it blinks, on this value and off it.
    """

    device: str
    channel: str
    value: Value
    cause: str
    reason: str = ""
    is_turn: bool = False
    command: Command | None = None
    blinks: bool = False

    @property
    def id(self) -> str | None:
        """What the giver of the command calls it; None where there is none."""
        return None if self.command is None else self.command.id

    @property
    def facts(self) -> dict[str, Value]:
        """What events say of it."""
        return facts_of(self.channel, self.value, self.cause, self.id, self.reason)


def facts_of(channel: str, value: Value, cause: str, command_id: str | None, reason: str) -> dict[str, Value]:
    """Return what events say of something that is, or was not, put out."""
    facts: dict[str, Value] = {"channel": channel, "value": value, "cause": cause}
    if command_id is not None:
        facts["command_id"] = command_id  # `id` is that of the event
    if reason:
        facts["reason"] = reason
    return facts
