"""The general checker: look for an order of the calls that the specification of one key allows.

After Wing and Gong, with Lowe's memory of what was tried. It takes exponential time and is for
small histories, to check the checker. The specification is that of :mod:`.versions`, told as a
machine: a call *looks* at the versions there are as soon as it may, and *ends* later, in one step.
Absence is judged by the look, presence by the end. With ``strict``, a call looks when it ends, so
that it happens in one moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .history import APPENDS, Entry, Operation, Outcome, token, token_of

Name = tuple[str, int]


class Cell(NamedTuple):
    """What a version holds, and who wrote it."""

    token: str
    writer: Name


State = frozenset[tuple[int, Cell]]
Look = frozenset[int]


def search(operations: Iterable[Operation], *, strict: bool = False) -> bool:
    """Whether there is an order of these calls on one key that the specification allows."""
    return _Search(list(operations), strict).run()


class _Search:
    def __init__(self, operations: list[Operation], strict: bool) -> None:
        self.strict = strict
        self.operations = [each for each in operations if _matters(each)]
        self.told = {
            index
            for index, each in enumerate(self.operations)
            if each.outcome is not Outcome.UNKNOWN
        }
        self.tried: set[object] = set()

    def run(self) -> bool:
        return self._from(frozenset(), frozenset(), {})

    def _from(self, ended: frozenset[int], state: State, looks: dict[int, Look]) -> bool:
        if self.told <= ended:
            return True
        looks = self._look(ended, state, looks)
        here = (ended, state, frozenset(looks.items()))
        if here in self.tried:
            return False
        self.tried.add(here)
        return any(
            self._from(
                ended | {index}, after, {each: looks[each] for each in looks if each != index}
            )
            for index, look in looks.items()
            for after in ends(self.operations[index], dict(state), look)
        )

    def _look(self, ended: frozenset[int], state: State, looks: dict[int, Look]) -> dict[int, Look]:
        """Let all look that may begin: those before whose beginning no other must end."""
        limit = min(self.operations[index].ended for index in self.told - ended)
        now = frozenset(ver for ver, _ in state)
        known = {} if self.strict else looks
        return known | {
            index: now
            for index, each in enumerate(self.operations)
            if index not in ended and index not in known and each.began <= limit
        }


def _matters(operation: Operation) -> bool:
    """Whether it told anything, or may have written something."""
    is_write = operation.call in {"set", "propose", *APPENDS}
    if operation.call == "update" and not operation.attempts:
        return False
    may_have_written = is_write and operation.outcome is not Outcome.FAILED
    return may_have_written or operation.outcome not in (Outcome.UNKNOWN, Outcome.FAILED)


def ends(operation: Operation, state: dict[int, Cell], look: Look) -> Iterator[State]:
    """The states in which a call may leave the key, if it may end now as it did."""
    same = frozenset(state.items())
    outcome, entries, ver = operation.outcome, operation.entries, operation.ver
    top = max(look, default=-1)
    match operation.call:
        case "set" | "propose":
            assert ver is not None
            yield from _ends_set(operation, state)
        case "get" if ver is not None:
            if outcome is Outcome.NONE:
                if ver not in look:
                    yield same
            elif _shown(state, entries):
                is_asked = outcome is Outcome.OK and entries[0].ver == ver
                if is_asked or (outcome is Outcome.COMPACTED and entries[0].ver > ver):
                    yield same
        case "get" | "latest" if outcome is Outcome.OK:
            is_value = operation.call == "latest" or not entries[0].deleted
            if is_value and top <= entries[0].ver and _shown(state, entries):
                yield same
        case "latest":
            if top < 0:
                yield same
        case "get":
            if _nothing(state, top):
                yield same
        case "put" | "update" | "delete":
            yield from _ends_append(operation, state, top)
        case "settle":
            yield from _ends_settle(operation, state)
        case "history":
            versions = {entry.ver for entry in entries}
            hidden = {each for each in look - versions if each >= min(versions, default=0)}
            if not hidden and _shown(state, entries):
                yield same
        case call:
            raise ValueError(f"no call of one key: {call}")


def _ends_set(operation: Operation, state: dict[int, Cell]) -> Iterator[State]:
    ver, own = operation.ver, token(operation.val)
    assert ver is not None
    name = operation.client, operation.id
    written = state if ver in state else state | {ver: Cell(own, name)}
    match operation.outcome:
        case Outcome.UNKNOWN:
            yield frozenset(written.items())
        case Outcome.COMPACTED:
            for after in (state, written):
                if operation.entries[0].ver > ver and _shown(after, operation.entries):
                    yield frozenset(after.items())
        case outcome:
            is_own = written[ver].token == own
            allowed = operation.call == "propose" or is_own == (outcome is Outcome.OK)
            if allowed and operation.entries[0].ver == ver and _shown(written, operation.entries):
                yield frozenset(written.items())


def _ends_append(operation: Operation, state: dict[int, Cell], top: int) -> Iterator[State]:
    if operation.outcome is Outcome.NONE:
        if operation.call == "delete" and _nothing(state, top):
            yield frozenset(state.items())
        return
    if operation.entries:
        versions = [operation.entries[0].ver]
    else:
        versions = [ver for ver in (0, *(each + 1 for each in state)) if ver not in state]
    for ver in versions:
        is_next = ver == 0 or ver - 1 in state
        is_newer = top < ver or operation.outcome is Outcome.UNKNOWN
        if ver in state or not is_next or not is_newer:
            continue
        base = state[ver - 1].token if ver else "deleted"
        if _computed(operation, base) and _is_own(operation):
            name = operation.client, operation.id
            yield frozenset((state | {ver: Cell(_written(operation), name)}).items())


def _computed(operation: Operation, base: str) -> bool:
    """Whether an append may have been computed from what the version below holds."""
    if operation.call == "delete":
        return base != "deleted"
    if operation.call == "update" and operation.attempts:
        return token(operation.attempts[-1].base) == (token(None) if base == "deleted" else base)
    return True


def _is_own(operation: Operation) -> bool:
    return all(token_of(entry) == _written(operation) for entry in operation.entries)


def _written(operation: Operation) -> str:
    if operation.call == "delete":
        return "deleted"
    if operation.call == "put":
        return token(operation.val)
    return token(operation.attempts[-1].val)


def _ends_settle(operation: Operation, state: dict[int, Cell]) -> Iterator[State]:
    """Whether the very proposal of that write was chosen, and not merely an equal one."""
    name = operation.client, operation.of
    cell = state.get(-1 if operation.ver is None else operation.ver)
    is_decided = cell is not None and (cell.writer == name) == (operation.outcome is Outcome.OK)
    is_dropped = operation.outcome is Outcome.COMPACTED
    is_asked = is_dropped or all(entry.ver == operation.ver for entry in operation.entries)
    if (is_decided or is_dropped) and is_asked and _shown(state, operation.entries):
        yield frozenset(state.items())


def _shown(state: dict[int, Cell], entries: list[Entry]) -> bool:
    return all(
        entry.ver in state and state[entry.ver].token == token_of(entry) for entry in entries
    )


def _nothing(state: dict[int, Cell], top: int) -> bool:
    """Nothing was there, or the latest is a tombstone."""
    return top < 0 or any(ver >= top and cell.token == "deleted" for ver, cell in state.items())
