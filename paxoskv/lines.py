"""Lines of clients that want to write the same key, at the acceptor that the key names.

To wait in line is a courtesy, and no rule rests on it: those who wait do not duel, and each
learns from the acceptor what the one before has written. Whoever has the turn has it for a
moment; it ends when a commit shows that a version was written, or when its time is up.
"""

from __future__ import annotations

from collections import deque

import trio

from .limits import MAX_IN_LINE, MAX_LINES, TURN_TIME


class Line:
    """The line for one key: until when somebody has the turn, and who waits."""

    __slots__ = ("until", "waiting")

    def __init__(self) -> None:
        self.until = 0.0
        self.waiting: deque[Place] = deque()

    def give(self) -> None:
        """Let a turn begin."""
        self.until = trio.current_time() + TURN_TIME

    def join(self) -> Place:
        """Take a place behind those who wait."""
        place = Place(self)
        self.waiting.append(place)
        self._close_up()
        return place

    def leave(self, place: Place) -> None:
        """Give up a place."""
        self.waiting.remove(place)
        self._close_up()

    def next(self) -> None:
        """Give the turn to the one who has waited for the longest."""
        self.give()
        self.waiting.popleft().given.set()
        self._close_up()

    def _close_up(self) -> None:
        if self.waiting:
            self.waiting[0].first.set()


class Place:
    """A place in a line.

    Attributes:
        first: whether it is, or was, the first of those who wait.
        given: whether it has the turn.
    """

    __slots__ = ("_line", "first", "given")

    def __init__(self, line: Line) -> None:
        self._line = line
        self.first = trio.Event()
        self.given = trio.Event()

    async def wait(self) -> None:
        """Wait for the turn. Cancelled, the place is given up, and a turn goes to the next."""
        line = self._line
        awaited = False
        try:
            await self.first.wait()  # only the first one looks at the clock
            with trio.move_on_at(line.until):
                await self.given.wait()
            if not self.given.is_set():
                assert line.waiting[0] is self, "whoever was before has left or been given it"
                line.next()  # who had the turn has gone, or takes too long
            awaited = True
        finally:
            if not self.given.is_set():
                line.leave(self)
            elif not awaited and line.waiting:
                line.next()


class Lines:
    """The lines at one acceptor; it holds nothing for keys that nobody waits for."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def enter(self, key: str) -> Place | None:
        """Take the turn, or a place in the line; None: it is your turn, or there is no room."""
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= MAX_LINES:
                self._sweep()
            if len(self._lines) >= MAX_LINES:
                return None
            line = self._lines[key] = Line()
        if not line.waiting and trio.current_time() >= line.until:
            line.give()
            return None
        if len(line.waiting) >= MAX_IN_LINE:
            return None
        return line.join()

    def written(self, key: str) -> None:
        """A version was written: the turn goes to the next."""
        line = self._lines.get(key)
        if line is None:
            return
        if line.waiting:
            line.next()
        else:
            del self._lines[key]

    def crowded(self, key: str) -> bool:
        """Whether somebody waits to write a key."""
        line = self._lines.get(key)
        return line is not None and bool(line.waiting)

    def __contains__(self, key: object) -> bool:
        """Whether somebody waits to write a key, or has the turn."""
        return key in self._lines

    def __len__(self) -> int:
        """For how many keys there are lines."""
        return len(self._lines)

    def _sweep(self) -> None:
        """Forget the lines in which nobody is any more."""
        now = trio.current_time()
        for key, line in list(self._lines.items()):
            if not line.waiting and now >= line.until:
                del self._lines[key]
