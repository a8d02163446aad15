"""What load is: a :class:`Load` says what callers do, :func:`run` lets client processes do it.

Every load comes from client processes of its own, whatever the system. Such a process gets
the load as options (:func:`options`), connects, prints the line ``ready``, waits for a line
on standard input, works, and prints one JSON object:
``{"samples": [[completed, took, caller, attempts], …], "errors": n}``. ``completed`` is in
seconds since the epoch, ``took`` in seconds, ``caller`` a number within the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, cast, get_args

import trio

from .counters import Counters, count

Operation = Literal["set", "put", "get", "version", "count", "duel"]
"""Write a new key; put to keys of the caller's own; read the latest of one; read a version of
one; count up one number, which all callers share; all callers write the next version of one key,
each with a client of its own, until its own write is in."""

READY_TIMEOUT = 60.0
"""Seconds until a client process must have connected and written what it is to read."""

PATIENCE = 60.0
"""Seconds that a client process may take beyond its load."""


@dataclass(frozen=True)
class Load:
    """What the callers of one or more client processes do.

    Attributes:
        operation: what each call does.
        callers: in all processes together; each makes one call after the other.
        seconds: how long they are measured.
        processes: how many client processes share the callers.
        warm_up: seconds before, that are not measured.
        size: bytes of a value.
        keys: how many keys of its own each caller puts to, in turn.
        count: stop after so many calls in all, if not 0.
        name: begins the names of the keys; another name, other keys.
    """

    operation: Operation
    callers: int = 1
    seconds: float = 1.0
    processes: int = 1
    warm_up: float = 0.3
    size: int = 100
    keys: int = 1000
    count: int = 0
    name: str = "load"


class Sample(NamedTuple):
    """One completed call: when (s since the epoch), how long it took (s), whose, and how often."""

    completed: float
    took: float
    caller: int
    attempts: int


@dataclass(frozen=True)
class Measured:
    """What a load came to.

    Attributes:
        began: when the measured time began, in seconds since the epoch.
        seconds: how long it was.
        samples: the calls completed in it, sorted by completion.
        callers: how many there were.
        errors: calls that failed, the warm-up included.
        used: what members and clients used meanwhile.
    """

    began: float
    seconds: float
    samples: list[Sample]
    callers: int
    errors: int
    used: Counters = field(default_factory=Counters)


class Target(Protocol):
    """What a load needs of a cluster."""

    def client(self, load: Load) -> list[str]:
        """The command of a client process, without what :func:`options` gives."""

    @property
    def pids(self) -> list[int]:
        """The process ids of the members that run."""


def options(load: Load) -> list[str]:
    """The load as options of a client process."""
    return [
        f"--operation={load.operation}",
        f"--callers={load.callers}",
        f"--seconds={load.warm_up + load.seconds}",
        f"--size={load.size}",
        f"--keys={load.keys}",
        f"--count={load.count}",
        f"--name={load.name}",
    ]


def parse(arguments: Sequence[str]) -> tuple[Load, list[str]]:
    """A client process's load, and the addresses of the cluster."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--operation", choices=get_args(Operation), required=True)
    for name in ("callers", "size", "keys", "count"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--addresses", required=True)
    given = vars(parser.parse_args(arguments))
    addresses = cast("str", given.pop("addresses")).split(",")
    return Load(**given, warm_up=0), addresses


def wait_for_go() -> None:
    """Say that this client process is ready, and wait until it is to begin."""
    print("ready", flush=True)
    sys.stdin.readline()


def print_samples(samples: Sequence[Sample], errors: int) -> None:
    """Print what a client process has to say."""
    print(json.dumps({"samples": samples, "errors": errors}), flush=True)


async def run(
    target: Target,
    load: Load,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> Measured:
    """Let client processes work on a target, and measure.

    Args:
        target: the cluster.
        load: what they do.
        meanwhile: done when the measured time begins.

    Raises:
        RuntimeError: a client process failed; the message is what it said.
    """
    shares = [
        replace(
            load,
            callers=load.callers // load.processes,
            count=load.count // load.processes,
            name=f"{load.name}-{number}",
        )
        for number in range(load.processes)
    ]
    processes: list[trio.Process] = []
    outputs: list[str] = [""] * load.processes
    try:
        for share in shares:
            process = await trio.lowlevel.open_process(
                [*target.client(share), *options(share)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            processes.append(process)
        with trio.fail_after(READY_TIMEOUT):
            for number, process in enumerate(processes):
                outputs[number] = await _ready(process)

        async def collect(number: int) -> None:
            assert processes[number].stdout is not None
            chunks = [chunk async for chunk in cast("Any", processes[number].stdout)]
            outputs[number] += b"".join(chunks).decode()
            if await processes[number].wait() != 0:
                raise RuntimeError(f"a client of {type(target).__name__} failed")

        with trio.fail_after(load.warm_up + load.seconds + PATIENCE):
            async with trio.open_nursery() as nursery:
                for number, process in enumerate(processes):
                    assert process.stdin is not None
                    await process.stdin.send_all(b"go\n")
                    nursery.start_soon(collect, number)
                await trio.sleep(load.warm_up)
                began = time.time()
                pids = [process.pid for process in processes]
                before = count(target.pids, pids)
                if meanwhile is not None:
                    nursery.start_soon(meanwhile)
                if load.count:
                    used = Counters()
                else:
                    # A little before the end: the counters of a process end with it.
                    await trio.sleep(load.seconds * 0.95)
                    used = (count(target.pids, pids) - before) * (1 / 0.95)
    finally:
        with trio.CancelScope(shield=True):
            for process in processes:
                process.kill()
                await process.wait()
    return _measured(load, outputs, began, used)


async def _ready(process: trio.Process) -> str:
    assert process.stdout is not None
    text = ""
    while "\n" not in text:
        data = await process.stdout.receive_some()
        if not data:
            raise RuntimeError(f"a client process ended with {await process.wait()}")
        text += data.decode()
    return text.partition("\n")[2]


def _measured(load: Load, outputs: Sequence[str], began: float, used: Counters) -> Measured:
    samples: list[Sample] = []
    errors = 0
    callers = load.callers // load.processes
    for number, output in enumerate(outputs):
        said = json.loads(output)
        errors += said["errors"]
        samples += [
            Sample(completed, took, number * callers + caller, attempts)
            for completed, took, caller, attempts in said["samples"]
        ]
    samples.sort()
    seconds = load.seconds
    if load.count and samples:
        began = samples[0].completed - samples[0].took
        seconds = samples[-1].completed - began
    end = began + seconds
    samples = [sample for sample in samples if began <= sample.completed <= end]
    return Measured(began, seconds, samples, callers * load.processes, errors, used)
