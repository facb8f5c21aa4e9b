"""What the pages tell people to type is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from agent import cli

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands() -> set[str]:
    actions = cli._parser()._subparsers
    assert actions is not None
    return set(actions._group_actions[0].choices or ())


def typed(text: str) -> list[str]:
    """Return what stands in code: indented lines, fenced blocks and `code`."""
    return re.findall(r"^(?: {4}|\$ ).*$|`[^`\n]+`", text, re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_a_page_names_only_targets_and_commands_that_exist(page: Path) -> None:
    for line in typed(page.read_text()):
        for target in re.findall(r"(?:^|[\s`])make ([a-z]+)\b", line):
            assert target in targets(), f"{page.name}: make {target}"
        for command in re.findall(r"(?:^|[\s`/])gatepost ([a-z]+)\b(?!:)", line):
            assert command in commands(), f"{page.name}: gatepost {command}"


def test_make_alone_says_what_there_is() -> None:
    said = subprocess.run(
        ["make", "-C", str(ROOT)], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    for target in ("make run", "make test", "make check"):
        assert target in said


def test_the_readme_begins_with_two_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("make run") < text.index("make test") < 2500
    assert {"run", "test", "check"} <= targets()


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        if page.exists():
            for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
