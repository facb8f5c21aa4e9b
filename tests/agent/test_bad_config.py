"""Every broken configuration of bad_config.md gives exactly the faults that stand below it there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent import registry
from agent.config import documents, load
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.errors import Fault

PAGE = Path(__file__).with_name("bad_config.md")
BLOCK = re.compile(
    r"^```(?P<kind>\w+) ?(?P<file>\S*) ?(?P<mode>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
KINDS = {
    "drivers": ["gpio_input", "gpio_output", "heartbeat", "serial_lines", "system"],
    "rules": ["absence", "threshold"],
    "forwarders": ["mqtt"],
    "encodings": ["cloudevents", "json"],
}
"""The kinds that the messages may list, so that a new driver changes none of them."""


class Case(NamedTuple):
    title: str
    files: list[tuple[str, str, str]]
    environment: dict[str, str]
    faults: str


def cases() -> list[Case]:
    found = []
    for chapter in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        case = Case(chapter.partition("\n")[0], [], {}, "")
        for block in BLOCK.finditer(chapter):
            if block["kind"] == "yaml":
                case.files.append((block["file"] or "site.yaml", block["mode"] or "0644", block["text"]))
            elif block["kind"] == "env":
                pairs = (line.partition("=") for line in block["text"].splitlines())
                case.environment.update({name: value for name, _, value in pairs})
            else:
                case = case._replace(faults=block["text"].rstrip("\n"))
        found.append(case)
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.title)
def test_a_broken_configuration_names_every_fault(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "kinds", KINDS.__getitem__)
    for name, mode, text in case.files:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
        Path(name).chmod(int(mode, 8))

    with pytest.raises(ConfigError) as caught:
        load(Path("site.yaml"), case.environment)

    assert str(caught.value) == case.faults
    assert "sesame" not in str(caught.value)
    assert list(caught.value.faults) == sorted(caught.value.faults)


def test_the_page_has_cases_enough_and_none_twice() -> None:
    titles = [case.title for case in cases()]
    assert len(titles) >= 50
    assert len(set(titles)) == len(titles)
    assert all(case.faults and case.files for case in cases())


# --- whatever is in the file --------------------------------------------------------------------------------------

KEYS = (
    "devices",
    "rules",
    "forward",
    "log",
    "broker",
    "gateway",
    "driver",
    "report",
    "simulate",
    "threshold",
    "mqtt",
)
WORDS = (
    "heartbeat",
    "gpio_input",
    "10s",
    "on",
    "~",
    "!secret x",
    "${X}",
    "*a",
    "&a",
    "<<",
    "then",
    "set",
    "of",
    "17",
)
PIECES = st.sampled_from(
    [*KEYS, *WORDS, ": ", "\n", "\n  ", "\n    ", "- ", "{", "}", "[", "]", ", ", '"', "'", "#", "|"]
)


def faults(path: Path) -> Sequence[Fault]:
    """Return what is wrong with a file; anything but a ConfigError would fail the test."""
    try:
        load(path, {})
    except ConfigError as error:
        return error.faults
    return []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
@example("%YAML 9.9\n---\na")
@example('"\\UFFFFFFFF"')
@example("? [a]\n: b")
@example("=: =")
def test_any_text_loads_or_is_a_list_of_faults(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    found = faults(path)
    assert all(fault.what and fault.line >= 0 and fault.column >= 0 for fault in found)
    "\n".join(map(str, found)).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary())
def test_any_bytes_load_or_are_a_list_of_faults(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(data)
    faults(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*KEYS, *WORDS])
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, *WORDS]), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=5))
def test_any_document_loads_or_is_a_list_of_faults(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(msgspec.json.encode(document))
    faults(path)


@given(st.text(st.characters(codec="utf-8")))
@example("10:30")
@example("a\x85b")
def test_places_are_those_of_the_text(text: str) -> None:
    found: list[Any] = []
    root = documents.compose(text, "site.yaml", found)
    assert root is None or root.start_mark.name == "site.yaml"
    assert all(fault.line >= 1 and fault.column >= 1 for fault in found)
