"""A whole cluster in this process, for tests, examples and the demo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import trio

from .arguments import check_int
from .identity import Address, Identity, new_cluster
from .limits import MAX_ACCEPTORS
from .server import closed_at_the_end, listen, serve
from .storage.memory import MemoryStore
from .tasks import background_nursery


class LocalCluster:
    """Acceptors that serve on loopback TCP, in this process, with registers in memory.

    Unlike those of ``paxoskv serve``, they do not catch up on what they missed.

    Attributes:
        addresses: of all acceptors, running or not, as ``open_kv`` takes them.
    """

    def __init__(self, identities: list[Identity], nursery: trio.Nursery) -> None:
        self.addresses = [str(identity.address) for identity in identities]
        self._identities = identities
        self._stores = [MemoryStore() for _ in identities]
        self._running: dict[int, trio.CancelScope] = {}
        self._nursery = nursery

    def stop(self, index: int) -> None:
        """Stop an acceptor: its connections break, and new ones are refused.

        What it remembers stays, so :meth:`start` may bring it back.

        Raises:
            TypeError, ValueError: there is no such acceptor.
            RuntimeError: it does not run.
        """
        self._check(index)
        if index not in self._running:
            raise RuntimeError(f"acceptor {index} does not run")
        self._running.pop(index).cancel()

    async def start(self, index: int) -> None:
        """Start an acceptor that was stopped, at the same address.

        Raises:
            TypeError, ValueError: there is no such acceptor.
            RuntimeError: it runs already.
            OSError: another process has taken the port meanwhile.
        """
        self._check(index)
        if index in self._running:
            raise RuntimeError(f"acceptor {index} runs already")
        listeners = await listen(self._identities[index].address)
        await self._serve(index, listeners)

    def _check(self, index: int) -> None:
        check_int(index, "the index of an acceptor", 0, len(self._identities) - 1)

    async def _serve(self, index: int, listeners: list[trio.SocketListener]) -> None:
        self._running[index] = await self._nursery.start(
            _serve_until_stopped, self._identities[index], self._stores[index], listeners
        )


def open_local_cluster(n: int = 3) -> AbstractAsyncContextManager[LocalCluster]:
    """A cluster of ``n`` acceptors, for the time of an ``async with`` block.

    Raises:
        TypeError: ``n`` is no ``int``; at once.
        ValueError: ``n`` is not between 1 and ``MAX_ACCEPTORS``; at once.
    """
    return _open_local_cluster(check_int(n, "the number of acceptors", 1, MAX_ACCEPTORS))


@asynccontextmanager
async def _open_local_cluster(n: int) -> AsyncIterator[LocalCluster]:
    # The members must know all addresses, so all listen before the first one serves.
    with ExitStack() as opened:
        listeners = []
        for _ in range(n):
            listeners.append(await listen(Address("127.0.0.1", 0)))
            opened.enter_context(closed_at_the_end(listeners[-1]))
        addresses = [Address(*each[0].socket.getsockname()) for each in listeners]
        async with background_nursery() as nursery:
            cluster = LocalCluster(new_cluster(addresses), nursery)
            for index, each in enumerate(listeners):
                await cluster._serve(index, each)
            yield cluster


async def _serve_until_stopped(
    identity: Identity,
    store: MemoryStore,
    listeners: list[trio.SocketListener],
    task_status: trio.TaskStatus[trio.CancelScope],
) -> None:
    with trio.CancelScope() as scope, closed_at_the_end(listeners):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, identity, store, listeners)
            task_status.started(scope)
