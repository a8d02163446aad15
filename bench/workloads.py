"""The workloads. Each is a function that lets systems take turns, and yields records.

A record is what the results hold: the workload, the system, what was varied, and the numbers
of :func:`bench.statistics.summarize` or others.
"""

from __future__ import annotations

import math
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias, cast

import trio

from . import counters
from .load import Load, Measured, Operation, run
from .statistics import longest_gap, summarize
from .systems import Cluster, Restartable, System

Record: TypeAlias = dict[str, Any]
Workload: TypeAlias = Callable[["Scale", Sequence[System]], AsyncIterator[Record]]

MAX_PROCESSES = 8
"""Client processes of a duel; beyond, each has several clients."""

BEFORE_OUTAGE = 1.0
"""Seconds that writers are measured before a member ends."""

BUCKET = 0.1
"""Seconds of a step of the timeline of an outage."""

LARGE = 50_000
"""Bytes above which values have fewer callers."""

FILL_TIMEOUT = 1200.0
"""Seconds that writing keys may take."""

_names = count()


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        seconds: of each figure and repetition.
        repetitions: of each figure, interleaved.
        callers: of `throughput`.
        processes: of `throughput` with several client processes.
        proposers: of `duel`.
        outage: seconds measured after a member ended, in `failover`.
        outages: repetitions of each.
        keys: of `growth` and `recovery`.
        sizes: of the values in `growth`, in bytes.
        members: of the clusters in `growth`.
    """

    seconds: float = 0.8
    repetitions: int = 3
    callers: tuple[int, ...] = (1, 8, 64, 256)
    processes: tuple[int, ...] = (4,)
    proposers: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    outage: float = 4.0
    outages: int = 5
    keys: tuple[int, ...] = (1_000, 10_000, 30_000)
    sizes: tuple[int, ...] = (10, 1_000, 100_000, 1_048_576)
    members: tuple[int, ...] = (3, 5, 7)


QUICK = Scale(
    seconds=0.5,
    repetitions=1,
    callers=(64, 256),
    processes=(),
    proposers=(1, 4, 16),
    outage=3.5,
    outages=1,
    keys=(),
    sizes=(),
    members=(),
)


async def take_turns(
    workload: str,
    scale: Scale,
    systems: Sequence[System],
    loads: Iterable[Load],
) -> AsyncIterator[Record]:
    """Measure loads on all systems that can do them, again and again, interleaved."""
    async with AsyncExitStack() as stack:
        clusters: list[tuple[System, Cluster]] = [
            (system, await stack.enter_async_context(system.start())) for system in systems
        ]
        loads = list(loads)
        for repetition in range(scale.repetitions):
            for load in loads:
                for system, cluster in clusters:
                    if load.operation in system.operations:
                        named = replace(load, name=f"{workload}{next(_names)}")
                        measured = await run(cluster, named)
                        yield {
                            "workload": workload,
                            "system": system.name,
                            "operation": load.operation,
                            "callers": load.callers,
                            "processes": load.processes,
                            "repetition": repetition,
                            **summarize(measured),
                        }


async def latency(scale: Scale, systems: Sequence[System]) -> AsyncIterator[Record]:
    """One client, one call at a time."""
    loads = [
        Load("set", seconds=scale.seconds),
        Load("put", seconds=scale.seconds, keys=1),
        Load("get", seconds=scale.seconds),
        Load("version", seconds=scale.seconds),
    ]
    async for record in take_turns("latency", scale, systems, loads):
        yield record


async def throughput(scale: Scale, systems: Sequence[System]) -> AsyncIterator[Record]:
    """Many callers in one client, then in several client processes."""
    loads = [
        Load(operation, callers=callers, processes=processes, seconds=scale.seconds)
        for callers, processes in [
            *((callers, 1) for callers in scale.callers),
            *((64 * processes, processes) for processes in scale.processes),
        ]
        for operation in ("put", "get")
    ]
    async for record in take_turns("throughput", scale, systems, loads):
        yield record


async def duel(scale: Scale, systems: Sequence[System]) -> AsyncIterator[Record]:
    """Proposers that all write the next version of one key."""
    loads = [
        Load(
            "duel",
            callers=proposers,
            processes=min(proposers, MAX_PROCESSES),
            seconds=1.5 * scale.seconds,
        )
        for proposers in scale.proposers
    ]
    able = [system for system in systems if "duel" in system.operations]
    async for record in take_turns("duel", scale, able, loads):
        yield record


async def failover(scale: Scale, systems: Sequence[System]) -> AsyncIterator[Record]:
    """A member is killed, or stopped as by a frozen machine, under 16 writers."""
    outages: list[tuple[str, signal.Signals, Operation]] = [
        ("kill", signal.SIGKILL, "put"),
        ("stop", signal.SIGSTOP, "put"),
        ("kill", signal.SIGKILL, "count"),
    ]
    for event, number, operation in outages:
        for system in systems:
            if not {operation, "duel"} <= system.operations or system.in_memory:
                continue
            for repetition in range(scale.outages):
                yield await _outage(system, event, number, operation, scale.outage) | {
                    "repetition": repetition
                }


async def _outage(
    system: System, event: str, number: signal.Signals, operation: Operation, outage: float
) -> Record:
    async with system.start() as cluster:
        victim = await cluster.victim()
        happened = 0.0

        async def end_victim() -> None:
            nonlocal happened
            await trio.sleep(BEFORE_OUTAGE)
            happened = time.time()
            cluster.processes[victim].send_signal(number)

        load = Load(operation, callers=16, seconds=BEFORE_OUTAGE + outage)
        measured = await run(cluster, load, end_victim)
    completed = [sample.completed for sample in measured.samples]
    buckets = Counter(math.floor((time - happened) / BUCKET) for time in completed)
    first = math.ceil((measured.began - happened) / BUCKET)
    last = math.floor(outage / BUCKET)
    return {
        "workload": "failover",
        "system": system.name,
        "event": event,
        "operation": operation,
        "callers": load.callers,
        "gap": longest_gap(completed, happened, measured.began + measured.seconds) * 1e3,
        "before": sum(t < happened for t in completed) / (happened - measured.began),
        "after": sum(t >= happened for t in completed) / outage,
        "errors": measured.errors,
        "timeline": [[step * BUCKET, buckets[step] / BUCKET] for step in range(first, last)],
    }


async def growth(scale: Scale, systems: Sequence[System]) -> AsyncIterator[Record]:
    """More keys, larger values, more members: what a call costs, and what a key takes."""
    for system in systems:
        if "set" not in system.operations:
            continue
        async with system.start() as cluster:
            there = 0
            for keys in scale.keys:
                await fill(cluster, keys - there)
                there = keys
                async for record in _grown(scale, system, cluster, "keys", keys):
                    yield record
        if system.in_memory:
            continue
        for size in scale.sizes:
            async with system.start() as cluster:
                async for record in _grown(scale, system, cluster, "size", size, size=size):
                    yield record
        for members in scale.members:
            async with system.start(members) as cluster:
                async for record in _grown(scale, system, cluster, "members", members):
                    yield record


async def _grown(
    scale: Scale, system: System, cluster: Cluster, varied: str, to: int, size: int = 100
) -> AsyncIterator[Record]:
    memory = fmean(counters.memory(pid) for pid in cluster.pids)
    disk = fmean(map(disk_usage, cluster.directories))
    for operation in ("put", "get"):
        name = f"growth{next(_names)}"
        callers = 4 if size > LARGE else 16
        load = Load(operation, callers=callers, seconds=scale.seconds, size=size, name=name)
        yield {
            "workload": "growth",
            "system": system.name,
            "operation": operation,
            "varied": varied,
            "to": to,
            "callers": callers,
            "memory": memory / 2**20,
            "kept": disk / to if varied == "keys" else None,
            **summarize(await run(cluster, load)),
        }


async def fill(cluster: Cluster, keys: int) -> Measured:
    """Write so many new keys with values of 100 bytes."""
    load = Load(
        "set", callers=256, count=keys, seconds=FILL_TIMEOUT, warm_up=0, name=f"fill{next(_names)}"
    )
    return await run(cluster, load)


def disk_usage(directory: Path) -> int:
    """The bytes that the blocks of all files take, in a directory and below."""
    return sum(512 * path.stat().st_blocks for path in directory.rglob("*") if path.is_file())


async def recovery(scale: Scale, systems: Sequence[System]) -> AsyncIterator[Record]:
    """A member that was away catches up; then all are killed and started anew."""
    for system in systems:
        if not system.restartable:
            continue
        for keys in scale.keys:
            async with system.start() as started:
                cluster = cast("Restartable", started)
                cluster.processes[2].kill()
                await cluster.processes[2].wait()
                await fill(cluster, keys)
                began = time.monotonic()
                await cluster.start_again(2)
                await cluster.wait(keys)
                caught_up = time.monotonic() - began
                for process in cluster.processes:
                    process.kill()
                    await process.wait()
                began = time.monotonic()
                async with trio.open_nursery() as nursery:
                    for member in range(3):
                        nursery.start_soon(cluster.start_again, member)
                await cluster.wait(keys)
                started_up = time.monotonic() - began
            yield {
                "workload": "recovery",
                "system": system.name,
                "to": keys,
                "caught_up": caught_up,
                "started_up": started_up,
                "errors": 0,
            }


WORKLOADS: dict[str, Workload] = {
    "latency": latency,
    "throughput": throughput,
    "duel": duel,
    "failover": failover,
    "growth": growth,
    "recovery": recovery,
}
