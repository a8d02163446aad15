"""paxoskv itself, with its acceptors on disk or in memory."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from paxoskv.status import cluster_status

from ..cluster import Acceptor, acceptor_processes
from ..load import Load
from . import Processes

ALL = frozenset({"set", "put", "get", "version", "count", "duel"})


class PaxosKVCluster(Processes):
    """Acceptors in processes of their own."""

    def __init__(self, name: str, acceptors: list[Acceptor]) -> None:
        super().__init__(
            [acceptor.process for acceptor in acceptors],
            [acceptor.directory for acceptor in acceptors],
        )
        self.name = name
        self.acceptors = acceptors

    @property
    def addresses(self) -> list[str]:
        """Where the acceptors listen."""
        return [acceptor.address for acceptor in self.acceptors]

    def client(self, load: Load) -> list[str]:
        """The worker."""
        addresses = ",".join(self.addresses)
        return [sys.executable, "-m", "bench.worker", f"--addresses={addresses}"]

    async def start_again(self, member: int) -> None:
        """Start an acceptor that has ended anew."""
        self.acceptors[member] = await self.acceptors[member].start_again()
        self.processes[member] = self.acceptors[member].process

    async def wait(self, keys: int) -> None:
        """Wait until every acceptor answers, and knows so many keys."""
        with trio.fail_after(600):
            while True:
                status = await cluster_status(self.addresses, 10)
                if all(not each.problem and each.keys >= keys for each in status.acceptors):
                    return
                await trio.sleep(0.1)


class PaxosKV:
    """paxoskv, durable or in memory."""

    operations = ALL

    def __init__(self, *, durable: bool = True) -> None:
        self.name = "paxoskv" if durable else "paxoskv, in memory"
        self.restartable = durable
        self.in_memory = not durable
        self._options = () if durable else ("--memory",)

    def missing(self) -> str:
        """Nothing."""
        return ""

    @asynccontextmanager
    async def start(self, members: int = 3) -> AsyncIterator[PaxosKVCluster]:
        """Start the acceptors."""
        async with acceptor_processes(members, *self._options) as acceptors:
            yield PaxosKVCluster(self.name, acceptors)
