"""Time zones by name, such as `Europe/Berlin`, as the machine's tzdata has them."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from agent.config import wording


def zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ValueError: There is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError of a folder of zones, such as Europe
        raise ValueError(_unknown(name)) from None


def _unknown(name: str) -> str:
    known = sorted(available_timezones())
    if not known:
        return f"no time zones are installed here, so {name!r} cannot be found: install the package tzdata"
    near = wording.nearest(name, known)
    tip = f"did you mean {near!r}?" if near else "expected one such as Europe/Berlin or UTC"
    return f"unknown time zone {name!r}, {tip}"
