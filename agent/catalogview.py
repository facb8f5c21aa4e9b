"""What can be configured, on the command line: `init`, `list`, `show`, `schema`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from agent import catalog
from agent.config import schema
from agent.console import program, say
from agent.errors import GatepostError

if TYPE_CHECKING:
    import argparse


def init(options: argparse.Namespace) -> int:
    """Write a commented starting configuration, or one of the examples with the tests of its rules."""
    name = options.example
    target: Path = options.path or Path(f"{name or 'gatepost'}.yaml")
    files = {target: catalog.shared_file("gatepost.yaml")}
    if name is not None:
        files = dict(zip((target, target.with_suffix(".tests.yaml")), catalog.example(name), strict=True))
    for file in files:
        if file.exists() and not options.force:
            raise GatepostError(f"{file} exists already; name another file, or write over it with --force")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
        target.with_name("gatepost.schema.json").write_text(schema.text(), encoding="utf-8")
    except OSError as error:
        raise GatepostError(f"cannot write {target}: {error.strerror}") from error
    say(f"wrote {' and '.join(map(str, files))} (and gatepost.schema.json beside it, for editors)")
    verb = "check" if name is None else "test"
    say(f"next: edit it, then: {program()} {verb} {target} && {program()} run --simulate {target}")
    return 0


def list_kinds(options: argparse.Namespace) -> int:
    """List what can be configured."""
    found = catalog.kinds(options.role)
    if options.json:
        say(json.dumps(found, indent=2))
    else:
        for line in catalog.table(found):
            say(line)
    return 0


def show(options: argparse.Namespace) -> int:
    """Show one kind: what it is, its settings, a sample."""
    pages = catalog.pages(options.kind)
    if not pages:
        near = catalog.nearest(options.kind)
        hint = f"; did you mean {near!r}?" if near else f"; see: {program()} list"
        raise GatepostError(f"there is no kind {options.kind!r}{hint}")
    width = min(max(shutil.get_terminal_size().columns, 60), 100)
    say(
        json.dumps(pages, indent=2)
        if options.json
        else "\n\n".join(catalog.text(page, width) for page in pages)
    )
    return 0


def print_schema(_: argparse.Namespace) -> int:
    """Print the JSON schema of the configuration."""
    say(schema.text().rstrip())
    return 0
