"""``paxoskv init`` and ``paxoskv serve``: make a cluster, run one of its acceptors."""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click
import trio

from .._version import __version__
from ..catchup import catch_up
from ..errors import DirectoryError, StoreError
from ..host import Host, Store
from ..identity import Address
from ..limits import (
    DEFAULT_KEEP,
    MAX_CONNECTIONS,
    MAX_KEEP,
    MAX_OPEN_TABLES,
    MIN_CONNECTIONS,
)
from ..server import Server, closed_at_the_end, listen
from ..storage.directory import Directory, hold_directory, init_cluster
from ..storage.memory import MemoryStore
from ..tasks import unwrapped
from .params import ADDRESS, LISTEN_ADDRESS

logger: Final = logging.getLogger(__name__)

_OTHER_FILES: Final = 64  # that an acceptor has open, roughly
_STOP: Final = signal.SIGTERM, signal.SIGINT


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("addresses", type=ADDRESS, nargs=-1, required=True, metavar="HOST:PORT...")
def init(directory: Path, addresses: tuple[Address, ...]) -> None:
    """Make a new cluster with an acceptor at each HOST:PORT.

    It makes DIRECTORY/1, DIRECTORY/2, and so on, one data directory for each acceptor.
    Copy each to the machine of its acceptor and run `paxoskv serve` on it there. The
    addresses are those where clients will look; the cluster is fixed for ever. Three
    acceptors go on working when one fails, five when two fail.
    """
    try:
        paths = init_cluster(directory, addresses)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for path, address in zip(paths, addresses, strict=True):
        click.echo(f"{path}  for the acceptor at {address}")
    click.echo("Next: run `paxoskv serve DIRECTORY` on each of them.", err=True)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--listen",
    "listen_on",
    type=LISTEN_ADDRESS,
    metavar="HOST:PORT",
    help="Where to listen, if not at the acceptor's own address. Port 0 takes a free one.",
)
@click.option(
    "--memory",
    is_flag=True,
    help="Keep everything in memory. The directory can never be served again.",
)
@click.option(
    "--keep",
    type=click.IntRange(1, MAX_KEEP),
    default=DEFAULT_KEEP,
    show_default=True,
    metavar="K",
    help="How many of the newest versions of each key to keep.",
)
def serve(directory: Path, listen_on: Address | None, memory: bool, keep: int) -> None:
    """Run the acceptor of DIRECTORY, which `paxoskv init` made, until SIGTERM or SIGINT.

    What it promised and voted for is on disk before anybody hears of it. When it is ready,
    the last line on standard error is `listening on HOST:PORT`.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    # What it remembers is many small objects without cycles, which go when they are let go.
    gc.set_threshold(10_000, 10, 10)
    connections = _make_room_for_connections()
    with hold_directory(directory) as held, unwrapped():
        trio.run(_serve, held, listen_on or held.identity.address, memory, keep, connections)


def _make_room_for_connections() -> int:
    """How many connections may be open: with tables, more than a process is given at first."""
    needed = MAX_CONNECTIONS + MAX_OPEN_TABLES + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):  # a system may have limits of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        if soft < needed:
            connections = max(MAX_CONNECTIONS - (needed - soft), MIN_CONNECTIONS)
            click.echo(
                f"only {soft} files may be open at a time, which is too few for "
                f"{MAX_CONNECTIONS} connections: it takes {connections}, and may run short; raise "
                f"the limit to {needed} (ulimit -n)",
                err=True,
            )
            return connections
    return MAX_CONNECTIONS


async def _serve(
    directory: Directory, address: Address, memory: bool, keep: int, connections: int
) -> None:
    for number in _STOP:
        # Comes into force after the block: told once more to stop, it stops all the same.
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(*_STOP) as signals:
        try:
            listeners = await listen(address)
        except OSError as error:
            reason = error.strerror or str(error)
            what = "stop what has it, or give" if error.errno == errno.EADDRINUSE else "give"
            raise DirectoryError(f"cannot listen on {address}: {reason}; {what} --listen") from None
        # Only now, for an acceptor that could not even listen has promised nothing.
        with closed_at_the_end(listeners), _opened_store(directory, memory) as store:
            host = Host(directory.identity, store, keep)
            async with trio.open_nursery() as nursery:
                bound = await nursery.start(Server(host, connections).serve, listeners)
                nursery.start_soon(catch_up, host)
                click.echo(f"listening on {bound}", err=True)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break
            with suppress(StoreError):  # what is left are hints (rule R8): nobody relies on them
                store.flush()


@contextmanager
def _opened_store(directory: Directory, memory: bool) -> Iterator[Store]:
    """The store to serve from, and a line that says what was found in it."""
    identity = directory.identity
    number = [member.id for member in identity.members].index(identity.acceptor) + 1
    who = (
        f"paxoskv {__version__}, process {os.getpid()}: acceptor {number} of "
        f"{len(identity.members)} of cluster {identity.cluster.hex()}"
    )
    if memory:
        directory.mark_memory()
        click.echo(f"{who}, in memory only", err=True)
        yield MemoryStore()
        return
    began = trio.current_time()
    store = directory.open_store()
    try:
        keys, size = store.statistics()
        took = trio.current_time() - began
        click.echo(f"{who}: recovered {keys} keys, {size} bytes, in {took:.2f} s", err=True)
        yield store
    finally:
        try:
            store.close()
        except StoreError as error:  # what it told anybody is on disk: the logs have it
            logger.warning("stopped all the same: %s", error)
