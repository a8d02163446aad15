"""``python -m tests.simulation``: run many seeds, or replay one."""

from __future__ import annotations

import sys
import time

import click

from .run import SECONDS, Report, simulate


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=100, help="How many seeds to run.")
@click.option("--first", type=int, default=0, help="The first of them.")
@click.option("--seed", type=int, help="Run this one alone.")
@click.option("--seconds", default=SECONDS, help="How long things fail in each.")
@click.option("--trace", is_flag=True, help="Print all that happens.")
def main(seeds: int, first: int, seed: int | None, seconds: float, trace: bool) -> None:
    """Simulate clusters and their clients, and check all that they did. One seed is one run."""
    chosen = range(first, first + seeds) if seed is None else [seed]
    began = told = time.monotonic()
    used = time.process_time()
    calls, simulated, failed = 0, 0.0, 0
    fewest = None
    for done, each in enumerate(chosen, start=1):
        report = simulate(each, seconds)
        calls += report.calls
        simulated += report.seconds
        fewest = report.calls if fewest is None else min(fewest, report.calls)
        if trace:
            for line in report.trace.story():
                click.echo(line, nl=False)
        if report.violations:
            failed += 1
            _explain(report, seconds)
        now = time.monotonic()
        if now - told >= 5 or done == len(chosen):
            told = now
            click.echo(
                f"{done} of {len(chosen)} seeds, {failed} failed: {calls} calls, at least {fewest} "
                f"each; {simulated:.0f} simulated seconds in {now - began:.1f} s; "
                f"{60 * done / (now - began):.0f} seeds a minute, "
                f"{60 * done / (time.process_time() - used):.0f} a minute of the processor",
                err=True,
            )
        if len(chosen) == 1:
            click.echo(f"seed {each}: {dict(report.outcomes)}; trace {report.trace.digest()}")
    sys.exit(1 if failed else 0)


def _explain(report: Report, seconds: float) -> None:
    for violation in report.violations[:10]:
        click.echo(f"seed {report.seed}: {violation}")
    if len(report.violations) > 10:
        click.echo(f"seed {report.seed}: and {len(report.violations) - 10} more")
    option = "" if seconds == SECONDS else f" --seconds {seconds}"
    click.echo(f"again: python -m tests.simulation --seed {report.seed}{option} --trace")


if __name__ == "__main__":
    main()
