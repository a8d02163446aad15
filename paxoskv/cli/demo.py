"""``paxoskv demo``: Paxos at work, explained as it goes.

Everything in it happens: the acceptors listen on loopback TCP, and what is printed of a
phase are the replies that came back. Only who moves when is arranged, by running the
phases by hand.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

import click
import trio

from ..byhand import Accepted, ManualProposer, Prepared, open_proposer
from ..kv import open_kv
from ..local import LocalCluster, open_local_cluster
from ..paxos.messages import Ballot, Proposal, Vote
from ..values import decode_value
from .output import jsonable

_WIDTH: Final = 78
_COLOURS: Final = {"X": "cyan", "Y": "magenta"}


@click.command()
def demo() -> None:
    """Watch Paxos decide: three acceptors and two duelling proposers, explained.

    It runs in one process, on loopback TCP, and leaves nothing behind.
    """
    trio.run(_demo)


async def _demo() -> None:
    async with open_local_cluster(3) as cluster:
        _say(
            "Three acceptors have started in this process. They listen on "
            f"{', '.join(cluster.addresses)}, and know nothing yet. Any two of the three "
            "are a quorum. Every version of every key is one instance of Paxos."
        )
        await _undisturbed(cluster)
        await _duel(cluster)
        await _read_back(cluster)


async def _undisturbed(cluster: LocalCluster) -> None:
    _title("1. One proposer, undisturbed")
    async with open_proposer(cluster.addresses, "foo", 0) as proposer:
        x = _Narrator("X", proposer, names={proposer.id: "X"})
        _say("X wants version 0 of the key foo to be 5. Phase 1: it asks for promises.")
        await x.prepare(1, [0, 1])
        _say(
            "Two promises are a quorum, and neither acceptor had voted before, so X is "
            "free to propose its own value. Phase 2: it asks for votes."
        )
        await x.accept(5, [0, 1])


async def _duel(cluster: LocalCluster) -> None:
    _title("2. Two proposers duel over one version")
    async with (
        open_proposer(cluster.addresses, "foo", 1) as first,
        open_proposer(cluster.addresses, "foo", 1) as second,
    ):
        names = {first.id: "X", second.id: "Y"}
        x, y = _Narrator("X", first, names), _Narrator("Y", second, names)
        _say("Now X wants version 1 of foo to be 6, and Y wants it to be 7. X is first.")
        await x.prepare(1, [0, 1])
        _say("Before X goes on, Y comes with a higher ballot. Acceptor 1 promises that too.")
        await y.prepare(2, [1, 2])
        _say(
            "X knows nothing of it. It has its quorum of promises, and asks for votes. "
            "Acceptor 1 has promised Y meanwhile to refuse every ballot below 2."
        )
        await x.accept(6, [0, 1])
        _say("One vote is no quorum: nothing is chosen yet. Y goes on, and meets nobody.")
        await y.accept(7, [1, 2])
        _say(
            "X does not know that it has lost. It was shown the higher ballot, so it tries "
            "again above that one."
        )
        await x.prepare(3, [0, 1])
        _say(
            "Every quorum shares an acceptor with the quorum that chose 7, so X cannot miss "
            "it. Of the votes it was shown, the one at the highest ballot counts: X is bound "
            "to propose 7, and finishes what Y began, instead of its own 6."
        )
        await x.accept(6, [0, 1])


async def _read_back(cluster: LocalCluster) -> None:
    _title("3. Read back, by a client that knows nothing of this")
    async with open_kv(cluster.addresses) as kv:
        for ver in (0, 1, 2):
            entry = await kv.get("foo", ver)
            shown = "None: nothing is chosen" if entry is None else _value(entry.val)
            click.echo(f"    await kv.get('foo', {ver})  ->  {click.style(shown, bold=True)}")
    click.echo()
    _say("The three acceptors stop now. To keep some: paxoskv init, paxoskv serve.")


class _Narrator:
    """Tells what a proposer does, and what comes of it."""

    def __init__(self, name: str, proposer: ManualProposer, names: dict[bytes, str]) -> None:
        self._name = name
        self._proposer = proposer
        self._names = names

    async def prepare(self, n: int, acceptors: Sequence[int]) -> None:
        self._sends(acceptors, f"prepare, ballot {n}")
        prepared: Prepared = await self._proposer.prepare(n, acceptors)
        for number, vote in prepared.promises.items():
            self._hears(number, "green", f"promise, {self._vote(vote)}")
        self._hears_refusals(prepared.refusals)
        click.echo()

    async def accept(self, val: object, acceptors: Sequence[int]) -> None:
        prepared = self._proposer.prepared
        assert prepared is not None
        bound = prepared.bound
        shown = _value(val) if bound is None else self._proposal(bound)
        self._sends(acceptors, f"accept {shown}, ballot {prepared.ballot.n}")
        accepted: Accepted = await self._proposer.accept(val, acceptors)
        for number in sorted(accepted.votes):
            self._hears(number, "green", "vote")
        self._hears_refusals(accepted.refusals)
        if accepted.chosen:
            votes = " and ".join(map(str, sorted(accepted.votes)))
            chosen = click.style(
                f"{_value(accepted.val)} is chosen for foo version {self._proposer.instance.ver}",
                bold=True,
            )
            click.echo(f"    => {chosen}: a quorum, {votes}, voted for it at one ballot")
        click.echo()

    def _sends(self, acceptors: Sequence[int], message: str) -> None:
        to = ", ".join(map(str, acceptors))
        click.echo(f"    {self._styled(self._name)} -> acceptors {to}: {message}")

    def _hears(self, number: int, colour: str, message: str) -> None:
        text = click.style(message, fg=colour)
        click.echo(f"    {self._styled(self._name)} <- acceptor {number}: {text}")

    def _hears_refusals(self, refusals: dict[int, Ballot]) -> None:
        for number, ballot in refusals.items():
            owner = self._names[ballot.proposer]
            self._hears(number, "red", f"refused: ballot {ballot.n} of {owner} is promised")

    def _vote(self, vote: Vote | None) -> str:
        if vote is None:
            return "and it has not voted yet"
        return f"and it has voted for {self._proposal(vote.proposal)} at ballot {vote.ballot.n}"

    def _proposal(self, proposal: Proposal) -> str:
        assert proposal.value is not None
        return f"{_value(decode_value(proposal.value))} of {self._names[proposal.id.proposer]}"

    def _styled(self, name: str) -> str:
        return click.style(name, fg=_COLOURS[name], bold=True)


def _title(text: str) -> None:
    click.echo()
    click.secho(text, bold=True, underline=True)
    click.echo()


def _say(text: str) -> None:
    click.echo(textwrap.fill(text, _WIDTH))
    click.echo()


def _value(val: object) -> str:
    return str(jsonable(val))
