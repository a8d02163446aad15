"""The library's face, against a cluster in this process on real TCP."""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import paxoskv
from paxoskv import Entry, local, open_kv, open_local_cluster
from paxoskv import link as link_module
from paxoskv.arguments import check_version
from paxoskv.identity import Address, new_cluster, parse_address
from paxoskv.limits import (
    DEFAULT_KEEP,
    LATE,
    MAX_KEY_BYTES,
    MAX_OPEN_ROUNDS,
    MAX_PAUSE,
    MAX_ROUND_OPERATIONS,
    MAX_VALUE_BYTES,
)
from paxoskv.link import Batch, Exchange, Link
from paxoskv.pauses import Pauses
from paxoskv.paxos.acceptor import Acceptor, Register, Summary
from paxoskv.paxos.messages import (
    FAST,
    Accept,
    Ballot,
    Instance,
    Prepare,
    Proposal,
    ProposalId,
    Reply,
    Request,
    Vote,
)
from paxoskv.paxos.operation import Pause
from paxoskv.paxos.proposer import Ballots, Proposer
from paxoskv.paxos.quorums import Quorums
from paxoskv.rounds import Job
from paxoskv.server import listen, serve
from paxoskv.storage.memory import MemoryStore
from paxoskv.values import encode_value

from .builds import changes_code


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
async def test_set_get_propose(n: int) -> None:
    async with open_local_cluster(n) as cluster, open_kv(cluster.addresses) as kv:
        assert await kv.get("foo", 0) is None
        assert await kv.set("foo", 0, 5) == Entry("foo", 0, 5)
        assert await kv.get("foo", 0) == Entry("foo", 0, 5)
        assert await kv.propose("foo", 0, 7) == Entry("foo", 0, 5)
        assert await kv.set("foo", 1, {"键": ["😀", b"\x00", None]}) == await kv.get("foo", 1)
        assert await kv.get("foo", 2) is None


async def test_a_taken_version_shows_what_it_holds() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.set("foo", 0, 5)
        with pytest.raises(paxoskv.VersionTaken, match="version 0 of 'foo' holds 5") as caught:
            await kv.set("foo", 0, 6)
        assert caught.value.entry == Entry("foo", 0, 5)
        assert await kv.set("foo", 0, 5) == Entry("foo", 0, 5)
        for other in (True, 5.0, "5"):
            with pytest.raises(paxoskv.VersionTaken):
                await kv.set("foo", 0, other)


async def test_a_single_error_leaves_open_kv_as_it_is() -> None:
    async with open_local_cluster() as cluster:
        with pytest.raises(paxoskv.VersionTaken):  # noqa: PT012 - it must pass the block
            async with open_kv(cluster.addresses) as kv:
                await kv.set("foo", 0, 5)
                await kv.set("foo", 0, 6)
        group = ExceptionGroup("the user's own", [ValueError()])
        with pytest.raises(ExceptionGroup) as caught:
            async with open_kv(cluster.addresses):
                raise group
        assert caught.value is group


async def test_r11_a_retry_after_a_cancelled_set_is_right() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        for ver in range(30):
            with trio.move_on_after(ver * 0.0001):
                await kv.set("foo", ver, "mine")
            assert await kv.set("foo", ver, "mine") == Entry("foo", ver, "mine")


async def test_r11_a_retry_of_another_client_is_right() -> None:
    async with open_local_cluster() as cluster:
        async with open_kv(cluster.addresses) as kv:
            await kv.set("foo", 0, "mine")
        async with open_kv(cluster.addresses) as kv:
            assert await kv.set("foo", 0, "mine") == Entry("foo", 0, "mine")


async def test_duelling_clients_agree() -> None:
    entries: list[list[Entry]] = []
    async with open_local_cluster() as cluster:

        async def duel(me: int) -> None:
            async with open_kv(cluster.addresses, rng=Random(me)) as kv:
                entries.append([await kv.propose("foo", ver, me) for ver in range(DEFAULT_KEEP)])

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for me in range(6):
                    nursery.start_soon(duel, me)
    assert len(entries) == 6
    assert all(each == entries[0] for each in entries)


async def test_many_calls_share_few_rounds() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.get("warm", 0)
        before = kv._client.rounds.count
        async with trio.open_nursery() as nursery:
            for i in range(200):
                nursery.start_soon(kv.set, f"key {i}", 0, i)
        assert kv._client.rounds.count - before < 40
        for i in range(200):
            assert await kv.get(f"key {i}", 0) == Entry(f"key {i}", 0, i)


async def test_r12_a_round_carries_no_more_than_the_limit_says() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.get("warm")
        sizes: list[int] = []
        post = Link.post

        def note(link: Link, batch: Batch, *args: Any, **kwargs: Any) -> Exchange:
            sizes.append(len(batch.requests))
            return post(link, batch, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Link, "post", note)
            async with trio.open_nursery() as nursery:
                for i in range(2 * MAX_ROUND_OPERATIONS + 5):
                    nursery.start_soon(kv.get, f"key {i}")
        assert max(sizes) == MAX_ROUND_OPERATIONS


async def test_calls_that_go_on_together_share_their_rounds_again_and_again() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:

        async def look_often(number: int) -> None:
            for _ in range(20):
                await kv.get(f"key {number}")

        await kv.get("warm")
        before = kv.rounds
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(look_often, number)
        assert kv.rounds - before <= 30


async def test_who_is_alone_waits_for_nobody_who_might_join() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.get("warm")
        for number in range(20):  # the order of tasks is drawn at random
            before = kv.rounds
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kv.get, f"key {number}")
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                assert kv.rounds == before + 1


async def test_one_writing_operation_a_key_at_a_time() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        async with trio.open_nursery() as nursery:
            for i in range(50):
                nursery.start_soon(kv.propose, "foo", 0, i)
        # Nobody duelled: each wrote or found the version at its first ballot.
        assert kv._client.rounds.count <= 150
        assert not kv._client._writers.holders


async def test_a_cancelled_caller_does_not_disturb_those_in_its_round() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.get("warm", 0)
        done: list[Entry] = []

        async def write(key: str) -> None:
            done.append(await kv.set(key, 0, key))

        async with trio.open_nursery() as nursery:
            for i in range(10):
                nursery.start_soon(write, f"stays {i}")
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as cancelled:
                    for i in range(10):
                        cancelled.start_soon(kv.set, f"goes {i}", 0, i)
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
        assert sorted(entry.key for entry in done) == [f"stays {i}" for i in range(10)]


class _CancelAtStep(trio.abc.Instrument):
    """Cancels a scope after the n-th step from now of one task, or of all."""

    def __init__(self, task: trio.lowlevel.Task | None, scope: trio.CancelScope, n: int) -> None:
        self.task, self.scope, self.left = task, scope, n

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.task in {None, task}:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def _cancelled_at(n: int, steps_of_all: bool, call: Callable[[], Awaitable[object]]) -> bool:
    """Cancel a call after the n-th step; whether it went on for that long."""
    me = None if steps_of_all else trio.lowlevel.current_task()
    with trio.CancelScope() as scope:
        instrument = _CancelAtStep(me, scope, n)
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


@pytest.mark.parametrize("steps_of_all", [False, True])
@pytest.mark.parametrize("case", ["alone", "duel", "in line", "not connected yet"])
async def test_cancelling_at_every_await_point_leaves_the_client_usable(
    case: str, steps_of_all: bool
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as rival:
        await rival.propose("warm", 0, "rival")  # with all tasks that a client keeps
        await wait_all_tasks_blocked(0.02)
        tasks = trio.lowlevel.current_statistics().tasks_living
        cancelled = 0
        for n in range(1, 60 if steps_of_all else 8):
            async with AsyncExitStack() as stack:
                kv = await stack.enter_async_context(open_kv(cluster.addresses))
                if case != "not connected yet":
                    await kv.get("warm", 0)
                other = {"duel": rival, "in line": kv}.get(case)
                async with trio.open_nursery() as nursery:
                    if other is not None:
                        nursery.start_soon(other.propose, "foo", n, "rival")
                        await trio.lowlevel.checkpoint()
                    cancelled += await _cancelled_at(
                        n, steps_of_all, partial(kv.propose, "foo", n, "mine")
                    )
                # The same again gives the right answer (R11), to every client.
                entry = await kv.propose("foo", n, "mine")
                assert entry == await rival.get("foo", n) == await kv.get("foo", n)
                assert not kv._client._calls.under_way
                assert not kv._client._writers.holders
                assert not kv._client.rounds._fresh
                assert not kv._client.rounds._continuing
                assert kv._client.rounds._open == 0
        assert cancelled >= (6 if steps_of_all else 1)
        with trio.fail_after(5):  # the acceptors notice that the clients have gone
            while trio.lowlevel.current_statistics().tasks_living != tasks:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_r6_versions_left_unfinished_at_many_ballots_are_read() -> None:
    async with open_local_cluster() as cluster:
        for ver in range(50):
            for store, n in zip(cluster._stores, (1, 2, 3), strict=True):
                who = bytes([n]) * 16
                vote = Vote(Ballot(n, who), Proposal(ProposalId(who, ver + 1), encode_value(n)))
                store.save(
                    store.ledger("foo"), Summary(top=ver), {ver: Register(vote.ballot, vote)}
                )
        async with open_kv(cluster.addresses) as kv, open_kv(cluster.addresses) as other:
            for ver in range(50):
                entry = await kv.get("foo", ver)
                assert entry is not None
                assert entry == await other.get("foo", ver)


async def test_without_a_quorum_unavailable_names_who_did_not_answer() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.3) as kv:
        await kv.set("foo", 0, 5)
        cluster.stop(0)
        assert await kv.set("foo", 1, 6) == Entry("foo", 1, 6)
        cluster.stop(2)
        with pytest.raises(paxoskv.Unavailable) as caught:
            await kv.set("foo", 2, 7)
        message = str(caught.value)
        assert "1 of 3 acceptors answered, and 2 are needed" in message
        assert f"{cluster.addresses[0]}: connection refused" in message
        assert cluster.addresses[2] in message
        assert cluster.addresses[1] not in message
        assert caught.value.maybe is None
        await cluster.start(2)
        with trio.fail_after(10):
            while True:
                try:
                    assert await kv.get("foo", 0) == Entry("foo", 0, 5)
                    break
                except paxoskv.Unavailable:
                    continue


async def test_unavailable_says_what_may_have_been_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.5) as kv:
        await kv.get("foo", 0)

        for link in kv._client._cluster.links.values():
            # All acceptors stop at the moment when phase 2 is about to be sent.
            def post(batch: Batch, *args: Any, post: Any = link.post) -> Exchange:
                if isinstance(batch.requests[0], Accept):
                    for index in list(cluster._running):
                        cluster.stop(index)
                return post(batch, *args)  # type: ignore[no-any-return]

            monkeypatch.setattr(link, "post", post)
        with pytest.raises(paxoskv.Unavailable) as caught:
            await kv.set("foo", 0, 5)
        assert caught.value.maybe == Entry("foo", 0, 5)
        assert "settle(error) tells" in str(caught.value)
        monkeypatch.undo()
        for index in range(3):
            await cluster.start(index)
        with trio.fail_after(10):
            while True:
                with suppress(paxoskv.Unavailable):
                    assert await kv.settle(caught.value) is True
                    break
        assert await kv.get("foo", 0) == Entry("foo", 0, 5)


async def test_a_call_waits_until_the_cluster_is_there() -> None:
    async with open_local_cluster() as cluster:
        for index in range(3):
            cluster.stop(index)
        async with open_kv(cluster.addresses, timeout=10) as kv, trio.open_nursery() as nursery:
            nursery.start_soon(kv.set, "foo", 0, 5)
            await trio.sleep(0.1)
            await cluster.start(0)
            await cluster.start(2)


async def test_one_address_is_enough_and_spellings_do_not_count_twice() -> None:
    async with open_local_cluster() as cluster:
        async with open_kv(cluster.addresses[1:2]) as kv:
            await kv.set("foo", 0, 5)
            assert len(kv._client._cluster.links) == 3
        also = cluster.addresses[0].replace("127.0.0.1", "localhost")
        async with open_kv([cluster.addresses[0], also, cluster.addresses[0]], timeout=1) as kv:
            await kv.set("foo", 1, 5)
            cluster.stop(1)
            cluster.stop(2)
            # Acceptor 0 by two names is still one vote.
            with pytest.raises(paxoskv.Unavailable, match="1 of 3"):
                await kv.set("foo", 2, 5)


async def test_a_given_address_leads_to_a_member_that_advertises_another() -> None:
    # As behind a NAT: the cluster advertises addresses where nobody listens.
    async with trio.open_nursery() as nursery:
        dead = await listen(parse_address("127.0.0.1:0", lowest_port=0))
        port = dead[0].socket.getsockname()[1]
        await dead[0].aclose()
        advertised = [parse_address(f"127.0.0.{k}:{port}") for k in (1, 2, 3)]
        given = []
        for identity in new_cluster(advertised):
            listeners = await listen(parse_address("127.0.0.1:0", lowest_port=0))
            given.append(await nursery.start(serve, identity, MemoryStore(), listeners))
        async with open_kv(given) as kv:
            assert await kv.set("foo", 0, 5) == Entry("foo", 0, 5)
            with trio.fail_after(10):
                while not all(link.up for link in kv._client._cluster.links.values()):  # noqa: ASYNC110
                    await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_r10_strangers_are_no_answer_and_then_an_error() -> None:
    async with open_local_cluster() as ours, open_local_cluster(1) as other:
        # One stranger among those that were given does not disturb a quorum.
        async with open_kv([*ours.addresses, *other.addresses]) as kv:
            await kv.get("foo", 0)
        members = [parse_address(address) for address in ours.addresses]
        async with trio.open_nursery() as nursery:
            # Others now answer at the addresses of two of our three.
            async with open_kv(ours.addresses, timeout=math.inf) as kv:
                await kv.set("foo", 0, 5)
                strangers = new_cluster(members)
                for index in (0, 1):
                    ours.stop(index)
                    await wait_all_tasks_blocked(0.01)
                    listeners = await listen(members[index])
                    await nursery.start(serve, strangers[index], MemoryStore(), listeners)
                with trio.fail_after(10), pytest.raises(paxoskv.WrongCluster, match="belongs to"):
                    await kv.set("foo", 1, 5)
            nursery.cancel_scope.cancel()


async def test_an_acceptor_at_the_address_of_another_is_a_stranger() -> None:
    async with open_local_cluster() as cluster, trio.open_nursery() as nursery:
        async with open_kv(cluster.addresses, timeout=0.5) as kv:
            await kv.set("foo", 0, 5)
            cluster.stop(2)
            cluster.stop(1)
            await wait_all_tasks_blocked(0.01)
            # Acceptor 0 also answers where 1 should: still one vote.
            listeners = await listen(parse_address(cluster.addresses[1]))
            await nursery.start(serve, cluster._identities[0], cluster._stores[0], listeners)
            await trio.sleep(0.2)
            with pytest.raises(paxoskv.Unavailable, match="answers there"):
                await kv.set("foo", 1, 5)
        nursery.cancel_scope.cancel()


async def test_another_protocol_is_an_error_where_no_quorum_is_left() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n")
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, talk, listeners)
        async with open_kv([address], timeout=math.inf) as kv:
            with (
                trio.fail_after(10),
                pytest.raises(paxoskv.ProtocolError, match="does not greet"),
            ):
                await kv.get("foo", 0)
        nursery.cancel_scope.cancel()


async def test_after_the_client_is_closed_calls_raise() -> None:
    async with open_local_cluster() as cluster, trio.open_nursery() as nursery:
        errors: list[BaseException] = []

        async def wait(kv: paxoskv.KV) -> None:
            with pytest.raises(trio.ClosedResourceError) as caught:
                await kv.set("foo", 0, 5)
            errors.append(caught.value)

        async with open_kv(cluster.addresses, timeout=math.inf) as kv:
            await kv.put("a", 1)
            await kv.put("b", 1)
            scan = kv.scan()
            await anext(scan)
            cluster.stop(0)
            cluster.stop(1)
            nursery.start_soon(wait, kv)
            nursery.start_soon(wait, kv)
            await wait_all_tasks_blocked(0.01)
        await wait(kv)
        await wait_all_tasks_blocked(0.01)
        assert len(errors) == 3
        with pytest.raises(trio.ClosedResourceError):
            await anext(scan)
        with pytest.raises(trio.ClosedResourceError):
            await kv.settle(paxoskv.Unavailable("nothing was written"))


async def test_what_needs_no_acceptor_is_a_place_to_be_cancelled_too() -> None:
    async with open_kv(["127.0.0.1:1"]) as kv:
        with trio.CancelScope() as scope:
            scope.cancel()
            await kv.settle(paxoskv.Unavailable("nothing was written"))
        assert scope.cancelled_caught


@pytest.mark.parametrize("call", ["put", "update", "set"])
async def test_writes_of_a_client_queue_up_also_while_the_cluster_is_not_known(call: str) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        written: list[Entry] = []

        async def write(number: int) -> None:
            match call:
                case "put":
                    entry = await kv.put("foo", number)
                case "update":
                    entry = await kv.update("foo", lambda _: number)
                case _:
                    entry = await kv.set("foo", number, number)
            written.append(entry)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(write, number)
                await trio.sleep(0.0002)  # for tasks of one moment begin in any order
        assert [entry.val for entry in sorted(written, key=lambda entry: entry.ver)] == [*range(30)]
        assert [entry.val for entry in written] == [*range(30)]


async def test_a_bug_in_the_background_ends_the_client_and_surfaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_local_cluster() as cluster:
        bugs = iter([ZeroDivisionError("a bug")])  # met once: by whoever replies first
        right = Proposer.receive

        def broken(*args: Any) -> Any:
            for bug in bugs:
                raise bug
            return right(*args)

        with pytest.raises(ZeroDivisionError), trio.fail_after(5):  # noqa: PT012
            async with open_kv(cluster.addresses, timeout=math.inf) as kv:
                await kv.get("foo", 0)
                monkeypatch.setattr(Proposer, "receive", broken)
                await kv.set("foo", 0, 5)


@pytest.mark.parametrize(
    ("error", "args"),
    [
        (TypeError, (1, 0, 5)),
        (TypeError, (b"foo", 0, 5)),
        (ValueError, ("", 0, 5)),
        (ValueError, ("\ud800", 0, 5)),
        (paxoskv.TooLarge, ("x" * (MAX_KEY_BYTES + 1), 0, 5)),
        (TypeError, ("foo", True, 5)),
        (TypeError, ("foo", 0.0, 5)),
        (ValueError, ("foo", -1, 5)),
        (ValueError, ("foo", 2**53, 5)),
        (TypeError, ("foo", 0, (1, 2))),
        (paxoskv.TooLarge, ("foo", 0, b"x" * (MAX_VALUE_BYTES + 1))),
    ],
)
async def test_wrong_arguments_raise_before_anything_is_sent(
    error: type[Exception], args: tuple[Any, ...]
) -> None:
    async with open_kv(["127.0.0.1:1"]) as kv:
        for call in (kv.set, kv.propose):
            with pytest.raises(error):
                await call(*args)
        assert kv._client.rounds.count == 0


async def test_what_a_block_raises_when_it_is_cancelled_leaves_open_kv_as_it_is() -> None:
    """As everywhere in trio: the scope takes its cancellation, and what else there is goes on."""
    mine = ExceptionGroup("mine", [LookupError(), KeyError()])

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise mine

    async def cancelled(addresses: list[str]) -> None:
        async with open_kv(addresses) as kv, trio.open_nursery() as nursery:
            await kv.get("foo")
            nursery.start_soon(fail)
            await trio.lowlevel.checkpoint()
            scope.cancel()
            await trio.sleep_forever()

    async with open_local_cluster() as cluster:
        with pytest.raises(ExceptionGroup) as caught, trio.CancelScope() as scope:
            await cancelled(cluster.addresses)
        assert scope.cancelled_caught
        (still_mine,) = caught.value.exceptions
        assert isinstance(still_mine, ExceptionGroup)
        assert (still_mine.message, still_mine.exceptions) == ("mine", mine.exceptions)
        with pytest.raises(ExceptionGroup) as caught:
            async with open_kv(cluster.addresses):
                raise mine
        assert caught.value is mine


async def test_what_updates_must_be_a_function() -> None:
    async with open_kv(["127.0.0.1:1"]) as kv:
        with trio.fail_after(2), pytest.raises(TypeError, match="not int"):
            await kv.update("foo", 5)  # type: ignore[arg-type]

        async def later(_: object) -> None:
            raise AssertionError("it is never called")

        with trio.fail_after(2), pytest.raises(TypeError, match="not an async one"):
            await kv.update("foo", later)


def test_what_python_would_not_print_is_refused_all_the_same() -> None:
    with pytest.raises(ValueError, match="a version is between 0 and"):
        check_version(10**5000)


@pytest.mark.parametrize("steps", range(0, 36, 5))
async def test_a_local_cluster_that_is_cancelled_leaves_no_socket_open(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[trio.SocketListener] = []
    listening = local.listen

    async def listen(address: Address) -> list[trio.SocketListener]:
        listeners = await listening(address)
        opened.extend(listeners)
        return listeners

    monkeypatch.setattr(local, "listen", listen)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def cancel_later() -> None:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            async with open_local_cluster():
                await trio.sleep_forever()
    assert all(each.socket.fileno() == -1 for each in opened)


async def test_a_local_acceptor_is_stopped_and_started_once() -> None:
    async with open_local_cluster(2) as cluster:
        with pytest.raises(RuntimeError, match="acceptor 0 runs already"):
            await cluster.start(0)
        cluster.stop(0)
        with pytest.raises(RuntimeError, match="acceptor 0 does not run"):
            cluster.stop(0)
        for wrong in (2, -1, True, 0.0, "0"):
            with pytest.raises((TypeError, ValueError), match="the index of an acceptor"):
                cluster.stop(wrong)  # type: ignore[arg-type]
            with pytest.raises((TypeError, ValueError), match="the index of an acceptor"):
                await cluster.start(wrong)  # type: ignore[arg-type]
        await cluster.start(0)


def test_open_kv_checks_its_arguments_at_once() -> None:
    for bad in (
        [],
        ["nonsense"],
        ["a..b:1"],
        ["host:0"],
        ["host:65536"],
        ["a b:1"],
        ["::1:80"],
        [":1"],
        ["[localhost]:1"],
        ["[:::::]:1"],
        ["[%]:1"],
        [",:1"],
        ["a,b:1"],
        ["🦊:1"],
    ):
        with pytest.raises(ValueError, match="address"):
            open_kv(bad)
    for wrong in ("127.0.0.1:1", [1], [None]):
        with pytest.raises(TypeError):
            open_kv(wrong)  # type: ignore[arg-type]
    for timeout in (0, -1, math.nan, 10**400):
        with pytest.raises(ValueError, match="timeout"):
            open_kv(["a:1"], timeout=timeout)
    for timeout in (True, "5", None):
        with pytest.raises(TypeError):
            open_kv(["a:1"], timeout=timeout)  # type: ignore[arg-type]
    for switch in ({"rng": 5}, {"fast": "no"}, {"courtesy": 1}):
        with pytest.raises(TypeError):
            open_kv(["a:1"], **switch)  # type: ignore[arg-type]
    for n in (0, 16):
        with pytest.raises(ValueError, match="acceptors"):
            open_local_cluster(n)


async def test_values_of_the_largest_size_go_through_beside_small_ones() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        big = b"x" * MAX_VALUE_BYTES
        async with trio.open_nursery() as nursery:
            for i in range(6):
                nursery.start_soon(kv.set, f"big {i}", 0, big)
                nursery.start_soon(kv.set, f"small {i}", 0, i)
        read: list[Entry | None] = []

        async def get(i: int) -> None:
            read.append(await kv.get(f"big {i}", 0))

        async with trio.open_nursery() as nursery:
            for i in range(6):
                nursery.start_soon(get, i)  # replies of 6 MiB to one frame
        assert all(entry is not None and entry.val == big for entry in read)
        assert len(read) == 6


async def test_r12_a_round_that_is_over_leaves_no_task_to_an_acceptor_that_is_away() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        for away in (False, True):
            if away:
                cluster.stop(0)
            await kv.put("foo", 0)
            await wait_all_tasks_blocked()
            before = len(kv._client._calls._nursery.child_tasks)
            for i in range(20):
                await kv.get(f"key {i}")
            await wait_all_tasks_blocked()
            assert len(kv._client._calls._nursery.child_tasks) <= before


async def test_r12_no_more_rounds_wait_than_the_limit_says() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, timeout=0.5) as kv:
        await kv.get("foo", 0)
        for index in range(3):
            cluster.stop(index)
        async with trio.open_nursery() as nursery:

            async def fail(i: int) -> None:
                with pytest.raises(paxoskv.Unavailable):
                    await kv.get(f"key {i}", 0)

            for i in range(3 * MAX_OPEN_ROUNDS):
                nursery.start_soon(fail, i)
                await wait_all_tasks_blocked()
                assert kv._client.rounds._open <= MAX_OPEN_ROUNDS
            assert kv._client.rounds._open == MAX_OPEN_ROUNDS
            waiting = len(kv._client.rounds._fresh)
            assert waiting >= MAX_OPEN_ROUNDS
            with trio.move_on_after(0.01):
                await kv.get("one more", 0)
            # Who waits in line and is cancelled leaves the line.
            assert len(kv._client.rounds._fresh) == waiting
        assert kv._client.rounds._open == 0


async def test_open_kv_does_not_wait_for_the_network() -> None:
    with trio.fail_after(1):
        async with open_kv(["127.0.0.1:1"]):
            pass


async def test_a_shielded_clean_up_still_has_the_client() -> None:
    async with open_local_cluster() as cluster:
        with trio.CancelScope() as outer:
            async with open_kv(cluster.addresses, timeout=math.inf) as kv:
                await kv.put("lock", "held")
                try:
                    outer.cancel()
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True), trio.fail_after(5):
                        assert (await kv.put("lock", "released")).ver == 1
        assert outer.cancelled_caught
        async with open_kv(cluster.addresses) as kv:
            assert await kv.get("lock") == Entry("lock", 1, "released")


async def test_a_get_that_must_finish_a_version_stands_in_line_with_the_writers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes: list[int] = []  # of each round: how many phases it carries
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.get("warm")
        link = kv._client._cluster.links[cluster._identities[0].acceptor]
        post = link.post

        def counted(batch: Batch, *args: Any) -> Exchange:
            writes.append(sum(isinstance(each, Prepare | Accept) for each in batch.requests))
            return post(batch, *args)

        monkeypatch.setattr(link, "post", counted)
        cluster.stop(1)  # so that what is left can be neither believed nor ruled out
        who = bytes(16)  # the lowest: nobody is refused for it
        for ver in range(20):
            vote = Vote(Ballot(1, who), Proposal(ProposalId(who, ver + 1), encode_value("left")))
            cluster._stores[0].save(
                cluster._stores[0].ledger("foo"),
                Summary(top=ver),
                {ver: Register(vote.ballot, vote)},
            )
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(kv.get, "foo", ver)
                    nursery.start_soon(kv.propose, "foo", ver, "mine")
    assert max(writes) == 1, "it duelled with itself"


async def test_a_large_value_passes_a_slow_uplink(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer can come before the frame is sent: that is no silence of the acceptor."""
    monkeypatch.setattr(link_module, "SILENCE_TIMEOUT", 0.3)
    monkeypatch.setattr(link_module, "SLOWEST_LINK", 200_000)
    async with open_local_cluster(1) as cluster, trio.open_nursery() as nursery:
        inside = parse_address(cluster.addresses[0])
        opened = 0

        async def slowly(outside: trio.SocketStream) -> None:
            nonlocal opened
            opened += 1
            async with await trio.open_tcp_stream(inside.host, inside.port) as stream:

                async def back() -> None:
                    async for data in stream:
                        await outside.send_all(data)

                async with trio.open_nursery() as pumps:
                    pumps.start_soon(back)
                    while data := await outside.receive_some(10_000):
                        await stream.send_all(data)
                        await trio.sleep(len(data) / 400_000)
                    pumps.cancel_scope.cancel()

        listeners = await listen(parse_address("127.0.0.1:0", lowest_port=0))
        listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, slowly, listeners)
        async with open_kv([f"127.0.0.1:{port}"], timeout=20) as kv:
            await kv.set("foo", 0, b"x" * 500_000)
            assert opened == 1
        nursery.cancel_scope.cancel()


async def test_opening_in_a_scope_that_is_cancelled_never_hangs() -> None:
    async with open_local_cluster() as cluster:

        async def use() -> None:
            async with open_kv(cluster.addresses) as kv:
                await kv.get("foo")

        with trio.fail_after(10):
            for steps_of_all in (False, True):
                for n in range(1, 10):
                    await _cancelled_at(n, steps_of_all, use)
            with trio.CancelScope() as scope:
                scope.cancel()
                await use()
            assert scope.cancelled_caught


@changes_code
async def test_r5_no_two_calls_of_a_client_propose_two_things_at_one_ballot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where calls are cancelled, and the next one goes on with their ballots."""
    proposed: dict[tuple[Instance, Ballot], Proposal] = {}
    handle = Acceptor.handle

    def watch(self: Acceptor, request: Request) -> Reply:
        if isinstance(request, Accept) and request.ballot != FAST:
            at = request.instance, request.ballot
            assert proposed.setdefault(at, request.proposal) == request.proposal, "rule R5"
        return handle(self, request)

    monkeypatch.setattr(Acceptor, "handle", watch)
    async with open_local_cluster() as cluster, open_kv(cluster.addresses, fast=False) as kv:
        await kv.get("foo")

        async def put(number: int) -> None:
            with trio.move_on_after(0.0005 * (number % 6)):
                await kv.put("foo", number)

        for number in range(60):
            async with trio.open_nursery() as nursery:
                for task in range(3):
                    nursery.start_soon(put, number + task)
        await kv.put("foo", "last")
    assert len({(at, proposal.id) for at, proposal in proposed.items()}) >= 20


@changes_code
async def test_r12_no_pause_is_longer_than_the_limit_however_slow_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []
    monkeypatch.setattr(Pauses, "begin", lambda _self, _job, seconds: paused.append(seconds))
    async with open_local_cluster(1) as cluster, open_kv(cluster.addresses) as kv:
        rounds = kv._client.rounds
        rounds._round_trip = 3.0
        job: Job[Any] = Job(Proposer(Instance("foo", 0), None, Quorums(1), Ballots(b"m" * 16)))
        rounds._pause(job, Pause(0.1, 0.1))
        rounds._pause(job, Pause(2.0, 32.0))
    assert paused == [pytest.approx(0.3), MAX_PAUSE]


async def test_r12_an_acceptor_that_owes_an_answer_for_long_is_not_counted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        assert kv._client._may_begin_fast()
        link = next(iter(kv._client._cluster.links.values()))
        owed = Exchange(
            Batch([Prepare(Instance("foo", 9), Ballot(1, b"m" * 16))]), Mock(), None, False
        )
        owed.sent = trio.current_time() - 2 * LATE
        link._unanswered.append(owed)
        rounds = kv._client.rounds
        rounds._prompt, rounds._round_trip = None, 0.001
        assert not rounds.prompt
        assert not kv._client._may_begin_fast()
        # Where round trips take long, that is not long.
        rounds._prompt, rounds._round_trip = None, LATE
        assert rounds.prompt
        link._unanswered.remove(owed)
