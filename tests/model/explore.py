"""Breadth first through all states of a world, so that what is found has the shortest trace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from paxoskv.errors import ProtocolError

from .violation import Violation
from .world import Config, State, World


@dataclass
class Explored:
    """What came of it.

    Attributes:
        states: how many were seen, up to which acceptor is which.
        ended: in how many of them all calls had returned, or could at once.
        seconds: how long it took.
        complete: whether these are all.
        violation: what must not be.
    """

    states: int
    ended: int
    seconds: float
    complete: bool
    violation: str | None


def explore(
    config: Config, *, most: int = 100_000_000, tell: Callable[[int], None] = lambda _: None
) -> Explored:
    world = World(config)
    began = time.monotonic()
    initial, _ = world.initial()
    came_from: dict[int, int] = {hash(initial): 0}
    waiting: deque[State] = deque([initial])
    ended = 0
    violation = None
    try:
        while waiting and len(came_from) < most:
            state = waiting.popleft()
            here = hash(state)
            ended += world.is_over(state)
            world.check(state)
            for step in world.steps(state):
                after, _ = world.after(state, step)
                there = hash(after)
                if there not in came_from:
                    came_from[there] = here
                    waiting.append(after)
                    if len(came_from) % 50_000 == 0:
                        tell(len(came_from))
    except (Violation, AssertionError, ProtocolError) as error:
        violation = f"{type(error).__name__}: {error}"
    took = time.monotonic() - began
    complete = violation is None and not waiting
    return Explored(len(came_from), ended, took, complete, violation)
