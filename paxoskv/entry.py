"""What users get: :class:`Entry`. By itself, for it is never compiled: it may be pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one key, as it was chosen.

    Attributes:
        key: the key.
        ver: its version, counted from 0.
        val: the value; None for a tombstone.
        deleted: whether this version is a tombstone.
    """

    key: str
    ver: int
    val: Any
    deleted: bool = False
