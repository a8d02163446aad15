"""What a client remembers of keys: what is there, what it has begun, who writes, whose turn it is.

A chosen version never changes, so what is remembered is never wrong, only out of date:
a put begins from it, and finds out by what the acceptors answer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

import trio

from .limits import MAX_NOTED_KEYS, MAX_REMEMBERED_BYTES, MAX_UNFINISHED, TURN_TIME
from .paxos.messages import Ballot, Instance
from .paxos.operation import Latest
from .paxos.proposer import Ballots

_OVERHEAD_BYTES = 512  # of one entry in memory, roughly

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Remembered:
    """The highest chosen version seen of each key; the least recently used go first."""

    __slots__ = ("_latest", "_size")

    def __init__(self) -> None:
        self._latest: OrderedDict[str, Latest] = OrderedDict()
        self._size = 0

    def get(self, key: str) -> Latest | None:
        """The highest version seen, if it is remembered."""
        latest = self._latest.get(key)
        if latest is not None:
            self._latest.move_to_end(key)
        return latest

    def learn(self, key: str, latest: Latest) -> None:
        """Remember a version that was chosen, unless a higher one is remembered."""
        known = self._latest.get(key)
        if known is not None:
            if known.ver >= latest.ver:
                return
            self._size -= _size(key, known)
            self._latest.move_to_end(key)
        self._latest[key] = latest
        self._size += _size(key, latest)
        while self._size > MAX_REMEMBERED_BYTES:
            self._size -= _size(*self._latest.popitem(last=False))


class Begun:
    """What a client has begun at a version.

    Args:
        ballots: of the operation that began, and of those that go on if it comes to no end.

    Attributes:
        promised: one of them that a quorum has promised ahead of time, until it is used.
    """

    __slots__ = ("ballots", "promised")

    def __init__(self, ballots: Ballots) -> None:
        self.ballots = ballots
        self.promised: Ballot | None = None


class Unfinished:
    """The versions at which a client has begun something, and has seen nothing chosen yet.

    Acceptors do not forget a promise because its proposer has gone. Whoever proposes there next
    goes on with the same ballots, and is not refused for them. Of too many versions, the oldest
    are forgotten.
    """

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun: OrderedDict[Instance, Begun] = OrderedDict()

    def get(self, instance: Instance) -> Begun | None:
        """What was begun at a version, if something was."""
        return self._begun.get(instance)

    def add(self, instance: Instance, begun: Begun) -> None:
        """Something is begun at a version."""
        _put_last(self._begun, instance, begun, MAX_UNFINISHED)

    def remove(self, instance: Instance) -> None:
        """It is known what is chosen for a version: nobody proposes there any more."""
        self._begun.pop(instance, None)


class Lately:
    """Keys of which something was noted not long ago; a bounded number of them.

    Args:
        seconds: for how long it counts.
    """

    __slots__ = ("_seconds", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: OrderedDict[str, float] = OrderedDict()

    def note(self, key: str) -> None:
        """It is so from now on."""
        _put_last(self._until, key, trio.current_time() + self._seconds, MAX_NOTED_KEYS)

    def has(self, key: str) -> bool:
        """Whether it was noted lately."""
        until = self._until.get(key)
        if until is None:
            return False
        if trio.current_time() < until:
            return True
        del self._until[key]
        return False


class Turns:
    """The turns to write a key that a client has, and no call of it uses. A bounded number."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()

    def keep(self, key: str, since: float) -> None:
        """Keep one for the next call, if that comes in time.

        Args:
            key: the key.
            since: when the turn came.
        """
        _put_last(self._since, key, since, MAX_NOTED_KEYS)

    def take(self, key: str) -> float | None:
        """Take one to use it, or to let others have theirs; since when it is there, if it is."""
        since = self._since.pop(key, None)
        return since if since is not None and trio.current_time() < since + TURN_TIME else None


def _put_last(kept: OrderedDict[KeyT, ValueT], key: KeyT, value: ValueT, most: int) -> None:
    """Keep something as the newest; of more than so many, the oldest goes."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def _size(key: str, latest: Latest) -> int:
    return _OVERHEAD_BYTES + 4 * len(key) + len(latest.proposal.value or b"")
