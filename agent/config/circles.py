"""Finds rules that follow each other in a circle, so that none of them could ever be decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def circles(follows: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return each circle that a walk along the rules closes, as `[a, b, a]`; it begins with the rule that is written first.

    Args:
        follows: The rules that each rule follows, in the order in which they are written.
    """
    found: list[list[str]] = []
    done: set[str] = set()
    for start in follows:
        trail = (
            {start: iter(follows[start])} if start not in done else {}
        )  # from the start to where the walk is
        while trail:
            here = next(reversed(trail))
            after = next(trail[here], None)
            if after is None:
                done.add(here)
                del trail[here]
            elif after in trail:
                found.append(_from_first([*trail][[*trail].index(after) :], list(follows)))
            elif after in follows and after not in done:
                trail[after] = iter(follows[after])
    return found


def _from_first(circle: list[str], order: list[str]) -> list[str]:
    """Return a circle as it is seen from the rule that is written first, which closes it too."""
    begin = circle.index(min(circle, key=order.index))
    return [*circle[begin:], *circle[: begin + 1]]
