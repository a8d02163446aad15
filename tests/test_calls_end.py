"""The end of a call: its time is up, or its client is closed, at the worst moment."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any
from unittest.mock import Mock

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import paxoskv
from paxoskv import Entry, Unavailable, open_kv, open_local_cluster
from paxoskv.client import Client
from paxoskv.errors import StoreError
from paxoskv.link import Link
from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.paxos.messages import Ballot, Proposal, ProposalId, Vote
from paxoskv.paxos.proposer import Ballots
from paxoskv.paxos.reader import Finder
from paxoskv.rounds import Job
from paxoskv.storage.memory import Ledger, MemoryStore
from paxoskv.tasks import unwrapped
from paxoskv.values import encode_value

ME = b"m" * 16


async def test_the_time_of_a_call_is_up() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.1) as kv:
        await kv.put("foo", 0)
        cluster.stop(0)
        cluster.stop(1)
        for call in (kv.put, kv.update):
            began = trio.current_time()
            with trio.fail_after(5), pytest.raises(Unavailable):
                await call("foo", lambda old: old) if call == kv.update else await call("foo", 1)
            assert 0.1 <= trio.current_time() - began < 1.0


async def test_a_call_that_must_end_begins_nothing_more() -> None:
    """Between two of its waits nothing can wake it, so the next one must not begin."""
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.get("foo")
        client = kv._client
        finder = Finder("foo", client._cluster.quorums, Ballots(ME))
        with client._calls.new("get") as call:
            call.stop(trio.ClosedResourceError("one"))
            call.stop(trio.ClosedResourceError("two"))
            with pytest.raises(trio.ClosedResourceError, match="one"):
                call.begin(Job(finder))
            with pytest.raises(trio.ClosedResourceError, match="one"), call.waiting("it"):
                pytest.fail("it waits again")


@pytest.mark.parametrize("away", [False, True])
async def test_a_call_that_ended_leaves_nothing_to_the_garbage_collector(away: bool) -> None:
    """Cycles would cost a client of many calls a third of its time."""
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        if away:
            cluster.stop(0)
            await kv.put("foo", 0)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for number in range(10):
                await kv.put("foo", number)
                await kv.get("foo")
                await kv.get("foo", number)
                async with trio.open_nursery() as nursery:  # and those who wait behind another
                    for _ in range(3):
                        nursery.start_soon(kv.put, "busy", number)
                        nursery.start_soon(kv.delete, "none")  # there is nothing to write
            gc.collect()
            left = [each for each in gc.garbage if type(each).__module__.startswith("paxoskv")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not left


async def test_r7_who_was_told_that_nothing_was_written_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time is up just when the reply comes that would let the call go on to write."""
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, fast=False) as kv:
        await kv.get("warm")
        take, replies = Link._take, 0

        def take_too_late(link: Link, *args: Any) -> None:
            nonlocal replies
            replies += 1
            if replies == 2:
                stop_calls(kv._client)
            take(link, *args)

        monkeypatch.setattr(Link, "_take", take_too_late)
        with pytest.raises(Unavailable) as caught:
            await kv.set("foo", 0, 5)
        assert caught.value.maybe is None
        await wait_all_tasks_blocked(0.01)
        assert replies == 3, "a quorum has promised"
        assert await kv.get("foo", 0) is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
async def test_a_client_that_breaks_down_while_an_acceptor_is_away_says_one_thing(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(addresses: list[str]) -> None:
        async with open_kv(addresses) as kv, trio.open_nursery() as nursery:
            await kv.put("foo", 0)
            monkeypatch.setattr(Link, "_take", lambda *_: None)  # so that rounds stay open
            for number in range(3):
                nursery.start_soon(kv.get, f"key {number}")
            await wait_all_tasks_blocked(0.01)
            monkeypatch.setattr(Link, "_take", Mock(side_effect=[kind] + 10 * [None]))
            nursery.start_soon(kv.get, "bar")

    async with open_local_cluster() as cluster:
        cluster.stop(0)
        with pytest.raises(kind):
            await break_down(cluster.addresses)


def stop_calls(client: Client) -> None:
    for call in client._calls.under_way:
        call.stop(client._calls.unavailable(call))


@asynccontextmanager
async def unfinished() -> AsyncIterator[tuple[paxoskv.LocalCluster, paxoskv.KV]]:
    """A version with one vote of three: a reader pauses, and then finishes it as a writer."""
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        vote = Vote(Ballot(1, ME), Proposal(ProposalId(ME, 1), encode_value(5)))
        for store in cluster._stores[:2]:
            store.save(store.ledger("foo"), Summary(top=0), {0: Register(vote.ballot, vote)})
        vote = vote._replace(ballot=Ballot(2, ME))
        cluster._stores[1].save(
            cluster._stores[1].ledger("foo"), Summary(top=0), {0: Register(vote.ballot, vote)}
        )
        yield cluster, kv


async def test_a_call_is_stopped_just_when_its_pause_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with unfinished() as (_, kv):
        pauses = kv._client.rounds._pauses
        go_on = pauses._go_on
        paused: list[Job[Any]] = []

        def both(job: Job[Any]) -> None:
            paused.append(job)
            go_on(job)
            stop_calls(kv._client)

        monkeypatch.setattr(pauses, "_go_on", both)
        with trio.fail_after(5), pytest.raises(Unavailable):
            await kv.get("foo", 0)
        assert len(paused) == 1
        monkeypatch.undo()
        assert await kv.get("foo", 0) == Entry("foo", 0, 5)
        assert not kv._client._writers.holders


async def test_a_call_is_stopped_just_when_it_gets_its_turn() -> None:
    async with unfinished() as (_, kv), trio.open_nursery() as nursery:
        writers = kv._client._writers
        other = writers.writer("foo", nullcontext)
        assert other.take_turn_now(), "another call of this client writes the key"

        async def get() -> None:
            with trio.fail_after(5), pytest.raises(Unavailable):
                await kv.get("foo", 0)

        nursery.start_soon(get)
        with trio.fail_after(5):
            while not other._behind:  # noqa: ASYNC110
                await trio.sleep(0.001)
        other.__exit__()
        stop_calls(kv._client)
        await wait_all_tasks_blocked()
    assert not writers.holders


def test_one_error_that_ends_several_tasks_is_one_error() -> None:
    error = ValueError("one")
    with pytest.raises(ValueError, match="one"), unwrapped():
        raise ExceptionGroup("tasks", [error, ExceptionGroup("more", [error])])
    with pytest.raises(ExceptionGroup), unwrapped():
        raise ExceptionGroup("tasks", [error, ValueError("two")])


async def test_who_asks_again_and_again_lets_others_go_on() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.set("leader", 0, "other")
        with trio.move_on_after(0.05) as scope:
            for _ in range(1_000_000):
                await kv.propose("leader", 0, "me")
        assert scope.cancelled_caught


class Unreadable(MemoryStore):
    """A store that cannot be read any more."""

    __slots__ = ()

    def ledger(self, key: str) -> Ledger:
        raise StoreError("no disk")


@pytest.mark.parametrize("timeout", [0.8, 5.0])  # less than the longest pause, and more
async def test_who_could_have_told_what_became_of_a_write_is_named(timeout: float) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=timeout) as kv:
        await kv.put("foo", 1)
        ballot = Ballot(1, b"o" * 16)
        vote = Vote(ballot, Proposal(ProposalId(b"o" * 16, 1), b"\x01"))
        # One votes for the put, one has a later version, and the third is asked in vain.
        cluster._stores[1].save(
            cluster._stores[1].ledger("foo"), Summary(top=5), {5: Register(ballot, vote)}
        )
        cluster._stores[2].__class__ = Unreadable
        with pytest.raises(paxoskv.Unavailable) as caught:
            await kv.put("foo", 2)
        assert caught.value.maybe == Entry("foo", 1, 2)
        assert f"{cluster.addresses[2]}: cannot serve now: no disk" in str(caught.value)
        assert cluster.addresses[0] not in str(caught.value)
