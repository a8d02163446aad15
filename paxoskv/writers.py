"""One writing operation a key at a time: a client does not duel with itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

import trio

TakeTurn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits for the turn to write, unless it was taken already. Cancelled, the place in the line
is given up."""

Waiting: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Makes a block in which a call may wait for as long as it has time."""


class _Turn:
    """A turn that may be taken within a block, and ends with it."""

    __slots__ = ("_key", "_taken", "_waiting", "_writers")

    def __init__(self, writers: Writers, key: str, waiting: Waiting) -> None:
        self._writers = writers
        self._key = key
        self._waiting = waiting
        self._taken = False

    def __enter__(self) -> TakeTurn:
        return self._take

    async def _take(self) -> None:
        if self._taken:
            return
        if not self._writers.enter_now(self._key):
            with self._waiting():
                await self._writers.enter(self._key)
        self._taken = True

    def __exit__(self, *_: object) -> None:
        if self._taken:
            self._writers.leave(self._key)


class Writers:
    """A line for each key that is being written; who waits is served in order.

    It holds nothing for keys that nobody writes.
    """

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, trio.lowlevel.ParkingLot | None] = {}  # None: nobody waits

    def turn(self, key: str, waiting: Waiting) -> _Turn:
        """Give the means to take the turn; if it was taken, it ends with the block.

        Args:
            key: what is to be written.
            waiting: makes a block around the wait for the turn.
        """
        return _Turn(self, key, waiting)

    def enter_now(self, key: str) -> bool:
        """Take the turn if nobody has it, and say whether it was so."""
        if key in self._lines:
            return False
        self._lines[key] = None
        return True

    async def enter(self, key: str) -> None:
        """Wait for the turn, which somebody has."""
        line = self._lines[key]
        if line is None:
            line = self._lines[key] = trio.lowlevel.ParkingLot()
        await line.park()  # whoever leaves hands it over

    def leave(self, key: str) -> None:
        """Hand the turn over to whoever is next."""
        line = self._lines[key]
        if line is None or not line.unpark():
            del self._lines[key]
