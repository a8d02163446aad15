"""One seed: a world, what happens in it, and what is wrong with it afterwards."""

from __future__ import annotations

import gc
import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import trio

from paxoskv.errors import ProtocolError
from paxoskv.identity import Address, new_cluster
from paxoskv.tasks import unwrapped
from tests.linearizability.versions import check

from .calls import Calls
from .checks import check_calls
from .clock import Clock
from .machines import make_machines
from .nemesis import Nemesis
from .network import Network, Weather
from .observer import Observer, final_states
from .seams import simulated
from .trace import Trace
from .workload import PATIENCE, Workload

SECONDS = 30.0
"""How long things fail in one run."""

CALM = 2.0
"""How long the clients go on when nothing fails any more."""

MIN_CALLS = 90
"""How many calls there are before the last ones, if the clients get to make them in time."""


@dataclass
class Report:
    """What came of one seed.

    Attributes:
        seed: the seed.
        violations: what is wrong, for people; empty: nothing.
        calls: how many calls the clients made.
        outcomes: how many ended in which way.
        seconds: how much simulated time passed.
        trace: all that happened.
    """

    seed: int
    violations: list[str]
    calls: int
    outcomes: Counter[str]
    seconds: float
    trace: Trace


def simulate(seed: int, seconds: float = SECONDS) -> Report:
    """Run one seed, and check everything."""
    clock = Clock()
    world = _World(str(seed), clock, seconds)
    with simulated(world.network, str(seed)), _logged(world), _uncollected():
        try:
            with unwrapped():
                trio.run(world.run, clock=clock)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            world.violations.append("".join(traceback.format_exception(error)))
    return world.report(seed)


class _World:
    """Everything there is in one run."""

    def __init__(self, seed: str, clock: Clock, seconds: float) -> None:
        self.seed = seed
        self.clock = clock
        self.violations: list[str] = []
        self.trace = Trace(clock)
        rng = Random(f"{seed} world")
        latency = rng.choice((0.0002, 0.001, 0.005, 0.02))
        weather = Weather(
            latency,
            jitter=latency * rng.choice((0.1, 1.0, 5.0)),
            spikes=rng.choice((0.0, 0.01, 0.1)),
            spike=rng.choice((0.05, 0.5, 2.0)),
            crumbs=rng.choice((0.0, 0.1)),
        )
        self.network = Network(clock, Random(f"{seed} network"), weather, self.trace)
        self._seconds = seconds
        self._n = rng.choice((1, 2, 3, 3, 3, 4, 5))
        self._keep = rng.choice((1, 2, 4, 8))
        self._flush_time = rng.choice((0.0, 0.0005, 0.005))
        self.calls = Calls(self.trace)
        self._observer = Observer(self._n, self.calls.order.__next__, self.trace.note)

    async def run(self) -> None:
        """Let it happen."""
        addresses = [Address(f"a{number}", 3331) for number in range(1, self._n + 1)]
        names = [str(address) for address in addresses]
        seed, network = self.seed, self.network
        machines = make_machines(
            new_cluster(addresses), self._keep, self._flush_time, network, self._observer, seed
        )
        workload = Workload(
            Random(f"{seed} workload"), names, network, self.calls, self._seconds, self._keep
        )
        async with trio.open_nursery() as nursery:
            for machine in machines:
                await machine.start(nursery)
            nemesis = Nemesis(
                self.clock, Random(f"{seed} nemesis"), network, machines, workload, nursery
            )
            async with trio.open_nursery() as clients:
                clients.start_soon(workload.run)
                await nemesis.run(until=self._seconds)
                await trio.sleep(CALM)
                await self._make_up_for_waiting(workload)
                workload.stop()
                clients.cancel_scope.deadline = trio.current_time() + 3 * PATIENCE
            if clients.cancel_scope.cancelled_caught:
                self.violations.append("calls did not end")
            before = len(self.calls.all)
            with trio.move_on_after(10 * PATIENCE) as finishing:
                await workload.finish()
            if finishing.cancelled_caught:
                self.violations.append("calls did not end in the end")
            for call in filter(workload.failed, self.calls.all[before:]):
                self.violations.append(f"it did not work in the end: {call}")
            nursery.cancel_scope.cancel()
        disks = {machine.name: machine.disk for machine in machines}
        self.violations += final_states(self._observer, disks)

    async def _make_up_for_waiting(self, workload: Workload) -> None:
        """Where the clients mostly waited, let them make some more calls."""
        with trio.move_on_after(PATIENCE):
            while len(self.calls.all) < MIN_CALLS:  # noqa: ASYNC110 - in simulated time
                await trio.sleep(0.1)

    def report(self, seed: int) -> Report:
        """What came of it."""
        outcomes = Counter(str(call.outcome) for call in self.calls.all)
        self.violations += self._observer.violations
        self.violations += self.calls.bad
        self.violations += check_calls(self.calls.all, self._observer)
        self.violations += check(self.calls.all)
        return Report(
            seed, self.violations, len(self.calls.all), outcomes, self.clock.now, self.trace
        )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage: when that happens is chance, and what it ends may wake trio."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _logged(world: _World) -> Iterator[None]:
    """Let what the real code logs go to the trace; that somebody breaks the protocol is a bug."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            world.trace.note(record.name, record.levelname.lower(), text)
            args = record.args if isinstance(record.args, tuple) else ()
            if any(isinstance(each, ProtocolError) for each in args):
                world.violations.append(text)

    logger, handler = logging.getLogger("paxoskv"), Handler()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
        logger.setLevel(level)
