"""What systemd is told, and what happens where it does not listen."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from agent import sdnotify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def test_assignments_arrive_together(manager: socket.socket) -> None:
    sdnotify.notify("READY=1", "STATUS=1 device")
    assert manager.recv(1000) == b"READY=1\nSTATUS=1 device"


def test_a_service_manager_that_does_not_listen_holds_nobody_up(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sdnotify, "PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood, contextlib.suppress(BlockingIOError):
        flood.setblocking(False)
        while True:
            flood.sendto(b"STATUS=busy", manager.getsockname())
    sdnotify.notify("WATCHDOG=1")
    assert "could not be told WATCHDOG=1" in caplog.text


def test_without_one_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    sdnotify.notify("READY=1")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("limit", "pid", "interval"),
    [("30000000", None, 15.0), ("30000000", "1", None), ("", None, None), ("soon", None, None)],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_must(
    monkeypatch: pytest.MonkeyPatch, limit: str, pid: str | None, interval: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert sdnotify.watchdog_interval() == interval
