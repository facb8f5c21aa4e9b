"""Reads times back from a saved state, where they are ages: the monotonic clock begins anew with each boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.events import Value


def moment(state: Mapping[str, Value], name: str, saved: float) -> float | None:
    """Return the time of an age in a state that was saved at a time, in seconds; None where there is no such age."""
    age = state.get(name)
    return saved - age if isinstance(age, float | int) else None
