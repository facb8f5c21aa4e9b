"""The program's own messages: what the journal gets, how much is said, and that no secret is."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent import messages, secrecy
from agent.clock import VirtualClock
from agent.messages import BURST, WINDOW, JournalHandler, Level, PrefixFormatter, Repeats
from agent.supervisor import Health, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "sesame-open-up"


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for names in messages.PARTS.values():
        for name in names:
            logging.getLogger(name).setLevel(logging.NOTSET)


def record(
    text: str, *args: object, name: str = "agent.supervisor", level: int = logging.WARNING
) -> logging.LogRecord:
    return logging.LogRecord(name, level, "supervisor.py", 1, text, args, None)


class Journal:
    """A socket that reads the journal's native protocol."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "journal")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.bind(self.path)

    def entry(self) -> dict[str, str]:
        rest, fields = self._socket.recv(1 << 20), {}
        while rest:
            line, rest = rest.split(b"\n", 1)
            name, equals, value = line.partition(b"=")
            if not equals:
                (length,) = struct.unpack("<Q", rest[:8])
                value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
            fields[name.decode()] = value.decode()
        return fields

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


@pytest.fixture
def handler(journal: Journal) -> Iterator[JournalHandler]:
    handler = JournalHandler(journal.path, logging.NullHandler())
    yield handler
    handler.close()


def test_the_journal_gets_priority_part_device_and_reason_in_fields_of_their_own(
    journal: Journal, handler: JournalHandler
) -> None:
    logger = logging.getLogger("agent.supervisor")
    logger.addHandler(handler)
    try:
        Part("device", "air", VirtualClock(), lambda *_: None).down("no such port")
    finally:
        logger.removeHandler(handler)
    entry = journal.entry()
    expected = {
        "MESSAGE": "device air is down: no such port; trying again", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "gatepost",
        "GATEPOST_PART": "supervisor", "GATEPOST_DEVICE": "air", "GATEPOST_REASON": "no such port",
    }  # fmt: skip
    assert expected.items() <= entry.items()


def test_a_traceback_is_one_entry_of_the_journal(journal: Journal, handler: JournalHandler) -> None:
    try:
        raise KeyError("it")
    except KeyError:
        said = record("failed", level=logging.ERROR)
        said.exc_info = sys.exc_info()
    handler.emit(said)
    entry = journal.entry()
    assert entry["MESSAGE"].startswith("failed\nTraceback")
    assert entry["MESSAGE"].endswith("KeyError: 'it'")
    assert entry["PRIORITY"] == "3"


def test_a_very_long_message_reaches_the_journal_cut(journal: Journal, handler: JournalHandler) -> None:
    handler.emit(record("x" * 10_000_000))
    assert set(journal.entry()["MESSAGE"]) == {"x"}


def test_what_the_journal_does_not_take_is_said_on_the_standard_error(tmp_path: Path) -> None:
    stream = io.StringIO()
    otherwise = logging.StreamHandler(stream)
    otherwise.setFormatter(PrefixFormatter())
    handler = JournalHandler(str(tmp_path / "nobody"), otherwise)
    handler.emit(record("two\nlines"))
    handler.close()
    assert stream.getvalue() == "<4>two\n<4>lines\n"


def test_the_standard_error_is_the_journal_only_where_it_is_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "a").open("w") as ours, (tmp_path / "b").open("w") as other:
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        assert not messages.is_journal(ours)
        found = os.fstat(ours.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert messages.is_journal(ours)
        assert not messages.is_journal(other)
        assert not messages.is_journal(None)


# --- how much -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level"), [("debug", Level(None, "debug")), ("courier=error", Level("courier", "error"))]
)
def test_a_level_is_for_all_or_for_a_part(text: str, level: Level) -> None:
    assert Level.parse(text) == level


@pytest.mark.parametrize(
    ("text", "said"),
    [("loud", "debug, info, warning, error"), ("curier=debug", "api, courier"), ("=debug", "no part ''")],
)
def test_a_level_that_makes_no_sense_is_told_with_what_there_is(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Level.parse(text)


def test_a_part_may_say_more_and_another_less_than_the_rest() -> None:
    messages.set_up([Level(None, "warning"), Level("courier", "debug"), Level("log", "error")])
    on = {
        name: logging.getLogger(name).getEffectiveLevel()
        for name in ("agent.legs", "agent.eventlog.writer", "agent.intake")
    }
    assert on == {
        "agent.legs": logging.DEBUG, "agent.eventlog.writer": logging.ERROR, "agent.intake": logging.WARNING,
    }  # fmt: skip


def test_every_part_that_can_be_named_has_loggers_that_exist() -> None:
    root = Path(messages.__file__).parents[1]
    for names in messages.PARTS.values():
        for name in names:
            path = root / name.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), name


def test_a_line_that_comes_again_and_again_is_held_back_and_counted() -> None:
    clock = VirtualClock()
    repeats = Repeats(clock.monotonic)
    passed = [repeats.passes(record("%s is down: %d", "air", number)) for number in range(100)]
    assert passed == [True] * BURST + [False] * (100 - BURST)
    assert repeats.passes(record("%s is down: %d", "door", 1)), "of another thing"
    assert repeats.passes(record("%s is up", "air")), "another line"
    clock.now += WINDOW
    again = record("%s is down: %d", "air", 100)
    assert repeats.passes(again)
    assert (
        PrefixFormatter().format(again)
        == f"<4>air is down: 100 ({100 - BURST} more such lines before this one were left out)"
    )


def test_what_was_asked_for_is_never_held_back() -> None:
    repeats = Repeats(VirtualClock().monotonic)
    assert all(repeats.passes(record("read", level=logging.DEBUG)) for _ in range(1000))


# --- secrets --------------------------------------------------------------------------------------------------------------


def test_no_line_has_a_secret_wherever_it_is(journal: Journal, handler: JournalHandler) -> None:
    secrecy.hide(SECRET)
    try:
        raise OSError(f"cannot connect as gw:{SECRET}")
    except OSError:
        said = record(f"{SECRET} and %s", f"<{SECRET}>")
        said.exc_info = sys.exc_info()
    said.facts = {"reason": f"refused: {SECRET}"}
    handler.emit(said)
    assert SECRET not in "".join(journal.entry().values())
    assert SECRET not in PrefixFormatter().format(said)
    assert SECRET not in messages.TerminalFormatter(io.StringIO()).format(said)


def test_the_reason_why_a_part_is_down_has_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    secrecy.hide(SECRET)
    part = Part("forwarder", "site", VirtualClock(), lambda *_: None)
    part.down(f"{SECRET}.example refuses us")
    assert part.health is Health.DOWN
    assert part.reason == "***.example refuses us"
    assert SECRET not in caplog.text


def test_a_short_text_is_not_hidden_for_it_is_in_every_other_word() -> None:
    secrecy.hide("a")
    assert secrecy.without_secrets("a banana") == "a banana"
