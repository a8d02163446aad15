"""Both phases by hand: what an acceptor may say, and what a user may do wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from paxoskv import Unavailable, open_kv, open_local_cluster
from paxoskv.byhand import ManualProposer, Phases, open_proposer
from paxoskv.limits import MAX_BALLOT_BY_HAND, MAX_VERSION
from paxoskv.link import Link
from paxoskv.paxos.acceptor import Acceptor
from paxoskv.paxos.messages import Ballot, Commit, Instance, Proposal, ProposalId
from paxoskv.paxos.quorums import Quorums
from paxoskv.storage.memory import MemoryStore
from paxoskv.values import encode_value

ME, OTHER = b"m" * 16, b"o" * 16
FOO = Instance("foo", 0)
THREE = Quorums(3)


async def test_r3_what_is_known_to_be_chosen_is_all_that_is_left_to_say() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", "known")
        await kv.put("foo", "next")  # which tells the acceptors
        async with open_proposer(cluster.addresses, "foo", 0) as x:
            prepared = await x.prepare(1)
            assert (prepared.promises, prepared.refusals, prepared.quorum) == ({}, {}, False)
            assert prepared.decided is not None
            assert prepared.decided.value == encode_value("known")
            assert not prepared.compacted
            with pytest.raises(RuntimeError, match="needs the promises of a quorum"):
                await x.accept("mine")


def compacted() -> Acceptor:
    """An acceptor that has dropped version 0."""
    acceptor = Acceptor(MemoryStore(), keep=1)
    for ver in range(2):
        proposal = Proposal(ProposalId(OTHER, ver + 1), b"x")
        acceptor.handle(Commit(Instance("foo", ver), proposal.id, proposal))
    return acceptor


def test_r9_whoever_sees_even_once_that_a_version_was_dropped_stops_there() -> None:
    fresh, dropped = Acceptor(MemoryStore()), compacted()
    phases = Phases(ME, FOO)
    prepare = phases.begin_phase_1(1)
    replies = {0: fresh.handle(prepare), 1: fresh.handle(prepare), 2: dropped.handle(prepare)}
    prepared = phases.end_phase_1(replies, THREE)
    assert prepared.quorum
    assert prepared.compacted
    with pytest.raises(RuntimeError, match="was dropped"):
        phases.begin_phase_2(b"mine")

    phases = Phases(ME, FOO)
    prepare = phases.begin_phase_1(2)
    phases.end_phase_1({0: fresh.handle(prepare), 1: fresh.handle(prepare)}, THREE)
    accepted = phases.end_phase_2({2: dropped.handle(phases.begin_phase_2(b"mine"))}, THREE)
    assert accepted.compacted
    assert not accepted.votes
    with pytest.raises(RuntimeError, match="was dropped"):
        phases.begin_phase_2(b"mine")


async def test_r5_two_tasks_cannot_take_each_others_ballot_for_their_own() -> None:
    async with (
        open_local_cluster() as cluster,
        open_proposer(cluster.addresses, "foo", 0, timeout=0.2) as x,
    ):
        cluster.stop(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(x.prepare, 5)  # it waits for the acceptor that is away
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="another task"):
                await x.prepare(6, [0, 1])
            with pytest.raises(trio.BusyResourceError, match="another task"):
                await x.accept("mine", [0, 1])
        assert x.prepared is not None
        assert x.prepared.ballot == Ballot(5, x.id)
        assert x.prepared.quorum
        assert (await x.accept("mine", [0, 1])).chosen


async def test_a_cancelled_phase_2_keeps_the_votes_that_have_come() -> None:
    async with (
        open_local_cluster() as cluster,
        open_proposer(cluster.addresses, "foo", 0) as x,
    ):
        await x.prepare(1)
        cluster.stop(2)
        with trio.move_on_after(0.1) as scope:
            await x.accept("mine", [0, 2])
        assert scope.cancelled_caught
        accepted = await x.accept("another", [1])
        assert (accepted.votes, accepted.val, accepted.chosen) == ({0, 1}, "mine", True)


async def test_a_cancelled_phase_1_has_used_its_ballot() -> None:
    async with (
        open_local_cluster() as cluster,
        open_proposer(cluster.addresses, "foo", 0) as x,
    ):
        assert await x.acceptors() == 3
        cluster.stop(2)
        with trio.move_on_after(0.1):
            await x.prepare(1)
        with pytest.raises(ValueError, match="between 2 and"):
            await x.prepare(1)
        with pytest.raises(RuntimeError, match="prepare first"):
            await x.accept("mine")


async def test_nobody_there_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_local_cluster(1) as cluster:
        cluster.stop(0)
        async with open_proposer(cluster.addresses, "foo", 0, timeout=0.1) as x:
            with pytest.raises(Unavailable) as caught:
                await x.prepare(1)
    assert str(caught.value).count("no acceptor was reached") == 1
    # After the block it waits for nobody.
    monkeypatch.setattr(Link, "ask", None)
    with pytest.raises(trio.ClosedResourceError):
        await x.prepare(1)


@pytest.mark.parametrize(
    ("ballot", "acceptors", "error"),
    [
        (0, [0], "the next ballot is between 1 and"),
        (MAX_BALLOT_BY_HAND + 1, [0], "the next ballot is between 1 and"),
        (True, [0], "the next ballot is an int, not bool"),
        (1.5, [0], "the next ballot is an int, not float"),
        pytest.param(10**5000, [0], "the next ballot is between 1 and", id="huge"),
        (1, [3], "the number of an acceptor is between 0 and 2, not 3"),
        (1, [-1], "the number of an acceptor is between 0 and 2, not -1"),
        (1, [0.0], "the number of an acceptor is an int, not float"),
    ],
)
async def test_a_phase_refuses_what_it_cannot_use(ballot: Any, acceptors: Any, error: str) -> None:
    async with (
        open_local_cluster() as cluster,
        open_proposer(cluster.addresses, "foo", 0) as x,
    ):
        with pytest.raises((TypeError, ValueError), match=error):
            await x.prepare(ballot, acceptors)
        assert (await x.prepare(1)).quorum, "nothing was sent, and no ballot used"


@pytest.mark.parametrize(
    ("arguments", "timeout"),
    [
        (("", 0), 1.0),
        (("foo", -1), 1.0),
        (("foo", MAX_VERSION + 1), 1.0),
        (("foo", True), 1.0),
        (("foo", 0), 0),
        (("foo", 0), float("nan")),
        (("foo", 0), "1"),
        (("foo", 0), None),
    ],
)
def test_a_proposer_is_not_opened_with_what_cannot_be_used(arguments: Any, timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        open_proposer(["127.0.0.1:1"], *arguments, timeout=timeout)


async def test_the_highest_ballot_by_hand_leaves_some_to_others() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        async with open_proposer(cluster.addresses, "foo", 0) as x:
            assert (await x.prepare(MAX_BALLOT_BY_HAND)).quorum
        assert (await kv.put("foo", 1)).ver == 0


async def test_what_waits_when_the_block_ends_ends_with_it() -> None:
    async with open_local_cluster() as cluster, trio.open_nursery() as nursery:
        ended = 0

        async def phase(x: ManualProposer) -> None:
            nonlocal ended
            with trio.fail_after(5), pytest.raises(trio.ClosedResourceError):
                await x.prepare(1)
            ended += 1

        async def look(x: ManualProposer) -> None:
            nonlocal ended
            with trio.fail_after(5), pytest.raises(trio.ClosedResourceError):
                await x.acceptors()
            ended += 1

        nobody = ["127.0.0.1:1"]
        async with (
            open_proposer(cluster.addresses, "foo", 0, timeout=math.inf) as x,
            open_proposer(nobody, "foo", 0, timeout=math.inf) as lost,
        ):
            await x.acceptors()
            for index in range(3):
                cluster.stop(index)
            await wait_all_tasks_blocked(0.01)
            nursery.start_soon(phase, x)
            nursery.start_soon(look, lost)
            nursery.start_soon(look, lost)
            await wait_all_tasks_blocked(0.01)
        await wait_all_tasks_blocked(0.01)
        assert ended == 3
