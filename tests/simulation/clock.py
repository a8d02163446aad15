"""Simulated time, which passes only when all tasks are blocked."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

import trio

Action = Callable[[], None]

MAX_IDLE = 1000
"""How many times trio may look for what wakes it when there is nothing in the world."""


IDLE = 1e-3
"""How long it really waits for that each time, in seconds."""


class Clock(trio.abc.Clock):
    """A clock, and the calendar of what the world has in store.

    trio asks it how long to sleep when no task can run. It does not sleep then: it goes on to
    what is due next, be it a deadline of a task or an action in the calendar.

    Attributes:
        now: seconds since the world began.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._calendar: list[tuple[float, int, Action]] = []
        self._idle = 0  # how many times in a row there was nothing to wait for
        self._order = count()  # of actions that are due at the same time

    def at(self, time: float, action: Action) -> None:
        """Do something at a time, or as soon as all tasks are blocked if it is over."""
        heappush(self._calendar, (time, next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Do something after so many seconds."""
        self.at(self.now + seconds, action)

    def jump(self, seconds: float) -> None:
        """Let time pass while nobody does anything, as when a machine was suspended."""
        self.now += seconds

    # --- what trio asks for ------------------------------------------------------------

    def start_clock(self) -> None:
        """Time has begun already."""

    def current_time(self) -> float:
        """What time it is."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """All tasks are blocked: go on to what is due next."""
        calendar = self._calendar
        due = min(deadline, calendar[0][0]) if calendar else deadline
        if due == math.inf:
            # When a run ends, trio wakes itself by a socket of its own: let it look at that.
            self._idle += 1
            assert self._idle < MAX_IDLE, "all tasks wait, and for nothing"
            return IDLE
        self._idle = 0
        self.now = max(self.now, due)
        while calendar and calendar[0][0] <= self.now:
            heappop(calendar)[2]()
        return 0.0
