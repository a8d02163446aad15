"""The scenario files: scripts of steps with the transcript that they must produce.

Each is run twice: on the pure acceptors, and by hand (`paxoskv.byhand`) over real TCP.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from paxoskv import byhand, open_local_cluster
from paxoskv.paxos.acceptor import Acceptor
from paxoskv.paxos.messages import Accept, Ballot, Instance, Prepare, Proposal, Reply, Vote
from paxoskv.paxos.quorums import Quorums
from paxoskv.storage.memory import MemoryStore
from paxoskv.values import decode_value, encode_value

SCENARIOS = sorted(Path(__file__).with_name("scenarios").glob("*.txt"))
ACCEPTORS = "ABC"

PREPARES = re.compile(r"(\w) prepares (\w+) (\d+) at ballot (\d+) on ([A-C ]+)")
PROPOSES = re.compile(r"(\w) proposes (\d+) to ([A-C ]+)")

Prepares: TypeAlias = Callable[[str, Instance, int, list[int]], Awaitable[byhand.Prepared]]
Proposes: TypeAlias = Callable[[str, int, list[int]], Awaitable[byhand.Accepted]]
World: TypeAlias = tuple[Prepares, Proposes, dict[bytes, str]]
"""The two phases, and the names of the proposers by their ids."""


@asynccontextmanager
async def over_tcp() -> AsyncIterator[World]:
    names: dict[bytes, str] = {}
    opened: dict[tuple[str, Instance], byhand.ManualProposer] = {}
    latest: dict[str, byhand.ManualProposer] = {}
    async with open_local_cluster(3) as cluster, AsyncExitStack() as stack:

        async def prepare(
            name: str, instance: Instance, n: int, acceptors: list[int]
        ) -> byhand.Prepared:
            if (name, instance) not in opened:
                opening = byhand.open_proposer(cluster.addresses, *instance)
                opened[name, instance] = await stack.enter_async_context(opening)
            latest[name] = opened[name, instance]
            names[latest[name].id] = name
            return await latest[name].prepare(n, acceptors)

        async def propose(name: str, val: int, acceptors: list[int]) -> byhand.Accepted:
            return await latest[name].accept(val, acceptors)

        yield prepare, propose, names


@asynccontextmanager
async def on_pure_acceptors() -> AsyncIterator[World]:
    acceptors = [Acceptor(MemoryStore()) for _ in ACCEPTORS]
    quorums = Quorums(len(acceptors))
    names: dict[bytes, str] = {}
    phases: dict[tuple[str, Instance], byhand.Phases] = {}
    latest: dict[str, byhand.Phases] = {}

    def ask(request: Prepare | Accept, asked: list[int]) -> dict[int, Reply]:
        return {number: acceptors[number].handle(request) for number in asked}

    async def prepare(name: str, instance: Instance, n: int, asked: list[int]) -> byhand.Prepared:
        id_ = name.encode() * 16
        names[id_] = name
        latest[name] = phases.setdefault((name, instance), byhand.Phases(id_, instance))
        return latest[name].end_phase_1(ask(latest[name].begin_phase_1(n), asked), quorums)

    async def propose(name: str, val: int, asked: list[int]) -> byhand.Accepted:
        accept = latest[name].begin_phase_2(encode_value(val))
        return latest[name].end_phase_2(ask(accept, asked), quorums)

    yield prepare, propose, names


async def transcript(script: str, world: World) -> str:
    """Run the steps of a script, and write what came of each below it."""
    prepare, propose, names = world
    lines: list[str] = []
    for line in script.splitlines():
        if line.startswith("  "):
            continue  # the transcript that is to be produced
        lines.append(line)
        if match := PREPARES.fullmatch(line):
            name, key, ver, n, on = match.groups()
            prepared = await prepare(name, Instance(key, int(ver)), int(n), numbers(on))
            for k, vote in prepared.promises.items():
                lines.append(f"  {ACCEPTORS[k]} promises, voted {shown(vote, names)}")
            lines += refusals(prepared.refusals, names)
            if not prepared.quorum:
                lines.append(f"  {name} has no quorum")
            elif prepared.bound is None:
                lines.append(f"  {name} has a quorum and is free")
            else:
                lines.append(f"  {name} has a quorum and is bound to {value(prepared.bound)}")
        elif match := PROPOSES.fullmatch(line):
            name, val, to = match.groups()
            accepted = await propose(name, int(val), numbers(to))
            asked = numbers(to)
            lines += [f"  {ACCEPTORS[k]} votes" for k in asked if k in accepted.votes]
            lines += refusals(accepted.refusals, names)
            lines.append(f"  {accepted.val if accepted.chosen else 'nothing'} is chosen")
        else:
            assert not line or line.startswith("#"), f"no such step: {line}"
    return "\n".join(lines) + "\n"


def numbers(letters: str) -> list[int]:
    return [ACCEPTORS.index(letter) for letter in letters.split()]


def value(proposal: Proposal) -> object:
    assert proposal.value is not None
    return decode_value(proposal.value)


def shown(vote: Vote | None, names: dict[bytes, str]) -> str:
    if vote is None:
        return "nothing"
    return f"{value(vote.proposal)} at {vote.ballot.n} of {names[vote.ballot.proposer]}"


def refusals(refused: dict[int, Ballot], names: dict[bytes, str]) -> Iterable[str]:
    for k, ballot in refused.items():
        yield f"  {ACCEPTORS[k]} refuses, promised {ballot.n} of {names[ballot.proposer]}"


@pytest.mark.parametrize("world", [on_pure_acceptors, over_tcp])
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
async def test_scenario(
    path: Path, world: Callable[[], AbstractAsyncContextManager[World]]
) -> None:
    script = path.read_text()
    async with world() as steps:
        assert await transcript(script, steps) == script


async def test_the_scenarios_are_there() -> None:
    assert {"undisturbed", "duel", "successive_versions"} <= {path.stem for path in SCENARIOS}
