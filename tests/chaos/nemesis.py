"""What happens to the processes and to the network, drawn from a seed."""

from __future__ import annotations

import math
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import trio

from .machines import Acceptor, Client
from .proxy import Traffic, Way

Fault = Callable[[], Awaitable[None]]


class Nemesis:
    """Three troublemakers at a time: one for acceptors, one for the network, one for clients.

    Args:
        acceptors, clients: its victims.
        done: takes note of how often it did what.
        log: a file that tells what it did from when to when, on the clock of the histories.
        seed: where it draws from.
        longest: seconds that a fault may last.

    Attributes:
        problems: why acceptors did not start again.
    """

    def __init__(
        self,
        acceptors: list[Acceptor],
        clients: list[Client],
        done: Counter[str],
        log: Path,
        seed: int,
        longest: float,
    ) -> None:
        self.acceptors = acceptors
        self._clients = clients
        self._done = done
        self._log = log
        self.seed = seed
        self._longest = longest
        self.problems: list[str] = []
        self._over = trio.Event()

    async def run(self, seconds: float) -> None:
        """Make trouble for so long, and then make all good again."""
        self._over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._trouble, 0.8, _Processes(self))
            nursery.start_soon(self._trouble, 0.8, _Network(self))
            nursery.start_soon(self._trouble, 2.0, _Clients(self))
            await trio.sleep(seconds)
            self._over.set()
        await self.heal()

    async def heal(self) -> None:
        """Let everything run, flow and be written."""
        for acceptor in self.acceptors:
            acceptor.proxy.heal()
            acceptor.empty_disk()
            acceptor.signal(signal.SIGCONT)
            if not acceptor.runs:
                await self.start(acceptor)
        for client in self._clients:
            client.signal(signal.SIGCONT)

    async def start(self, acceptor: Acceptor) -> None:
        """Start an acceptor that was killed; whatever happened to it, it must start."""
        try:
            await acceptor.start()
        except RuntimeError as error:
            self.problems.append(str(error))

    async def sleep(self, seconds: float) -> None:
        """Let time pass, unless all is over."""
        with trio.move_on_after(seconds):
            await self._over.wait()

    async def _trouble(self, pause: float, maker: _Trouble) -> None:
        while True:
            await self.sleep(maker.rng.uniform(0, 2 * pause))
            if self._over.is_set():
                break
            fault = maker.rng.choice(maker.faults)
            name = fault.__name__.replace("_", " ")
            self._done[name] += 1
            began = time.monotonic()
            await fault()
            with self._log.open("a") as file:
                file.write(f"{began:.3f} {time.monotonic():.3f} {name}\n")

    def some(self, rng: Random) -> list[Acceptor]:
        """One acceptor mostly, sometimes more, sometimes all."""
        most = len(self.acceptors)
        return rng.sample(self.acceptors, min(rng.choice([1, 1, 1, 1, 1, 2, 2, most]), most))

    def duration(self, rng: Random) -> float:
        """A short time mostly; sometimes longer than links wait for an answer."""
        return min(rng.choice([0.02, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0]), self._longest)

    def client(self, rng: Random) -> Client:
        return rng.choice(self._clients)


class _Trouble:
    def __init__(self, nemesis: Nemesis) -> None:
        self.nemesis = nemesis
        self.rng = Random(f"{nemesis.seed} {type(self).__name__}")
        self.faults: list[Fault] = []

    async def last(self) -> None:
        """Let what was done last for a while."""
        await self.nemesis.sleep(self.nemesis.duration(self.rng))


class _Processes(_Trouble):
    """Kills and stops acceptors, and fills their disks."""

    def __init__(self, nemesis: Nemesis) -> None:
        super().__init__(nemesis)
        kills = [self.kill, self.kill, self.kill, self.kill_all]
        self.faults = [*kills, self.stop, self.stop, self.full_disk]

    async def kill(self) -> None:
        await self._kill(self.nemesis.some(self.rng))

    async def kill_all(self) -> None:
        await self._kill(list(self.nemesis.acceptors))

    async def _kill(self, victims: list[Acceptor]) -> None:
        for victim in victims:
            await victim.kill()
            await trio.sleep(self.rng.choice([0, 0.03]))
        await self.last()
        for victim in victims:
            await self.nemesis.start(victim)

    async def stop(self) -> None:
        victims = self.nemesis.some(self.rng)
        for victim in victims:
            victim.signal(signal.SIGSTOP)
        await self.last()
        for victim in victims:
            if self.rng.random() < 0.2:  # it dies without having run again
                await victim.kill()
                await self.nemesis.start(victim)
            victim.signal(signal.SIGCONT)

    async def full_disk(self) -> None:
        victims = self.nemesis.some(self.rng)
        for victim in victims:
            victim.fill_disk()
        await self.last()
        for victim in victims:
            if self.rng.random() < 0.2:
                await victim.kill()
                await self.nemesis.start(victim)
            victim.empty_disk()


class _Network(_Trouble):
    """Cuts, holds, loses and delays what goes to acceptors and what comes from them."""

    def __init__(self, nemesis: Nemesis) -> None:
        super().__init__(nemesis)
        self.faults = [self.cut, self.hold, self.lose, self.delay, self.delay_all]

    async def cut(self) -> None:
        for victim in (victims := self.nemesis.some(self.rng)):
            victim.proxy.cut()
        await self._last_and_heal(victims)

    async def hold(self) -> None:
        await self._traffic(Traffic.WAITS)

    async def lose(self) -> None:
        await self._traffic(Traffic.VANISHES)

    async def delay(self) -> None:
        await self._delay(self.nemesis.some(self.rng))

    async def delay_all(self) -> None:
        await self._delay(list(self.nemesis.acceptors))

    async def _delay(self, victims: list[Acceptor]) -> None:
        for victim in victims:
            for way in self._ways(victim):
                way.delay = math.exp(self.rng.uniform(math.log(0.001), math.log(0.3)))
        await self._last_and_heal(victims)

    async def _traffic(self, traffic: Traffic) -> None:
        for victim in (victims := self.nemesis.some(self.rng)):
            for way in self._ways(victim):
                way.traffic = traffic
        await self._last_and_heal(victims)

    def _ways(self, victim: Acceptor) -> list[Way]:
        both = [victim.proxy.forth, victim.proxy.back]
        return self.rng.choice([both, both[:1], both[1:]])

    async def _last_and_heal(self, victims: list[Acceptor]) -> None:
        await self.last()
        for victim in victims:
            victim.proxy.heal()


class _Clients(_Trouble):
    """Kills clients, which others follow, and stops them."""

    def __init__(self, nemesis: Nemesis) -> None:
        super().__init__(nemesis)
        self.faults = [self.kill_client, self.stop_client]

    async def kill_client(self) -> None:
        victim = self.nemesis.client(self.rng)
        await victim.kill()
        await victim.start(self.rng.randrange(2**32))

    async def stop_client(self) -> None:
        victim = self.nemesis.client(self.rng)
        victim.signal(signal.SIGSTOP)
        await self.last()
        victim.signal(signal.SIGCONT)
