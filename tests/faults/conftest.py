"""What the fault tests share."""

from __future__ import annotations

import random

import pytest
from support.chances import REPEAT, SEED


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The random choices of one test, which is told to whoever reads of its failure."""
    request.node.add_report_section("setup", "seed", REPEAT)
    return random.Random(f"{SEED} {request.node.name}")
