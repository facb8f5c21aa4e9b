"""Makes sense of a payload: JSON, or a plain word such as `on`, `read` or `ack`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from agent.clock import from_iso
from agent.errors import GatepostError
from agent.events import LARGEST_REQUEST, Value, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.events import Request

Verb = Literal["set", "read", "acknowledge", "shelve", "unshelve"]

NAME: Final = 64
"""Characters of an id, or of who asks, at most."""

COMMENT: Final = 500
"""Characters of a comment at most."""

TEXT: Final = 200
"""Characters of a text that an output is set to at most."""

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,63}")
_ALARM_VERBS: Final[Mapping[str, Verb]] = {
    "ack": "acknowledge", "acknowledge": "acknowledge", "shelve": "shelve", "unshelve": "unshelve",
}  # fmt: skip
_ALWAYS: Final = ("id", "time", "ttl", "by")
_OF_DEVICES: Final = ("value", "do", *_ALWAYS)
_OF_ALARMS: Final = ("do", "for", "comment", *_ALWAYS)


class Refused(GatepostError):  # noqa: N818
    """A request is not carried out, and why.

    Attributes:
        said: As much of it as could be read.
    """

    def __init__(self, reason: str, said: Said | None = None) -> None:
        super().__init__(reason)
        self.said = said or Said()


class Said(NamedTuple):
    """What a payload says.

    Attributes:
        verb: What to do.
        id: What the request is called by who sent it; "" where it has no name.
        by: Who asks, by their own account; "" where nobody is named.
        value: What to set an output to.
        time: When it was sent, in microseconds since 1970-01-01 UTC; None where it does not say.
        ttl: For how many seconds from then on it is good; None where it does not say.
        seconds: For how long to shelve; None for as long as may be.
        comment: For the log.
    """

    verb: Verb = "set"
    id: str = ""
    by: str = ""
    value: Value = None
    time: int | None = None
    ttl: float | None = None
    seconds: float | None = None
    comment: str = ""


def read(request: Request) -> Said:
    """Return what a request asks for.

    Raises:
        Refused: It makes no sense; the reason says what was expected.
    """
    payload = request.payload
    if len(payload) > LARGEST_REQUEST:
        raise Refused(f"the payload is longer than {LARGEST_REQUEST} bytes")
    try:
        said: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        said = _word(payload)
    if isinstance(said, dict):
        return _object(said, request)
    if request.of == "alarm":
        if (verb := _alarm_verb(said)) is None:
            raise Refused(f"expected ack, shelve, unshelve or an object with {_listed(_OF_ALARMS)}")
        return Said(verb)
    if said == "read" and len(request.target) == 1:
        return Said("read")
    return Said("set", value=_value(said, Said()))


def _word(payload: bytes) -> str:
    """Return a payload that is no JSON as a plain word."""
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if text.startswith("{"):
        raise Refused('the payload is no valid JSON, in which texts stand in double quotes: {"value": "on"}')
    if not _WORD.fullmatch(text):
        raise Refused("the payload is neither JSON nor a plain word such as on")
    return text


def _object(said: dict[str, Any], request: Request) -> Said:
    name = said.get("id", "")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    found = Said(id=_name(name, "id", Said()))
    found = found._replace(by=_name(said.get("by", ""), "by", found))
    known = _OF_ALARMS if request.of == "alarm" else _OF_DEVICES
    if unknown := [key for key in said if key not in known]:
        raise Refused(f"unknown key {shown(unknown[0])}, expected {_listed(known)}", found)
    found = found._replace(time=_time(said, found), ttl=_seconds(said, "ttl", found))
    if request.of == "alarm":
        verb = _alarm_verb(said.get("do"))
        if verb is None:
            raise Refused("do expects ack, shelve or unshelve", found)
        found = found._replace(verb=verb, seconds=_seconds(said, "for", found))
        comment = said.get("comment", "")
        if not isinstance(comment, str) or len(comment) > COMMENT or not comment.isprintable():
            raise Refused(f"comment expects a text of at most {COMMENT} printable characters", found)
        if found.seconds is not None and verb != "shelve":
            raise Refused(f"for has no meaning with {verb}", found)
        return found._replace(comment=comment)
    if ("value" in said) is ("do" in said):
        raise Refused("expected value (to set an output) or do: read, one of them", found)
    if "do" in said:
        if said["do"] != "read":
            raise Refused("do expects read", found)
        return found._replace(verb="read")
    return found._replace(verb="set", value=_value(said["value"], found))


def _alarm_verb(said: object) -> Verb | None:
    return _ALARM_VERBS.get(said.lower()) if isinstance(said, str) else None


def _value(said: object, found: Said) -> Value:
    """Return a value that an output may perhaps be set to."""
    match said:
        case str() if len(said) <= TEXT and said.isprintable():
            return said
        case bool() | int() | float():
            try:
                return number(said)
            except ValueError as error:
                raise Refused(str(error), found) from None
    raise Refused(f"value expects a number, true, false or a text of at most {TEXT} characters", found)


def _name(said: object, key: str, found: Said) -> str:
    if isinstance(said, str) and len(said) <= NAME and said.isprintable():
        return said
    raise Refused(f"{key} expects a text of at most {NAME} printable characters", found)


def _time(said: Mapping[str, Any], found: Said) -> int | None:
    if "time" not in said:
        return None
    try:
        return from_iso(said["time"])
    except (TypeError, ValueError, OverflowError):
        raise Refused("time expects one such as 2026-11-23T10:15:00Z", found) from None


def _seconds(said: Mapping[str, Any], key: str, found: Said) -> float | None:
    value = said.get(key)
    if key not in said or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
    ):
        return value
    raise Refused(f"{key} expects seconds, a number above 0", found)


def _listed(known: tuple[str, ...]) -> str:
    return f"{', '.join(known[:-1])} and {known[-1]}"


def shown(text: str) -> str:
    """Return a name from outside, quoted and not too long."""
    return repr(text if len(text) <= NAME else f"{text[:NAME]}…")
