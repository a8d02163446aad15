"""PySyncObj: a replicated dict in Python, on members with a journal each."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import trio

from ..cluster import free_addresses
from ..load import Load
from . import Processes, processes_in_scratch, start_process


class PySyncObjCluster(Processes):
    """Members of PySyncObj."""

    name = "PySyncObj"

    def __init__(
        self, processes: list[trio.Process], addresses: list[str], directories: list[Path]
    ) -> None:
        super().__init__(processes)
        self._addresses = addresses
        self._directories = directories

    def client(self, load: Load) -> list[str]:
        """A node without a vote, whose commands go to the leader."""
        addresses = ",".join(self._addresses)
        return [sys.executable, "-m", "bench.peers.pysyncobj_load", f"--addresses={addresses}"]

    async def victim(self) -> int:
        """The leader, as the first member knows it."""
        leader = (self._directories[0] / "leader").read_text()
        return self._addresses.index(leader)


class PySyncObj:
    """PySyncObj, from PyPI."""

    name = "PySyncObj"
    operations = frozenset({"put", "get", "duel"})
    restartable = False
    in_memory = False

    def missing(self) -> str:
        """How to get it, if it is not there."""
        return "" if find_spec("pysyncobj") else "PySyncObj is skipped: pip install pysyncobj"

    @asynccontextmanager
    async def start(self, members: int = 3) -> AsyncIterator[PySyncObjCluster]:
        """Start the members, and wait until all know a leader."""
        addresses = [str(address) for address in free_addresses(members)]
        async with processes_in_scratch() as (scratch, processes):
            directories = [scratch / str(number) for number in range(members)]
            for number, directory in enumerate(directories):
                directory.mkdir()
                partners = addresses[:number] + addresses[number + 1 :]
                command = [sys.executable, "-m", "bench.peers.pysyncobj_member"]
                command += [str(directory), addresses[number], *partners]
                processes.append(await start_process(command, scratch / "log"))
            with trio.fail_after(60):
                while not all((directory / "leader").exists() for directory in directories):  # noqa: ASYNC110
                    await trio.sleep(0.05)
            yield PySyncObjCluster(processes, addresses, directories)
