"""How long an acceptor that was away takes to learn what it missed.

Three `paxoskv serve` processes on disk; one is stopped, the keys are written through the
library, and it is started again.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

import click
import trio

from paxoskv import KV, open_kv
from paxoskv.status import cluster_status
from paxoskv.storage.directory import init_cluster

from .cluster import Acceptor, free_addresses, start_acceptor

VALUE = b"x" * 100
WRITERS = 256


async def write(kv: KV, keys: int) -> None:
    """Write so many keys, many at a time."""
    numbers = iter(range(keys))

    async def writer() -> None:
        for number in numbers:
            await kv.set(f"key {number:09}", 0, VALUE)
            if number % 10_000 == 0:
                click.echo(f"{number} of {keys} keys are written …", err=True)

    async with trio.open_nursery() as nursery:
        for _ in range(WRITERS):
            nursery.start_soon(writer)


async def measure(keys: int) -> None:
    """Write, bring the third acceptor back, and wait until it knows all keys."""
    acceptors: list[Acceptor] = []
    scratch = Path(tempfile.mkdtemp())
    try:
        directories = init_cluster(scratch / "cluster", free_addresses(3))
        acceptors += [await start_acceptor(directory) for directory in directories[:2]]
        addresses = [acceptor.address for acceptor in acceptors]
        async with open_kv(addresses, timeout=60) as kv:
            began = trio.current_time()
            await write(kv, keys)
            took = trio.current_time() - began
            click.echo(f"written by {WRITERS} callers: {keys / took:.0f} keys/s")
            began = trio.current_time()
            acceptors.append(await start_acceptor(directories[2]))
            known = 0
            while known < keys:
                await trio.sleep(0.2)
                status = await cluster_status([acceptors[2].address], 10)
                known = next(
                    each.keys for each in status.acceptors if each.address == acceptors[2].address
                )
            took = trio.current_time() - began
        click.echo(
            f"caught up with {keys} keys of 100 bytes in {took:.1f} s: {keys / took:.0f} keys/s"
        )
    finally:
        with trio.CancelScope(shield=True):
            for acceptor in acceptors:
                acceptor.signal(signal.SIGKILL)
                await acceptor.process.wait()
        shutil.rmtree(scratch)


@click.command()
@click.option("--keys", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True)
def main(keys: int) -> None:
    """Measure how long an acceptor takes to learn KEYS keys."""
    trio.run(measure, keys)


if __name__ == "__main__":
    main()
