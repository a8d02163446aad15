"""``python -m tests.model``: explore worlds, and say what was found."""

from __future__ import annotations

import sys

import click

from .configs import LARGE, SMALL
from .explore import explore


@click.command()
@click.option("--only", help="Explore the worlds whose name contains this.")
@click.option(
    "--states",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="How many states of a world to look at.",
)
def main(only: str | None, states: int) -> None:
    """Explore all worlds of the model checker; exit with 1 if something is wrong."""
    wrong = False
    for name, config in {**SMALL, **LARGE}.items():
        if only is not None and only not in name:
            continue
        found = explore(
            config,
            most=states,
            tell=lambda count, name=name: click.echo(f"{name}: {count} states …", err=True),
        )
        scope = "all" if found.complete else "the first"
        click.echo(
            f"{name}: {scope} {found.states} states, {found.ended} of them at the end, "
            f"in {found.seconds:.1f} s, {found.states / found.seconds:.0f} states/s"
        )
        if found.violation is not None:
            wrong = True
            click.echo(found.violation)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
