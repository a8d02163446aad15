"""A live acceptor under hostile clients: it drops them, and serves the others."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import cbor2
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

import paxoskv
from paxoskv import limits, open_kv, open_local_cluster, wire
from paxoskv.errors import StoreError
from paxoskv.host import Host, Store
from paxoskv.identity import Address, new_cluster, parse_address
from paxoskv.limits import MIB
from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.paxos.messages import (
    FAST,
    Accept,
    Ballot,
    Chosen,
    Commit,
    Instance,
    Page,
    Prepare,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Reply,
    Report,
    Request,
    Scan,
    Turn,
    Vote,
    Voted,
)
from paxoskv.paxos.series import Accepts, CommitSeries
from paxoskv.server import Connection, Server, listen
from paxoskv.storage.memory import MemoryStore

from .frames import replies_in
from .stores import GatedStore

ME = b"p" * 16
GOOD = wire.run(0, wire.encode_requests([Read(Instance("foo", 0))]))


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[trio.SocketStream]:
    """A connection on which the greeting has been read."""
    where = parse_address(address)
    async with await trio.open_tcp_stream(where.host, where.port) as stream:
        buffer = wire.FrameBuffer()
        while not list(buffer.feed(await stream.receive_some())):
            pass
        yield stream


async def replies_to(stream: trio.SocketStream, count: int) -> list[tuple[int, list[Reply]]]:
    """The frames of replies to so many requests."""
    buffer = wire.FrameBuffer()
    runs: list[tuple[int, list[Reply]]] = []
    while sum(len(replies) for _, replies in runs) < count:
        data = await stream.receive_some()
        assert data, "the acceptor closed the connection"
        runs += [replies_in(payload) for payload in buffer.feed(data)]
    return runs


async def is_dropped(stream: trio.SocketStream) -> bool:
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    return True


hostile = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.binary(max_size=100).map(wire.frame),
    st.integers(1, len(GOOD) - 1).map(lambda cut: GOOD[:cut]),
    st.integers(limits.MAX_FRAME_BYTES + 1, 2**32 - 1).map(lambda n: n.to_bytes(4, "big")),
    st.integers(9, 5000).map(lambda depth: wire.frame(b"\x81" * depth)),
    st.integers(9, 5000).map(lambda depth: wire.frame(b"\xa1\x00" * depth)),
    st.lists(st.integers(), max_size=5).map(lambda item: wire.frame(cbor2.dumps(item))),
    st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)).map(
        lambda change: GOOD[: change[0]] + bytes([change[1]]) + GOOD[change[0] + 1 :]
    ),
)


async def test_hostile_frames_disturb_nobody() -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(hostile, min_size=1, max_size=3))
    def throw(frames: list[bytes]) -> None:
        trio.from_thread.run(attack, b"".join(frames))

    async with open_local_cluster(1) as cluster, open_kv(cluster.addresses) as kv:
        (acceptor,) = cluster.addresses
        count = 0

        async def attack(data: bytes) -> None:
            nonlocal count
            with trio.fail_after(10):
                async with connected(acceptor) as stream:
                    await stream.send_all(data)
                    with suppress(trio.BrokenResourceError, OSError):
                        await stream.send_eof()  # unless it has dropped us already
                    assert await is_dropped(stream)
                count += 1
                assert (await kv.set("ours", count, count)).val == count

        await trio.to_thread.run_sync(throw)
        assert count >= 100


@pytest.mark.parametrize(
    "data",
    [
        (limits.MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        wire.frame(b"\x81" * 100_000),
        wire.frame(wire.run(0, wire.encode_requests([Read(Instance("foo", 0))]))),
        GOOD[:-1] + b"\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_a_connection_that_breaks_the_protocol_is_closed(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_local_cluster(1) as cluster, connected(cluster.addresses[0]) as stream:
        await stream.send_all(data)
        with trio.fail_after(5):
            assert await is_dropped(stream)
        assert "closed the connection from 127.0.0.1" in caplog.text


async def test_replies_carry_the_ids_of_their_requests() -> None:
    reads = [Read(Instance("foo", ver)) for ver in range(3)]
    async with open_local_cluster(1) as cluster, connected(cluster.addresses[0]) as stream:
        await stream.send_all(
            wire.run(70, wire.encode_requests(reads)) + wire.run(5, wire.encode_requests(reads[:1]))
        )
        runs = await replies_to(stream, 4)
        assert [(first, len(replies)) for first, replies in runs] == [(70, 3), (5, 1)]


async def test_commits_without_ids_are_done_and_not_answered() -> None:
    accept = Accept(Instance("foo", 0), Ballot(1, ME), Proposal(ProposalId(ME, 1), b"\x05"))
    commit = Commit(accept.instance, accept.proposal.id, None)
    async with open_local_cluster(1) as cluster, connected(cluster.addresses[0]) as stream:
        await stream.send_all(
            wire.run(7, wire.encode_requests([accept]))
            + wire.run(None, wire.encode_requests([commit, commit]))
            + wire.run(8, wire.encode_requests([Read(accept.instance)]))
        )
        assert await replies_to(stream, 2) == [(7, [Voted(0)]), (8, [Chosen(accept.proposal, 0)])]


async def test_r12_replies_are_cut_at_a_size() -> None:
    async with open_local_cluster(1) as cluster, connected(cluster.addresses[0]) as stream:
        proposal = Proposal(ProposalId(ME, 1), b"x" * limits.MAX_VALUE_BYTES)
        accept = Accept(Instance("foo", 0), Ballot(1, ME), proposal)
        await stream.send_all(wire.run(0, wire.encode_requests([accept])))
        await replies_to(stream, 1)
        count = limits.MAX_BATCH_MESSAGES
        await stream.send_all(wire.run(1, wire.encode_requests([Read(accept.instance)] * count)))
        got = 0
        buffer = wire.FrameBuffer(2 * limits.MAX_VALUE_BYTES)  # half a GiB in one would fail
        while got < 20:
            for payload in buffer.feed(await stream.receive_some()):
                first, replies = replies_in(payload)
                assert first == 1 + got
                got += len(replies)


async def test_r12_connections_have_a_limit() -> None:
    async with (
        serving(MemoryStore(), connections=2) as (_, address),
        connected(address) as first,
        connected(address) as second,
    ):
        # The one that was idle for the longest makes room for a new one.
        await first.send_all(GOOD)
        await replies_to(first, 1)
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            async with open_kv([address]) as kv:
                await kv.set("foo", 0, 5)
                assert await is_dropped(second)
                # Two in the middle of a frame are busy: a third is refused.
                await first.send_all(GOOD[:5])
                async with connected(address) as third:
                    await third.send_all(GOOD[:5])
                    await wait_all_tasks_blocked(0.01)
                    async with await trio.open_tcp_stream(*parse_address(address)) as fourth:
                        assert await is_dropped(fourth)


async def test_r12_a_frame_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxoskv.server.STALLED_FRAME_TIMEOUT", 0.05)
    async with open_local_cluster(1) as cluster, connected(cluster.addresses[0]) as stream:
        await trio.sleep(0.2)  # between frames a client may be quiet
        await stream.send_all(GOOD)
        await replies_to(stream, 1)
        with trio.fail_after(5):
            for byte in GOOD:  # a byte now and then does not prolong it
                try:
                    await stream.send_all(bytes([byte]))
                except trio.BrokenResourceError:
                    break
                await trio.sleep(0.03)
            assert await is_dropped(stream)


async def test_a_client_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxoskv.server.STALLED_FRAME_TIMEOUT", 0.2)
    monkeypatch.setattr("paxoskv.server.SLOWEST_LINK", 100e6)
    async with open_local_cluster(1) as cluster, open_kv(cluster.addresses) as kv:
        await kv.set("big", 0, b"x" * limits.MAX_VALUE_BYTES)
        async with connected(cluster.addresses[0]) as stream:
            read = wire.run(0, wire.encode_requests([Read(Instance("big", 0))] * 100))
            with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):  # noqa: PT012
                while True:
                    await stream.send_all(read)
        assert await kv.set("foo", 0, 5) == paxoskv.Entry("foo", 0, 5)


async def test_r12_unfinished_frames_have_a_limit_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One is closed that holds much, and has for long, not the one with which it is too much."""
    monkeypatch.setattr("paxoskv.server.MAX_HELD_BYTES", 3_000_000)
    begun = [(16 * limits.MIB).to_bytes(4, "big") + bytes(size * 100_000) for size in (1, 18, 9, 9)]
    async with open_local_cluster(1) as cluster, open_kv(cluster.addresses) as kv:
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(connected(cluster.addresses[0])) for _ in range(4)
            ]
            with trio.fail_after(10):
                for stream, data in zip(streams, begun, strict=True):
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(data)
                    await trio.sleep(0.02)
                assert await is_dropped(streams[1])
                for stream in (streams[0], *streams[2:]):
                    with trio.move_on_after(0.02) as still_there:
                        await stream.receive_some()
                    assert still_there.cancelled_caught
            assert await kv.put("small", 1) == paxoskv.Entry("small", 0, 1)
        with trio.fail_after(10):
            # What was dropped counts no more.
            for ver in range(4):
                assert (await kv.set("big", ver, b"x" * limits.MAX_VALUE_BYTES)).ver == ver


class Searched(MemoryStore):
    """A store in which a search takes a while."""

    __slots__ = ("searches",)

    def __init__(self) -> None:
        super().__init__()
        self.searches = 0

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        self.searches += 1
        time.sleep(0.002)
        return super().keys(prefix, after)


@asynccontextmanager
async def serving(
    store: Store, connections: int = limits.MAX_CONNECTIONS
) -> AsyncIterator[tuple[Server, str]]:
    """One acceptor on this store, and its address."""
    listeners = await listen(Address("127.0.0.1", 0))
    address = Address(*listeners[0].socket.getsockname())
    server = Server(Host(new_cluster([address])[0], store), connections)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners)
        yield server, str(address)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("together", [True, False])
async def test_r12_one_connection_with_many_searches_holds_up_no_other(together: bool) -> None:
    scans = [Scan("", "")] * 200
    if together:
        many = wire.run(0, wire.encode_requests(scans))
    else:
        frames = (wire.run(k, wire.encode_requests([each])) for k, each in enumerate(scans))
        many = b"".join(frames)
    store = Searched()
    async with (
        serving(store) as (_, address),
        connected(address) as greedy,
        connected(address) as modest,
    ):
        await greedy.send_all(many)
        await trio.sleep(0.01)
        await modest.send_all(GOOD)
        await replies_to(modest, 1)
        assert store.searches < 100
        runs = await replies_to(greedy, 200)
    assert [reply for _, replies in runs for reply in replies] == [Page((), more=False)] * 200


async def test_r12_a_frame_counts_until_its_replies_have_left() -> None:
    value = bytes(MIB)
    accept = Accept(Instance("foo", 0), Ballot(1, ME), Proposal(ProposalId(ME, 1), value))
    async with serving(MemoryStore()) as (server, address):
        async with connected(address) as stream:
            await stream.send_all(wire.run(0, wire.encode_requests([accept])))
            await replies_to(stream, 1)
            assert server._held == 0
            # Replies that nobody takes, and behind them what is large itself.
            requests = [Read(Instance("foo", 0))] * 40 + [accept] * 8
            await stream.send_all(wire.run(1, wire.encode_requests(requests)))
            await wait_all_tasks_blocked(0.05)
            assert server._held > 8 * MIB
        await wait_all_tasks_blocked(0.05)
        assert server._held == 0


async def test_r12_what_waits_for_a_flush_counts() -> None:
    accept = Accept(Instance("foo", 0), Ballot(1, ME), Proposal(ProposalId(ME, 1), bytes(MIB)))
    store = GatedStore()
    async with serving(store) as (server, address), connected(address) as stream:
        server.host._flush_time = 1.0  # in a thread
        await stream.send_all(wire.run(0, wire.encode_requests([accept])))
        await trio.sleep(0.1)
        assert server._held > MIB
        store.gate.set()
        await replies_to(stream, 1)
        await wait_all_tasks_blocked()
        assert server._held == 0


async def test_r12_replies_that_nobody_takes_count() -> None:
    accept = Accept(Instance("foo", 0), Ballot(1, ME), Proposal(ProposalId(ME, 1), bytes(MIB)))
    async with serving(MemoryStore()) as (server, address), connected(address) as stream:
        await stream.send_all(wire.run(0, wire.encode_requests([accept])))
        await replies_to(stream, 1)
        await stream.send_all(wire.run(1, wire.encode_requests([Read(accept.instance)] * 40)))
        await trio.sleep(0.2)
        assert server._held > MIB


async def test_r12_turns_that_nobody_takes_count() -> None:
    known = Proposal(ProposalId(ME, 1), bytes(MIB))
    async with serving(MemoryStore()) as (server, address), connected(address) as stream:
        await server.host.answer([Commit(Instance("foo", 0), known.id, known)])
        line = server.host.lines
        assert line.enter("foo", "somebody else") is None
        turns = [wire.run(k, wire.encode_requests([Turn("foo")])) for k in range(20)]
        await stream.send_all(b"".join(turns))
        await trio.sleep(0.5)
        assert server._held > MIB
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked(0.05)


async def test_r12_a_farewell_that_nobody_takes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paxoskv.server.FAREWELL_PATIENCE", 0.1)
    # More than a connection has room for, as what was sent before may have left none.
    monkeypatch.setattr("paxoskv.server.encode_farewell", lambda _: bytes(64 * MIB))
    store = GatedStore()
    store.gate.set()
    async with serving(store) as (server, address), connected(address) as stream:
        await wait_all_tasks_blocked(0.01)
        assert server._connections
        store.problem = StoreError("no disk")
        prepare = Prepare(Instance("bar", 0), Ballot(1, ME))
        await stream.send_all(wire.run(0, wire.encode_requests([prepare])))
        with trio.fail_after(5):
            while server._connections:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_r12_who_is_idle_holds_nothing() -> None:
    high = Prepare(Instance("foo", 0), Ballot(9, ME))
    low = Accept(high.instance, Ballot(1, ME), Proposal(ProposalId(ME, 1), bytes(MIB)))
    refused = wire.run(1, wire.encode_requests([low] * 8))
    async with serving(MemoryStore()) as (_, address), AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(connected(address)) for _ in range(3)]
        await streams[0].send_all(wire.run(0, wire.encode_requests([high])))
        await replies_to(streams[0], 1)
        tracemalloc.start()
        try:
            for stream in streams:
                await stream.send_all(refused)
                await replies_to(stream, 8)
            await wait_all_tasks_blocked()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 4 * MIB


async def test_r12_strangers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(MemoryStore()) as (_, address):
        for pause in (0.0, limits.COMPLAINT_PAUSE):
            await trio.sleep(pause)
            for _ in range(20):
                async with connected(address) as stream:
                    await stream.send_all(wire.frame(b"nonsense"))
                    assert await is_dropped(stream)
    lines = [each.message for each in caplog.records if "closed the connection" in each.message]
    assert 2 <= len(lines) <= 4
    assert any(line.endswith("more of such") for line in lines[1:])


async def test_who_has_left_a_line_is_forgotten() -> None:
    async with serving(MemoryStore()) as (server, address):
        async with connected(address) as stream:
            await stream.send_all(wire.run(0, wire.encode_requests([Turn("foo")])))
            await replies_to(stream, 1)
            assert len(server.host.lines) == 1
        await trio.sleep(limits.HINT_FLUSH_INTERVAL + 2 * limits.TURN_TIME)
        assert len(server.host.lines) == 0


async def test_r12_who_announces_much_and_sends_little_has_little_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paxoskv.server.STALLED_FRAME_TIMEOUT", 0.1)
    async with open_local_cluster(1) as cluster, connected(cluster.addresses[0]) as stream:
        await stream.send_all(limits.MAX_FRAME_BYTES.to_bytes(4, "big") + b"x")
        with trio.fail_after(5):
            assert await is_dropped(stream)


async def test_r12_a_flush_does_not_wait_for_other_threads() -> None:
    """A thread of trio's own may hang: it looks up a name that nobody answers for."""
    limiter = trio.to_thread.current_default_thread_limiter()
    store = GatedStore()
    store.gate.set()
    async with AsyncExitStack() as taken, serving(store) as (server, _):
        for _ in range(int(limiter.total_tokens)):
            borrower = object()
            await limiter.acquire_on_behalf_of(borrower)
            taken.callback(limiter.release_on_behalf_of, borrower)
        server.host._flush_time = 1.0  # so that the next flush goes to a thread
        with trio.fail_after(5):
            await server.host.answer([Prepare(Instance("foo", 0), Ballot(1, ME))])


async def test_r12_what_refuses_a_series_is_made_as_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each refusal shows what was voted for, and that may be large."""
    made, sent = 0, list[int]()
    reply, send = Host.reply, Connection._send

    def count_made(self: Host, request: Request, who: object = None) -> Reply:
        nonlocal made
        made += 1
        return reply(self, request, who)

    async def count_sent(self: Connection, replies: bytearray, rests: bool) -> None:
        sent.append(made)
        await send(self, replies, rests)

    monkeypatch.setattr(Host, "reply", count_made)
    monkeypatch.setattr(Connection, "_send", count_sent)
    store = MemoryStore()
    ballot = Ballot(1, b"p" * 16)
    vote = Vote(ballot, Proposal(ProposalId(b"p" * 16, 1), bytes(100_000)))
    keys = [f"k{number}" for number in range(30)]
    for key in keys[2:]:
        store.save(store.ledger(key), Summary(top=0), {0: Register(ballot, vote)})
    series = Accepts(b"m" * 16, range(1, 31), keys, [0] * 30, [b""] * 30)
    async with serving(store) as (_, address), connected(address) as stream:
        await stream.send_all(wire.run(5, wire.encode_requests([series])))
        runs = await replies_to(stream, 30)
    assert [first for first, _ in runs] == [5, *range(10, 35, 3)]
    replies = [each for _, part in runs for each in part]
    assert replies == [Voted(0)] * 2 + [Refusal(ballot, vote, 0)] * 28
    assert sent[:3] == [3, 6, 9]


async def test_a_series_beside_other_requests_is_answered_in_its_place() -> None:
    read = Read(Instance("foo", 0))
    series = Accepts(b"m" * 16, [1, 2], ["foo", "bar"], [0, 0], [b"", b""])
    async with serving(MemoryStore()) as (_, address), connected(address) as stream:
        await stream.send_all(wire.run(5, wire.encode_requests([read, series, read, series])))
        buffer = wire.FrameBuffer()
        frames: list[tuple[int, int, bytes | None]] = []
        while len(frames) < 4:
            frames += map(wire.open_replies, buffer.feed(await stream.receive_some()))
        assert [frame[:2] for frame in frames] == [(5, 1), (6, 2), (8, 1), (9, 2)]
        assert [encoded is None for _, _, encoded in frames] == [False, True, False, True]


async def test_r8_what_a_connection_has_proposed_in_a_series_is_learned_by_its_name() -> None:
    """Only what came on the same connection, and once all else is answered."""
    series = Accepts(b"m" * 16, [1, 2], ["foo", "bar"], [0, 0], [b"", b""])
    voted_for = Vote(FAST, Proposal(ProposalId(b"m" * 16, 1), b""), append=True)
    read = Read(Instance("foo", 0))
    told = wire.encode_requests([CommitSeries(series.commits.name), read])
    async with (
        serving(MemoryStore()) as (server, address),
        connected(address) as one,
        connected(address) as other,
    ):
        await one.send_all(wire.run(5, wire.encode_requests([series])))
        assert len(await one.receive_some()) > 0
        for stream, seen in (
            (other, Report(voted_for, 0)),
            (one, Report(voted_for, 0)),
            (one, Chosen(voted_for.proposal, 0)),
        ):
            await stream.send_all(wire.run(9, told))
            assert await replies_to(stream, 1) == [(9, [seen])]
        assert server.host.acceptor.known("bar").ver == 0


async def test_r12_what_a_connection_has_heard_is_no_reason_to_close_it() -> None:
    """It counts by itself, until it is learned or the connection is over."""
    keys = [f"k{number}" for number in range(100)]
    series = Accepts(b"m" * 16, range(1, 101), keys, [0] * 100, [b""] * 100)
    told = wire.run(None, wire.encode_requests([CommitSeries(series.commits.name)]))
    async with serving(MemoryStore()) as (server, address):
        for ends in (told, b""):
            async with connected(address) as stream:
                await stream.send_all(wire.run(5, wire.encode_requests([series])))
                assert len(await stream.receive_some()) > 0
                await wait_all_tasks_blocked()
                assert server._hearing.size > 100 * 100
                assert server._held == 0
                await stream.send_all(ends)
                if not ends:
                    await stream.aclose()
                with trio.fail_after(5):
                    while server._hearing.size:  # noqa: ASYNC110
                        await trio.sleep(0.001)
        assert server.host.acceptor.known(keys[-1]).ver == 0
