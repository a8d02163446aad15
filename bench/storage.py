"""The store on disk: commits beside other stores, a million keys, one key updated for long.

Each figure has a command of its own. Everything is written below a fresh temporary
directory of DIRECTORY, for which the disk to be measured is to be named.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import click

from paxoskv.identity import Identity
from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.paxos.messages import Proposal, ProposalId
from paxoskv.storage.disk import DiskStore

IDENTITY = Identity(b"c" * 16, b"a" * 16, ())
VALUE = b"x" * 100
REPETITIONS = 5
Commit: TypeAlias = Callable[[range], None]
"""Write records with these numbers, and make them durable."""


def record(number: int, vers: tuple[int, ...] = (0,)) -> tuple[Summary, dict[int, Register]]:
    proposal = Proposal(ProposalId(b"p" * 16, number), VALUE)
    return Summary(vers[-1], vers[0], vers), {vers[-1]: Register(chosen=proposal)}


@contextmanager
def rocksdb(path: Path) -> Iterator[Commit]:
    DiskStore.create(path / "store", IDENTITY)
    with closing(DiskStore(path / "store", IDENTITY)) as store:

        def commit(numbers: range) -> None:
            for number in numbers:
                store.save(store.ledger(f"key {number}"), *record(number))
            store.flush()

        yield commit


@contextmanager
def sqlite(path: Path) -> Iterator[Commit]:
    with closing(sqlite3.connect(path / "store", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE records (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

        def commit(numbers: range) -> None:
            db.execute("BEGIN")
            for number in numbers:
                for kind in "rs":  # two records, like the store: a register and a summary
                    row = (f"{kind}key {number}".encode(), VALUE if kind == "r" else b"xxxx")
                    db.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", row)
            db.execute("COMMIT")

        yield commit


@contextmanager
def lmdb(path: Path) -> Iterator[Commit]:
    import lmdb as library

    with closing(library.open(str(path), map_size=2**30)) as db:

        def commit(numbers: range) -> None:
            with db.begin(write=True) as transaction:
                for number in numbers:
                    transaction.put(b"rkey %d" % number, VALUE)
                    transaction.put(b"skey %d" % number, b"xxxx")

        yield commit


@contextmanager
def bare(path: Path) -> Iterator[Commit]:
    with (path / "file").open("wb", buffering=0) as file:

        def commit(numbers: range) -> None:
            file.write(b"".join(b"key %d" % number + VALUE for number in numbers))
            os.fdatasync(file.fileno())

        yield commit


@click.group()
@click.option("--directory", type=click.Path(exists=True, file_okay=False), help="Where to write.")
@click.pass_context
def main(context: click.Context, directory: str | None) -> None:
    """Measure the store on disk."""
    temporary = context.with_resource(tempfile.TemporaryDirectory(dir=directory))
    context.obj = Path(temporary)


@main.command()
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=10.0, show_default=True)
@click.pass_obj
def commits(path: Path, seconds: float) -> None:
    """Synchronous commits of 1 and of 64 records, SECONDS for each store and size, in turns."""
    makers = {"write + fdatasync": bare, "RocksDB, as here": rocksdb, "SQLite": sqlite}
    if find_spec("lmdb") is None:
        click.echo("no LMDB: `pip install lmdb`", err=True)
    else:
        makers["LMDB"] = lmdb
    for size in (1, 64):
        medians: dict[str, list[float]] = {name: [] for name in makers}
        for turn in range(REPETITIONS):
            for name, make in makers.items():
                place = path / f"{size}-{turn}-{name}"
                place.mkdir()
                with make(place) as commit:
                    times = commit_times(commit, size, seconds / REPETITIONS)
                medians[name].append(statistics.median(times))
        for name, values in medians.items():
            median = statistics.median(values)
            click.echo(
                f"{name:20} {size:2} a commit {median * 1e3:8.3f} ms {size / median:9.0f} /s"
            )


def commit_times(commit: Commit, size: int, seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        commit(range(len(times) * size, (len(times) + 1) * size))
        times.append(time.perf_counter() - began)
    return times


@main.command()
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.pass_obj
def opening(path: Path, keys: int) -> None:
    """How long it takes to open a store of so many KEYS, and the memory of the process."""
    for todo in ("fill", "open after a crash", "open", "read", "scan"):
        command = [sys.executable, "-m", "bench.storage", "process", str(path / "store"), todo]
        subprocess.run([*command, str(keys)], check=True)


@main.command(hidden=True)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("todo")
@click.argument("keys", type=int)
def process(path: Path, todo: str, keys: int) -> None:
    if todo == "fill":
        DiskStore.create(path, IDENTITY)
    before = memory()
    began = time.perf_counter()
    store = DiskStore(path, IDENTITY)
    opened = time.perf_counter() - began
    match todo:
        case "fill":
            for number in range(keys):
                store.save(store.ledger(f"key {number}"), *record(number))
            store.flush()
        case "read":
            for number in range(0, keys, 10):
                store.ledger(f"key {number * 7919 % keys}")
        case "scan":
            assert sum(1 for _ in store.keys("", "")) == keys
    spent = time.perf_counter() - began - opened
    count, size = store.statistics()
    click.echo(
        f"{todo:18} {count} keys, {size / 2**20:.0f} MiB: opened in {opened:.3f} s, "
        f"then {spent:.1f} s; resident at most {memory():.0f} MiB, {before:.0f} before"
    )
    sys.stdout.flush()
    if todo == "fill":
        os._exit(0)  # as after a crash
    store.close()


def memory() -> float:
    """The most that this process ever had resident, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@main.command()
@click.option("--keep", type=click.IntRange(1, 4096), default=16, show_default=True)
@click.option("--most", type=click.IntRange(10_000), default=1_000_000, show_default=True)
@click.pass_obj
def updates(path: Path, keep: int, most: int) -> None:
    """The size of a store as one key is updated, and what an update then costs."""
    DiskStore.create(path / "store", IDENTITY)
    with closing(DiskStore(path / "store", IDENTITY)) as store:
        began, largest = time.perf_counter(), 0
        for number in range(most):
            store.save(
                store.ledger("key"),
                *record(number, tuple(range(max(0, number + 1 - keep), number + 1))),
            )
            if number % 1000 == 0:
                largest = max(largest, store.statistics()[1])
            if number + 1 in {10_000, 100_000, most}:
                each = (time.perf_counter() - began) / (number + 1)
                size = store.statistics()[1]
                click.echo(
                    f"{number + 1:8} updates: {size / 2**20:5.1f} MiB, at most "
                    f"{largest / 2**20:5.1f} MiB, {each * 1e6:.0f} µs each"
                )


if __name__ == "__main__":
    main()
