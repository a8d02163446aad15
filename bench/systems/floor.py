"""The floor: three processes that echo, with one disk flush each, over plain sockets.

No consensus, no key, no value that is read again: what the machine itself takes for one round
trip to a majority. A ``put`` is flushed, a ``get`` is not.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ..load import Load
from . import Processes, processes_in_scratch, start_process


class FloorCluster(Processes):
    """Processes that echo."""

    name = "floor"

    def __init__(self, processes: list[trio.Process], addresses: list[str]) -> None:
        super().__init__(processes)
        self._addresses = addresses

    def client(self, load: Load) -> list[str]:
        """The client over plain sockets."""
        addresses = ",".join(self._addresses)
        return [sys.executable, "-m", "bench.peers.floor_load", f"--addresses={addresses}"]


class Floor:
    """The floor of the machine."""

    name = "floor"
    operations = frozenset({"put", "get"})
    restartable = False
    in_memory = False

    def missing(self) -> str:
        """Nothing."""
        return ""

    @asynccontextmanager
    async def start(self, members: int = 3) -> AsyncIterator[FloorCluster]:
        """Start the processes, and wait until they listen."""
        async with processes_in_scratch() as (scratch, processes):
            addresses = []
            for number in range(members):
                directory = scratch / str(number)
                directory.mkdir()
                command = [sys.executable, "-m", "bench.peers.floor_member", str(directory)]
                processes.append(await start_process(command, scratch / "log"))
                with trio.fail_after(30):
                    while not (directory / "port").exists():  # noqa: ASYNC110
                        await trio.sleep(0.02)
                addresses.append(f"127.0.0.1:{(directory / 'port').read_text()}")
            yield FloorCluster(processes, addresses)
