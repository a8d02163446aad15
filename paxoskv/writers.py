"""One writing operation a key at a time: a client does not duel with itself.

Who waits is served in order; and the first of those who wait may learn which version is being
written, so that it can prepare the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Self, TypeAlias

import trio

TakeTurn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits for the turn to write, unless it was taken already."""

Waiting: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Makes a block in which a call may wait for as long as it has time."""


class Writer:
    """A call that may write a key: its place in line, and its turn. Both end with the block."""

    __slots__ = (
        "_ahead", "_behind", "_curious", "_has", "_key", "_stands", "_ver", "_waiting", "_woken",
        "_writers",
    )  # fmt: skip

    def __init__(self, writers: Writers, key: str, waiting: Waiting) -> None:
        self._writers = writers
        self._key = key
        self._waiting = waiting
        self._stands = False  # whether it has a place in line, or the turn
        self._has = False  # whether it has the turn
        # While it has the turn: those who wait, in order, and the version that it writes.
        self._behind: deque[Writer] | None = None
        self._ver: int | None = None
        # While it waits: what wakes it, and what whoever has the turn writes, if it is next.
        self._woken: trio.Event | None = None
        self._ahead: int | None = None
        self._curious = False  # whether it is to be woken to hear that

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._has:
            self._hand_over()
        elif self._stands:
            self._step_out()

    def take_turn_now(self) -> bool:
        """Take the turn if nobody has it, else a place in line; whether it has the turn."""
        if not self._stands:
            self._stands = True
            holder = self._writers.holders.setdefault(self._key, self)
            if holder is self:
                self._has = True
            else:
                holder._let_wait(self)
        return self._has

    async def take_turn(self) -> None:
        """Wait for the turn, unless it was taken already."""
        while not self.take_turn_now():
            await self._wait()

    async def near(self) -> int | None:
        """Wait until nobody is before it but the one whose turn it is, and it is known what for.

        Returns:
            The version that he writes, or is expected to. None: it has the turn itself.
        """
        self._curious = True
        while not self.take_turn_now() and self._ahead is None:
            await self._wait()
        self._curious = False
        return None if self._has else self._ahead

    def writes(self, ver: int) -> None:
        """Tell whoever is next which version is being written."""
        self._ver = ver
        self._tell()

    async def _wait(self) -> None:
        self._woken = trio.Event()
        with self._waiting():
            await self._woken.wait()

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set()

    def _let_wait(self, writer: Writer) -> None:
        """Let somebody wait behind all the others."""
        if self._behind is None:
            self._behind = deque()
        self._behind.append(writer)
        self._tell()

    def _tell(self) -> None:
        """Let whoever is next know what is being written, as far as that is known."""
        if self._behind and self._ver is not None:
            next_ = self._behind[0]
            next_._ahead = self._ver
            if next_._curious:
                next_._wake()

    def _hand_over(self) -> None:
        """Let whoever is next have the turn; he is expected to write the next version."""
        if not self._behind:
            del self._writers.holders[self._key]
            return
        next_ = self._writers.holders[self._key] = self._behind.popleft()
        next_._has, next_._behind = True, self._behind
        next_._ver = None if self._ver is None else self._ver + 1
        next_._wake()
        next_._tell()

    def _step_out(self) -> None:
        """Wait no more."""
        holder = self._writers.holders[self._key]
        assert holder._behind is not None, "who waits does so behind somebody"
        holder._behind.remove(self)
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
