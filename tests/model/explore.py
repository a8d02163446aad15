"""Breadth first through all states of a world, so that what is found has the shortest trace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from paxoskv.errors import ProtocolError

from .world import Config, State, Step, Violation, World


@dataclass
class Explored:
    """What came of it.

    Attributes:
        states: how many were seen, up to which acceptor is which.
        ended: in how many of them all calls had returned.
        seconds: how long it took.
        complete: whether these are all.
        violation: what must not be, and the steps that lead there.
    """

    states: int
    ended: int
    seconds: float
    complete: bool
    violation: tuple[str, list[str]] | None


def explore(
    config: Config, *, most: int = 10_000_000, tell: Callable[[int], None] = lambda _: None
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
    came_from: dict[int, tuple[int, Step | None]] = {}
    waiting: deque[State] = deque()
    ended = 0
    violation = None

    def see(state: State, before: int, step: Step | None) -> None:
        state = world.canonical(state)
        if hash(state) not in came_from:
            came_from[hash(state)] = before, step
            waiting.append(state)
            if len(came_from) % 50_000 == 0:
                tell(len(came_from))

    here = 0
    try:
        see(world.initial(), 0, None)
        while waiting and len(came_from) < most:
            state = waiting.popleft()
            here = hash(state)
            ended += world.is_over(state)
            world.check_liveness(state)
            for step, after in world.steps(state):
                see(after, here, step)
    except (Violation, AssertionError, ProtocolError) as error:
        steps = [world.told(step) for step in _trace(came_from, here)]
        violation = f"{type(error).__name__}: {error}", steps
    took = time.monotonic() - began
    complete = violation is None and not waiting
    return Explored(len(came_from), ended, took, complete, violation)


def _trace(came_from: dict[int, tuple[int, Step | None]], state: int) -> list[Step]:
    steps = []
    while True:
        state, step = came_from[state]
        if step is None:
            return steps[::-1]
        steps.append(step)
