"""Ways to break a good history so that no store could have had it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from random import Random

from .history import APPENDS, Attempt, Entry, Operation, Outcome

History = list[Operation]
Corruption = Callable[[History, Random], bool]
"""Break a history in place, and say whether it had a place for that."""


def corrupted(history: History, corruption: Corruption, rng: Random) -> History | None:
    """A broken copy, or None."""
    copy = deepcopy(history)
    return copy if corruption(copy, rng) else None


def stale_read(history: History, rng: Random) -> bool:
    """The latest version is older than what somebody was shown before the read began."""
    return _any(
        rng,
        [
            (_tell, read, old)
            for read in _done(history, {"get", "latest"})
            if read.ver is None
            for known in _done(history)
            if known.ended < read.began
            for old in _shown(history)
            if old.ver < known.entries[0].ver and (read.call == "latest" or not old.deleted)
        ],
    )


def put_not_newer(history: History, rng: Random) -> bool:
    """An append returns a version older than what somebody was shown before it began."""
    return _any(
        rng,
        [
            (_tell, append, replace(append.entries[0], ver=known.entries[0].ver - 1))
            for append in _done(history, APPENDS)
            for known in _done(history)
            if known.ended < append.began and known.entries[0].ver > 0
        ],
    )


def lost_update(history: History, rng: Random) -> bool:
    """An update was computed from something else than what is below it."""
    updates = [each for each in _done(history, {"update"}) if each.entries[0].ver > 0]
    known = {entry.ver for entry in _shown(history)}
    updates = [each for each in updates if each.entries[0].ver - 1 in known]
    return _any(rng, [(_compute, each, "something else") for each in updates])


def two_values(history: History, rng: Random) -> bool:
    """Two calls were shown different values of one version."""
    return _any(
        rng,
        [
            (_tell, read, replace(read.entries[0], val=other.val, deleted=False))
            for read in _done(history, {"get", "latest", "propose"})
            if sum(read.entries[0] in each.entries for each in _done(history)) > 1
            for other in _shown(history)
            if not other.deleted and other.val != read.entries[0].val
        ],
    )


def lost_write(history: History, rng: Random) -> bool:
    """A version that was shown is gone when the last reader looks for it."""
    return _any(
        rng,
        [
            (_forget, read, None)
            for read in _done(history, {"get"})
            if read.ver is not None
            for known in _done(history)
            if known.ended < read.began and read.entries[0] in known.entries
        ],
    )


def nobodys_value(history: History, rng: Random) -> bool:
    """All were shown a value that nobody proposed."""
    entries = _shown(history)
    if not entries:
        return False
    victim = rng.choice(entries)
    for operation in _done(history, {"get", "latest", "propose", "history"}):
        operation.entries = [
            replace(each, val="nobody's", deleted=False) if each == victim else each
            for each in operation.entries
        ]
    return any("nobody's" in [each.val for each in told.entries] for told in _done(history))


ALL: dict[str, Corruption] = {
    each.__name__: each
    for each in (stale_read, put_not_newer, lost_update, two_values, lost_write, nobodys_value)
}


def any_change(history: History, rng: Random) -> bool:
    """Change what one call was told, which may or may not be a corruption."""
    told = [each for each in history if each.outcome is not Outcome.UNKNOWN]
    entries = _shown(history)
    if not told or not entries:
        return False
    operation = rng.choice(told)
    match rng.choice(["entry", "time", "outcome"]):
        case "entry" if operation.outcome is Outcome.OK and operation.call != "history":
            operation.entries = [rng.choice(entries)]
        case "outcome" if operation.call in {"get", "latest"} and operation.entries:
            _forget(operation, None)
        case _:
            times = sorted([each.began for each in history] + [each.ended for each in told])
            operation.began = rng.choice(times)
            operation.ended = max(operation.began + 0.5, operation.ended)
    return True


def _done(history: History, calls: frozenset[str] | set[str] | None = None) -> History:
    return [
        each
        for each in history
        if each.outcome is Outcome.OK and each.entries and (calls is None or each.call in calls)
    ]


def _shown(history: History) -> list[Entry]:
    return sorted(
        {entry for each in _done(history) for entry in each.entries}, key=lambda each: each.ver
    )


def _any(rng: Random, choices: list[tuple[Callable[..., None], Operation, object]]) -> bool:
    if not choices:
        return False
    change, operation, what = rng.choice(choices)
    change(operation, what)
    return True


def _tell(operation: Operation, entry: Entry) -> None:
    operation.entries = [entry]


def _compute(operation: Operation, base: object) -> None:
    operation.attempts[-1] = Attempt(base, operation.attempts[-1].val)


def _forget(operation: Operation, _: object) -> None:
    operation.outcome, operation.entries = Outcome.NONE, []
