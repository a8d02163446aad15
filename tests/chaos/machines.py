"""The processes: acceptors and clients, which are killed, stopped and started again."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import trio

from .proxy import Proxy

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 30.0
"""Seconds until a process must be ready."""

KEPT = 4096
"""How much of what a process says is at hand, besides its log."""


LISTENING = re.compile(rb"^listening on .*:(\d+)\n", re.MULTILINE)


class Machine:
    """A process that may be started again after its end.

    What it says on standard error goes into a log.
    """

    def __init__(self, log: Path, nursery: trio.Nursery) -> None:
        self.log = log
        self._nursery = nursery
        self._process: trio.Process | None = None
        self.said = bytearray()  # the beginning of it, since the last start

    @property
    def process(self) -> trio.Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.runs:
            os.kill(self.process.pid, number)

    async def kill(self) -> None:
        """Kill it, as a crash would."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def _open(self, command: list[str]) -> None:
        # Shielded, so that no process begins that nobody knows.
        with trio.CancelScope(shield=True):
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", *command], stderr=subprocess.PIPE, cwd=ROOT
            )
        self._process = process
        self.said = bytearray()
        self._nursery.start_soon(self._listen, process, self.said)

    async def _listen(self, process: trio.Process, said: bytearray) -> None:
        assert process.stderr is not None
        with self.log.open("ab", buffering=0) as file:
            async for data in process.stderr:
                file.write(data)
                if len(said) < KEPT:
                    said += data


class Acceptor(Machine):
    """A ``paxoskv serve`` process behind its proxy."""

    def __init__(self, directory: Path, proxy: Proxy, log: Path, nursery: trio.Nursery) -> None:
        super().__init__(log, nursery)
        self.directory = directory
        self.proxy = proxy
        self._limit = resource.RLIM_INFINITY

    async def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            RuntimeError: it ended instead; the message is what it said.
            trio.TooSlowError: it did neither.
        """
        await self._open(["paxoskv", "serve", str(self.directory), "--listen", "127.0.0.1:0"])
        with trio.fail_after(START_TIMEOUT):
            while (found := LISTENING.search(self.said)) is None:
                if not self.runs:
                    await trio.sleep(0.1)  # for its last words
                    raise RuntimeError(f"acceptor did not start: {self.said.decode()}")
                await trio.sleep(0.01)
        self.proxy.port = int(found[1])

    def fill_disk(self) -> None:
        """No file of it may grow any more, as on a full disk."""
        self._set_limit(0)

    def empty_disk(self) -> None:
        self._set_limit(self._limit)

    def _set_limit(self, limit: int) -> None:
        if self.runs:
            _, self._limit = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
            limits = (limit, self._limit)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)


class Client(Machine):
    """A ``tests.chaos.client`` process. Each start has a name and a history of its own."""

    def __init__(
        self, name: str, addresses: list[str], scratch: Path, nursery: trio.Nursery
    ) -> None:
        super().__init__(scratch / f"{name}.log", nursery)
        self._name = name
        self._addresses = addresses
        self._scratch = scratch
        self._starts = 0

    async def start(self, seed: int) -> None:
        """Start it, and wait until it calls."""
        name = f"{self._name}.{self._starts}"
        self._starts += 1
        history = self._scratch / f"{name}.jsonl"
        await self._open(["tests.chaos.client", name, str(history), str(seed), *self._addresses])
        with trio.fail_after(START_TIMEOUT):
            while self.runs and not history.exists():  # noqa: ASYNC110
                await trio.sleep(0.01)
