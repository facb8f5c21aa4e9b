"""What the settings of every kind have in common."""

from __future__ import annotations

from typing import TypeVar

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator may write for one kind. Subclasses name the fields, in the operator's words.

    A field's documentation is the text under `Attributes:` in the class docstring; it is what `gatepost show` and
    editors show. `__post_init__` may raise ValueError for fields that do not fit together.
    """


S = TypeVar("S", bound=Settings)
