"""Chance in the fault tests: seeded, so that what was found can be looked for again; and how long they look."""

from __future__ import annotations

import os
import random
from typing import Final

LONG: Final = os.environ.get("GATEPOST_FAULTS") == "long"
"""Whether this is the long form: more rounds of the same."""

SEED: Final = os.environ.get("GATEPOST_FAULTS_SEED") or str(random.randrange(1_000_000))
"""What all random choices of the fault tests begin with."""

REPEAT: Final = f"GATEPOST_FAULTS_SEED={SEED}"
"""How to make the same choices again; the moments at which they meet the agent are never quite the same."""


def rounds(short: int, long: int) -> int:
    """Return how often to do something, in the short form and in the long one."""
    return long if LONG else short
