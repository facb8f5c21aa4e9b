"""The Debian package, as far as it can be looked at without building it: `make installation` tries it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from agent.service.layout import PACKAGED_UNIT, PREFIX, RULES, SERVICE

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "packaging" / "debian"
SCRIPTS: Final = ("postinst", "prerm", "postrm")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_maintainer_script_can_be_read_by_a_plain_shell(script: str) -> None:
    text = (PACKAGE / script).read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -e\n" in text
    done = subprocess.run(
        ["sh", "-n", PACKAGE / script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_is_fetched_when_it_is_installed(script: str) -> None:
    for line in (PACKAGE / script).read_text().splitlines():
        assert not re.search(r"\b(pip|apt|apt-get|curl|wget)\b", line.partition("# ")[0]), line


def test_it_brings_the_same_files_as_service_install() -> None:
    put = dict(re.findall(r"^put systemd/(\S+) (\S+) 644$", (PACKAGE / "build.sh").read_text(), re.MULTILINE))
    assert put.keys() == {SERVICE, *RULES}
    assert put.keys() == {path.name for path in (ROOT / "systemd").iterdir()}
    assert put[SERVICE] == str(PACKAGED_UNIT)
    for name, path in RULES.items():
        assert Path(put[name]).name == path.name
        assert put[name].startswith("/usr/lib/"), "what is in /etc is the operator's"


def test_data_goes_only_when_it_is_purged() -> None:
    for script in SCRIPTS:
        text = (PACKAGE / script).read_text()
        before, purge, after = text.partition('if [ "$1" = purge ]; then')
        assert bool(purge) == (script == "postrm")
        for place in ("/etc/gatepost", "/var/lib/gatepost"):
            assert place not in before, script
            assert (place in after) == (script == "postrm")


def test_its_environment_is_where_the_unit_looks_for_it() -> None:
    assert f"PREFIX={PREFIX}\n" in (PACKAGE / "build.sh").read_text()
    assert f"ExecStart={PREFIX}/bin/python -I " in (ROOT / "systemd" / SERVICE).read_text()
