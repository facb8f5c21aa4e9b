"""Fixtures for all tests."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from support.chances import LONG, REPEAT
from support.sites import Site

from agent import secrecy

if TYPE_CHECKING:
    from collections.abc import Iterator


settings.register_profile("gatepost", deadline=None)  # no test asserts a speed
settings.load_profile("gatepost")


def pytest_configure() -> None:
    """Clean up also when we are told to end: processes and mounts of a test would outlive it."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))


def pytest_report_header() -> str:
    """Say at the top of each run how to repeat the chances of the fault tests."""
    return f"faults: {REPEAT}, {'long' if LONG else 'short'} form"


@pytest.fixture
def site() -> Iterator[Site]:
    """A site where brokers, instruments and agents can be set up."""
    with tempfile.TemporaryDirectory(prefix="gatepost-") as folder, Site(Path(folder)) as made:
        yield made


@pytest.fixture(autouse=True)
def _secrets_of_other_tests_are_none_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what other tests have read as a secret: it is remembered for a whole process."""
    monkeypatch.setattr(secrecy, "_hidden", set())
