"""One writing operation a key at a time: a client does not duel with itself."""

from __future__ import annotations

import trio


class Writers:
    """A line for each key that is being written; who waits is served in order.

    It holds nothing for keys that nobody writes.
    """

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, trio.lowlevel.ParkingLot] = {}

    async def enter(self, key: str) -> None:
        """Wait for the turn to write a key. Cancelled, the place in the line is given up."""
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = trio.lowlevel.ParkingLot()
        else:
            await line.park()  # whoever leaves hands the turn over

    def leave(self, key: str) -> None:
        """Hand the turn to the next in the line, if there is one."""
        line = self._lines[key]
        if not line.unpark():
            del self._lines[key]
