"""One write at a time beside a bare echo, and many at once beside one at a time.

Three `paxoskv serve --memory` processes; an echo server in a process of its own. The
three measurements take turns, so that whatever else the machine does falls on all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
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


async def echo_times(stream: trio.SocketStream, seconds: float) -> list[float]:
    """Round trips of 100 bytes, one after the other, in seconds each."""
    times = []
    end = trio.current_time() + seconds
    while (began := trio.current_time()) < end:
        await stream.send_all(PAYLOAD)
        left = len(PAYLOAD)
        while left:
            left -= len(await stream.receive_some())
        times.append(trio.current_time() - began)
    return times


async def set_times(kv: KV, key: str, seconds: float) -> list[float]:
    """Sets of successive versions of a key, one after the other, in seconds each."""
    times: list[float] = []
    end = trio.current_time() + seconds
    while (began := trio.current_time()) < end:
        await kv.set(key, len(times), PAYLOAD)
        times.append(trio.current_time() - began)
    return times


async def measure(callers: int, seconds: float) -> None:
    """Measure in turns, and print the medians of all turns."""
    each = seconds / REPETITIONS
    echoes, alone, together = [], [], []
    async with (
        acceptor_processes(3, "--memory") as acceptors,
        open_kv([acceptor.address for acceptor in acceptors]) as kv,
        echo_process() as stream,
    ):
        for turn in range(REPETITIONS):
            click.echo(f"turn {turn + 1} of {REPETITIONS} …", err=True)
            echoes.append(statistics.median(await echo_times(stream, each)))
            times = await set_times(kv, f"alone {turn}", each)
            alone.append((statistics.median(times), len(times) / sum(times)))
            counts: list[int] = []

            async def call(key: str, counts: list[int] = counts) -> None:
                counts.append(len(await set_times(kv, key, each)))

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for caller in range(callers):
                    nursery.start_soon(call, f"together {turn} {caller}")
            together.append(sum(counts) / (trio.current_time() - began))
    echo = statistics.median(echoes)
    one, rate = (statistics.median(column) for column in zip(*alone, strict=True))
    many = statistics.median(together)
    click.echo(f"bare echo, median                {echo * 1e3:10.3f} ms")
    click.echo(
        f"one set at a time, median        {one * 1e3:10.3f} ms   {one / echo:.1f} x the echo"
    )
    click.echo(f"one set at a time                {rate:10.0f} /s")
    click.echo(
        f"{callers:3} concurrent callers           {many:10.0f} /s   {many / rate:.1f} x one"
    )


@click.command()
@click.option("--callers", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5.0, show_default=True)
def main(callers: int, seconds: float) -> None:
    """Measure one set at a time and many, SECONDS for each of the three figures."""
    trio.run(measure, callers, seconds)


if __name__ == "__main__":
    main()
