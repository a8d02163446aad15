"""``python -m tests.chaos``: one run, with what came of it on standard output."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import click
import trio

from .run import run
from .summary import summary

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


@click.command()
@click.option("--acceptors", type=click.IntRange(1, 15), default=3, show_default=True)
@click.option("--clients", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True)
@click.option("--seed", type=int, help="What is done to whom; else a random one.")
@click.option(
    "--keep-history",
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory for the histories and logs, which stay there. Else they stay on failure.",
)
def main(
    acceptors: int, clients: int, seconds: float, seed: int | None, keep_history: Path | None
) -> None:
    """Run acceptors and clients under everything that can happen, and check what clients saw."""
    seed = random.randrange(10**6) if seed is None else seed
    click.echo(f"{acceptors} acceptors, {clients} clients, {seconds:g} s, --seed {seed}")
    scratch = Path(tempfile.mkdtemp(prefix="paxoskv-chaos-"))
    keep_scratch = True
    try:
        result = trio.run(
            partial(
                run,
                scratch,
                acceptors=acceptors,
                clients=clients,
                seconds=seconds,
                seed=seed,
                say=click.echo,
            )
        )
        keep_scratch = bool(result.problems)
        if result.interrupted:
            sys.exit(INTERRUPTED)
    except KeyboardInterrupt:  # before anything has begun, or once more when all had ended
        keep_scratch = False
        sys.exit(INTERRUPTED)
    finally:
        if keep_history is not None:
            keep_history.mkdir(parents=True, exist_ok=True)
            for path in [*scratch.glob("*.jsonl"), *scratch.glob("*.log")]:
                shutil.copy(path, keep_history)
        if keep_scratch:
            click.echo(f"histories, logs and disks are in {scratch}")
        else:
            shutil.rmtree(scratch)
    for line in [*summary(result), *(f"VIOLATION {problem}" for problem in result.problems)]:
        click.echo(line)
    click.echo("FAILED" if result.problems else "linearizable, and nothing acknowledged is lost")
    sys.exit(bool(result.problems))


if __name__ == "__main__":
    main()
