"""The systems that are measured, behind one small face: :class:`System` and :class:`Cluster`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from ..load import Load


class Cluster(Protocol):
    """Members that run, each a process.

    Attributes:
        name: of the system.
        processes: of the members, in order.
        directories: where each member keeps what it has on disk.
    """

    name: str
    processes: list[trio.Process]
    directories: list[Path]

    def client(self, load: Load) -> list[str]:
        """The command of a client process, without the options of the load."""

    @property
    def pids(self) -> list[int]:
        """The process ids of the members that run."""

    async def victim(self) -> int:
        """The member whose end hurts most: the leader, if there is one."""


class Restartable(Cluster, Protocol):
    """A cluster whose members can be started anew."""

    async def start_again(self, member: int) -> None:
        """Start a member that was killed anew on what it has on disk."""

    async def wait(self, keys: int) -> None:
        """Wait until every member answers, and has what was written; with so many keys."""


class System(Protocol):
    """A store, or a floor, that can be measured.

    Attributes:
        name: as tables and pictures show it.
        operations: what its clients can do.
        restartable: whether its clusters are :class:`Restartable`.
        in_memory: whether its members write nothing to disk.
    """

    name: str
    operations: frozenset[str]
    restartable: bool
    in_memory: bool

    def missing(self) -> str:
        """What is missing here and how to get it, in one line; "" if all is there."""

    def start(self, members: int = 3) -> AbstractAsyncContextManager[Cluster]:
        """A cluster of so many members, in a temporary directory."""


class Processes:
    """The members of a cluster as processes."""

    def __init__(self, processes: list[trio.Process], directories: Sequence[Path] = ()) -> None:
        self.processes = processes
        self.directories = list(directories)

    @property
    def pids(self) -> list[int]:
        """The process ids of the members that run."""
        return [process.pid for process in self.processes if process.poll() is None]

    async def victim(self) -> int:
        """The first: all are alike."""
        return 0


@asynccontextmanager
async def processes_in_scratch() -> AsyncIterator[tuple[Path, list[trio.Process]]]:
    """A temporary directory, and a list of processes that end with the block.

    ``PAXOSKV_BENCH_DIRECTORY`` says on which disk it is; else it is that of temporary files.
    """
    scratch = Path(tempfile.mkdtemp(dir=os.environ.get("PAXOSKV_BENCH_DIRECTORY")))
    processes: list[trio.Process] = []
    try:
        yield scratch, processes
    finally:
        with trio.CancelScope(shield=True):
            for process in processes:
                process.kill()
                await process.wait()
            shutil.rmtree(scratch, ignore_errors=True)


async def start_process(command: Sequence[str], log: Path) -> trio.Process:
    """Start a member; what it says goes to a file."""
    with log.open("ab") as file:
        return await trio.lowlevel.open_process(list(command), stdout=file, stderr=file)
