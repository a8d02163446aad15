"""Lines of clients that want to write the same key, at the acceptor that the key names.

To wait in line is a courtesy, and no rule rests on it: those who wait do not duel, and each
learns from the acceptor what the one before has written. Whoever has the turn has it for a
moment; it ends when he tells what he has written, or when its time is up.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from .limits import MAX_IN_LINE, MAX_LINES, TURN_TIME


class Line:
    """The line for one key: who has the turn, and until when, and who waits."""

    __slots__ = ("holder", "until", "waiting")

    def __init__(self) -> None:
        self.holder: object = None
        self.until = 0.0
        self.waiting: OrderedDict[object, Place] = OrderedDict()  # by whose they are

    def give(self, who: object) -> None:
        """Let a turn begin."""
        self.holder = who
        self.until = trio.current_time() + TURN_TIME

    def is_of_another(self, who: object) -> bool:
        """Whether somebody other than this one has the turn."""
        return self.holder is not who and trio.current_time() < self.until

    def join(self, who: object) -> Place:
        """Take a place behind those who wait."""
        place = self.waiting[who] = Place(self, who)
        self._close_up()
        return place

    def leave(self, who: object) -> None:
        """Give up a place, if there is one."""
        place = self.waiting.pop(who, None)
        if place is not None:
            place.left = True
            place.first.set()
            place.given.set()
            self._close_up()

    def next(self) -> None:
        """Give the turn to the one who has waited for the longest."""
        who, place = self.waiting.popitem(last=False)
        self.give(who)
        place.given.set()
        self._close_up()

    def _close_up(self) -> None:
        if self.waiting:
            next(iter(self.waiting.values())).first.set()


class Place:
    """A place in a line.

    Attributes:
        first: whether it is, or was, the first of those who wait.
        given: whether it has the turn.
        left: whether it was given up. Then it counts as first and given, so that nobody waits.
    """

    __slots__ = ("_line", "_who", "first", "given", "left")

    def __init__(self, line: Line, who: object) -> None:
        self._line = line
        self._who = who
        self.first = trio.Event()
        self.given = trio.Event()
        self.left = False

    async def wait(self) -> None:
        """Wait for the turn. Cancelled, the place is given up, and a turn goes to the next."""
        line = self._line
        awaited = False
        try:
            await self.first.wait()  # only the first one looks at the clock
            with trio.move_on_at(line.until):
                await self.given.wait()
            if not self.given.is_set():
                ahead = next(iter(line.waiting.values()))
                assert ahead is self, "whoever was before has left or been given it"
                line.next()  # who had the turn has gone, or takes too long
            awaited = True
        finally:
            if not self.given.is_set():
                line.leave(self._who)
            elif not awaited and not self.left and line.waiting:
                line.next()


class Lines:
    """The lines at one acceptor; it holds nothing for keys that nobody waits for."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def enter(self, key: str, who: object) -> Place | None:
        """Take the turn, or a place in the line; None: it is your turn, or there is no room.

        Args:
            key: what is to be written.
            who: the one who wants to write it, as an acceptor knows clients: by connection.
        """
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= MAX_LINES:
                self.sweep()
            if len(self._lines) >= MAX_LINES:
                return None
            line = self._lines[key] = Line()
        # Who asks again has no use for the place, or for the turn, that he had.
        line.leave(who)
        if line.holder is who and line.waiting:
            line.next()
        if not line.waiting and not line.is_of_another(who):
            line.give(who)
            return None
        if len(line.waiting) >= MAX_IN_LINE:
            return None
        return line.join(who)

    def written(self, key: str, who: object) -> None:
        """Somebody tells that a version was written: if he has the turn, it goes to the next."""
        line = self._lines.get(key)
        if line is None or line.is_of_another(who):
            return
        if line.waiting:
            line.next()
        else:
            del self._lines[key]

    def crowded(self, key: str, who: object) -> bool:
        """Whether somebody waits to write a key, or somebody other than this one has the turn."""
        line = self._lines.get(key)
        if line is None:
            return False
        return bool(line.waiting) or line.is_of_another(who)

    def __contains__(self, key: object) -> bool:
        """Whether somebody waits to write a key, or has the turn."""
        return key in self._lines

    def __len__(self) -> int:
        """For how many keys there are lines."""
        return len(self._lines)

    def sweep(self) -> None:
        """Forget the lines in which nobody is any more."""
        now = trio.current_time()
        for key, line in list(self._lines.items()):
            if not line.waiting and now >= line.until:
                del self._lines[key]
