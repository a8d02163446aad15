"""Rule R1: no reply leaves before all that it says or rests on is on disk."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from paxoskv import Entry, StoreDamaged, StoreError, Unavailable, wire
from paxoskv.host import Host
from paxoskv.identity import Address, new_cluster
from paxoskv.kv import open_kv
from paxoskv.limits import COMPANY
from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.paxos.messages import (
    NO_TOP,
    Accept,
    Ballot,
    Chosen,
    Commit,
    Find,
    Found,
    Instance,
    Noted,
    Prepare,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Report,
    Request,
    Scan,
    Told,
    Turn,
    Vote,
    Voted,
)
from paxoskv.paxos.series import Accepts
from paxoskv.server import listen, serve
from paxoskv.storage.memory import Ledger, MemoryStore
from paxoskv.tasks import unwrapped

from .frames import replies_in
from .stores import GatedStore
from .test_server import connected, replies_to

ME = b"m" * 16
FOO = Instance("foo", 0)
P = Proposal(ProposalId(ME, 1), b"p")
VOTE = Vote(Ballot(2, ME), P)
READ = Read(FOO)
COMMIT = Commit(FOO, P.id, None)


@asynccontextmanager
async def acceptor_on(store: GatedStore) -> AsyncIterator[str]:
    with unwrapped():
        async with trio.open_nursery() as nursery:
            listeners = await listen(Address("127.0.0.1", 0))
            (identity,) = new_cluster([Address(*listeners[0].socket.getsockname())])
            try:
                yield await nursery.start(serve, identity, store, listeners)
            finally:
                store.gate.set()
            nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream, *requests: Request) -> None:
    await stream.send_all(wire.run(0, wire.encode_requests(requests)))


async def is_silent(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0.1):
        await stream.receive_some()
        return False
    return True


async def test_r1_a_vote_is_not_told_before_it_is_on_disk() -> None:
    store = GatedStore()
    async with acceptor_on(store) as address, connected(address) as stream:
        await ask(stream, Accept(FOO, *VOTE))
        assert await is_silent(stream)
        store.gate.set()
        assert await replies_to(stream, 1) == [(0, [Voted(0)])]


LOOKS: list[tuple[Request, object]] = [
    (Read(FOO), Report(VOTE, 0)),
    (Find("foo", 5), Found(0, VOTE, 0)),
    (Prepare(FOO, Ballot(1, ME)), Refusal(VOTE.ballot, VOTE, 0)),
    (Read(Instance("foo", 7)), Report(None, 0)),  # its top rests on the vote
]


@pytest.mark.parametrize(("look", "reply"), LOOKS, ids=lambda each: type(each).__name__)
async def test_r1_no_reply_shows_what_another_connection_wrote_and_is_not_on_disk(
    look: Request, reply: object
) -> None:
    store = GatedStore()
    async with (
        acceptor_on(store) as address,
        connected(address) as writer,
        connected(address) as reader,
    ):
        await ask(writer, Accept(FOO, *VOTE))
        await wait_all_tasks_blocked(0.01)
        await ask(reader, look)
        assert await is_silent(reader)
        store.gate.set()
        assert await replies_to(reader, 1) == [(0, [reply])]
        assert await replies_to(writer, 1) == [(0, [Voted(0)])]


async def test_what_was_told_to_be_chosen_is_passed_on_at_once_to_the_next_in_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It rests on the disks of those who voted; what the acceptor says itself still waits."""
    monkeypatch.setattr("paxoskv.lines.TURN_TIME", 60.0)
    monkeypatch.setattr("paxoskv.host.QUICK_FLUSH", 0.0)  # in a thread
    store = GatedStore()
    store.gate.set()
    async with (
        acceptor_on(store) as address,
        connected(address) as writer,
        connected(address) as next_in_line,
        connected(address) as reader,
    ):
        await ask(writer, Accept(FOO, *VOTE))
        assert await replies_to(writer, 1) == [(0, [Voted(0)])]
        store.gate.clear()
        await ask(writer, Turn("foo"))
        assert await replies_to(writer, 1) == [(0, [Told(NO_TOP, None)])]
        await ask(next_in_line, Turn("foo"))
        assert await is_silent(next_in_line)
        await ask(writer, Commit(FOO, P.id, None))
        assert await replies_to(next_in_line, 1) == [(0, [Told(0, P)])]
        await ask(reader, Read(FOO))
        assert await is_silent(reader)
        store.gate.set()
        assert await replies_to(reader, 1) == [(0, [Chosen(P, 0)])]


async def test_r8_a_commit_is_answered_at_once_and_goes_to_disk_when_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paxoskv.host.HINT_FLUSH_INTERVAL", 0.5)
    store = GatedStore()
    store.gate.set()
    async with acceptor_on(store) as address, connected(address) as stream:
        await ask(stream, Accept(FOO, *VOTE))
        await replies_to(stream, 1)
        flushes = store.flushes
        await ask(stream, Commit(FOO, P.id, None))
        assert await replies_to(stream, 1) == [(0, [Noted()])]
        assert store.flushes == flushes
        assert store.flushed < store.saved
        with trio.fail_after(10):
            while store.flushed < store.saved:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        assert store.flushes == flushes + 1


@pytest.mark.parametrize("frames", [[[COMMIT, READ]], [[COMMIT], [READ]], [[READ], [COMMIT]]])
async def test_r1_what_arrives_with_a_commit_waits_as_ever(
    frames: list[list[Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paxoskv.host.QUICK_FLUSH", 0.0)  # in a thread
    store = GatedStore()
    store.gate.set()
    async with acceptor_on(store) as address, connected(address) as stream:
        await ask(stream, Accept(FOO, *VOTE))
        await replies_to(stream, 1)
        store.gate.clear()
        numbered = [wire.run(9 * at, wire.encode_requests(each)) for at, each in enumerate(frames)]
        await stream.send_all(b"".join(numbered))
        assert await is_silent(stream)


async def test_r1_what_is_on_disk_is_told_at_once() -> None:
    store = GatedStore()
    async with acceptor_on(store) as address, connected(address) as stream:
        await ask(stream, Read(FOO), Find("foo", 1), Scan("", ""))
        assert await replies_to(stream, 3)
        assert store.flushes == 0


async def test_what_arrived_together_is_flushed_together() -> None:
    store = GatedStore()
    async with acceptor_on(store) as address, trio.open_nursery() as nursery:
        streams = [await nursery.start(_connection, address) for _ in range(20)]
        for number, stream in enumerate(streams):
            await ask(stream, Accept(Instance(f"key {number}", 0), *VOTE))
        await wait_all_tasks_blocked(0.05)
        store.gate.set()
        for stream in streams:
            assert await replies_to(stream, 1) == [(0, [Voted(0)])]
        assert store.flushes <= 3
        nursery.cancel_scope.cancel()


async def _connection(address: str, task_status: trio.TaskStatus[trio.SocketStream]) -> None:
    async with connected(address) as stream:
        task_status.started(stream)
        await trio.sleep_forever()


async def test_r1_after_a_flush_that_failed_nothing_is_answered_from_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paxoskv.host.MEND_PAUSE", 0.01)
    store = GatedStore()
    async with acceptor_on(store) as address:
        async with connected(address) as writer, connected(address) as reader:
            await ask(writer, Accept(FOO, *VOTE))
            await wait_all_tasks_blocked(0.01)
            await ask(reader, Read(FOO))
            await wait_all_tasks_blocked(0.01)
            store.problem = StoreError("no space left on device")
            store.gate.set()
            for stream in (writer, reader):
                with pytest.raises(StoreError, match="no space left"):
                    await replies_to(stream, 1)
        async with connected(address) as stream:
            with pytest.raises(StoreError, match="no space left"):
                await ask_and_wait(stream, Commit(FOO, P.id, P))
        store.problem = None
        with trio.fail_after(5):
            while True:
                async with connected(address) as stream:
                    try:
                        replies = await ask_and_wait(stream, Read(FOO))
                    except StoreError:
                        continue
                    break
        assert replies == [(0, [Report(None, -1)])], "a vote that was never told is gone"


async def ask_and_wait(stream: trio.SocketStream, request: Request) -> object:
    await ask(stream, request)
    return await replies_to(stream, 1)


async def test_a_client_goes_on_when_the_acceptor_serves_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paxoskv.host.MEND_PAUSE", 0.01)
    store = GatedStore()
    store.gate.set()
    async with acceptor_on(store) as address, open_kv([address], timeout=0.3) as kv:
        assert await kv.put("foo", 1) == Entry("foo", 0, 1)
        store.problem = StoreError("no space left on device")
        for call in (lambda: kv.put("foo", 2), lambda: kv.get("foo")):
            with pytest.raises(Unavailable, match="cannot serve now: no space left on device"):
                await call()
        store.problem = None
        with trio.fail_after(5):
            while True:
                with suppress(Unavailable):
                    assert await kv.get("foo") == Entry("foo", 0, 1)
                    break
        assert await kv.put("foo", 3) == Entry("foo", 1, 3)


async def test_a_damaged_store_ends_the_acceptor() -> None:
    store = GatedStore()
    store.gate.set()
    store.problem = StoreDamaged("000012.sst is damaged")
    with pytest.raises(StoreDamaged, match=r"000012\.sst"):  # noqa: PT012 - it must pass the block
        async with acceptor_on(store) as address, connected(address) as stream:
            await ask(stream, Accept(FOO, *VOTE))
            await trio.sleep(5)


class SlowStore(MemoryStore):
    """A store whose flushes wait, each for the test to let it go on."""

    __slots__ = ("flushed", "gate", "saved")

    def __init__(self) -> None:
        super().__init__()
        self.saved = self.flushed = 0
        self.gate = threading.Semaphore(0)

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        super().save(ledger, summary, registers)
        self.saved += 1

    def flush(self) -> None:
        saved = self.saved
        assert self.gate.acquire(timeout=20)
        self.flushed = saved


async def test_r1_a_flush_that_had_begun_before_is_not_enough() -> None:
    store = SlowStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)
    told: list[int] = []

    async def vote(ver: int) -> None:
        await host.answer([Accept(Instance("foo", ver), Ballot(1, ME), P)])
        told.append(ver)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vote, 0)
            await trio.sleep(0.05)
            nursery.start_soon(vote, 1)  # saved while a flush is under way
            await trio.sleep(0.05)
            store.gate.release()
            await trio.sleep(0.1)
            first = list(told)
            store.gate.release()
    assert first == [0]
    assert told == [0, 1]


class QuickStore(MemoryStore):
    """A store that counts its flushes, which take no time."""

    __slots__ = ("flushed", "flushes", "saved")

    def __init__(self) -> None:
        super().__init__()
        self.saved = self.flushed = self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.flushed = self.saved


async def test_who_is_alone_for_a_while_is_not_kept_waiting_for_others() -> None:
    store = QuickStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)

    passes = 0

    class Passes(trio.abc.Instrument):
        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            nonlocal passes
            passes += task is ours

    async def others_have_their_turn(who: int | None) -> bool:
        before = passes
        store.saved += 1
        await host.durable(who)
        assert store.flushed == store.saved
        return passes > before

    ours = trio.lowlevel.current_task()
    trio.lowlevel.add_instrument(Passes())
    me, other = 1, 2
    for who in (me, other, me):
        had = [await others_have_their_turn(who) for _ in range(COMPANY + 2)]
        assert had == [True] * COMPANY + [False, False]
        assert not await others_have_their_turn(None), "hints are nobody's"


async def test_those_who_come_by_turns_share_their_flushes() -> None:
    store = QuickStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)

    async def save(me: int, times: int) -> None:
        for _ in range(times):
            store.saved += 1
            await host.durable(me)
            await trio.lowlevel.checkpoint()

    await save(0, 2 * COMPANY)  # alone
    alone = store.flushes
    async with trio.open_nursery() as nursery:
        for me in range(4):
            nursery.start_soon(save, me, 50)
    assert alone == 2 * COMPANY
    assert store.flushes - alone < 100, "not each for itself"


async def test_r1_votes_for_a_series_are_not_told_before_they_are_on_disk() -> None:
    store = GatedStore()
    series = Accepts(ME, [1, 2], ["foo", "bar"], [0, 0], [b"", b""])
    async with acceptor_on(store) as address, connected(address) as stream:
        await stream.send_all(wire.run(5, wire.encode_requests([series])))
        assert await is_silent(stream)
        store.gate.set()
        (payload,) = wire.FrameBuffer().feed(await stream.receive_some())
        assert wire.open_replies(payload) == (5, 2, None)


async def test_hints_are_not_flushed_while_the_store_is_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flush that is bound to fail would be in the way of the mending, again and again."""
    monkeypatch.setattr("paxoskv.host.HINT_FLUSH_INTERVAL", 0.01)
    monkeypatch.setattr("paxoskv.host.MEND_PAUSE", 0.2)
    store = GatedStore()
    store.gate.set()
    async with acceptor_on(store) as address, connected(address) as stream:
        await ask(stream, Accept(FOO, *VOTE))
        await replies_to(stream, 1)
        store.problem = StoreError("no room")
        flushes = store.flushes
        await ask(stream, Commit(FOO, P.id, None))
        await trio.sleep(0.15)
        assert store.flushes == flushes + 1
        store.problem = None


async def test_r1_the_second_part_of_a_long_answer_waits_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another connection has saved something while the first part was on its way."""
    monkeypatch.setattr("paxoskv.host.QUICK_FLUSH", 0.0)  # in a thread
    large = VOTE._replace(proposal=Proposal(P.id, b"x" * 1_000_000))
    store = GatedStore()
    store.gate.set()
    async with (
        acceptor_on(store) as address,
        connected(address) as writer,
        connected(address) as reader,
    ):
        await ask(writer, Accept(FOO, *large))
        await replies_to(writer, 1)
        await ask(reader, *[READ] * 12, Read(Instance("bar", 0)))
        await trio.sleep(0.05)  # now it is blocked in the first parts
        store.gate.clear()
        bar = Accept(Instance("bar", 0), *VOTE)
        await ask(writer, bar)
        await wait_all_tasks_blocked(0.01)
        buffer, shown = wire.FrameBuffer(), 0
        with trio.move_on_after(0.5):
            while True:
                for payload in buffer.feed(await reader.receive_some()):
                    shown += len(replies_in(payload)[1])
        assert shown < 13, "the vote for the last is not on disk"
        store.gate.set()
