"""The pauses of operations between two steps, which one task ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, Protocol, TypeVar

import trio


class Pausing(Protocol):
    """Whoever may pause.

    Attributes:
        pause_end: when it goes on, on trio's clock; None: it does not pause.
    """

    pause_end: float | None


PausingT = TypeVar("PausingT", bound=Pausing)


class Pauses(Generic[PausingT]):
    """The pauses of one client.

    Args:
        nursery: where the task runs that ends them, from the first one on.
        go_on: is called at the end of each, with whoever paused.
    """

    __slots__ = ("_ends", "_go_on", "_nursery", "_tickets", "_timer")

    def __init__(self, nursery: trio.Nursery, go_on: Callable[[PausingT], None]) -> None:
        self._nursery = nursery
        self._go_on = go_on
        # The first to end comes first. Some have ended before their time, or begun anew.
        self._ends: list[tuple[float, int, PausingT]] = []
        self._tickets = count()
        self._timer: trio.CancelScope | None = None  # in which the task waits

    def begin(self, who: PausingT, seconds: float) -> None:
        """Let somebody pause for so long, from now on."""
        who.pause_end = end = trio.current_time() + seconds
        heappush(self._ends, (end, next(self._tickets), who))
        if self._timer is None:
            self._timer = trio.CancelScope(deadline=end)
            self._nursery.start_soon(self._run, self._timer)
        elif end < self._timer.deadline:
            self._timer.deadline = end

    def end(self, who: PausingT) -> None:
        """End a pause before its time; ``go_on`` is not called."""
        who.pause_end = None
        while self._ends and self._ends[0][0] != self._ends[0][2].pause_end:
            heappop(self._ends)
        if not self._ends and self._timer is not None:
            self._timer.deadline = math.inf  # cheaper than to wake up in vain

    async def _run(self, timer: trio.CancelScope) -> None:
        while True:
            with timer:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._ends and self._ends[0][0] <= now:
                end, _, who = heappop(self._ends)
                if who.pause_end == end:
                    self._go_on(who)
            end = self._ends[0][0] if self._ends else math.inf
            self._timer = timer = trio.CancelScope(deadline=end)
