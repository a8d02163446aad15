"""One writing operation a key at a time: a client does not duel with itself.

Who waits is served in order; and whoever is next is told which version is being written, so that
it can prepare the one after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Self, TypeAlias

import trio

TakeTurn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits for the turn to write, unless it was taken already."""

Ahead: TypeAlias = Callable[[int], None]
"""Is told which version whoever is before it writes."""

Waiting: TypeAlias = Callable[[str], AbstractContextManager[None]]
"""Makes a block in which a call may wait for as long as it has time; told for what, for people."""


class Writer:
    """A call that may write a key: its place in line, and its turn. Both end with the block."""

    __slots__ = (
        "_ahead", "_behind", "_has_turn", "_in_line", "_key", "_ver", "_waiting", "_woken",
        "_writers",
    )  # fmt: skip

    def __init__(self, writers: Writers, key: str, waiting: Waiting) -> None:
        self._writers = writers
        self._key = key
        self._waiting = waiting
        self._in_line = False  # from the time at which it wants the turn
        self._has_turn = False
        self._behind: OrderedDict[Writer, None] | None = None  # while it has: those who wait
        self._ver: int | None = None  # which version it writes, once it knows
        self._woken: trio.Event | None = None  # while it waits: what wakes it
        self._ahead: Ahead | None = None  # while it waits: is told once what is before it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_turn:
            self._hand_over()
        elif self._in_line:
            self._step_out()

    def take_turn_now(self) -> bool:
        """Take the turn if nobody has it, else a place in line; whether it has the turn."""
        if not self._in_line:
            self._in_line = True
            holder = self._writers.holders.setdefault(self._key, self)
            if holder is self:
                self._has_turn = True
            else:
                if holder._behind is None:
                    holder._behind = OrderedDict()
                holder._behind[self] = None
        return self._has_turn

    async def take_turn(self, ahead: Ahead | None = None) -> None:
        """Wait for the turn, unless it was taken already.

        Args:
            ahead: is called while it waits, at most once: when it is next, and whoever has the
                turn knows which version it writes. That is in another task, and must not fail.
        """
        if self.take_turn_now():
            return
        self._ahead = ahead
        self._writers.holders[self._key]._tell()
        self._woken = trio.Event()
        try:
            with self._waiting("another write of this client to the key"):
                await self._woken.wait()
        finally:
            self._ahead = None  # which knows of this writer: a cycle is work for the collector

    def writes(self, ver: int) -> None:
        """Let whoever is next know which version is being written."""
        self._ver = ver
        self._tell()

    def _tell(self) -> None:
        """Tell whoever is next what it writes, if it knows that."""
        if self._behind and self._ver is not None:
            next_ = next(iter(self._behind))
            ahead, next_._ahead = next_._ahead, None
            if ahead is not None:
                ahead(self._ver)

    def _hand_over(self) -> None:
        """It is the turn of whoever is next."""
        if not self._behind:
            del self._writers.holders[self._key]
            return
        next_, _ = self._behind.popitem(last=False)
        self._writers.holders[self._key] = next_
        next_._has_turn, next_._behind = True, self._behind
        if next_._woken is not None:
            next_._woken.set()

    def _step_out(self) -> None:
        """Wait no more."""
        holder = self._writers.holders[self._key]
        assert holder._behind is not None, "who waits does so behind somebody"
        del holder._behind[self]
        holder._tell()


class Writers:
    """A line for each key that is being written. It holds nothing for other keys.

    Attributes:
        holders: by key, whose turn it is.
    """

    __slots__ = ("holders",)

    def __init__(self) -> None:
        self.holders: dict[str, Writer] = {}

    def writer(self, key: str, waiting: Waiting) -> Writer:
        """Give the means to take the turn to write.

        Args:
            key: what is to be written.
            waiting: makes a block around the wait for the turn.
        """
        return Writer(self, key, waiting)
