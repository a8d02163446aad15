"""put, get, update, delete, history, scan and settle, against a cluster on real TCP."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio

import paxoskv
from paxoskv import Entry, LocalCluster, open_kv, open_local_cluster
from paxoskv import link as link_module
from paxoskv.identity import Address
from paxoskv.limits import DEFAULT_KEEP, MAX_KEY_BYTES, MAX_PAGE_KEYS, MAX_VALUE_BYTES
from paxoskv.link import Batch, Exchange
from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.paxos.messages import (
    Accept,
    Ballot,
    Commit,
    Find,
    Instance,
    Prepare,
    Proposal,
    ProposalId,
    Vote,
)
from paxoskv.paxos.operation import Doubtful, Latest
from paxoskv.storage.memory import MemoryStore
from paxoskv.stream import Stream
from paxoskv.values import encode_value

KEPT = DEFAULT_KEEP


@pytest.mark.parametrize("n", [1, 2, 3, 5])
async def test_the_life_of_a_key(n: int) -> None:
    async with open_local_cluster(n) as cluster, open_kv(cluster.addresses) as kv:
        assert await kv.get("foo") is None
        assert await kv.latest("foo") is None
        assert await kv.delete("foo") is None
        assert await kv.history("foo") == []
        assert await kv.put("foo", 5) == Entry("foo", 0, 5)
        assert await kv.get("foo") == Entry("foo", 0, 5)
        assert await kv.put("foo", 5) == Entry("foo", 1, 5), "an equal value is a new version"
        assert await kv.update("foo", lambda old: old + 1) == Entry("foo", 2, 6)
        tombstone = Entry("foo", 3, None, deleted=True)
        assert await kv.delete("foo") == tombstone
        assert await kv.get("foo") is None
        assert await kv.latest("foo") == await kv.get("foo", 3) == tombstone
        assert await kv.delete("foo") is None
        with pytest.raises(paxoskv.VersionTaken, match="is deleted") as caught:
            await kv.set("foo", 3, None)
        assert caught.value.entry == tombstone
        assert await kv.update("foo", lambda old: [old]) == Entry("foo", 4, [None])
        assert [entry.ver for entry in await kv.history("foo")] == [0, 1, 2, 3, 4]
        assert (await kv.history("foo"))[3] == tombstone


async def test_other_clients_see_it_at_once() -> None:
    async with (
        open_local_cluster() as cluster,
        open_kv(cluster.addresses) as one,
        open_kv(cluster.addresses) as other,
    ):
        for ver in range(0, 20, 2):
            assert await one.put("foo", ver) == await other.get("foo")
            # What the other remembers is out of date by now, and never wrong.
            assert await other.put("foo", ver + 1) == Entry("foo", ver + 1, ver + 1)
            assert await one.get("foo") == Entry("foo", ver + 1, ver + 1)
        await one.delete("foo")
        assert await other.update("foo", lambda old: old) == Entry("foo", 21, None)


def count_requests(kv: paxoskv.KV, monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The kinds of the requests that the first link sends from now on, without commits."""
    kinds: list[type] = []
    link = next(iter(kv._client._cluster.links.values()))
    post = link.post

    def counted(batch: Batch, *args: Any) -> Exchange:
        kinds.extend(type(each) for each in batch.requests if not isinstance(each, Commit))
        return post(batch, *args)

    monkeypatch.setattr(link, "post", counted)
    return kinds


async def test_what_calls_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        kinds = count_requests(kv, monkeypatch)

        async def cost(call: Callable[..., Awaitable[Any]], *args: Any) -> list[type]:
            kinds.clear()
            await call(*args)
            return list(kinds)

        assert await cost(kv.get, "foo") == [Find]
        assert await cost(kv.put, "foo", 1) == [Accept], "an undisturbed put looks up nothing"
        assert await cost(kv.update, "foo", str) == [Accept]
        assert await cost(kv.delete, "foo") == [Accept]
        assert await cost(kv.delete, "foo") == [Find]
        assert await cost(kv.put, "new", 1) == [Accept], "who makes keys bets that they are new"
        assert await cost(kv.update, "newest", str) == [Find, Accept], "no function is fooled"
        async with open_kv(cluster.addresses) as other:
            await other.put("its", 1)
            await other.put("its", 2)
        assert await cost(kv.put, "its", 3) == [Accept, Find, Accept], "a bet that is lost"
        assert await cost(kv.put, "foo2", 1) == [Find, Accept], "and it bets no more"
        assert await cost(kv.set, "set", 7, 1) == [Accept]


async def test_what_calls_cost_without_ballot_0(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, fast=False) as kv:
        await kv.put("foo", 0)
        kinds = count_requests(kv, monkeypatch)
        await kv.put("foo", 1)
        await kv.set("set", 7, 1)
        assert kinds == [Prepare, Accept] * 2


async def test_r6_a_get_makes_no_acceptor_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_local_cluster() as cluster:
        async with open_kv(cluster.addresses) as kv:
            await kv.put("foo", 1)
        writes: list[str] = []
        monkeypatch.setattr(MemoryStore, "save", lambda _, key, *rest: writes.append(key))
        async with open_kv(cluster.addresses) as kv:
            for _ in range(10):
                assert await kv.get("foo") == await kv.get("foo", 0) == Entry("foo", 0, 1)
                assert await kv.get("bar") is None
            assert [entry.ver async for entry in kv.scan()] == [0]
        assert not writes


async def test_r7_a_put_is_above_all_that_was_chosen_before_beside_sets_with_gaps() -> None:
    """Writers of all kinds on one key. Each put and update is newer than what was done."""
    done = -1  # the highest version that a call has returned
    async with open_local_cluster() as cluster:

        async def write(seed: int) -> None:
            nonlocal done
            rng = Random(seed)
            async with open_kv(cluster.addresses, rng=Random(seed)) as kv:
                for step in range(40):
                    before = done
                    match rng.choice(["put", "update", "set", "get", "gap"]):
                        case "put":
                            entry = await kv.put("foo", [seed, step])
                            assert entry.ver > before
                        case "update":
                            entry = await kv.update("foo", lambda _, step=step: [seed, step])
                            assert entry.ver > before
                        case "get":
                            found = await kv.latest("foo")
                            assert before == -1 or found is not None
                            if found is None:
                                continue
                            entry = found
                            assert entry.ver >= before
                        case kind:
                            ver = before + (rng.randrange(2, 6) if kind == "gap" else 1)
                            entry = await kv.propose("foo", max(ver, 0), [seed, step])
                    done = max(done, entry.ver)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for seed in range(5):
                    nursery.start_soon(write, seed)


async def test_r7_clients_that_put_equal_values_get_versions_of_their_own() -> None:
    entries: list[Entry] = []
    async with open_local_cluster() as cluster:

        async def put(times: int) -> None:
            async with open_kv(cluster.addresses) as kv:
                for _ in range(times):
                    entries.append(await kv.put("foo", "same"))  # noqa: PERF401

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(put, 10)
    assert sorted(entry.ver for entry in entries) == list(range(40))


async def test_updates_of_many_clients_are_all_counted() -> None:
    async with open_local_cluster() as cluster:

        async def increment(times: int) -> None:
            async with open_kv(cluster.addresses, timeout=60) as kv:
                for _ in range(times):
                    await kv.update("n", lambda old: (old or 0) + 1)

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(increment, 25)
        async with open_kv(cluster.addresses) as kv:
            assert await kv.get("n") == Entry("n", 199, 200)


async def test_puts_and_updates_of_one_client_queue_up() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(kv.update, "n", lambda old: (old or 0) + 1)
        assert await kv.get("n") == Entry("n", 29, 30)
        assert kv.attempts == 30, "it duelled with itself"


async def test_what_the_function_of_an_update_raises_reaches_its_caller_alone() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 1)

        async def fails() -> None:
            with pytest.raises(ZeroDivisionError):
                await kv.update("foo", lambda old: old / 0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            nursery.start_soon(kv.update, "foo", lambda old: old + 1)
        with pytest.raises(TypeError):
            await kv.update("foo", lambda _: {1, 2})
        assert await kv.update("foo", lambda old: old + 1) == Entry("foo", 2, 3)


async def test_r9_old_versions_are_compacted() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        for ver in range(40):
            await kv.put("foo", ver)
        await kv._client.rounds.commits.send()
        with pytest.raises(
            paxoskv.Compacted, match="latest version known of 'foo' is 39"
        ) as caught:
            await kv.get("foo", 3)
        assert caught.value.latest == Entry("foo", 39, 39)
        for write in (kv.set, kv.propose):
            with pytest.raises(paxoskv.Compacted):
                await write("foo", 3, 3)
        assert [entry.ver for entry in await kv.history("foo")] == list(range(40 - KEPT, 40))
        for store in cluster._stores:
            assert store.ledger("foo").below(40 - KEPT) is None


async def test_r8_the_next_client_finds_committed_entries_after_a_close() -> None:
    async with open_local_cluster() as cluster:
        async with open_kv(cluster.addresses) as kv:
            await kv.put("foo", 1)
        # The client has told, before it went, what it knew to be chosen.
        assert all(store.ledger("foo").summary.chosen == (0,) for store in cluster._stores)


def leave_votes(cluster: LocalCluster, acceptors: str, ver: int, val: object) -> Proposal:
    """Votes for a proposal whose writer is gone."""
    who = bytes([ver]) * 16
    proposal = Proposal(ProposalId(who, 1), encode_value(val))
    for letter in acceptors:
        vote = Vote(Ballot(1, who), proposal)
        store = cluster._stores["ABC".index(letter)]
        store.save(store.ledger("foo"), Summary(top=ver), {ver: Register(vote.ballot, vote)})
    return proposal


async def test_settle_tells_whether_that_very_proposal_was_chosen() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        for ver, (acceptors, chosen) in enumerate([("AB", True), ("A", True), ("", True)]):
            proposal = leave_votes(cluster, acceptors, ver, ver)
            maybe = Entry("foo", ver, ver)
            error = paxoskv.Unavailable("it took too long", maybe, proposal)
            assert await kv.settle(error) is chosen
            assert await kv.get("foo", ver) == maybe
        leave_votes(cluster, "AB", 9, "equal")
        mine = Proposal(ProposalId(b"m" * 16, 1), encode_value("equal"))
        error = paxoskv.Unavailable("it took too long", Entry("foo", 9, "equal"), mine)
        assert await kv.settle(error) is False, "an equal value of another is not ours"
        assert await kv.settle(paxoskv.Unavailable("nothing was sent")) is False
        with pytest.raises(TypeError):
            await kv.settle(ValueError())  # type: ignore[arg-type]


async def test_a_put_of_unknown_outcome_can_be_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.5) as kv:
        await kv.put("foo", 0)
        for link in kv._client._cluster.links.values():

            def post(batch: Batch, *args: Any, link: Any = link, post: Any = link.post) -> Exchange:
                exchange: Exchange = post(batch, *args)
                if isinstance(batch.requests[0], Accept):
                    link.withdraw(exchange)  # and nobody hears of the answer
                return exchange

            monkeypatch.setattr(link, "post", post)
        with pytest.raises(paxoskv.Unavailable) as caught:
            await kv.update("foo", lambda old: old + 1)
        assert caught.value.maybe == Entry("foo", 1, 1)
        monkeypatch.undo()
        assert await kv.settle(caught.value) is True
        assert await kv.get("foo") == Entry("foo", 1, 1)


# --- scan ----------------------------------------------------------------------------------


async def test_what_could_not_be_settled_is_in_doubt_still() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.1) as kv:
        own = Proposal(ProposalId(b"p" * 16, 1), encode_value("mine"))
        error = paxoskv.Unavailable("why", Entry("foo", 3, "mine"), own)
        for number in range(2):
            cluster.stop(number)
        for _ in range(2):
            with pytest.raises(paxoskv.Unavailable, match="in doubt still") as caught:
                await kv.settle(error)
            error = caught.value
            assert (error.maybe, error.proposal) == (Entry("foo", 3, "mine"), own)
        for number in range(2):
            await cluster.start(number)
        async with open_kv(cluster.addresses) as patient:
            assert await patient.settle(error) is True


async def test_scan_gives_the_latest_entries_in_key_order() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        keys = ["a", "b", "b/1", "b/2", "b/é", "b/键", "b/😀", "b0", "c"]
        for key in reversed(keys):
            await kv.put(key, "old")
            await kv.put(key, key)
        await kv.delete("b/2")

        async def scan(*args: Any, **kwargs: Any) -> list[str]:
            entries = [entry async for entry in kv.scan(*args, **kwargs)]
            assert all(entry == Entry(entry.key, 1, entry.key) for entry in entries)
            return [entry.key for entry in entries]

        keys.remove("b/2")
        assert await scan() == keys
        assert await scan("b/") == ["b/1", "b/é", "b/键", "b/😀"]
        assert await scan("b/", after="b/1", limit=2) == ["b/é", "b/键"]
        assert await scan("b/", after="a") == ["b/1", "b/é", "b/键", "b/😀"]
        assert await scan("b/", after="c") == []
        assert await scan("nothing") == []
        assert await scan("b", limit=0) == []
        assert await scan("b/😀") == ["b/😀"]
        for wrong, kwargs in (
            (TypeError, {"limit": True}),
            (TypeError, {"limit": "5"}),
            (ValueError, {"limit": -1}),
            (TypeError, {"after": 5}),
            (TypeError, {"prefix": None}),
            (paxoskv.TooLarge, {"prefix": "x" * (MAX_KEY_BYTES + 1)}),
        ):
            with pytest.raises(wrong):
                kv.scan(**kwargs)


async def test_a_scan_can_be_cancelled_within_a_page() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        for number in range(5):
            await kv.put(f"key {number}", number)
        seen = 0
        with trio.CancelScope() as scope:
            async for _ in kv.scan():
                seen += 1
                scope.cancel()
        assert scope.cancelled_caught
        assert seen == 1


async def test_r6_no_key_hides_behind_a_longer_page() -> None:
    """Acceptors that know different keys have pages of different reach."""
    async with open_local_cluster() as cluster:
        wanted = []
        for number in range(MAX_PAGE_KEYS + 300):
            key = f"{number:06}"
            # Most keys are known to two only; every tenth is committed, at one of them.
            who = bytes([number % 3])
            proposal = Proposal(ProposalId(who * 16, number + 1), encode_value(number))
            vote = Vote(Ballot(1, who * 16), proposal)
            for store in cluster._stores[number % 3 :] + cluster._stores[: number % 3]:
                if store is not cluster._stores[(number + 2) % 3] or number % 7 == 0:
                    store.save(store.ledger(key), Summary(top=0), {0: Register(vote.ballot, vote)})
            if number % 10 == 0:
                store = cluster._stores[number % 3]
                store.save(store.ledger(key), Summary(0, 0, (0,)), {0: Register(chosen=proposal)})
            wanted.append((key, number))
        async with open_kv(cluster.addresses, timeout=20) as kv:
            cluster.stop(1)  # so that the same two pages are merged each time
            assert [(entry.key, entry.val) async for entry in kv.scan()] == wanted


async def test_a_scan_of_many_keys_takes_flat_memory() -> None:
    count = 100_000
    async with open_local_cluster() as cluster:
        value = encode_value(b"x" * 100)
        for number in range(count):
            proposal = Proposal(ProposalId(b"p" * 16, number + 1), value)
            for store in cluster._stores:
                register = Register(chosen=proposal)
                store.save(store.ledger(f"key {number:06}"), Summary(0, 0, (0,)), {0: register})
        async with open_kv(cluster.addresses) as kv:
            seen = 0
            peak = 0
            async for entry in kv.scan("key "):
                if seen == 10_000:
                    tracemalloc.start()
                seen += 1
                assert entry.val == b"x" * 100
                if seen == 15_000:
                    peak = tracemalloc.get_traced_memory()[1]
                    tracemalloc.stop()  # it costs time; what is flat so far stays so
        assert seen == count
        assert 0 < peak < 20e6, "it keeps what it has given"


async def test_the_largest_keys_and_values() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        key = "é" * (MAX_KEY_BYTES // 2)
        assert await kv.put(key, b"x" * MAX_VALUE_BYTES) == await kv.get(key)
        with pytest.raises(paxoskv.TooLarge):
            await kv.put(key, b"x" * (MAX_VALUE_BYTES + 1))
        with pytest.raises(paxoskv.TooLarge):
            await kv.update(key, lambda old: old + b"x")
        with pytest.raises(paxoskv.TooLarge):
            await kv.put(key + "x", 1)
        entries = [entry async for entry in kv.scan("é")]
        assert [entry.key for entry in entries] == [key]


async def test_the_last_version_is_the_end() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.set("foo", 2**53 - 1, "last")
        assert await kv.get("foo") == Entry("foo", 2**53 - 1, "last")
        with pytest.raises(paxoskv.TooLarge, match="no version"):
            await kv.put("foo", 1)


async def test_an_update_fails_only_on_a_value_that_is_up_to_date() -> None:
    def withdraw(balance: int) -> int:
        if balance < 50:
            raise ValueError(f"insufficient: {balance}")
        return balance - 50

    async with (
        open_local_cluster() as cluster,
        open_kv(cluster.addresses) as one,
        open_kv(cluster.addresses) as other,
    ):
        await one.put("balance", 0)
        await other.put("balance", 200)
        assert await one.update("balance", withdraw) == Entry("balance", 2, 150)
        await other.put("balance", 7)
        with pytest.raises(ValueError, match="insufficient: 7"):
            await one.update("balance", withdraw)
        assert await other.get("balance") == Entry("balance", 3, 7)


async def test_open_keys_of_a_page_are_finished_together() -> None:
    async with open_local_cluster() as cluster:
        for number in range(200):
            who = bytes(15) + b"1"
            proposal = Proposal(ProposalId(who, number + 1), encode_value(number))
            vote = Vote(Ballot(1, who), proposal)
            register = Register(vote.ballot, vote)
            cluster._stores[0].save(
                cluster._stores[0].ledger(f"{number:03}"), Summary(top=0), {0: register}
            )
        cluster.stop(1)
        async with open_kv(cluster.addresses) as kv:
            assert len([entry async for entry in kv.scan()]) == 200
            assert kv.rounds < 40


async def test_an_undecodable_value_is_named_and_hides_no_other() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        for key in "abc":
            await kv.put(key, key)
        await kv._client.rounds.commits.send()
        for store in cluster._stores:
            foreign = Proposal(ProposalId(b"f" * 16, 1), b"\xff")
            store.save(store.ledger("b"), Summary(1, 0, (0, 1)), {1: Register(chosen=foreign)})
        seen: list[str] = []
        scan = kv.scan()
        while len(seen) < 3:
            try:
                seen.append((await anext(scan)).key)
            except paxoskv.ProtocolError as error:
                assert "'b' version 1" in str(error)  # noqa: PT017 - the others must not raise
                seen.append("bad")
        assert seen == ["a", "bad", "c"]


# --- far away --------------------------------------------------------------------------------


@asynccontextmanager
async def some_far_away(
    monkeypatch: pytest.MonkeyPatch, n: int, far: int, delay: float
) -> AsyncIterator[LocalCluster]:
    """A cluster of which the last acceptors answer so many seconds later, and all are healthy."""
    ports: set[int] = set()

    class Far(Stream):
        __slots__ = ("arrived", "arriving")

        def __init__(self, stream: trio.SocketStream) -> None:
            super().__init__(stream)
            channel = trio.open_memory_channel[tuple[float, bytes]](math.inf)
            self.arriving, self.arrived = channel
            nursery.start_soon(self.pump)

        async def pump(self) -> None:
            data = b"not yet at its end"
            while data:
                try:
                    data = await super().receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    data = b""
                self.arriving.send_nowait((trio.current_time() + delay, data))

        async def receive(self) -> bytes:
            due, data = await self.arrived.receive()
            await trio.sleep_until(due)
            return data

    async def connect(address: Address) -> Stream:
        stream = await trio.open_tcp_stream(address.host, address.port)
        return Far(stream) if address.port in ports else Stream(stream)

    monkeypatch.setattr(link_module, "connect", connect)
    async with trio.open_nursery() as nursery, open_local_cluster(n) as cluster:
        ports.update(int(each.rpartition(":")[2]) for each in cluster.addresses[n - far :])
        yield cluster


@pytest.mark.parametrize(("n", "far"), [(3, 1), (4, 2), (5, 2), (7, 3)])
async def test_a_put_from_old_memory_waits_for_those_who_are_far_away(
    n: int, far: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what they say shows that it was written nowhere, and it must be in time for that."""
    async with (
        some_far_away(monkeypatch, n, far, 0.05) as cluster,
        open_kv(cluster.addresses) as old,
        open_kv(cluster.addresses) as other,
    ):
        await old.put("foo", "first")
        for number in range(KEPT + 4):
            await other.put("foo", number)
            await trio.sleep(0.02)  # for those far away are to hear of it as well
        await trio.sleep(0.3)  # until all have dropped what is old
        assert await old.put("foo", "mine") == Entry("foo", KEPT + 5, "mine")


@pytest.mark.parametrize("n", [3, 5])
async def test_a_put_before_a_gap_does_not_outrun_what_those_far_away_say(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        some_far_away(monkeypatch, n, n // 2, 0.05) as cluster,
        open_kv(cluster.addresses) as kv,
        open_kv(cluster.addresses) as other,
    ):
        for key in ("a", "b", "c"):
            await kv.put(key, "first")
            await other.get(key)
            await trio.sleep(0.3)  # until all have greeted
            await other.set(key, 10, "behind a gap")
            await trio.sleep(0.3)
            before = kv.attempts
            with trio.fail_after(3):
                assert (await kv.put(key, "mine")).ver in {1, 11}
            assert kv.attempts - before <= 6


async def test_after_a_doubt_the_next_put_begins_behind_what_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", "first")
        later = Latest(7, Proposal(ProposalId(b"o" * 16, 1), encode_value("later")))
        perform = kv._client._perform

        async with open_kv(cluster.addresses) as other:
            await other.set("foo", 7, "later")
        monkeypatch.setattr(kv._client, "_perform", lambda *_: _doubt(later))
        with pytest.raises(paxoskv.Unavailable) as caught:
            await kv.put("foo", "mine")
        assert caught.value.maybe == Entry("foo", 1, "mine")
        monkeypatch.setattr(kv._client, "_perform", perform)
        attempts = kv.attempts
        assert await kv.put("foo", "next") == Entry("foo", 8, "next")
        assert kv.attempts == attempts + 1
        begun = kv._client._unfinished.get(Instance("foo", 1))
        assert begun is not None, "settle goes on with the same ballots, and refuses itself nothing"


async def _doubt(latest: Latest) -> Doubtful:
    await trio.lowlevel.checkpoint()
    return Doubtful(latest)


async def test_r7_a_look_up_counts_for_what_a_put_may_return() -> None:
    """Two votes of five oblige whoever goes on; as tops they are too few, and what three told
    before, when the put looked the key up, is enough."""
    async with open_local_cluster(5) as cluster, open_kv(cluster.addresses) as kv:
        await kv.get("other")
        client = kv._client
        find = client._find
        vote = Vote(Ballot(1, b"o" * 16), Proposal(ProposalId(b"o" * 16, 1), encode_value("gap")))

        async def find_before_others_write(*args: Any, **named: Any) -> Latest | None:
            latest = await find(*args, **named)
            for store in cluster._stores[2:]:
                store.save(store.ledger("foo"), Summary(top=1), {1: Register(vote.ballot, vote)})
            return latest

        client._find = find_before_others_write  # type: ignore[method-assign]
        assert await kv.put("foo", "mine") == Entry("foo", 0, "mine")
