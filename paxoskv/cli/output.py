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
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, TextIO

import click

from ..entry import Entry
from ..status import ClusterStatus

_LONG_INT_BITS: Final = 14_000  # Python prints up to 4300 decimals, which is more


def show_entry(entry: Entry, as_json: bool) -> None:
    """Print an entry on standard output."""
    if as_json or not sys.stdout.isatty():
        fields = {"key": entry.key, "ver": entry.ver, "val": jsonable(entry.val)}
        click.echo(_dump(fields | {"deleted": True} if entry.deleted else fields))
    else:
        key = click.style(_dump(entry.key) if _strange(entry.key) else entry.key, bold=True)
        shown = "is deleted" if entry.deleted else f"= {_dump(jsonable(entry.val))}"
        click.echo(f"{key} version {entry.ver} {shown}")


def show_nothing(key: str, ver: int | None) -> None:
    """Say on standard error that there is nothing to print."""
    what = "value" if ver is None else f"version {ver}"
    with heard_or_not():
        click.echo(f"{_dump(key)} has no {what}", err=True)


def show_status(status: ClusterStatus, as_json: bool) -> None:
    """Print how each acceptor is, one a line."""
    if as_json or not sys.stdout.isatty():
        for each in status.acceptors:
            click.echo(_dump({"up": not each.problem, **asdict(each)}))
        return
    width = max(len(each.address) for each in status.acceptors)
    for each in status.acceptors:
        address = click.style(f"{each.address:{width}}", bold=True)
        if each.problem:
            click.echo(f"{address}  {click.style('down', fg='red')}  {each.problem}")
        else:
            where = f"{each.size / 1e6:.1f} MB" if each.size else "in memory"
            click.echo(
                f"{address}  {click.style('up', fg='green')}    {each.round_trip * 1e3:.1f} ms  "
                f"{each.keys} keys  {where}  paxoskv {each.release}  id {each.acceptor}"
            )
    if not status.available:
        answering = sum(not each.problem for each in status.acceptors)
        with heard_or_not():
            click.echo(f"{answering} answer, and {status.quorum} are needed", err=True)


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
    """JSON in one line, in characters that standard output can take and that do no harm there."""
    text = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    if sys.stdout.encoding.lower().replace("-", "") == "utf8" and text.isprintable():
        return text
    return json.dumps(item, separators=(",", ":"))


def _strange(key: str) -> bool:
    """Whether a key would be misread, or do harm, or cannot be printed as it is."""
    try:
        key.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return True
    return not key.isprintable() or key != key.strip()


@contextmanager
def heard_or_not() -> Iterator[None]:
    """A block that says something on standard error; where nobody takes it, the exit code does."""
    try:
        yield
    except OSError:
        drop(sys.stderr)


def drop(output: TextIO) -> None:
    """Let nothing that is still buffered fail once more when the interpreter ends."""
    with suppress(OSError):  # no file can be opened: then it may fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
