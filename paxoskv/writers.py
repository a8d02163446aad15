"""One writing operation a key at a time: a client does not duel with itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import trio

TakeTurn: TypeAlias = Callable[[], Awaitable[None]]
"""Waits for the turn to write, unless it was taken already. Cancelled, the place in the line
is given up."""


class Writers:
    """A line for each key that is being written; who waits is served in order.

    It holds nothing for keys that nobody writes.
    """

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, trio.lowlevel.ParkingLot] = {}

    @contextmanager
    def turn(self, key: str) -> Iterator[TakeTurn]:
        """Give the means to take the turn; if it was taken, it ends with the block."""
        taken = False

        async def take() -> None:
            nonlocal taken
            if not taken:
                await self._enter(key)
                taken = True

        try:
            yield take
        finally:
            if taken:
                self._leave(key)

    async def _enter(self, key: str) -> None:
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = trio.lowlevel.ParkingLot()
        else:
            await line.park()  # whoever leaves hands the turn over

    def _leave(self, key: str) -> None:
        line = self._lines[key]
        if not line.unpark():
            del self._lines[key]
