"""The linear checker: each version has a window of time in which it must have been chosen.

A version that somebody was shown was chosen before that call ended. A version that a call did not
see, though the call would have shown it, was not yet chosen when that call began; nor was it before
whoever wrote it began. Where the end of a window comes before its beginning, something is wrong:
a write was lost, a read was stale, a put was not newer than all before it. So each call only moves
the ends of windows, and to check a history takes as long as to sort it.

The specification, call by call ("absent" and "below" are as of the beginning of the call):

- ``set``, ``propose``, ``get(key, ver)``: one version; what is absent, or shown.
- ``latest``, ``get(key)``: the version shown, all above it absent. For ``get(key)``, None means
  that there is none, or that the version shown is a tombstone.
- ``put``, ``update``, ``delete``: the version written, its own alone; it and all above it absent,
  the one below it chosen before it, and for ``update`` equal to what it was computed from.
- ``history``: each version shown, all others above the lowest absent.
- ``scan``: for each key in its range, as ``get(key)``.

So all but the calls that name a version may take effect from the look at what is above to the
appearance of what they show. Beside ``set``s below the latest version, that is less than one moment
for each call, which :func:`.search.search` can be asked for; it is what rules R6 and R7 promise.

Calls of unknown outcome, and those that never ended, may have written or not, then or later.

It raises no false alarm, and misses one thing: where several tombstones, or one that nobody was
shown, may be why there was nothing, it does not find out whether one of them truly can be.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from .history import APPENDS, Entry, Operation, Outcome, token, token_of

SHOWN = frozenset({Outcome.OK, Outcome.TAKEN, Outcome.COMPACTED})
"""The outcomes whose entries are chosen."""


def check(history: Iterable[Operation]) -> list[str]:
    """What is wrong with a history of any number of keys; nothing, if it is good."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    scans = []
    for operation in history:
        if operation.call == "scan":
            scans.append(operation)
        else:
            by_key[operation.key].append(operation)
    problems: list[str] = []
    for scan in scans:
        for entry in scan.entries:
            by_key.setdefault(entry.key, [])
    for scan in scans:
        if scan.outcome is Outcome.OK:
            problems += _order_of(scan)
            for each in gets_of(scan, by_key):
                by_key[each.key].append(each)
    for _, operations in sorted(by_key.items()):
        problems += _Key(operations).problems()
    return problems


def _order_of(scan: Operation) -> Iterator[str]:
    keys = [entry.key for entry in scan.entries]
    if any(first >= second for first, second in pairwise([scan.after, *keys])):
        yield f"keys out of order: {scan}"
    if not all(key.startswith(scan.key) for key in keys):
        yield f"keys without the prefix: {scan}"
    if scan.limit is not None and len(keys) > scan.limit:
        yield f"more than its limit: {scan}"


def gets_of(scan: Operation, keys: Iterable[str]) -> Iterator[Operation]:
    """A scan as one ``get(key)`` for each key in its range."""
    shown = {entry.key: entry for entry in scan.entries}
    is_cut = scan.limit is not None and len(shown) >= scan.limit
    last = max(shown, default=scan.after)
    for key in keys:
        in_range = key.startswith(scan.key) and scan.after < key and not (is_cut and key > last)
        if in_range or key in shown:
            entries = [shown[key]] if key in shown else []
            outcome = Outcome.OK if entries else Outcome.NONE
            yield replace(scan, call="get", key=key, outcome=outcome, entries=entries)


_Name = tuple[str, int | None]
"""The client and the id of an operation."""

_Absence = tuple[int, float, Operation]
"""All versions above this one were absent at this time, says this operation."""


def _later(first: _Absence, second: _Absence) -> _Absence:
    return max(first, second, key=lambda absence: absence[1])


@dataclass(slots=True)
class _Window:
    """When a version was chosen: not before ``low``, not after ``high``; and who says so."""

    low: float = -math.inf
    low_by: Operation | None = None
    high: float = math.inf
    high_by: Operation | None = None

    def not_before(self, time: float, who: Operation | None) -> None:
        if time > self.low:
            self.low, self.low_by = time, who

    def not_after(self, time: float, who: Operation | None) -> None:
        if time < self.high:
            self.high, self.high_by = time, who


class _Key:
    """The check of one key."""

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self.found: list[str] = []
        self.entries: dict[int, Entry] = {}  # each version that anybody was shown
        self.windows: dict[int, _Window] = defaultdict(_Window)
        self.absent_above: list[_Absence] = []

    def problems(self) -> list[str]:
        for operation in self.operations:
            self.found += (f"{what}: {operation}" for what in _nonsense(operation))
        self._agreement()
        self._writers()
        self._absences()
        self._chains()
        self._nothing()
        self._apply_absent_above()
        self._verdict()
        return self.found

    def _agreement(self) -> None:
        """One value a version, whoever was told; and one whose very proposal was chosen."""
        first: dict[int, Operation] = {}
        claims: dict[int, tuple[_Name, Operation]] = {}
        for operation in self.operations:
            if operation.outcome not in SHOWN:
                continue
            for entry in operation.entries:
                known = self.entries.setdefault(entry.ver, entry)
                by = first.setdefault(entry.ver, operation)
                if token_of(known) != token_of(entry):
                    self.found.append(f"two values of version {entry.ver}: {by} / {operation}")
                self.windows[entry.ver].not_after(operation.ended, operation)
                writer = _claims(operation)
                if writer is None:
                    continue
                other, by = claims.setdefault(entry.ver, (writer, operation))
                if other != writer:
                    self.found.append(f"two writers of version {entry.ver}: {by} / {operation}")

    def _writers(self) -> None:
        """Somebody proposed each version, and whoever did began before it was chosen."""
        writers = _Writers(self.operations)
        self.writer: dict[int, Operation] = {}  # where it can only be one
        appended: dict[tuple[str, int], int] = {}
        for ver, entry in sorted(self.entries.items()):
            candidates = writers.of(entry)
            if not candidates:
                shown = self.windows[ver].high_by
                self.found.append(f"nobody proposed what version {ver} holds: {shown}")
                continue
            earliest = min(candidates, key=lambda operation: operation.began)
            self.windows[ver].not_before(earliest.began, earliest)
            if len(candidates) == 1:
                writer = self.writer[ver] = candidates[0]
                other = appended.setdefault((writer.client, writer.id), ver)
                if writer.call in APPENDS and other != ver:
                    self.found.append(f"written twice, as {other} and as {ver}: {writer}")

    def _absences(self) -> None:
        """What a call did not see was not yet chosen when it began."""
        versions = sorted(self.entries)
        for operation in self.operations:
            began, outcome = operation.began, operation.outcome
            shown = [entry.ver for entry in operation.entries]
            match operation.call:
                case "get" if operation.ver is not None:
                    if outcome is Outcome.NONE:
                        self.windows[operation.ver].not_before(began, operation)
                case "get" | "latest" if outcome is Outcome.OK:
                    self.absent_above.append((shown[0], began, operation))
                case "latest" if outcome is Outcome.NONE:
                    self.absent_above.append((-1, began, operation))
                case "put" | "update" | "delete" if outcome is Outcome.OK:
                    self.absent_above.append((shown[0] - 1, began, operation))
                case "history" if outcome is Outcome.OK:
                    self.absent_above.append((max(shown, default=-1), began, operation))
                    if shown:
                        low, high = (
                            bisect_left(versions, min(shown)),
                            bisect_left(versions, max(shown)),
                        )
                        for ver in set(versions[low:high]) - set(shown):
                            self.windows[ver].not_before(began, operation)

    def _chains(self) -> None:
        """An append comes after the version below it, from which an update was computed."""
        for ver in sorted(self.writer, reverse=True):
            writer, window = self.writer[ver], self.windows[ver]
            if writer.call not in APPENDS or ver == 0:
                continue
            self.windows[ver - 1].not_after(window.high, window.high_by)
        for ver in sorted(self.writer):
            writer = self.writer[ver]
            if writer.call not in APPENDS:
                continue
            if ver > 0:
                below = self.windows[ver - 1]
                self.windows[ver].not_before(below.low, below.low_by)
            self._base(ver, writer)

    def _base(self, ver: int, writer: Operation) -> None:
        below = self.entries.get(ver - 1)
        if ver > 0 and below is None:
            return  # it was compacted before anybody saw it
        if writer.call == "update" and writer.attempts:
            base = writer.attempts[-1].base
            if token(base) != token(None if below is None else below.val):
                self.found.append(f"not computed from {below}, but from {base!r}: {writer}")
        if writer.call == "delete" and (below is None or below.deleted):
            self.found.append(f"deleted what was not there, {below}: {writer}")

    def _nothing(self) -> None:
        """Where there was no value, nothing was chosen yet, or the latest was a tombstone."""
        by_time = sorted((window.high, ver) for ver, window in self.windows.items())
        times = [time for time, _ in by_time]
        highest = list(accumulate((ver for _, ver in by_time), max))
        tombstones = [ver for ver in sorted(self.entries) if self.entries[ver].deleted]
        unseen = _UnseenDeletes(self)
        for operation in self.operations:
            plain_get = operation.call == "get" and operation.ver is None
            if operation.outcome is not Outcome.NONE or not (
                plain_get or operation.call == "delete"
            ):
                continue
            before = bisect_left(times, operation.began)
            least = highest[before - 1] if before else -1
            possible = [
                ver
                for ver in tombstones[bisect_left(tombstones, least) :]
                if self.windows[ver].low <= operation.ended
            ]
            if unseen.possible(least, operation) or (possible and least < 0):
                continue
            if least < 0:
                self.absent_above.append((-1, operation.began, operation))
            elif not possible:
                known = self.windows[least].high_by
                self.found.append(f"there was a value, says {known}: {operation}")
            elif len(possible) == 1:
                self.windows[possible[0]].not_after(operation.ended, operation)
                self.absent_above.append((possible[0], operation.began, operation))

    def _apply_absent_above(self) -> None:
        self.absent_above.sort(key=lambda absence: absence[0])
        limits = [ver for ver, _, _ in self.absent_above]
        latest = list(accumulate(self.absent_above, _later))
        for ver, window in self.windows.items():
            if number := bisect_left(limits, ver):
                _, time, who = latest[number - 1]
                window.not_before(time, who)

    def _verdict(self) -> None:
        for ver, window in sorted(self.windows.items()):
            if window.high < window.low:
                self.found.append(
                    f"version {ver} was there, says {window.high_by}, "
                    f"and later not yet: {window.low_by}"
                )


class _Writers:
    """Who can have written what."""

    def __init__(self, operations: list[Operation]) -> None:
        settled = {  # the writes that a settle says were not chosen
            (operation.client, operation.of)
            for operation in operations
            if operation.call == "settle" and operation.outcome is Outcome.NONE
        }
        self._placed: dict[tuple[int, str], list[Operation]] = defaultdict(list)
        self._anywhere: dict[str, list[Operation]] = defaultdict(list)
        for operation in operations:
            if (operation.client, operation.id) not in settled:
                self._add(operation)

    def _add(self, operation: Operation) -> None:
        if operation.outcome in (Outcome.FAILED, Outcome.NONE):
            return
        if operation.call in {"set", "propose"}:
            assert operation.ver is not None
            self._placed[operation.ver, token(operation.val)].append(operation)
        elif operation.call in APPENDS and operation.entries:
            entry = operation.entries[0]
            self._placed[entry.ver, token_of(entry)].append(operation)
        elif operation.call == "put":
            self._anywhere[token(operation.val)].append(operation)
        elif operation.call == "delete":
            self._anywhere["deleted"].append(operation)
        elif operation.call == "update" and operation.attempts:
            self._anywhere[token(operation.attempts[-1].val)].append(operation)

    def of(self, entry: Entry) -> list[Operation]:
        """Who can have written an entry: one append alone, if it was told so."""
        placed = self._placed[entry.ver, token_of(entry)]
        for operation in placed:
            if operation.call in APPENDS and operation.outcome is Outcome.OK:
                return [operation]
        return [*placed, *self._anywhere[token_of(entry)]]


class _UnseenDeletes:
    """The deletes of unknown outcome whose tombstone nobody was shown."""

    def __init__(self, check: _Key) -> None:
        seen = {(writer.client, writer.id) for writer in check.writer.values()}
        self._deletes = [
            operation
            for operation in check.operations
            if operation.call == "delete"
            and operation.outcome is Outcome.UNKNOWN
            and (operation.client, operation.id) not in seen
        ]
        self._versions = sorted(check.entries)
        absences = sorted((began, ver) for ver, began, _ in check.absent_above)
        self._times = [began for began, _ in absences]
        self._limits = list(accumulate((ver for _, ver in reversed(absences)), min))[::-1]

    def possible(self, least: int, operation: Operation) -> bool:
        """Whether one, of this version or a later one, may be why there was nothing."""
        later = bisect_left(self._times, operation.ended)
        limit = self._limits[later] if later < len(self._limits) else math.inf
        low, high = (bisect_left(self._versions, ver) for ver in (least, limit + 1))
        if high - low > limit - max(least, 0):
            return False  # all versions that it may have are known to be something else
        return any(
            delete.began <= operation.ended
            and (not delete.entries or delete.entries[0].ver >= least)
            for delete in self._deletes
        )


def _claims(operation: Operation) -> _Name | None:
    """Whose very proposal was chosen, and not merely an equal one, if a call says so."""
    if operation.outcome is not Outcome.OK:
        return None
    if operation.call == "settle":
        return operation.client, operation.of
    return (operation.client, operation.id) if operation.call in APPENDS else None


def _nonsense(operation: Operation) -> Iterator[str]:
    """What is wrong with an answer whatever else happened."""
    entry = operation.entries[0] if operation.entries else None
    if any(each.key != operation.key for each in operation.entries):
        yield "an entry of another key"
    if operation.outcome is Outcome.COMPACTED:
        if entry is None or (operation.ver is not None and entry.ver <= operation.ver):
            yield "compacted, but what it calls the latest is not newer"
    elif operation.outcome is Outcome.TAKEN:
        if entry is None or entry.ver != operation.ver:
            yield "taken by another version"
        elif token_of(entry) == token(operation.val):
            yield "taken by the same value"
    elif operation.outcome is Outcome.OK:
        yield from _nonsense_done(operation, entry)


def _nonsense_done(operation: Operation, entry: Entry | None) -> Iterator[str]:
    if operation.call == "history":
        if any(first.ver >= second.ver for first, second in pairwise(operation.entries)):
            yield "versions out of order"
        return
    if entry is None:
        yield "ok with nothing"
        return
    if operation.ver is not None and entry.ver != operation.ver:
        yield "another version than asked for"
    match operation.call:
        case "set" | "put" if token_of(entry) != token(operation.val):
            yield "another value than written"
        case "update" if operation.attempts:
            if token_of(entry) != token(operation.attempts[-1].val):
                yield "another value than computed"
        case "delete" if not entry.deleted:
            yield "deleted, but no tombstone"
        case "get" if operation.ver is None and entry.deleted:
            yield "a tombstone shown as a value"
