"""RocksDB beside SQLite inside the server: sets through a cluster of three, in turns."""

from __future__ import annotations

import statistics
from dataclasses import replace

import click
import trio

from .cluster import PAXOSKV, acceptor_processes
from .load import Load, run
from .systems.paxoskv import PaxosKVCluster

ENGINES = {"RocksDB": PAXOSKV, "SQLite": ("bench.sqlite_acceptor",)}


async def measure(program: tuple[str, ...], callers: int, seconds: float) -> tuple[float, float]:
    """The median of one set at a time in seconds, and sets per second of many callers."""
    async with acceptor_processes(3, program=program) as acceptors:
        cluster = PaxosKVCluster("", acceptors)
        load = Load("set", seconds=seconds, warm_up=seconds / 4)
        one = await run(cluster, replace(load, name="alone"))
        many = await run(cluster, replace(load, callers=callers))
        median = statistics.median(sample.took for sample in one.samples)
        return median, len(many.samples) / many.seconds


@click.command()
@click.option("--callers", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=3.0, show_default=True)
@click.option("--turns", type=click.IntRange(1, 100), default=3, show_default=True)
def main(callers: int, seconds: float, turns: int) -> None:
    """Measure both engines in turns, SECONDS for each figure."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ENGINES}
    for turn in range(turns):
        click.echo(f"turn {turn + 1} of {turns} …", err=True)
        for name, program in ENGINES.items():
            figures[name].append(trio.run(measure, program, callers, seconds))
    for name, found in figures.items():
        one, many = (statistics.median(column) for column in zip(*found, strict=True))
        click.echo(f"{name:8} one set {one * 1e3:.2f} ms   {callers} callers {many:.0f}/s")


if __name__ == "__main__":
    main()
