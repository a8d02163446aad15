"""Who makes things fail, for a while, and mends them at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random

import trio

from .clock import Clock
from .machines import Machine
from .network import Network
from .workload import Workload

Mend = Callable[[], None]


class Nemesis:
    """Draws faults from the seed, one after the other; several may last at a time.

    Which kinds there are in a run, and how often, is drawn as well: some bugs show only where
    most of the world works.

    Args:
        clock: of the world.
        rng: where all is drawn from.
        network: whose paths, connections and latencies fail.
        machines: that crash, and whose disks fail.
        workload: whose clients are made to duel.
        nursery: where acceptors run that start again.
    """

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        network: Network,
        machines: list[Machine],
        workload: Workload,
        nursery: trio.Nursery,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._network = network
        self._machines = machines
        self._workload = workload
        self._nursery = nursery
        kinds: list[Callable[[], Mend | None]] = [
            self._crash,
            self._power_cut,
            self._partition,
            self._one_way,
            self._freeze,
            self._break,
            self._stall,
            self._slow_disk,
            self._full_disk,
            self._bad_weather,
            self._clock_jump,
            self._burst,
        ]
        self._kinds = [each for each in kinds if rng.random() < 0.6] or kinds
        self._every = rng.choice((0.3, 0.7, 1.5, 3.0))  # seconds between faults
        self._length = rng.choice((0.3, 1.0, 3.0))  # seconds that one lasts
        self._mends: dict[Mend, str] = {}

    async def run(self, until: float) -> None:
        """Let things fail until a time, and mend them all."""
        while True:
            await trio.sleep(self._rng.expovariate(1.0) * self._every)
            if trio.current_time() >= until:
                break
            self._fail()
        for mend in list(self._mends):
            self._mend(mend)
        for stream in self._network.streams():
            stream.incoming.rush()
            stream.outgoing.rush()
        for machine in self._machines:
            await machine.start(self._nursery)
        self._network.trace.note("nemesis", "is gone")

    def _fail(self) -> None:
        kind = self._rng.choice(self._kinds)
        name = kind.__name__.strip("_").replace("_", " ")
        self._network.trace.note("nemesis", "brings", name)
        mend = kind()
        if mend is not None:
            self._mends[mend] = name
            self._clock.after(self._draw_length(), lambda: self._mend(mend))

    def _mend(self, mend: Mend) -> None:
        name = self._mends.pop(mend, None)
        if name is not None:
            self._network.trace.note("nemesis", "mends", name)
            mend()

    def _draw_length(self) -> float:
        return self._rng.expovariate(1.0) * self._length

    def _some(self) -> list[Machine]:
        """Mostly one machine, sometimes all."""
        count = self._rng.choice((1, 1, 1, 2, len(self._machines)))
        return self._rng.sample(self._machines, min(count, len(self._machines)))

    # --- the faults; each returns what mends it, if it lasts --------------------------------

    def _crash(self, power: bool = False) -> Mend:
        machines = self._some()
        for machine in machines:
            machine.crash(power)

        def mend() -> None:
            for machine in machines:
                self._nursery.start_soon(machine.start, self._nursery)

        return mend

    def _power_cut(self) -> Mend:
        return self._crash(power=True)

    def _block(self, paths: Iterable[tuple[str, str]]) -> Mend:
        paths = list(paths)
        for path in paths:
            self._network.block(*path)

        def mend() -> None:
            for path in paths:
                self._network.unblock(*path)

        return mend

    def _hosts(self) -> list[str]:
        return [machine.name for machine in self._machines] + self._workload.hosts

    def _partition(self) -> Mend:
        hosts = self._hosts()
        side = {host: self._rng.random() < 0.5 for host in hosts}
        return self._block((a, b) for a in hosts for b in hosts if side[a] != side[b])

    def _one_way(self) -> Mend:
        hosts = self._hosts()
        deaf = self._rng.choice(hosts)
        others = [host for host in hosts if host != deaf and self._rng.random() < 0.7]
        if self._rng.random() < 0.5:
            return self._block((deaf, other) for other in others)
        return self._block((other, deaf) for other in others)

    def _freeze(self) -> Mend:
        machine = self._rng.choice(self._machines).name
        others = [host for host in self._hosts() if host != machine]
        return self._block([(machine, each) for each in others] + [(e, machine) for e in others])

    def _break(self) -> None:
        for stream in self._network.streams():
            if self._rng.random() < 0.3:
                stream.break_off()

    def _stall(self) -> None:
        for stream in self._network.streams():
            if self._rng.random() < 0.3:
                pipe = self._rng.choice((stream.incoming, stream.outgoing))
                pipe.stall(self._draw_length())

    def _slow_disk(self) -> Mend:
        disk = self._rng.choice(self._machines).disk
        disk.flush_time = self._rng.choice((0.05, 0.5, 5.0))

        def mend() -> None:
            disk.flush_time = disk.usual_flush_time

        return mend

    def _full_disk(self) -> Mend:
        disk = self._rng.choice(self._machines).disk
        disk.full = True

        def mend() -> None:
            disk.full = False

        return mend

    def _bad_weather(self) -> Mend:
        fair = self._network.fair
        self._network.weather = replace(
            fair,
            latency=fair.latency * self._rng.choice((1, 3, 10)),
            jitter=self._rng.choice((0.01, 0.1, 0.5)),
            spikes=self._rng.choice((0.0, 0.1)),
        )

        def mend() -> None:
            self._network.weather = fair

        return mend

    def _clock_jump(self) -> None:
        self._clock.jump(self._rng.choice((0.05, 1.0, 4.0)) * self._rng.random())

    def _burst(self) -> None:
        self._workload.burst(self._draw_length())
