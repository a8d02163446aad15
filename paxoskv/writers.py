"""One writing operation a key at a time: a client does not duel with itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

TakeTurn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits for the turn to write, unless it was taken already. Cancelled, the place in the line
is given up."""


class _Turn:
    """A turn that may be taken within a block, and ends with it."""

    __slots__ = ("_key", "_taken", "_writers")

    def __init__(self, writers: Writers, key: str) -> None:
        self._writers = writers
        self._key = key
        self._taken = False

    def __enter__(self) -> TakeTurn:
        return self._take

    async def _take(self) -> None:
        if not self._taken:
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
        self._lines: dict[str, trio.lowlevel.ParkingLot] = {}

    def turn(self, key: str) -> _Turn:
        """Give the means to take the turn; if it was taken, it ends with the block."""
        return _Turn(self, key)

    async def enter(self, key: str) -> None:
        """Wait for the turn."""
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = trio.lowlevel.ParkingLot()
        else:
            await line.park()  # whoever leaves hands the turn over

    def leave(self, key: str) -> None:
        """Hand the turn over to whoever is next."""
        line = self._lines[key]
        if not line.unpark():
            del self._lines[key]
