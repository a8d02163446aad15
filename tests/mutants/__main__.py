"""Break the rules one by one, and check that the tests notice: ``python -m tests.mutants``.

Each break of `tests.mutants.breaks` is made in a copy of the tree, where its tests run until
the first that fails; then, if none does, the whole suite. A break that passes has survived:
a test is missing. First the tests that are to notice must pass where nothing is broken.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import click
import trio

from .breaks import BREAKS, Break

ROOT: Final = Path(__file__).resolve().parents[2]
SUITE: Final = "tests"
LIMIT: Final = 120.0
"""Seconds that the tests of a break may take; one that hangs was noticed."""
SUITE_LIMIT: Final = 600.0
"""The same for the whole suite."""
PATIENCE: Final = 5.0
"""Seconds that pytest has to clean up once its time is over."""
EXIT_PASSED, EXIT_FAILED = 0, 1  # pytest's

OUTCOMES: Final = ("caught", "SURVIVED", "stale")


class StaleError(Exception):
    """What a break would change is not there exactly once, or its tests cannot be run."""


class Verdict(NamedTuple):
    """What became of one break.

    Attributes:
        broken: the break.
        caught: the test that failed first, or "a timeout"; empty: it survived.
        problem: why it could not be judged, or empty.
        seconds: how long that took.
    """

    broken: Break
    caught: str
    problem: str
    seconds: float

    @property
    def outcome(self) -> str:
        return "stale" if self.problem else "caught" if self.caught else "SURVIVED"

    def __str__(self) -> str:
        by = self.problem or self.caught or self.broken.harm
        return (
            f"{self.outcome:8} {self.broken.rule:6} {self.broken.name}: {by} ({self.seconds:.1f} s)"
        )


def mutated(broken: Break) -> str:
    """The broken file."""
    text = (ROOT / "paxoskv" / broken.file).read_text()
    if (count := text.count(broken.old)) != 1:
        raise StaleError(
            f"in paxoskv/{broken.file} this stands {count} times, not once: {broken.old!r}"
        )
    return text.replace(broken.old, broken.new)


@contextmanager
def copied(broken: Break | None) -> Iterator[Path]:
    """A copy of the tree, with a break in it."""
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as base:
        tree = Path(base, "tree")
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        Path(base, "tmp").mkdir()
        if broken is not None:
            (tree / "paxoskv" / broken.file).write_text(mutated(broken))
        yield tree


async def failing(tree: Path, tests: str, limit: float) -> str:
    """Run tests in a copy: the one that failed first, "a timeout", or nothing.

    Raises:
        StaleError: pytest could not run them.
    """
    options = ["-x", "-q", "-p", "no:cacheprovider"]
    path = {"PYTHONPATH": str(tree), "TMPDIR": str(tree.parent / "tmp")}
    with tempfile.TemporaryFile() as log:  # not a pipe: what is left behind may hold that open
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "pytest", *options, *shlex.split(tests)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=tree,
            env=os.environ | path,
            start_new_session=True,
        )
        try:
            with trio.move_on_after(limit):
                await process.wait()
            code = process.returncode
        finally:
            await _end(process)
        log.seek(0)
        text = log.read().decode(errors="replace")
    if code is None:
        return f"a timeout of {limit:.0f} s"
    if code == EXIT_PASSED:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", text, re.MULTILINE)
    if code != EXIT_FAILED or failed is None:
        raise StaleError(f"pytest {tests} ended with {code}: {text[-1500:]}")
    return failed[1]


async def _end(process: trio.Process) -> None:
    """End pytest, and whatever it has left behind."""
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with trio.move_on_after(PATIENCE):
                await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def judge(broken: Break, unbroken: Path) -> Verdict:
    """Whether the tests notice a break."""
    began = trio.current_time()
    caught = problem = ""
    try:
        with copied(broken) as tree:
            caught = await failing(tree, broken.tests, LIMIT)
            if not caught:
                caught = await failing(tree, SUITE, SUITE_LIMIT)
                if "::" in caught and await failing(unbroken, shlex.quote(caught), LIMIT):
                    problem = f"{caught} fails in the unbroken tree as well"
    except StaleError as error:
        problem = str(error)
    return Verdict(broken, caught, problem, trio.current_time() - began)


async def run(breaks: list[Break], jobs: int) -> list[Verdict]:
    """Judge the breaks, so many at a time, and say of each what became of it."""
    verdicts: list[Verdict] = []
    limiter = trio.CapacityLimiter(jobs)
    with copied(None) as unbroken:
        for tests in dict.fromkeys(broken.tests for broken in breaks):
            try:
                failed = await failing(unbroken, tests, LIMIT)
            except StaleError as error:
                failed = str(error)
            if failed:
                raise click.ClickException(f"the unbroken tree fails already: {failed}")
        click.echo("The unbroken tree passes.")

        async def judged(broken: Break) -> None:
            async with limiter:
                verdicts.append(await judge(broken, unbroken))
            click.echo(verdicts[-1])

        async with trio.open_nursery() as nursery:
            for broken in breaks:
                nursery.start_soon(judged, broken)
    return verdicts


def table(verdicts: list[Verdict]) -> str:
    """How many breaks of each rule became what."""
    counts = Counter((each.broken.rule, each.outcome) for each in verdicts)
    counts.update(("all", each.outcome) for each in verdicts)
    rules = dict.fromkeys([*(each.rule for each in BREAKS), "all"])
    lines = ["{:6} {:>8} {:>8} {:>8}".format("rule", *OUTCOMES)]
    for rule in rules:
        numbers = [counts[rule, outcome] for outcome in OUTCOMES]
        if any(numbers):
            lines.append("{:6} {:8} {:8} {:8}".format(rule, *numbers))
    return "\n".join(lines)


@click.command()
@click.option("--only", multiple=True, help="Judge only this break, or these.")
@click.option("--jobs", type=click.IntRange(1, 16), default=2, show_default=True)
def main(only: tuple[str, ...], jobs: int) -> None:
    """Break the rules one by one, and check that the tests notice."""
    breaks = [broken for broken in BREAKS if not only or broken.name in only]
    if unknown := set(only) - {broken.name for broken in breaks}:
        raise click.ClickException(f"there is no break {', '.join(sorted(unknown))}")
    verdicts = trio.run(run, breaks, jobs)
    bad = [each for each in verdicts if each.outcome != "caught"]
    click.echo("\n" + table(verdicts))
    for each in bad:
        click.echo(f"\n{each}\n- {each.broken.old.strip()}\n+ {each.broken.new.strip()}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
