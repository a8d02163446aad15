"""A client against acceptors that are slow, silent, lying or gone."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from random import Random
from typing import NoReturn, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from paxoskv import KV, Entry, link, open_kv, wire
from paxoskv.errors import ProtocolError
from paxoskv.identity import Address, Identity, new_cluster
from paxoskv.limits import (
    MAX_BATCH_BYTES,
    MAX_UNANSWERED_BYTES,
    MAX_UNANSWERED_FRAMES,
    RECONNECT_FIRST,
    RECONNECT_MAX,
)
from paxoskv.link import Batch, Link
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Commit,
    Find,
    Found,
    Instance,
    Promise,
    Proposal,
    ProposalId,
    Read,
    Reply,
    Report,
    Turn,
    Vote,
    Voted,
)
from paxoskv.server import listen, serve
from paxoskv.storage.memory import MemoryStore

from .builds import changes_code

Behaviour: TypeAlias = Callable[[trio.SocketStream, Identity], Awaitable[object]]


@asynccontextmanager
async def cluster_with(behaviour: Behaviour) -> AsyncIterator[list[str]]:
    """Three acceptors, of which the last behaves as it is told to."""
    async with trio.open_nursery() as nursery:
        listeners = [await listen(Address("127.0.0.1", 0)) for _ in range(3)]
        addresses = [Address(*each[0].socket.getsockname()) for each in listeners]
        identities = new_cluster(addresses)
        for identity, each in zip(identities[:2], listeners[:2], strict=True):
            await nursery.start(serve, identity, MemoryStore(), each)

        async def handle(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                await behaviour(stream, identities[2])

        nursery.start_soon(trio.serve_listeners, handle, listeners[2])
        yield [str(address) for address in addresses]
        nursery.cancel_scope.cancel()


def bad_link(kv: KV) -> Link:
    return list(kv._client._cluster.links.values())[2]


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def never_greets(stream: trio.SocketStream, _: Identity) -> None:
    await trio.sleep_forever()


async def greets_and_never_reads(stream: trio.SocketStream, identity: Identity) -> None:
    await stream.send_all(wire.encode_greeting(identity))
    await trio.sleep_forever()


async def reads_and_never_answers(stream: trio.SocketStream, identity: Identity) -> None:
    await stream.send_all(wire.encode_greeting(identity))
    while await stream.receive_some():
        pass


async def greets_and_closes(stream: trio.SocketStream, identity: Identity) -> None:
    await stream.send_all(wire.encode_greeting(identity))


def answers_with(data: bytes) -> Behaviour:
    async def behave(stream: trio.SocketStream, identity: Identity) -> None:
        await stream.send_all(wire.encode_greeting(identity))
        await stream.receive_some()
        await stream.send_all(data)
        await trio.sleep_forever()

    return behave


VOTED = wire.encode_replies([Voted(0)])
LIES = {
    "garbage": b"\xff" * 100,
    "a huge frame": b"\xff\xff\xff\xff",
    "a request": wire.run(0, b"\x81\x83\x00\x63foo\x00"),
    "a kind that does not answer": wire.run(0, VOTED),
    "an id that was not asked": wire.run(99, wire.encode_replies([Report(None, NO_TOP)])),
    "the same answer twice": 2 * wire.run(0, wire.encode_replies([Promise(None, NO_TOP)])),
    "too many answers": wire.run(0, wire.encode_replies([Promise(None, NO_TOP)] * 2)),
}


@pytest.mark.parametrize(
    "behaviour",
    [
        never_greets,
        greets_and_never_reads,
        reads_and_never_answers,
        greets_and_closes,
        *[pytest.param(answers_with(lie), id=name) for name, lie in LIES.items()],
    ],
)
async def test_r12_one_bad_acceptor_costs_no_call_anything(behaviour: Behaviour) -> None:
    async with cluster_with(behaviour) as addresses, open_kv(addresses, timeout=2) as kv:
        for ver in range(200):
            assert await kv.set("foo", ver, ver) == Entry("foo", ver, ver)
            assert await kv.get("foo", ver) == Entry("foo", ver, ver)
        link_ = bad_link(kv)
        assert len(link_._unanswered) <= MAX_UNANSWERED_FRAMES
        await eventually(lambda: not link_._outbox)


@pytest.mark.parametrize("behaviour", [greets_and_never_reads, reads_and_never_answers])
async def test_r12_a_stalled_acceptor_grows_no_queue(
    behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 1000.0)
    async with cluster_with(behaviour) as addresses, open_kv(addresses) as kv:
        for ver in range(300):
            await kv.set("foo", ver, b"x" * 100_000)
        link_ = bad_link(kv)
        owed = sum(exchange.size for exchange in link_._unanswered)
        assert owed <= MAX_UNANSWERED_BYTES + 2 * MAX_BATCH_BYTES
        if behaviour is reads_and_never_answers:
            assert link_.behind
        # What nobody waits for any more is withdrawn, or does not keep its batch.
        await eventually(lambda: not any(map(is_awaited, link_._outbox)))
        await eventually(lambda: all(each._asked is None for each in link_._unanswered))


def is_awaited(exchange: link.Exchange) -> bool:
    """Whether somebody wants its answers: it is no hint, which may lie there."""
    return exchange._asked is not None and exchange._asked[1] is not None


def test_what_acceptors_answer_alike_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def decode(encoded: bytes) -> list[Reply]:
        decoded.append(encoded)
        return wire.decode_replies(encoded)

    monkeypatch.setattr(link, "decode_replies", decode)
    batch = link.Batch([Find("foo", 5), Find("bar", 1)])
    nothing, newer = Found(NO_TOP, None, NO_TOP), Found(3, None, 3)
    same = wire.encode_replies([nothing, nothing])
    other = wire.encode_replies([nothing, Found(-1, None, 0)])
    assert [*batch.replies(0, 2, same)] == [*batch.replies(0, 2, same)] == [nothing, nothing]
    assert decoded == [same]
    assert [*batch.replies(0, 2, other)] == [nothing, Found(-1, None, 0)]
    assert [*batch.replies(0, 2, same)] == [nothing, nothing]
    assert decoded == [same, other, same]
    # The same bytes answer one request, and not another.
    vote = Vote(FAST, Proposal(ProposalId(b"p" * 16, 1), b""))
    alone = wire.encode_replies([newer._replace(sight=vote)])
    assert len(batch.replies(0, 1, alone)) == 1
    with pytest.raises(ProtocolError, match="does not answer"):
        batch.replies(1, 1, alone)
    # What is large is not kept.
    monkeypatch.setattr(link, "MAX_BATCH_BYTES", len(same) - 1)
    for _ in range(2):
        assert [*batch.replies(0, 2, other)] == [nothing, Found(-1, None, 0)]
    assert decoded[3:] == [alone, alone, other, other]


async def test_an_acceptor_that_is_behind_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_UNANSWERED_FRAMES", 8)
    go_on = trio.Event()

    async def answers_late(stream: trio.SocketStream, identity: Identity) -> None:
        # A real acceptor behind a door that opens late.
        async with trio.open_nursery() as nursery:
            listeners = await listen(Address("127.0.0.1", 0))
            at = Address(*listeners[0].socket.getsockname())
            await nursery.start(serve, identity, MemoryStore(), listeners)
            async with await trio.open_tcp_stream(at.host, at.port) as inner:

                async def outwards() -> None:
                    greeted = False
                    while data := await inner.receive_some():
                        if greeted:
                            await go_on.wait()
                        greeted = True
                        await stream.send_all(data)

                nursery.start_soon(outwards)
                while data := await stream.receive_some():
                    await inner.send_all(data)
            nursery.cancel_scope.cancel()

    async with cluster_with(answers_late) as addresses, open_kv(addresses) as kv:
        await kv.get("foo", 0)
        await eventually(lambda: bad_link(kv).up)
        for ver in range(20):
            await kv.set("foo", ver, ver)
        assert bad_link(kv).behind
        go_on.set()
        await eventually(lambda: not bad_link(kv)._unanswered)
        assert not bad_link(kv).behind
        assert await kv.set("foo", 20, 20) == Entry("foo", 20, 20)


async def test_a_silent_link_is_reopened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 0.1)
    connections = 0

    async def counts(stream: trio.SocketStream, identity: Identity) -> None:
        nonlocal connections
        connections += 1
        await reads_and_never_answers(stream, identity)

    async with cluster_with(counts) as addresses, open_kv(addresses) as kv:
        await kv.set("foo", 0, 5)
        await eventually(lambda: connections >= 1)
        await kv.set("foo", 1, 5)
        await eventually(lambda: connections >= 2)


async def test_a_link_that_owes_nothing_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 0.05)
    connections = 0

    async def counts(stream: trio.SocketStream, identity: Identity) -> None:
        nonlocal connections
        connections += 1
        await reads_and_never_answers(stream, identity)

    async with cluster_with(counts) as addresses, open_kv(addresses) as kv:
        await eventually(lambda: bool(kv._client._cluster.links) and bad_link(kv).up)
        bad_link(kv)._writer.unpark()  # as by a frame that is withdrawn at once
        await trio.sleep(0.3)
        assert bad_link(kv).up
        assert connections == 1


@changes_code
async def test_r12_the_pauses_of_a_link_that_cannot_connect_double_up_to_a_limit(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    async def refused(_: Address) -> NoReturn:
        tried.append(trio.current_time())
        raise ConnectionRefusedError

    monkeypatch.setattr(link, "connect", refused)
    with trio.move_on_after(10):
        await Link(Address("a", 1), lambda *_: True, lambda: None, Random(1)).run()
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    limits = [min(RECONNECT_FIRST * 2**k, RECONNECT_MAX) for k in range(len(pauses))]
    assert len(pauses) > 10
    assert all(0.49 * most <= each <= most for each, most in zip(pauses, limits, strict=True))


async def test_who_waits_for_a_turn_is_owed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines may be long. For all else the acceptor still counts as prompt."""
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 0.05)
    async with (
        cluster_with(reads_and_never_answers) as addresses,
        open_kv(addresses) as kv,
        trio.open_nursery() as nursery,
    ):
        await eventually(lambda: bool(kv._client._cluster.links) and bad_link(kv).up)
        nursery.start_soon(bad_link(kv).ask, Batch([Turn("foo")]), lambda *_: None)
        await trio.sleep(0.3)
        assert bad_link(kv).up
        assert bad_link(kv).prompt(0.01)
        nursery.cancel_scope.cancel()


async def test_a_link_that_falls_silent_in_the_middle_is_reopened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 0.2)
    connections = 0
    got_two = trio.Event()

    async def answers_one_of_two(stream: trio.SocketStream, identity: Identity) -> None:
        nonlocal connections
        connections += 1
        await stream.send_all(wire.encode_greeting(identity))
        buffer, frames = wire.FrameBuffer(), 0
        while frames < 2:
            frames += len(list(buffer.feed(await stream.receive_some())))
        got_two.set()
        await stream.send_all(wire.run(0, wire.encode_replies([Report(None, NO_TOP)])))
        await trio.sleep_forever()

    async with cluster_with(answers_one_of_two) as addresses, open_kv(addresses) as kv:
        await kv.get("warm", 0)
        await eventually(lambda: bad_link(kv).up)
        while not got_two.is_set():
            await kv.get("foo", 0)
            await wait_all_tasks_blocked(0.01)
        # Nothing more is asked: the link itself must notice.
        await eventually(lambda: connections >= 2)


async def test_an_exchange_knows_which_connection_has_begun_it() -> None:
    exchange = link.Exchange(link.Batch([Read(Instance("foo", 0))]), None, None, again=True)
    assert exchange.connection == 0
    exchange.begin(3, 2)
    assert exchange.connection == 2


async def test_a_reply_goes_to_the_request_with_its_id() -> None:
    delivered: list[tuple[int, int]] = []
    ended: list[link.Exchange] = []
    exchange = link.Exchange(
        link.Batch([Read(Instance("foo", ver)) for ver in range(4)]),
        lambda start, replies, *_: delivered.append((start, len(replies))),
        ended.append,
        again=False,
    )
    exchange.begin(10, 1)
    one, two = ((count, wire.encode_replies([Report(None, NO_TOP)] * count)) for count in (1, 2))
    assert exchange.take(12, *two)
    assert not exchange.take(9, *one)
    assert not exchange.take(13, *one)
    assert not exchange.take(13, *two)
    assert exchange.take(10, *one)
    assert not exchange.answered
    assert not ended
    assert exchange.take(11, *one)
    assert exchange.answered
    assert ended == [exchange]
    assert delivered == [(2, 2), (0, 1), (1, 1)]


async def test_answers_that_nobody_waits_for_are_counted() -> None:
    batch = link.Batch([Read(Instance("foo", ver)) for ver in range(2)])
    exchange = link.Exchange(batch, lambda *_: None, None, again=False)
    exchange.begin(0, 1)
    exchange.abandon()
    assert exchange.take(1, 1, b"no reply")
    assert not exchange.answered
    assert exchange.take(0, 1, wire.encode_replies([Report(None, NO_TOP)]))
    assert exchange.answered


COMMITS = link.Batch(
    [Commit(Instance("foo" * 300, ver), ProposalId(b"p" * 16, 1), None) for ver in range(250)]
)


@asynccontextmanager
async def link_to(behaviour: Behaviour) -> AsyncIterator[Link]:
    """A link to an acceptor that behaves as it is told to."""
    async with trio.open_nursery() as nursery:
        listeners = await listen(Address("127.0.0.1", 0))
        address = Address(*listeners[0].socket.getsockname())
        (identity,) = new_cluster([address])

        async def handle(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                await behaviour(stream, identity)

        nursery.start_soon(trio.serve_listeners, handle, listeners)
        link_ = Link(address, lambda *_: True, lambda: None, Random(1))
        nursery.start_soon(link_.run)
        yield link_
        nursery.cancel_scope.cancel()


async def test_what_is_told_is_no_debt() -> None:
    """Who does not answer what needs no answer is neither silent nor behind."""
    got: list[bytes] = []

    async def reads(stream: trio.SocketStream, identity: Identity) -> None:
        await stream.send_all(wire.encode_greeting(identity))
        buffer = wire.FrameBuffer()
        async for data in stream:
            got.extend(buffer.feed(data))

    async with link_to(reads) as link_:
        await eventually(lambda: link_.ready)
        for _ in range(2 * MAX_UNANSWERED_FRAMES):
            link_.tell(link.Batch(COMMITS.requests[:1]))
        await eventually(lambda: len(got) == 2 * MAX_UNANSWERED_FRAMES)
        assert link_.ready
        assert link_.prompt(0.0)
        assert {wire.decode_requests(payload)[0] for payload in got} == {None}


async def test_r12_who_does_not_take_what_it_is_told_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 0.1)
    monkeypatch.setattr(link, "SLOWEST_LINK", math.inf)
    async with link_to(greets_and_never_reads) as link_:
        await eventually(lambda: link_.ready)
        for _ in range(1000):
            if link_.ready:
                link_.tell(COMMITS)
        waits = sum(exchange.size for exchange in link_._outbox)
        assert waits < MAX_UNANSWERED_BYTES + len(COMMITS.encoded)
        assert not link_._unanswered
        assert not link_.prompt(0.0), "it must not be counted on"
        await eventually(lambda: "did not take what it was sent" in link_.explain())
        assert link_.failed


async def test_who_waits_for_what_was_told_before_goes_on_when_it_has_left() -> None:
    go_on = trio.Event()

    async def reads_later(stream: trio.SocketStream, identity: Identity) -> None:
        await stream.send_all(wire.encode_greeting(identity))
        await go_on.wait()
        buffer = wire.FrameBuffer()
        async for data in stream:
            for payload in buffer.feed(data):
                first, _ = wire.decode_requests(payload)
                if first is not None:
                    await stream.send_all(
                        wire.run(first, wire.encode_replies([Report(None, NO_TOP)]))
                    )

    async with link_to(reads_later) as link_, trio.open_nursery() as nursery:
        await eventually(lambda: link_.ready)
        while link_.ready:
            link_.tell(COMMITS)
        read = link.Batch([Read(Instance("foo", 0))])
        nursery.start_soon(link_.ask, read, lambda *_: None)
        await wait_all_tasks_blocked()
        assert link_._ready, "it waits until there is room"
        go_on.set()
        with trio.fail_after(10):
            while nursery.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_what_is_told_before_gives_an_acceptor_more_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 0.1)
    monkeypatch.setattr(link, "SLOWEST_LINK", len(COMMITS.encoded))  # a batch a second
    async with link_to(reads_and_never_answers) as link_:
        await eventually(lambda: link_.ready)
        link_.tell(COMMITS)
        await eventually(lambda: not link_._rest)
        link_.tell(link.Batch(COMMITS.requests[:1]))
        link_.post(link.Batch([Read(Instance("foo", 0))]), lambda *_: None, lambda _: None)
        await eventually(lambda: not link_.up)
        assert "silent for 1.1 s" in link_.explain()


async def test_r7_what_was_asked_before_says_so() -> None:
    """A batch that waited for its link, and was lost with the connection after it had left."""
    told: list[bool] = []
    connections = 0

    async def loses_the_first(stream: trio.SocketStream, identity: Identity) -> None:
        nonlocal connections
        connections += 1
        await stream.send_all(wire.encode_greeting(identity))
        await stream.receive_some()
        if connections > 1:
            await stream.send_all(wire.run(0, wire.encode_replies([Report(None, NO_TOP)])))
            await trio.sleep_forever()

    async with link_to(loses_the_first) as asked:
        assert not asked.ready
        with trio.fail_after(5):
            batch = link.Batch([Read(Instance("foo", 0))])
            await asked.ask(batch, lambda _start, _replies, again, _all: told.append(again))
        assert told == [True]
        assert connections == 2


async def test_what_waits_is_sent_again_on_the_next_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one acceptor away, the other two must both answer; one loses its connection."""
    told: set[bool] = set()
    post = Link.post

    def noted(
        self: Link, batch: link.Batch, deliver: link.Deliver, ended: link.Ended, again: bool = False
    ) -> link.Exchange:
        def note(start: int, replies: Sequence[Reply], again: bool, complete: bool) -> None:
            told.add(again)
            deliver(start, replies, again, complete)

        return post(self, batch, note, ended, again)

    monkeypatch.setattr(Link, "post", noted)
    async with trio.open_nursery() as nursery:
        listeners = [await listen(Address("127.0.0.1", 0)) for _ in range(2)]
        addresses = [Address(*each[0].socket.getsockname()) for each in listeners]
        first, second = new_cluster(addresses)
        await nursery.start(serve, first, MemoryStore(), listeners[0])
        inner = await listen(Address("127.0.0.1", 0))
        real = Address(*inner[0].socket.getsockname())
        await nursery.start(serve, second, MemoryStore(), inner)
        lost = 0

        async def loses_the_first(stream: trio.SocketStream) -> None:
            nonlocal lost
            if lost < 3:
                await stream.send_all(wire.encode_greeting(second))
                await stream.receive_some()  # it takes the request, and breaks
                lost += 1
                return
            async with await trio.open_tcp_stream(real.host, real.port) as to:

                async def back() -> None:
                    while data := await to.receive_some():
                        await stream.send_all(data)

                async with trio.open_nursery() as pumps:
                    pumps.start_soon(back)
                    while data := await stream.receive_some():
                        await to.send_all(data)
                    pumps.cancel_scope.cancel()

        nursery.start_soon(trio.serve_listeners, loses_the_first, listeners[1])
        async with open_kv(list(map(str, addresses))) as kv:
            assert await kv.set("foo", 0, 5) == Entry("foo", 0, 5)
        assert lost == 3
        assert told == {False, True}, "whether a reply is to what was sent again"
        nursery.cancel_scope.cancel()
