"""One write at a time beside a bare echo and a bare flush, and many at once beside one.

Two clusters of three `paxoskv serve` processes, one in memory and one on disk; an echo
server in a process of its own; a file that is appended to and synced. All measurements take
turns, so that whatever else the machine does falls on all.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import click
import trio

from paxoskv import KV, open_kv

from .cluster import acceptor_processes

REPETITIONS = 5
PAYLOAD = b"x" * 100


@asynccontextmanager
async def echo_process() -> AsyncIterator[trio.SocketStream]:
    """A connection to an echo server in a process of its own."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "bench.echo"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = b""
        with trio.fail_after(30):
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some()
        async with await trio.open_tcp_stream("127.0.0.1", int(line)) as stream:
            yield stream
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def times(call: Callable[[int], Awaitable[object]], seconds: float) -> list[float]:
    """What each call took, one after the other, in seconds; it is given its number."""
    took: list[float] = []
    end = trio.current_time() + seconds
    while (began := trio.current_time()) < end:
        await call(len(took))
        took.append(trio.current_time() - began)
    return took


async def rate(
    callers: int, call: Callable[[int, int], Awaitable[object]], seconds: float
) -> float:
    """Calls per second of so many callers at once; each is given its caller and its number."""
    counts: list[int] = []

    async def one(caller: int) -> None:
        counts.append(len(await times(lambda number: call(caller, number), seconds)))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for caller in range(callers):
            nursery.start_soon(one, caller)
    return sum(counts) / (trio.current_time() - began)


def flush_times(seconds: float) -> list[float]:
    """Appending to a file and syncing it, in seconds each; in the directory for temporary files."""
    took: list[float] = []
    with tempfile.TemporaryFile() as file:
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            file.write(2 * PAYLOAD)
            file.flush()
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - began)
    return took


async def measure(callers: int, seconds: float) -> None:
    """Measure in turns, and print the medians of all turns."""
    each = seconds / REPETITIONS
    medians: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    async with (
        acceptor_processes(3, "--memory") as in_memory,
        acceptor_processes(3) as on_disk,
        open_kv([acceptor.address for acceptor in in_memory]) as memory_kv,
        open_kv([acceptor.address for acceptor in on_disk]) as disk_kv,
        echo_process() as stream,
    ):

        async def echo(_: int) -> None:
            await stream.send_all(PAYLOAD)
            left = len(PAYLOAD)
            while left:
                left -= len(await stream.receive_some())

        async def measure_kv(kv: KV, where: str, turn: int) -> None:
            for name, call in (
                ("set", lambda key, number: kv.set(f"set {key}", number, PAYLOAD)),
                ("put", lambda key, _: kv.put(f"put {key}", PAYLOAD)),
                ("get", lambda key, _: kv.get(f"put {key}")),
            ):
                alone = await times(lambda n, call=call: call(f"alone {turn}", n), each)
                medians[f"{name}, {where}"].append(statistics.median(alone))
                rates[f"{name}, {where}"].append(
                    await rate(callers, lambda c, n, call=call: call(f"{turn} {c}", n), each)
                )

        for turn in range(REPETITIONS):
            click.echo(f"turn {turn + 1} of {REPETITIONS} …", err=True)
            medians["bare echo"].append(statistics.median(await times(echo, each)))
            medians["bare flush"].append(statistics.median(flush_times(each)))
            await measure_kv(memory_kv, "memory", turn)
            await measure_kv(disk_kv, "disk", turn)
    _show(callers, medians, rates)


def _show(callers: int, medians: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    floor = statistics.median(medians["bare echo"])
    click.echo(f"{'':14}{'one, median':>14}{'':>10}{f'{callers} callers':>16}{'':>8}")
    for name, values in medians.items():
        one = statistics.median(values)
        line = f"{name:14}{one * 1e3:11.3f} ms{one / floor:6.1f} x echo"
        if name in rates:
            many = statistics.median(rates[name])
            line += f"{many:12.0f} /s{many * one:7.1f} x one"
        click.echo(line)


@click.command()
@click.option("--callers", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5.0, show_default=True)
def main(callers: int, seconds: float) -> None:
    """Measure one call at a time and many, SECONDS for each figure."""
    trio.run(measure, callers, seconds)


if __name__ == "__main__":
    main()
