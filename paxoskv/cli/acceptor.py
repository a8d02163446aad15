"""``paxoskv init`` and ``paxoskv serve``: make a cluster, run one of its acceptors."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import click
import trio

from .._version import __version__
from ..errors import DirectoryError
from ..identity import Address
from ..server import listen
from ..server import serve as serve_acceptor
from ..storage.directory import Directory, hold_directory, init_cluster
from ..storage.memory import MemoryStore
from .params import ADDRESS, LISTEN_ADDRESS


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
    click.echo("Next: run `paxoskv serve DIRECTORY --memory` on each of them.", err=True)


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
    help="Keep everything in memory. The directory cannot be served a second time.",
)
def serve(directory: Path, listen_on: Address | None, memory: bool) -> None:
    """Run the acceptor of DIRECTORY, which `paxoskv init` made, until SIGTERM or SIGINT.

    When it is ready, the last line on standard error is `listening on HOST:PORT`.
    """
    if not memory:
        raise click.UsageError(
            "this release keeps nothing on disk yet; add --memory, and know that the "
            "acceptor forgets everything when it stops"
        )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    with hold_directory(directory) as held:
        trio.run(_serve, held, listen_on or held.identity.address)


async def _serve(directory: Directory, address: Address) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            listeners = await listen(address)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DirectoryError(
                f"cannot listen on {address}: {reason}; stop what has it, or give --listen"
            ) from None
        # Only now, for an acceptor that could not even listen has promised nothing.
        directory.mark_memory()
        identity = directory.identity
        number = [member.id for member in identity.members].index(identity.acceptor) + 1
        click.echo(
            f"paxoskv {__version__}, process {os.getpid()}: acceptor {number} of "
            f"{len(identity.members)} of cluster {identity.cluster.hex()}, in memory only",
            err=True,
        )
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(serve_acceptor, identity, MemoryStore(), listeners)
            click.echo(f"listening on {bound}", err=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
