"""Three `paxoskv serve` processes on loopback, for benchmarks and for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from paxoskv.identity import Address
from paxoskv.storage.directory import init_cluster

PAXOSKV = ("paxoskv", "serve")
"""The module and the arguments that run an acceptor."""

START_TIMEOUT = 30.0
"""Seconds until an acceptor must say where it listens."""


class Acceptor:
    """One `paxoskv serve` process.

    Attributes:
        directory: its data directory.
        options: of `paxoskv serve`.
        address: where it listens, ``HOST:PORT``.
        process: the process.
        said: the lines that it printed on standard error when it started.
    """

    def __init__(
        self,
        directory: Path,
        options: Sequence[str],
        address: str,
        process: trio.Process,
        said: list[str],
    ) -> None:
        self.directory = directory
        self.options = options
        self.address = address
        self.process = process
        self.said = said

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    async def kill(self) -> None:
        """Kill it, as a crash would."""
        self.signal(signal.SIGKILL)
        await self.process.wait()

    async def start_again(self) -> Acceptor:
        """Start it anew on its directory, once it has ended."""
        return await start_acceptor(self.directory, *self.options)

    async def end(self) -> int:
        """Stop it cleanly, and return its exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return await self.process.wait()


def free_addresses(count: int) -> list[Address]:
    """Loopback addresses that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [Address(*each.getsockname()) for each in sockets]
    for each in sockets:
        each.close()
    return addresses


async def start_acceptor(
    directory: Path, *options: str, program: Sequence[str] = PAXOSKV
) -> Acceptor:
    """Start `paxoskv serve DIRECTORY`, with these options, and wait until it listens.

    Raises:
        RuntimeError: it ended instead; the message is what it printed.
        trio.TooSlowError: it did neither.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", *program, str(directory), *options],
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    text = ""
    with trio.fail_after(START_TIMEOUT):
        while True:
            data = await process.stderr.receive_some()
            text += data.decode()
            *lines, _ = text.split("\n")  # and an unfinished one
            for line in lines:  # what it learns from the others may follow at once
                if line.startswith("listening on "):
                    address = line.removeprefix("listening on ")
                    return Acceptor(directory, options, address, process, lines)
            if not data:
                await process.wait()
                raise RuntimeError(text)


@asynccontextmanager
async def acceptor_processes(
    count: int = 3, *options: str, program: Sequence[str] = PAXOSKV
) -> AsyncIterator[list[Acceptor]]:
    """Acceptors in processes of their own, in a temporary directory; all end with the block.

    A process that is started anew during the block takes the place of the old one in the
    list, so that it ends too.
    """
    acceptors: list[Acceptor] = []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for directory in init_cluster(Path(scratch, "cluster"), free_addresses(count)):
                acceptors.append(await start_acceptor(directory, *options, program=program))  # noqa: PERF401
            yield acceptors
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                for acceptor in acceptors:
                    acceptor.signal(signal.SIGCONT)
                    acceptor.signal(signal.SIGKILL)
                    await acceptor.process.wait()
