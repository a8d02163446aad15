"""Streams and links over real sockets whose other end reads slowly, or is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from paxoskv import wire
from paxoskv.identity import Address
from paxoskv.limits import MAX_BATCH_BYTES, MAX_UNANSWERED_BYTES
from paxoskv.link import Batch, Link
from paxoskv.paxos.messages import (
    Accept,
    Ballot,
    Instance,
    Proposal,
    ProposalId,
    Read,
    Report,
    Vote,
)
from paxoskv.server import _Sender
from paxoskv.stream import Stream

ME = b"m" * 16
FOO = Instance("foo", 0)
P = Proposal(ProposalId(ME, 1), b"p")
LARGE = bytes(range(256)) * 16 * 1024  # more than a socket takes at once


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Stream, trio.SocketStream]]:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    with Stream(ours) as stream:
        async with theirs:
            yield stream, theirs


async def received(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive_some()
    return data


def link_to_nobody() -> Link:
    return Link(Address("127.0.0.1", 1), lambda *_: True, lambda: None, Random(1))


async def test_what_is_not_sent_at_once_is_sent_later() -> None:
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        sent = ours.send_now(LARGE)
        assert 0 < sent < len(LARGE), "a socket takes some of it"
        assert ours.send_now(LARGE[sent:]) == 0, "and then no more"
        nursery.start_soon(ours.send_all, LARGE[sent:])
        assert await received(theirs, len(LARGE)) == LARGE
        await theirs.send_all(b"thanks")
        assert await ours.receive() == b"thanks"


async def test_the_end_of_a_connection_is_told() -> None:
    async with pair() as (ours, theirs):
        await theirs.aclose()
        assert await ours.receive() == b""
        assert ours.send_now(b"too late") == 0, "the one that waits for the rest is told"
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"too late")


async def test_who_waits_is_told_that_the_stream_was_closed() -> None:
    async with trio.open_nursery() as nursery:
        ended = trio.Event()

        async def wait(stream: Stream) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive()
            ended.set()

        async with pair() as (ours, _):
            with ours:
                nursery.start_soon(wait, ours)
                await wait_all_tasks_blocked()
        with trio.fail_after(5):
            await ended.wait()


async def test_a_frame_begins_only_when_the_last_one_has_left() -> None:
    """Frames that the system takes in part only, and others that are asked for meanwhile."""
    link = link_to_nobody()
    accepts = [
        Accept(
            Instance("foo", ver),
            Ballot(1, ME),
            Proposal(ProposalId(ME, ver + 1), LARGE[: MAX_BATCH_BYTES + ver]),
        )
        for ver in range(8)
    ]
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(link._serve, ours)
        await wait_all_tasks_blocked()
        for accept in accepts:
            nursery.start_soon(link.ask, Batch([accept]), lambda *_: None)
            await trio.lowlevel.checkpoint()
        buffer = wire.FrameBuffer()
        frames: list[bytes] = []
        with trio.fail_after(10):
            while len(frames) < len(accepts):
                frames += buffer.feed(await theirs.receive_some())
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    decoded = [wire.decode_requests(payload) for payload in frames]
    assert decoded == [(ver, [accept]) for ver, accept in enumerate(accepts)]


@pytest.mark.parametrize("full", [False, True])
async def test_nothing_follows_what_was_not_sent_to_its_end(full: bool) -> None:
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        before = ours.send_now(LARGE) if full else 0  # then nothing leaves at once
        sender = _Sender(ours)
        with trio.move_on_after(0.1) as scope:
            nursery.start_soon(received, theirs, before + 1)
            await sender.send(LARGE)
        assert scope.cancelled_caught
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await sender.send(b"farewell")


async def test_what_waits_for_a_long_reply_comes_after_it() -> None:
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        sender = _Sender(ours)
        for data in (LARGE, b"second", b"third"):
            nursery.start_soon(sender.send, data)
            await wait_all_tasks_blocked()
        assert await received(theirs, len(LARGE) + 11) == LARGE + b"secondthird"


async def test_r12_what_waits_for_a_long_reply_is_not_made_yet() -> None:
    made: list[bytes] = []

    def make() -> bytes:
        made.append(b"second")
        return b"second"

    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        sender = _Sender(ours)
        nursery.start_soon(sender.send, LARGE)
        await wait_all_tasks_blocked()
        nursery.start_soon(sender.send_made, make)
        await wait_all_tasks_blocked()
        assert not made
        assert await received(theirs, len(LARGE) + 6) == LARGE + b"second"
        assert made == [b"second"]


async def test_r12_an_acceptor_is_owed_few_bytes_also_in_few_frames() -> None:
    link = link_to_nobody()
    large = Accept(FOO, Ballot(1, ME), P._replace(value=bytes(MAX_BATCH_BYTES)))
    async with pair() as (ours, _), trio.open_nursery() as nursery:
        nursery.start_soon(link._serve, ours)
        await wait_all_tasks_blocked()
        for _ in range(MAX_UNANSWERED_BYTES // MAX_BATCH_BYTES + 10):
            nursery.start_soon(link.ask, Batch([large]), lambda *_: None)
            await wait_all_tasks_blocked()
        owed = sum(exchange.size for exchange in (*link._unanswered, *link._outbox))
        assert MAX_UNANSWERED_BYTES <= owed <= MAX_UNANSWERED_BYTES + 2 * MAX_BATCH_BYTES
        nursery.cancel_scope.cancel()


async def test_no_two_requests_under_way_share_an_id() -> None:
    """Replies may come in any order, so nothing but the id says what they answer."""
    link = link_to_nobody()
    told: dict[str, list[object]] = {}
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(link._serve, ours)
        await wait_all_tasks_blocked()
        for key in ("one", "two"):
            batch = Batch([Read(Instance(key, ver)) for ver in range(2)])
            nursery.start_soon(
                link.ask, batch, lambda _start, got, *_, key=key: told.update({key: list(got)})
            )
            await wait_all_tasks_blocked()
        frames = [
            wire.decode_requests(payload)
            for payload in wire.FrameBuffer().feed(await theirs.receive_some())
        ]
        for first, requests in reversed(frames):
            assert isinstance(requests[0], Read)
            vote = Vote(Ballot(1, ME), P._replace(value=requests[0].instance.key.encode()))
            await theirs.send_all(wire.run(first, wire.encode_replies([Report(vote, 0)] * 2)))
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for key, replies in told.items():
        vote = Vote(Ballot(1, ME), P._replace(value=key.encode()))
        assert replies == [Report(vote, 0)] * 2
    assert list(told) == ["two", "one"]
