"""What was read as a secret, so that nothing that is said repeats it: for the whole process, whichever configuration it came from.

Settings that are secrets hide themselves (`Secret`). This is for what others say of them: a library's error, the name of a host
that was written as `!secret NAME`.
"""

from __future__ import annotations

from typing import Final

SHORTEST: Final = 4
"""Characters of the shortest text that is hidden: a shorter one is in every other word, and no secret."""

INSTEAD: Final = "***"

_hidden: set[str] = set()


def hide(secret: str) -> None:
    """Remember a text that nothing may repeat."""
    if len(secret) >= SHORTEST:
        _hidden.update((secret, repr(secret)[1:-1]))


def without_secrets(text: str) -> str:
    """Return a text with *** in place of what is secret."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, INSTEAD)
    return text
