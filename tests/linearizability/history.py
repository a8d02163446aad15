"""What clients called, when, and what they were told: as events, lines of JSON, operations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any, Protocol

Event = dict[str, Any]
"""An invoke, attempt or complete event, ready for JSON if its values are."""

APPENDS = frozenset({"put", "update", "delete"})
"""The calls that write the version after the latest."""


class Outcome(StrEnum):
    """How a call ended."""

    OK = "ok"  # with entries
    NONE = "none"  # there was nothing
    TAKEN = "taken"  # by this entry
    COMPACTED = "compacted"  # with the latest entry known
    UNKNOWN = "unknown"  # perhaps this entry was written; also: it never ended
    FAILED = "failed"  # certainly nothing was written


class Told(Protocol):
    """What a client is told of a version of a key."""

    @property
    def key(self) -> str: ...
    @property
    def ver(self) -> int: ...
    @property
    def val(self) -> Any: ...
    @property
    def deleted(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one key."""

    key: str
    ver: int
    val: Any = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the function of an update was given, and what it made of that."""

    base: Any
    val: Any


@dataclass(slots=True)
class Operation:
    """One call of one client.

    Attributes:
        client, id: who called; the two together name the call.
        call: ``set``, ``propose``, ``get``, ``latest``, ``put``, ``update``, ``delete``,
            ``settle``, ``history`` or ``scan``.
        key: the key; the prefix of a ``scan``.
        ver, val: what it was given, where it takes that.
        of: the id of the write that a ``settle`` is about.
        after, limit: what a ``scan`` was given.
        began, ended: when; for ever, if nobody was told.
        attempts: of an ``update``, in order; only the last can have been written.
        outcome: how it ended.
        entries: what it was told; where the outcome is unknown, what may have been written.
    """

    client: str
    id: int
    call: str
    key: str
    began: float
    ver: int | None = None
    val: Any = None
    of: int | None = None
    after: str = ""
    limit: int | None = None
    ended: float = math.inf
    attempts: list[Attempt] = field(default_factory=list)
    outcome: Outcome = Outcome.UNKNOWN
    entries: list[Entry] = field(default_factory=list)

    def __str__(self) -> str:
        ver = "" if self.ver is None else f", {self.ver}"
        val = f", {self.val!r}" if self.call in {"set", "propose", "put"} else ""
        told = ", ".join(
            f"{'' if each.key == self.key else each.key + ':'}{each.ver}="
            f"{'deleted' if each.deleted else repr(each.val)}"
            for each in self.entries
        )
        return (
            f"{self.client}#{self.id} {self.call}({self.key}{ver}{val}) "
            f"[{self.began:.6f}, {self.ended:.6f}] {self.outcome} {told}".rstrip()
        )


class Recorder:
    """Takes note of the calls of one client.

    Args:
        client: its name, which no other client of the history has.
        clock: the time; one for all clients of the history.
        write: takes each event, at once: ``list.append``, or :func:`append_to` a file.
    """

    def __init__(
        self, client: str, clock: Callable[[], float], write: Callable[[Event], object]
    ) -> None:
        self._client = client
        self._clock = clock
        self._write = write
        self._ids = count()

    def invoke(self, call: str, key: str, **arguments: Any) -> int:
        """A call begins; its id. Arguments: ``ver``, ``val``, ``of``, ``after``, ``limit``."""
        operation = next(self._ids)
        self._event("invoke", operation, call=call, key=key, **arguments)
        return operation

    def attempt(self, operation: int, base: Any, val: Any) -> None:
        """The function of an update computed a value; none is written that was not noted so."""
        self._event("attempt", operation, base=base, val=val)

    def complete(self, operation: int, outcome: Outcome, *entries: Told) -> None:
        """A call ended, and was told these entries."""
        told = [
            {"key": each.key, "ver": each.ver, "val": each.val, "deleted": each.deleted}
            for each in entries
        ]
        self._event("complete", operation, outcome=str(outcome), entries=told)

    def _event(self, kind: str, operation: int, **fields: Any) -> None:
        head = {"event": kind, "time": self._clock(), "client": self._client, "id": operation}
        self._write(head | fields)


@contextmanager
def append_to(path: Path) -> Iterator[Callable[[Event], None]]:
    """Append events to a file as lines of JSON, each at once: a kill loses none."""
    with path.open("ab", buffering=0) as file:

        def write(event: Event) -> None:
            file.write(json.dumps(event).encode() + b"\n")

        yield write


def read_events(paths: Iterable[Path]) -> Iterator[Event]:
    """The events in files of JSON lines; a last line without an end is left out."""
    for path in paths:
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def operations(events: Iterable[Event]) -> list[Operation]:
    """The operations that these events tell of, in the order in which they began."""
    found: dict[tuple[str, int], Operation] = {}
    for event in events:
        fields = dict(event)
        kind, time = fields.pop("event"), fields.pop("time")
        name = fields["client"], fields["id"]
        match kind:
            case "invoke":
                found[name] = Operation(**fields, began=time)
            case "attempt":
                found[name].attempts.append(Attempt(fields["base"], fields["val"]))
            case "complete":
                operation = found[name]
                operation.ended = time
                operation.outcome = Outcome(fields["outcome"])
                operation.entries = [Entry(**each) for each in fields["entries"]]
            case _:
                raise ValueError(f"an event of kind {kind!r}")
    return sorted(found.values(), key=lambda operation: operation.began)


def token(val: Any) -> str:
    """The same for the same values, and for no others: 1, True and 1.0 differ."""
    return json.dumps(val, sort_keys=True, default=repr)


def token_of(entry: Entry) -> str:
    """The same, also of tombstones."""
    return "deleted" if entry.deleted else token(entry.val)
