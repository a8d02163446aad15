"""Rule R10: which cluster a client takes for its own."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

import cbor2
import pytest
import trio

import paxoskv
from bench.cluster import acceptor_processes, free_addresses
from paxoskv import Entry, open_kv, open_local_cluster
from paxoskv.cluster import Cluster
from paxoskv.identity import Address, Identity, new_cluster
from paxoskv.server import listen, serve
from paxoskv.status import cluster_status
from paxoskv.storage.memory import MemoryStore
from paxoskv.wire import PROTOCOL, encode_greeting, frame


@asynccontextmanager
async def acceptors(identities: Sequence[Identity]) -> AsyncIterator[None]:
    """Acceptors in this process, at their own addresses."""
    async with trio.open_nursery() as nursery:
        for identity in identities:
            await nursery.start(serve, identity, MemoryStore(), await listen(identity.address))
        yield
        nursery.cancel_scope.cancel()


async def test_r10_addresses_of_two_clusters_are_an_error_and_nothing_is_written() -> None:
    async with open_local_cluster() as one, open_local_cluster() as two:
        for count in (1, 2, 3):
            given = [*one.addresses[:count], *two.addresses[:count]]
            for addresses in (given, given[::-1]):
                async with open_kv(addresses, timeout=10) as kv:
                    with pytest.raises(paxoskv.WrongCluster, match="different clusters") as caught:
                        await kv.put("foo", 1)
                    for address in addresses:
                        assert address in str(caught.value)
        for cluster in (one, two):
            assert all(store.statistics()[0] == 0 for store in cluster._stores)


async def test_r10_most_of_the_addresses_say_which_cluster_is_meant() -> None:
    async with open_local_cluster() as ours, open_local_cluster(1) as other:
        for addresses in (
            [*other.addresses, *ours.addresses],
            [*ours.addresses[:2], *other.addresses],
            [other.addresses[0], *ours.addresses[1:]],
        ):
            async with open_kv(addresses) as kv:
                await kv.put("foo", addresses)
        assert other._stores[0].statistics()[0] == 0
        # The names of members count also when these are away.
        ours.stop(1)
        async with open_kv([*ours.addresses[:2], *other.addresses]) as kv:
            await kv.put("foo", "one is away")
        assert other._stores[0].statistics()[0] == 0


async def test_r10_an_address_where_nobody_answers_is_in_nobodys_way() -> None:
    (nobody,) = free_addresses(1)
    async with open_local_cluster() as cluster:
        also = cluster.addresses[0].replace("127.0.0.1", "localhost")
        async with open_kv([str(nobody), also]) as kv:
            assert await kv.put("foo", 1) == Entry("foo", 0, 1)


async def test_r10_a_quorum_of_greetings_makes_a_cluster_not_the_first() -> None:
    """After a cluster was made anew at the same addresses, one old acceptor still runs."""
    addresses = free_addresses(3)
    old, new = new_cluster(addresses), new_cluster(addresses)
    async with acceptors([old[0], *new[1:]]):
        for given in ([0, 1, 2], [2, 1, 0], [1, 2]):
            async with open_kv([str(addresses[k]) for k in given], timeout=3) as kv:
                entry = await kv.put("foo", given)
                assert await kv.get("foo") == entry


@asynccontextmanager
async def anybody(who: str) -> AsyncIterator[tuple[list[str], dict[str, str]]]:
    """At each of as many addresses as letters: an acceptor of that cluster, of which all are
    members; 2: one that speaks version 2; x: nobody. And the clusters by letter."""
    addresses = free_addresses(len(who))
    clusters = {letter: new_cluster(addresses) for letter in "abc"}

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(frame(cbor2.dumps([PROTOCOL, 2])))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for index, letter in enumerate(who):
            if letter == "x":
                continue
            listeners = await listen(addresses[index])
            if letter == "2":
                nursery.start_soon(trio.serve_listeners, greet, listeners)
            else:
                await nursery.start(serve, clusters[letter][index], MemoryStore(), listeners)
        ids = {letter: identities[0].cluster.hex() for letter, identities in clusters.items()}
        yield [str(address) for address in addresses], ids
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("who", "error"),
    [
        ("a22", paxoskv.ProtocolError),
        ("ab2", paxoskv.WrongCluster),
        ("abc", paxoskv.WrongCluster),
        ("aabb", paxoskv.WrongCluster),
        ("222", paxoskv.ProtocolError),
        ("aab", None),
        ("aa2", None),
    ],
)
async def test_r10_where_no_quorum_is_left_that_is_said_at_once(
    who: str, error: type[Exception] | None
) -> None:
    async with anybody(who) as (addresses, _):
        for given in (addresses, addresses[::-1], addresses[:1]):
            async with open_kv(given, timeout=math.inf) as kv:
                with trio.fail_after(3):
                    if error is None:
                        await kv.put("foo", 1)
                        continue
                    with pytest.raises(error):
                        await kv.put("foo", 1)
            with suppress(paxoskv.WrongCluster):
                assert not (await cluster_status(given, 3)).available


async def test_r10_as_long_as_one_cluster_may_have_its_quorum_a_call_waits() -> None:
    async with anybody("abb2x") as (addresses, _), open_kv(addresses, timeout=0.5) as kv:
        with pytest.raises(paxoskv.Unavailable, match="2 of 5 acceptors answered"):
            await kv.put("foo", 1)


async def test_r10_members_that_have_moved_are_waited_for_though_strangers_took_their_place() -> (
    None
):
    """Before the cluster is known, and again when those that have moved are away for a moment."""
    *old, b, c = free_addresses(5)
    identities, strangers = new_cluster(old), new_cluster(old)
    stores = [MemoryStore() for _ in old]
    async with trio.open_nursery() as nursery:
        away = trio.CancelScope()

        async def moved() -> None:
            with away:
                async with trio.open_nursery() as both:
                    for index, address in ((1, b), (2, c)):
                        listeners = await listen(address)
                        both.start_soon(serve, identities[index], stores[index], listeners)

        await nursery.start(serve, identities[0], stores[0], await listen(old[0]))
        for index in (1, 2):
            listeners = await listen(old[index])
            await nursery.start(serve, strangers[index], MemoryStore(), listeners)
        async with open_kv(map(str, (old[0], b, c)), timeout=10) as kv:
            for ver in range(2):

                @nursery.start_soon
                async def later() -> None:
                    await trio.sleep(0.3)
                    await moved()

                assert await kv.put("foo", ver) == Entry("foo", ver, ver)
                away.cancel()
                await trio.sleep(0.1)
                away = trio.CancelScope()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("who", ["abx", "aabbx"])
async def test_r10_who_greeted_for_another_cluster_is_not_said_to_be_silent(who: str) -> None:
    async with anybody(who) as (addresses, ids):
        async with open_kv(addresses, timeout=0.3) as kv:
            with pytest.raises(paxoskv.Unavailable) as caught:
                await kv.put("foo", 1)
        assert "silent" not in str(caught.value)
        assert f"{addresses[-1]}: connection refused" in str(caught.value)
        assert sum(f"it belongs to cluster {each}" in str(caught.value) for each in ids.values())
        status = await cluster_status(addresses, 3)
        assert not status.available
        assert sum("belongs to" in each.problem for each in status.acceptors) == who.count("b")


async def test_the_status_of_two_clusters_is_an_error() -> None:
    async with open_local_cluster() as one, open_local_cluster() as two:
        with pytest.raises(paxoskv.WrongCluster, match="different clusters"):
            await cluster_status([one.addresses[0], two.addresses[0]], 5)


async def test_a_minority_is_not_enough_and_the_error_counts_the_members() -> None:
    async with open_local_cluster() as cluster:
        cluster.stop(0)
        cluster.stop(2)
        async with open_kv(cluster.addresses, timeout=0.3) as kv:
            with pytest.raises(paxoskv.Unavailable) as caught:
                await kv.get("foo")
            assert "1 of 3 acceptors answered, and 2 are needed" in str(caught.value)
            assert f"{cluster.addresses[0]}: connection refused" in str(caught.value)
            await cluster.start(0)
            with trio.fail_after(10):
                while True:
                    try:
                        assert await kv.get("foo") is None
                        break
                    except paxoskv.Unavailable:
                        continue


async def test_the_status_of_a_cluster() -> None:
    async with open_local_cluster() as cluster:
        async with open_kv(cluster.addresses) as kv:
            for number in range(5):
                await kv.put(f"key {number}", number)
        status = await cluster_status(cluster.addresses[:1], 5)
        assert status.available
        assert [each.address for each in status.acceptors] == cluster.addresses
        assert all(
            (each.problem, each.keys, each.release) == ("", 5, paxoskv.__version__)
            for each in status.acceptors
        )
        assert all(0 < each.round_trip < 5 for each in status.acceptors)
        cluster.stop(1)
        status = await cluster_status(cluster.addresses, 5)
        assert status.available
        assert status.acceptors[1].problem == "connection refused"
        cluster.stop(2)
        status = await cluster_status(cluster.addresses, 5)
        assert not status.available
        assert [each.problem for each in status.acceptors] == ["", *["connection refused"] * 2]
        cluster.stop(0)
        status = await cluster_status(cluster.addresses, 5)
        assert len(status.acceptors) == 3
        assert not status.available


async def test_the_status_of_one_that_is_silent() -> None:
    async with open_local_cluster(1) as cluster, trio.open_nursery() as nursery:
        listeners = await listen(Address("127.0.0.1", 0))
        silent = str(Address(*listeners[0].socket.getsockname()))

        async def silence(_: trio.SocketStream) -> None:
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, silence, listeners)
        with trio.fail_after(5):
            status = await cluster_status([silent], 0.2)
            assert not status.available
            assert status.acceptors[0].problem
            status = await cluster_status([silent, *cluster.addresses], 0.5)
            assert status.available
        nursery.cancel_scope.cancel()


async def test_the_status_of_those_that_answer_waits_for_nobody() -> None:
    """One accepts connections, and does not greet; the others are asked all the same."""
    async with acceptor_processes(3, "--memory") as acceptors:
        acceptors[1].signal(signal.SIGSTOP)
        with trio.fail_after(5):
            status = await cluster_status([each.address for each in acceptors], 0.8)
        assert status.available
        assert [bool(each.problem) for each in status.acceptors] == [False, True, False]


async def test_members_that_swapped_their_addresses_are_found() -> None:
    addresses = free_addresses(3)
    identities = new_cluster(addresses)
    async with trio.open_nursery() as nursery:
        third = trio.CancelScope()

        async def run_third() -> None:
            with third:
                await serve(identities[2], MemoryStore(), await listen(addresses[2]))

        nursery.start_soon(run_third)
        for identity, address in zip(identities[:2], addresses[1::-1], strict=True):
            await nursery.start(serve, identity, MemoryStore(), await listen(address))
        for given in ([0, 1, 2], [2], [0, 2], [1]):
            async with open_kv([str(addresses[k]) for k in given], timeout=5) as kv:
                await kv.put("foo", given)
        async with open_kv([str(address) for address in addresses[::-1]], timeout=5) as kv:
            await kv.put("foo", 1)
            third.cancel()
            await kv.put("foo", "two of three are enough")
        nursery.cancel_scope.cancel()


async def test_r12_greetings_of_ever_new_clusters_grow_nothing() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await listen(Address("127.0.0.1", 0))
        here = Address(*listeners[0].socket.getsockname())

        async def greets_anew(stream: trio.SocketStream) -> None:
            (identity, *_) = new_cluster([here, *(Address("127.0.0.1", k) for k in range(1, 15))])
            await stream.send_all(encode_greeting(identity))

        nursery.start_soon(trio.serve_listeners, greets_anew, listeners)
        nobody = [str(address) for address in free_addresses(2)]
        async with open_kv([str(here), *nobody], timeout=1.5) as kv:
            with pytest.raises(paxoskv.Unavailable):
                await kv.get("foo")
            assert len(kv._client._cluster._candidates) <= 3
            assert trio.lowlevel.current_statistics().tasks_living < 200
        nursery.cancel_scope.cancel()


async def test_r10_all_acceptors_of_a_cluster_name_the_same_members() -> None:
    addresses = [Address("127.0.0.1", port) for port in (1, 2, 3)]
    one, other = new_cluster(addresses)[0], new_cluster(addresses)[1]
    async with trio.open_nursery() as nursery:
        cluster = Cluster(addresses, nursery, Random(1), lambda: None)
        first, second, _ = cluster.members()
        assert cluster._welcome(first, one)
        with pytest.raises(paxoskv.WrongCluster, match="other members"):
            cluster._welcome(second, other._replace(cluster=one.cluster))
        nursery.cancel_scope.cancel()
