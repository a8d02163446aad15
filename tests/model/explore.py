"""Breadth first through all states of a world, so that what is found has the shortest trace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .trace import script
from .violation import WRONG
from .world import Config, World


@dataclass
class Explored:
    """What came of it.

    Attributes:
        states: how many were seen, up to which acceptor is which.
        ended: in how many of them all calls had returned, or could at once.
        seconds: how long it took.
        complete: whether these are all.
        violation: what must not be, as a script that leads there (`script`).
    """

    states: int
    ended: int
    seconds: float
    complete: bool
    violation: str | None


def explore(
    config: Config, *, most: int = 1_000_000_000, tell: Callable[[int], None] = lambda _: None
) -> Explored:
    """Look at every state of a world, or at so many of them.

    In each state the rules must hold, and all calls under way must return if they are left
    alone. An assertion of the code that fails is a violation too.

    Args:
        config: the world.
        most: how many states to look at.
        tell: is told how many were seen, now and then.
    """
    world = World(config)
    began = time.monotonic()
    state, _ = world.initial()
    came_from = {hash(state): 0}
    waiting = deque([state])
    ended = 0
    violation = None
    try:
        while waiting and len(came_from) < most:
            state = waiting.popleft()
            here = hash(state)
            world.check(state)
            ended += world.is_over(state)
            for step in world.steps(state):
                after, _ = world.after(state, step)
                there = hash(after)
                if there not in came_from:
                    came_from[there] = here
                    waiting.append(after)
                    if len(came_from) % PROGRESS == 0:
                        tell(len(came_from))
    except WRONG as error:
        violation = script(world, came_from, state, f"{type(error).__name__}: {error}")
    took = time.monotonic() - began
    complete = violation is None and not waiting
    return Explored(len(came_from), ended, took, complete, violation)


PROGRESS = 100_000
"""After so many states those who wait are told."""
