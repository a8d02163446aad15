"""The workloads. Each is a function that lets systems take turns, and yields records.

A record is what the results hold: the workload, the system, what was varied, and the numbers
of :func:`bench.statistics.summarize` or others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias

from .load import Load, run
from .statistics import summarize
from .systems import Cluster, System

Record: TypeAlias = dict[str, Any]
Workload: TypeAlias = Callable[["Scale", Sequence[System]], AsyncIterator[Record]]

MAX_PROCESSES = 8
"""Client processes of a duel; beyond, each has several clients."""

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
        keys: of `growth` and `recovery`.
        sizes: of the values in `growth`, in bytes.
        members: of the clusters in `growth`.
    """

    seconds: float = 2.0
    repetitions: int = 3
    callers: tuple[int, ...] = (1, 8, 64, 256)
    processes: tuple[int, ...] = (2, 4)
    proposers: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    outage: float = 8.0
    keys: tuple[int, ...] = (1_000, 10_000, 100_000)
    sizes: tuple[int, ...] = (10, 1_000, 100_000, 1_048_576)
    members: tuple[int, ...] = (3, 5, 7)


QUICK = Scale(
    seconds=0.7,
    repetitions=1,
    callers=(1, 64, 256),
    processes=(),
    proposers=(1, 4, 16),
    outage=3.5,
    keys=(1_000,),
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
            seconds=2 * scale.seconds,
        )
        for proposers in scale.proposers
    ]
    able = [system for system in systems if "duel" in system.operations]
    async for record in take_turns("duel", scale, able, loads):
        yield record


WORKLOADS: dict[str, Workload] = {"latency": latency, "throughput": throughput, "duel": duel}
