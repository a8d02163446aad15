"""The machines of the cluster: acceptors that start and crash, as ``paxoskv serve`` does."""

from __future__ import annotations

from functools import partial
from random import Random

import trio

from paxoskv.catchup import catch_up
from paxoskv.host import Host
from paxoskv.identity import Identity
from paxoskv.server import Server

from .disk import Disk, Store
from .network import Network
from .observer import Observer
from .seams import HERE


class Machine:
    """The machine of one acceptor.

    Args:
        identity: of the acceptor.
        keep: how many versions of a key it keeps.
        network: that it is in.
        disk: that it has.
        rng: where the jitter of its catching up comes from.

    Attributes:
        name: of the host in the network.
        running: whether the acceptor is.
    """

    def __init__(
        self, identity: Identity, keep: int, network: Network, disk: Disk, rng: Random
    ) -> None:
        self.name = identity.address.host
        self.disk = disk
        self._rng = rng
        self._identity = identity
        self._keep = keep
        self._network = network
        self._scope: trio.CancelScope | None = None
        self._store: Store | None = None
        self._ended = trio.Event()
        self._ended.set()

    @property
    def running(self) -> bool:
        """Whether the acceptor runs."""
        return self._scope is not None

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the acceptor, unless it runs."""
        if not self.running:
            await self._ended.wait()
        if not self.running:
            self._network.light(self.name)
            self._network.trace.note(self.name, "starts")
            self._scope = trio.CancelScope()
            self._ended = trio.Event()
            nursery.start_soon(self._live, self._scope)

    def crash(self, power: bool) -> None:
        """End the acceptor, with its machine if there is no power."""
        if self._scope is not None:
            self._network.trace.note(self.name, "loses its power" if power else "crashes")
            self._network.kill(self.name, power)
            if self._store is not None:
                self._store.crash()
            self._scope.cancel()
            self._scope = None

    async def _live(self, scope: trio.CancelScope) -> None:
        HERE.set(self.name)
        try:
            with scope:
                self._store = self.disk.open()
                host = Host(self._identity, self._store, self._keep)
                listener = self._network.listen(self._identity.address)
                async with trio.open_nursery() as nursery:
                    await nursery.start(Server(host).serve, [listener])
                    nursery.start_soon(catch_up, host, self._rng)
        finally:
            self._ended.set()


def make_machines(
    identities: list[Identity],
    keep: int,
    flush_time: float,
    network: Network,
    observer: Observer,
    seed: str,
) -> list[Machine]:
    """A machine for each acceptor of a cluster, whose disks the observer watches."""
    machines = []
    for identity in identities:
        name = identity.address.host
        rng = Random(f"{seed} disk of {name}")
        disk = Disk(network.clock, rng, flush_time, partial(observer.watch, name))
        jitter = Random(f"{seed} jitter of {name}")
        machines.append(Machine(identity, keep, network, disk, jitter))
    return machines
