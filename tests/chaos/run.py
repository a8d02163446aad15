"""A whole run: start everything, let the nemesis at it, heal it, read it all, and check."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from paxoskv import PaxosKVError, open_kv
from paxoskv.identity import Address
from paxoskv.storage.directory import init_cluster
from tests.linearizability.history import (
    Operation,
    Recorder,
    append_to,
    operations,
    read_events,
)
from tests.linearizability.versions import check

from .machines import Acceptor, Client
from .nemesis import Nemesis
from .proxy import open_proxy
from .reader import read_all

LAST_CALLS = 30.0
"""Seconds within which each client must end its last calls, once all is healed."""

READ_TIMEOUT = 20.0
"""Seconds that a call of the last reader may take."""

PROGRESS = 5.0
"""Seconds between two lines that say how far it is."""


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        problems: what is wrong; nothing, if all was well.
        history: what the clients and the last reader were told.
        faults: how often what was done to them.
        recovery: seconds from the healing to the last client's last write.
        interrupted: whether a signal ended it early.
    """

    problems: list[str]
    history: list[Operation]
    faults: Mapping[str, int]
    recovery: float
    interrupted: bool


async def run(
    scratch: Path,
    *,
    acceptors: int,
    clients: int,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
) -> Result:
    """Run a cluster and its clients for so long, and check what they were told.

    All processes end with this call, also when SIGINT or SIGTERM ends it early. In ``scratch`` it
    leaves the histories, as lines of JSON, the logs, and the directories of the acceptors.
    """
    problems: list[str] = []
    faults: Counter[str] = Counter()
    recovery = 0.0
    async with _until_signal() as interrupted, _cluster(scratch, acceptors) as cluster:
        callers = [
            Client(f"c{each}", cluster.addresses, scratch, cluster.nursery)
            for each in range(clients)
        ]
        async with _ending(callers):
            for number, caller in enumerate(callers):
                await caller.start(seed * 1000 + number)
            log = scratch / "faults.log"
            nemesis = Nemesis(cluster.acceptors, callers, faults, log, seed, longest=seconds / 4)
            async with trio.open_nursery() as talk:
                talk.start_soon(_progress, faults, seconds, say)
                await nemesis.run(seconds)
                talk.cancel_scope.cancel()
            problems += nemesis.problems
            say("all is healed")
            healed = trio.current_time()
            for caller in callers:
                caller.signal(signal.SIGTERM)
            for caller in callers:
                problems += await _goodbye(caller)
            recovery = trio.current_time() - healed
        problems += await _last_reader(scratch, cluster.addresses)
        for acceptor in cluster.acceptors:
            if not acceptor.runs:
                problems.append(f"an acceptor ended by itself: {acceptor.log.stem}")
    history = operations(read_events(sorted(scratch.glob("*.jsonl"))))
    if not interrupted.is_set():
        problems += check(history)
    return Result(problems, history, faults, recovery, interrupted.is_set())


@asynccontextmanager
async def _until_signal() -> AsyncIterator[trio.Event]:
    """Cancel the block on SIGINT or SIGTERM; the event says whether there was one."""
    interrupted = trio.Event()

    async def wait() -> None:
        await anext(signals)
        interrupted.set()
        nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            yield interrupted
            nursery.cancel_scope.cancel()


async def _last_reader(scratch: Path, addresses: list[str]) -> list[str]:
    """Read what the histories in ``scratch`` tell of, and add a history of that."""
    history = operations(read_events(sorted(scratch.glob("*.jsonl"))))
    problems: list[str] = []
    with append_to(scratch / "reader.jsonl") as write:
        recorder = Recorder("reader", time.monotonic, write)
        try:
            async with open_kv(addresses, timeout=READ_TIMEOUT) as kv:
                await read_all(kv, recorder, history)
        except* PaxosKVError as errors:
            problems += [f"the last reader: {error}" for error in errors.exceptions]
    return problems


async def _progress(faults: Mapping[str, int], seconds: float, say: Callable[[str], None]) -> None:
    began = trio.current_time()
    while True:
        await trio.sleep(PROGRESS)
        done = ", ".join(f"{count} {what}" for what, count in sorted(faults.items()))
        say(f"{trio.current_time() - began:.0f} of {seconds:g} s: {done}")


async def _goodbye(caller: Client) -> list[str]:
    """Wait until a client has ended as it should."""
    with trio.move_on_after(LAST_CALLS):
        if code := await caller.process.wait():
            return [f"a client ended with {code}: {caller.said.decode()}"]
        return []
    return [f"a client did not end its last calls within {LAST_CALLS} s: {caller.log.stem}"]


class _Cluster(NamedTuple):
    """Acceptors, where clients look for them, and a nursery that lives as long."""

    acceptors: list[Acceptor]
    addresses: list[str]
    nursery: trio.Nursery


@asynccontextmanager
async def _cluster(scratch: Path, count: int) -> AsyncIterator[_Cluster]:
    """Acceptors behind proxies, where clients look for them."""
    async with trio.open_nursery() as nursery:
        proxies = [await open_proxy() for _ in range(count)]
        addresses = [Address(*proxy.address) for proxy in proxies]
        acceptors = [
            Acceptor(directory, proxy, scratch / f"acceptor{number}.log", nursery)
            for number, (directory, proxy) in enumerate(
                zip(init_cluster(scratch / "cluster", addresses), proxies, strict=True), 1
            )
        ]
        async with _ending(acceptors):
            for proxy in proxies:
                nursery.start_soon(proxy.run)
            for acceptor in acceptors:
                await acceptor.start()
            yield _Cluster(acceptors, [str(address) for address in addresses], nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _ending(machines: list[Acceptor] | list[Client]) -> AsyncIterator[None]:
    """Kill what still runs, whatever happened."""
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            for machine in machines:
                await machine.kill()
