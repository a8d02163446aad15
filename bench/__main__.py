"""``python -m bench``: what paxoskv costs, beside what a user would pick instead."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from . import pictures, report
from .machine import describe, sentence
from .systems import System
from .systems.etcd import Etcd
from .systems.floor import Floor
from .systems.paxoskv import PaxosKV
from .systems.pysyncobj import PySyncObj
from .workloads import QUICK, WORKLOADS, Record, Scale

Command = TypeVar("Command", bound=Callable[..., Any])

DOCS = Path(__file__).parents[1] / "docs" / "pictures"
"""Where the README's pictures are."""


KEYS = (1_000, 10_000, 100_000, 1_000_000)
"""Numbers of keys on the way to the most."""


LONG = ("growth", "recovery")
"""The workloads that `quick` leaves out."""


def systems() -> list[System]:
    """What there is to measure here; says what is missing."""
    found: list[System] = []
    everything: list[System] = [
        PaxosKV(),
        PaxosKV(durable=False),
        Etcd(),
        PySyncObj(),
        Floor(),
    ]
    for system in everything:
        if missing := system.missing():
            click.echo(missing, err=True)
        else:
            found.append(system)
    return found


async def measure(
    scale: Scale, only: tuple[str, ...], found: list[System], save: Callable[[list[Record]], None]
) -> list[Record]:
    """Do the workloads, say what comes out, record by record, and save after each workload."""
    records: list[Record] = []
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        await nursery.start(cancel_when_told, nursery.cancel_scope)
        for name, workload in WORKLOADS.items():
            if only and name not in only:
                continue
            async for record in workload(scale, found):
                records.append(record)
                elapsed = time.monotonic() - began
                click.echo(f"{elapsed:5.0f} s  {report.line(record)}", err=True)
            save(records)
        nursery.cancel_scope.cancel()
    save(records)
    return records


async def cancel_when_told(
    scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """On SIGTERM or SIGINT, end what was started; what was measured so far is reported."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            click.echo("ended early", err=True)
            scope.cancel()


def _run(scale: Scale, only: tuple[str, ...]) -> None:
    machine = describe()
    click.echo(sentence(machine), err=True)
    path = report.new_result()
    save = partial(report.save, path, machine)
    records = trio.run(measure, scale, only, systems(), save)
    click.echo(report.tables(records))
    click.echo(f"results: {path}", err=True)
    if find_spec("matplotlib") is None:
        click.echo("no pictures: pip install matplotlib", err=True)
        return
    for file in pictures.draw(records, path.with_suffix("")):
        click.echo(f"picture: {file}", err=True)


def _only(names: Iterable[str]) -> Callable[[Command], Command]:
    return click.option(
        "--only",
        multiple=True,
        type=click.Choice(list(names)),
        help="Only this workload; may be given several times.",
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure paxoskv beside etcd, PySyncObj, and the floor of this machine."""


@main.command()
@_only(name for name in WORKLOADS if name not in LONG)
def quick(only: tuple[str, ...]) -> None:
    """All but growth and recovery, briefly: in two minutes."""
    _run(QUICK, only)


@main.command()
@_only(WORKLOADS)
@click.option(
    "--most-keys",
    type=click.IntRange(1_000),
    default=30_000,
    show_default=True,
    help="Up to how many keys `growth` and `recovery` go.",
)
def full(only: tuple[str, ...], most_keys: int) -> None:
    """Everything, in about a quarter of an hour."""
    keys = tuple(keys for keys in KEYS if keys < most_keys)
    _run(Scale(keys=(*keys, most_keys)), only)


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--pictures", "directory", type=click.Path(path_type=Path), default=DOCS)
def readme(result: Path | None, directory: Path) -> None:
    """The README's table, and its two pictures, from the newest RESULT of all workloads."""
    result = result or report.newest()
    if result is None:
        raise click.ClickException("there is no result yet: python -m bench full")
    machine, records = report.load(result)
    lacking = {*WORKLOADS} - {*LONG} - {record["workload"] for record in records}
    if lacking:
        raise click.ClickException(
            f"{result} has no {', '.join(sorted(lacking))}; give a --result that has, or measure "
            "it all: python -m bench full"
        )
    click.echo(report.summary(machine, records))
    for file in pictures.draw(records, directory, ("duel", "throughput")):
        click.echo(f"picture: {file}", err=True)


if __name__ == "__main__":
    main(prog_name="python -m bench")
