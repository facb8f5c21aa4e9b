"""Topics that the broker does not let us publish to: not tried again for a while, for some brokers close the connection each time."""

from __future__ import annotations

import asyncio
from typing import Final

DENIED_FOR: Final = 600.0
"""Seconds for which a denied topic is not tried again."""


class Denials:
    """Until when each denied topic is let be."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # by topic, in seconds of the event loop's clock

    def __contains__(self, topic: str) -> bool:
        return topic in self._until and asyncio.get_running_loop().time() < self._until[topic]

    def note(self, topic: str) -> None:
        """Take in that a topic was denied."""
        now = asyncio.get_running_loop().time()
        self._until = {each: until for each, until in self._until.items() if until >= now}
        self._until[topic] = now + DENIED_FOR
