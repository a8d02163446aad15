"""N proposers write the successive versions of one key: what do their duels cost?

Each proposer is a client of its own, with connections of its own, in this process; the
three acceptors are processes of their own, with registers in memory. All proposers propose
for the same version, learn what it holds, and go on to the next, until the time is up.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click
import trio

from paxoskv import KV, open_kv

from .cluster import acceptor_processes

WARM_UP = 0.2
"""The part of the time that is not counted."""

OUTCOMES = {
    "proposers": "proposers",
    "seconds": "seconds measured",
    "versions_per_second": "versions decided per second",
    "rounds_per_second": "rounds per second, of all proposers",
    "attempts_per_version": "attempts per decided version",
    "median_ms": "median time to decide, ms",
    "p99_ms": "99th percentile time to decide, ms",
    "fairness": "fairness of the wins (Jain: 1 is even)",
    "fewest_wins": "fewest wins of a proposer",
    "most_wins": "most wins of a proposer",
}


@dataclass(frozen=True)
class Result:
    """What one run measured; :data:`OUTCOMES` says what each number means.

    An attempt is a phase 1 that was begun. A proposer that comes too late for a version
    begins one too, so N proposers need at least N attempts for a version. The time to
    decide runs from a proposer's first message for a version to knowing what it holds.
    """

    proposers: int
    seconds: float
    versions_per_second: float
    rounds_per_second: float
    attempts_per_version: float
    median_ms: float
    p99_ms: float
    fairness: float
    fewest_wins: int
    most_wins: int


class Proposer:
    """One of the duelling clients, and what it counted since the warm-up."""

    def __init__(self, number: int, kv: KV) -> None:
        self.number = number
        self.kv = kv
        self.times: list[float] = []
        self.wins = 0
        self.versions: Counter[int] = Counter()
        self._rounds_before = 0
        self._attempts_before = 0

    def warmed_up(self) -> None:
        """Count from here."""
        self.times.clear()
        self.versions.clear()
        self.wins = 0
        self._rounds_before = self.kv.rounds
        self._attempts_before = self.kv.attempts

    @property
    def rounds(self) -> int:
        """Rounds since the warm-up."""
        return self.kv.rounds - self._rounds_before

    @property
    def attempts(self) -> int:
        """Attempts since the warm-up."""
        return self.kv.attempts - self._attempts_before

    async def run(self) -> None:
        """Propose for one version after the other, until cancelled."""
        ver = 0
        while True:
            began = trio.current_time()
            entry = await self.kv.propose("duel", ver, [self.number, ver])
            self.times.append(trio.current_time() - began)
            self.versions[ver] += 1
            self.wins += entry.val[0] == self.number
            ver += 1


async def measure(count: int, seconds: float) -> Result:
    """Let ``count`` proposers duel for so many seconds, after a warm-up."""
    async with acceptor_processes(3, "--memory") as acceptors, trio.open_nursery() as nursery:
        addresses = [acceptor.address for acceptor in acceptors]
        proposers: list[Proposer] = []

        async def duel(number: int, task_status: trio.TaskStatus[Proposer]) -> None:
            async with open_kv(addresses, timeout=30) as kv:
                await kv.get("duel", 0)  # connect first
                proposer = Proposer(number, kv)
                task_status.started(proposer)
                await begin.wait()
                await proposer.run()

        begin = trio.Event()
        for number in range(count):
            proposers.append(await nursery.start(duel, number))  # noqa: PERF401
        begin.set()
        await trio.sleep(WARM_UP * seconds)
        for proposer in proposers:
            proposer.warmed_up()
        began = trio.current_time()
        await trio.sleep(seconds)
        took = trio.current_time() - began
        result = summarize(proposers, took)
        nursery.cancel_scope.cancel()
    return result


def summarize(proposers: Sequence[Proposer], took: float) -> Result:
    """The result of proposers that counted for so many seconds."""
    times = [time for proposer in proposers for time in proposer.times]
    decided = len(set().union(*(proposer.versions for proposer in proposers)))
    if len(times) < 2:
        raise click.ClickException("nothing was decided; allow more --seconds")
    wins = [proposer.wins for proposer in proposers]
    return Result(
        proposers=len(proposers),
        seconds=round(took, 2),
        versions_per_second=round(decided / took, 1),
        rounds_per_second=round(sum(p.rounds for p in proposers) / took, 1),
        attempts_per_version=round(sum(p.attempts for p in proposers) / decided, 2),
        median_ms=round(statistics.median(times) * 1e3, 2),
        p99_ms=round(statistics.quantiles(times, n=100, method="inclusive")[98] * 1e3, 2),
        fairness=round(sum(wins) ** 2 / (len(wins) * sum(w * w for w in wins) or 1), 3),
        fewest_wins=min(wins),
        most_wins=max(wins),
    )


@click.command()
@click.option("--proposers", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=5.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def main(proposers: int, seconds: float, as_json: bool) -> None:
    """Let proposers duel over the versions of one key, and report what it cost."""
    if sys.stderr.isatty():
        click.echo(f"{proposers} proposers duel for {seconds:g} s …", err=True)
    result = asdict(trio.run(measure, proposers, seconds))
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, meaning in OUTCOMES.items():
        click.echo(f"{meaning:42}{result[name]:>10}")


if __name__ == "__main__":
    main()
