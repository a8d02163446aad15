"""How entries are printed: for people in a terminal, else as one JSON object a line.

JSON lacks some of what a value may hold. It is printed as an object with one key that
begins with ``$``: ``{"$bytes": BASE64}``, ``{"$datetime": RFC 3339}``, ``{"$float":
"NaN" | "Infinity" | "-Infinity"}``, ``{"$int": HEX}`` for integers that Python would not
print in decimals, and ``{"$map": [[KEY, VALUE], …]}`` for dicts with other keys than str.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from datetime import datetime
from typing import Any, Final

import click

from ..values import Entry

_LONG_INT_BITS: Final = 14_000  # Python prints up to 4300 decimals, which is more


def show_entry(entry: Entry, as_json: bool) -> None:
    """Print an entry on standard output."""
    if as_json or not sys.stdout.isatty():
        click.echo(_dump({"key": entry.key, "ver": entry.ver, "val": jsonable(entry.val)}))
    else:
        key = click.style(_dump(entry.key) if _strange(entry.key) else entry.key, bold=True)
        click.echo(f"{key} version {entry.ver} = {_dump(jsonable(entry.val))}")


def show_nothing(key: str, ver: int) -> None:
    """Say on standard error that there is nothing to print."""
    click.echo(f"{_dump(key)} has no version {ver}", err=True)


def jsonable(value: Any) -> Any:
    """The value as JSON can carry it; what it lacks, as the module says."""
    match value:
        case bool() | None | str():
            return value
        case int():
            return {"$int": hex(value)} if value.bit_length() > _LONG_INT_BITS else value
        case float():
            return value if math.isfinite(value) else {"$float": json.dumps(value)}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case datetime():
            return {"$datetime": value.isoformat()}
        case list() | tuple():
            return [jsonable(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: jsonable(item) for key, item in value.items()}
        case dict():
            return {"$map": [[jsonable(key), jsonable(item)] for key, item in value.items()]}
        case _:
            raise AssertionError(f"no value holds a {type(value).__name__}")


def _dump(item: Any) -> str:
    """JSON in one line, in the characters that standard output can take."""
    readable = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    return json.dumps(item, ensure_ascii=not readable, separators=(",", ":"))


def _strange(key: str) -> bool:
    """Whether a key would be misread, or do harm, when printed as it is."""
    return not key.isprintable() or key != key.strip()
