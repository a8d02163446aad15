"""Waiting in line: writers of one key take turns, and nothing rests on it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from zlib import crc32

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from paxoskv import KV, Entry, open_kv, open_local_cluster, server, wire
from paxoskv.errors import StoreError, Unavailable, VersionTaken
from paxoskv.host import Host
from paxoskv.identity import Address, new_cluster, parse_address
from paxoskv.limits import (
    CONTENDED,
    MAX_IN_LINE,
    MAX_LINES,
    MAX_NOTED_KEYS,
    MAX_TURNS_AWAITED,
    TURN_SLICE,
    TURN_TIME,
)
from paxoskv.lines import Line, Lines
from paxoskv.paxos.acceptor import Acceptor, Register, Summary
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Commit,
    Find,
    Instance,
    Proposal,
    ProposalId,
    Read,
    Report,
    Request,
    Told,
    Turn,
    Voted,
    answers,
)
from paxoskv.remembered import Lately, Turns
from paxoskv.server import Connection, Server
from paxoskv.storage.memory import Ledger, MemoryStore

from .frames import replies_in

ANYWHERE = Address("127.0.0.1", 0)


async def enter(lines: Lines, name: str, order: list[str]) -> None:
    place = lines.enter("foo", name)
    if place is not None:
        await place.wait()
    order.append(name)


async def three_enter(lines: Lines, nursery: trio.Nursery) -> list[str]:
    """Those who have had the turn, of three that entered one after the other."""
    order: list[str] = []
    for name in "abc":
        nursery.start_soon(enter, lines, name, order)
        await wait_all_tasks_blocked()
    return order


async def test_the_turn_goes_to_who_has_waited_for_the_longest() -> None:
    lines = Lines()
    async with trio.open_nursery() as nursery:
        order = await three_enter(lines, nursery)
        for expected in (["a"], ["a", "b"], ["a", "b", "c"]):
            assert order == expected
            lines.written("foo", "somebody else")
            await wait_all_tasks_blocked()
            assert order == expected, "only who has the turn can end it"
            lines.written("foo", order[-1])
            await wait_all_tasks_blocked()
    assert len(lines) == 0, "nothing is kept for a key that nobody waits for"


async def test_a_turn_that_is_not_used_ends(autojump_clock: MockClock) -> None:
    lines = Lines()
    with trio.fail_after(10 * TURN_TIME):
        async with trio.open_nursery() as nursery:
            order = await three_enter(lines, nursery)
            began = trio.current_time()
    assert order == ["a", "b", "c"]
    assert trio.current_time() - began == pytest.approx(2 * TURN_TIME, rel=0.3)


async def test_who_is_cancelled_in_line_gives_up_the_place_and_the_turn() -> None:
    lines = Lines()
    order: list[str] = []
    assert lines.enter("foo", "a") is None
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as waiting:
            nursery.start_soon(enter, lines, "later", order)
            await wait_all_tasks_blocked()
            first = lines.enter("foo", "b")
            assert first is not None
            waiting.cancel()
            await first.wait()
        lines.written("foo", "a")
    assert order == ["later"]


async def test_who_asks_again_gives_up_the_turn_that_he_has(autojump_clock: MockClock) -> None:
    """He wrote nothing, or others were first: nobody is to wait until his time is up."""
    lines = Lines()
    began = trio.current_time()
    for _ in range(2):
        assert lines.enter("foo", "a") is None
    async with trio.open_nursery() as nursery:
        order: list[str] = []
        nursery.start_soon(enter, lines, "b", order)
        await wait_all_tasks_blocked()
        place = lines.enter("foo", "a")
        assert place is not None, "others are first"
        await wait_all_tasks_blocked()
        assert order == ["b"]
        assert trio.current_time() == began
        await place.wait()
    assert trio.current_time() == pytest.approx(began + TURN_TIME)


async def test_who_asks_again_gives_up_the_place_that_he_has(autojump_clock: MockClock) -> None:
    """His caller has gone, and nobody would use the turn."""
    lines = Lines()
    assert lines.enter("foo", "a") is None
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        for name in ("b", "c", "b"):
            nursery.start_soon(enter, lines, name, order)
            await wait_all_tasks_blocked()
        assert order == ["b"], "nobody waits there any more"
        for expected, who in ((["b", "c"], "a"), (["b", "c", "b"], "c")):
            lines.written("foo", who)
            await wait_all_tasks_blocked()
            assert order == expected
        place = lines.enter("foo", "d")
        assert place is not None
        with trio.CancelScope() as scope:
            nursery.start_soon(enter, lines, "c", order)
            await wait_all_tasks_blocked()
            lines.enter("foo", "d")
            scope.cancel()  # as it is given up
            await place.wait()
        assert order == ["b", "c", "b"], "that gives no turn to the next"
        began = trio.current_time()
    assert order == ["b", "c", "b", "c"]
    assert trio.current_time() == pytest.approx(began + TURN_TIME)


async def test_a_turn_that_is_given_to_one_who_is_just_cancelled_goes_to_the_next() -> None:
    lines = Lines()
    assert lines.enter("foo", "a") is None
    first, second = lines.enter("foo", "b"), lines.enter("foo", "c")
    assert first is not None
    assert second is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        lines.written("foo", "a")  # b has not noticed yet
    assert first.given.is_set()
    assert second.given.is_set()


async def test_lines_are_bounded_and_who_finds_no_room_goes_on(mock_clock: MockClock) -> None:
    lines = Lines()
    assert lines.enter("foo", "a") is None
    for number in range(MAX_IN_LINE):
        assert lines.enter("foo", number) is not None
    assert lines.enter("foo", "b") is None
    for number in range(2 * MAX_LINES):
        lines.enter(f"key {number}", "a")
    assert len(lines) == MAX_LINES


async def test_lines_that_nobody_is_in_make_room(autojump_clock: MockClock) -> None:
    lines = Lines()
    for number in range(MAX_LINES):
        lines.enter(f"key {number}", "a")
    await trio.sleep(2 * TURN_TIME)
    lines.enter("one more", "a")
    assert len(lines) == 1


async def test_contended_keys_are_remembered_for_a_while(autojump_clock: MockClock) -> None:
    contended = Lately(CONTENDED)
    contended.note("foo")
    assert contended.has("foo")
    assert not contended.has("bar")
    await trio.sleep(CONTENDED)
    assert not contended.has("foo")
    for number in range(MAX_NOTED_KEYS + 1):
        contended.note(str(number))
    assert not contended.has("0")
    assert contended.has("1")


async def test_turns_are_kept_until_their_time_is_up(autojump_clock: MockClock) -> None:
    turns = Turns()
    began = trio.current_time()
    turns.keep("foo", began)
    assert turns.take("bar") is None
    assert turns.take("foo") == began
    assert turns.take("foo") is None, "it is used, or others have theirs"
    turns.keep("foo", began)
    await trio.sleep(TURN_TIME)
    assert turns.take("foo") is None
    for number in range(MAX_NOTED_KEYS + 1):
        turns.keep(str(number), trio.current_time())
    assert turns.take("0") is None
    assert turns.take("1") is not None


def test_who_has_the_turn_is_told_what_is_chosen_and_never_a_mere_vote() -> None:
    acceptor = Acceptor(MemoryStore())
    proposal = Proposal(ProposalId(b"p" * 16, 1), b"value")
    acceptor.handle(Accept(Instance("foo", 0), FAST, proposal))
    assert acceptor.handle(Turn("foo")) == Told(NO_TOP, None)
    acceptor.handle(Commit(Instance("foo", 0), proposal.id, None))
    acceptor.handle(Accept(Instance("foo", 1), FAST, proposal))
    reply = acceptor.handle(Turn("foo"))
    assert reply == Told(0, proposal)
    assert answers(reply, Turn("foo"))
    assert not answers(acceptor.handle(Find("foo", 2)), Turn("foo")), "that may be a vote"
    assert not answers(Told(0, None), Turn("foo"))
    assert not answers(Told(NO_TOP, proposal), Turn("foo"))


async def write(addresses: list[str], number: int, entries: list[Entry], times: int = 15) -> int:
    async with open_kv(addresses, timeout=30) as kv:
        for _ in range(times):
            entries.append(await kv.put("foo", number))  # noqa: PERF401 - not at once
        return kv.attempts


@pytest.mark.parametrize("away", [False, True])
async def test_writers_of_one_key_take_turns_instead_of_duelling(away: bool) -> None:
    """Also while the acceptor is away that the key names: then they meet at the next one."""
    attempts: list[int] = []
    entries: list[Entry] = []
    async with open_local_cluster() as cluster:
        if away:
            ids = [identity.acceptor for identity in cluster._identities]
            cluster.stop(ids.index(sorted(ids)[crc32(b"foo") % len(ids)]))

        async def one(number: int) -> None:
            attempts.append(await write(cluster.addresses, number, entries))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, number)
    assert sorted(entry.ver for entry in entries) == list(range(120))
    # By duelling, eight need more than ten for each version.
    assert sum(attempts) < 3 * 120


@pytest.mark.parametrize("away", [0, 1])
async def test_two_clients_of_many_tasks_share_a_key(away: int) -> None:
    """Each always has a write ready, so that who has lost would come too late for ever."""
    won = [0, 0]
    async with open_local_cluster() as cluster:
        for number in range(away):
            cluster.stop(2 - number)

        async def count(kv: KV, number: int) -> None:
            while sum(won) < 400:
                await kv.update("n", lambda old: (old or 0) + 1)
                won[number] += 1

        async def work(number: int) -> None:
            async with open_kv(cluster.addresses) as kv, trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(count, kv, number)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(2):
                    nursery.start_soon(work, number)
    assert min(won) > 100


@pytest.fixture
def turns_end_only_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends when its holder says so, and not because time is up."""
    for name in (
        "lines.TURN_TIME",
        "remembered.TURN_TIME",
        "client.LINE_PATIENCE",
        "client.COMMIT_PATIENCE",
        "commits.COMMIT_PATIENCE",
        "rounds.COMMIT_PATIENCE",
        "rounds.COMMIT_DELAY",
    ):
        monkeypatch.setattr(f"paxoskv.{name}", 60)


@asynccontextmanager
async def two_in_line() -> AsyncIterator[tuple[KV, KV]]:
    """Two clients that know that both of them write one key."""
    async with (
        open_local_cluster() as cluster,
        open_kv(cluster.addresses) as first,
        open_kv(cluster.addresses) as second,
    ):
        for kv in (first, second):
            await kv.get("foo")  # connected
            kv._client._contended.note("foo")
        yield first, second


@pytest.mark.parametrize("write", ["put", "set"])
@pytest.mark.parametrize("tasks", [1, 6])
@pytest.mark.usefixtures("turns_end_only_by_word")
async def test_a_turn_is_for_all_that_a_client_has_to_write(
    monkeypatch: pytest.MonkeyPatch, tasks: int, write: str
) -> None:
    """In one task or in many; and once there is no more, the next in line has it at once."""
    monkeypatch.setattr("paxoskv.client.TURN_SLICE", 60)
    order = ""

    async def work(kv: KV, name: str, vers: Iterator[int]) -> None:
        nonlocal order
        for ver in islice(vers, 6 // tasks):
            await (kv.put("foo", name) if write == "put" else kv.set("foo", ver, name))
            order += name

    async with two_in_line() as (a, b):
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for kv, name, vers in (a, "a", range(6)), (b, "b", range(6, 12)):
                    left = iter(vers)
                    for _ in range(tasks):
                        nursery.start_soon(work, kv, name, left)
        assert a.attempts == b.attempts == 6
    assert order in ("aaaaaabbbbbb", "bbbbbbaaaaaa")


@pytest.mark.usefixtures("turns_end_only_by_word")
async def test_a_turn_ends_for_who_has_more_and_more_to_write() -> None:
    async with two_in_line() as (a, b), trio.open_nursery() as nursery:

        async def work() -> None:
            while True:
                await a.put("foo", "a")

        nursery.start_soon(work)
        await trio.sleep(TURN_SLICE)
        with trio.fail_after(20):
            await b.put("foo", "b")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("write", ["put", "set"])
@pytest.mark.parametrize(
    ("n", "fast"),
    [
        (1, [True, True]),
        (2, [True, True]),
        (3, [True, False]),
        (3, [True, True, True, True]),
        (4, [True, True]),
    ],
)
async def test_no_client_is_beaten_for_ever(n: int, fast: list[bool], write: str) -> None:
    """Also where the first refusals show at once what is chosen, so that nobody seems to duel;
    and where each reads before it writes, so that what it has read may be old by its turn."""
    won = [0 for _ in fast]

    async def once(kv: KV, number: int) -> None:
        if write == "put":
            await kv.put("foo", number)
        else:
            latest = await kv.latest("foo")
            await kv.set("foo", 0 if latest is None else latest.ver + 1, number)
        won[number] += 1

    async def work(kv: KV, number: int) -> None:
        while sum(won) < 400:
            with suppress(VersionTaken):
                await once(kv, number)

    async with open_local_cluster(n) as cluster, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_kv(cluster.addresses, fast=each)) for each in fast
        ]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number, kv in enumerate(clients):
                    nursery.start_soon(work, kv, number)
    assert min(won) > 200 / len(fast)


async def test_who_waits_in_line_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        kv._client._contended.note("foo")
        lines: list[Lines] = []
        before = Lines.enter
        monkeypatch.setattr(
            Lines, "enter", lambda self, *args: lines.append(self) or before(self, *args)
        )
        await kv.put("foo", 1)
        kv._client._contended.note("foo")
        await kv.get("foo")
        lines[0].enter("foo", "other")  # somebody else has the turn, and does not use it
        done: list[Entry] = []

        async def put() -> None:
            done.append(await kv.put("foo", 2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            await kv.put("bar", 0)
            await kv.get("foo")
            assert not done, "it waits in line"
        assert done == [Entry("foo", 2, 2)]


async def test_a_line_that_nobody_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The acceptor that the key names never lets anybody have a turn."""
    monkeypatch.setattr("paxoskv.client.LINE_PATIENCE", 0.05)

    async def never(self: Connection, *_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Connection, "_give_turn", never)
    entries: list[Entry] = []
    async with open_local_cluster() as cluster, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(write, cluster.addresses, number, entries, 5)
    assert sorted(entry.ver for entry in entries) == list(range(15))


async def test_a_call_whose_time_ends_in_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: Connection, *_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Connection, "_give_turn", never)
    monkeypatch.setattr(Lines, "enter", lambda self, key, who: Line().join(who))
    async with (
        open_local_cluster() as cluster,
        open_kv(cluster.addresses, timeout=0.2) as kv,
        open_kv(cluster.addresses) as other,
    ):
        await kv.put("foo", 0)
        await other.put("foo", 1)
        for _ in range(2):  # once it has lost version 1 to the other, and then at once
            with pytest.raises(Unavailable, match="it waited for its turn among") as caught:
                await kv.put("foo", 2)
            assert caught.value.maybe is None, "another has version 1, and version 2 was not begun"


async def test_who_waits_in_line_is_answered_after_what_comes_later() -> None:
    async with open_local_cluster(1) as cluster:
        host, port = cluster.addresses[0].split(":")
        async with (
            await trio.open_tcp_stream(host, int(port)) as has_the_turn,
            await trio.open_tcp_stream(host, int(port)) as waits,
        ):
            for stream in (has_the_turn, waits):
                await stream.receive_some()  # the greeting
            turn = wire.encode_requests([Turn("foo")])
            await has_the_turn.send_all(wire.run(0, turn))
            await has_the_turn.receive_some()
            read = wire.encode_requests([Read(Instance("foo", 0))])
            await waits.send_all(wire.run(0, turn) + wire.run(1, read))
            replies: list[tuple[int, object]] = []
            buffer = wire.FrameBuffer()
            while len(replies) < 2:
                for payload in buffer.feed(await waits.receive_some()):
                    first, (reply,) = replies_in(payload)
                    replies.append((first, reply))
    assert replies == [(1, Report(None, NO_TOP)), (0, Told(NO_TOP, None))]


async def test_who_writes_a_crowded_key_gets_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that always wins would never notice those who wait."""
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        await kv.set("bar", 0, 0)
        assert not kv._client._contended.has("foo")
        monkeypatch.setattr(Lines, "__len__", lambda _: 1)
        monkeypatch.setattr(Lines, "crowded", lambda _, key, who: key in ("foo", "bar"))
        await kv.put("foo", 1)
        await kv.put("baz", 1)
        await kv.set("bar", 1, 1)
        assert kv._client._contended.has("foo")
        assert kv._client._contended.has("bar")
        assert not kv._client._contended.has("baz")


async def test_a_vote_tells_whether_others_wait_in_line_or_have_the_turn(
    autojump_clock: MockClock,
) -> None:
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    proposal = Proposal(ProposalId(b"p" * 16, 1), b"value")

    async def crowded(key: str, ver: int) -> bool:
        reply = host.reply(Accept(Instance(key, ver), FAST, proposal), "me")
        assert isinstance(reply, Voted)
        assert reply == Voted(ver, reply.crowded)
        return reply.crowded

    assert not await crowded("foo", 0)
    host.lines.enter("foo", "me")
    assert not await crowded("foo", 1), "nobody waits"
    host.lines.enter("foo", "other")
    assert await crowded("foo", 2)
    assert not await crowded("bar", 0)
    host.lines.enter("bar", "other")
    assert await crowded("bar", 1), "who is alone in line must not be overtaken for ever"
    await trio.sleep(2 * TURN_TIME)
    assert not await crowded("bar", 2), "it may have gone"


async def test_only_news_of_a_written_version_end_a_turn() -> None:
    """Who tells of it with an Accept goes on with his turn; so does who tells what he was told."""
    identity = new_cluster([Address("127.0.0.1", 1)])[0]
    first, second = (Proposal(ProposalId(b"p" * 16, serial), b"") for serial in (1, 2))
    accept = Accept(Instance("foo", 1), FAST, second, True, first.id)
    commit = Commit(Instance("foo", 0), first.id, None)
    host = Host(identity, MemoryStore())
    await host.answer([Accept(Instance("foo", 0), FAST, first)])
    assert host.lines.enter("foo", "a") is None
    place = host.lines.enter("foo", "b")
    assert place is not None
    host.reply(accept, "a")
    assert not place.given.is_set()
    host.reply(Commit(Instance("foo", 1), second.id, None), "a")
    assert place.given.is_set()
    place = host.lines.enter("foo", "c")
    assert place is not None
    for old in (commit, accept):
        host.reply(old, "b")
    assert not place.given.is_set()


def frame(first: int, *requests: Request) -> bytes:
    return wire.run(first, wire.encode_requests(requests))


def with_linger_0(stream: trio.SocketStream) -> None:
    """From now on closing it is a reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_r12_a_client_that_goes_while_it_is_answered_and_waits_in_line() -> None:
    """Its turn comes while nothing can be sent: both tasks of the connection end in an error."""
    large = Proposal(ProposalId(b"p" * 16, 1), b"x" * 1_000_000)
    async with open_local_cluster(1) as cluster:
        (address,) = map(parse_address, cluster.addresses)
        async with (
            await trio.open_tcp_stream(address.host, address.port) as first,
            await trio.open_tcp_stream(address.host, address.port) as second,
        ):
            await first.send_all(frame(0, Accept(Instance("large", 0), FAST, large)))
            await first.send_all(frame(1, Turn("foo")))
            await trio.sleep(0.05)
            reads = [frame(1 + number, Read(Instance("large", 0))) for number in range(20)]
            await second.send_all(frame(0, Turn("foo")) + b"".join(reads))
            await trio.sleep(3 * TURN_TIME)
            with_linger_0(second)
        await trio.sleep(0.1)
        async with open_kv(cluster.addresses) as kv:
            assert await kv.put("foo", 1) == Entry("foo", 0, 1)


class FailsOnce(MemoryStore):
    """A store whose next flush takes a while, and fails."""

    saved = flushed = 0
    fails = False

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        super().save(ledger, summary, registers)
        self.saved += 1

    def flush(self) -> None:
        saved = self.saved
        if self.fails:
            time.sleep(2 * TURN_TIME)
            self.fails = False
            raise StoreError("no room")
        self.flushed = saved

    def reload(self) -> None:
        self.flushed = self.saved


async def test_r1_a_flush_fails_for_both_who_wait_on_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paxoskv.host.QUICK_FLUSH", 0.0)  # in a thread
    monkeypatch.setattr("paxoskv.host.MEND_PAUSE", 0.01)
    store = FailsOnce()
    value = Proposal(ProposalId(b"p" * 16, 1), b"x")
    async with trio.open_nursery() as nursery:
        listeners = await server.listen(Address("127.0.0.1", 0))
        address = Address(*listeners[0].socket.getsockname())
        (identity,) = new_cluster([address])
        await nursery.start(server.serve, identity, store, listeners)
        async with (
            await trio.open_tcp_stream(address.host, address.port) as first,
            await trio.open_tcp_stream(address.host, address.port) as second,
        ):
            await first.send_all(frame(0, Turn("foo")))
            await trio.sleep(0.01)
            await second.send_all(frame(0, Turn("foo")))
            await trio.sleep(0.01)
            store.fails = True
            await second.send_all(frame(1, Accept(Instance("bar", 0), FAST, value)))
            with trio.fail_after(5):
                while store.fails:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            await trio.sleep(3 * TURN_TIME)
        async with open_kv([str(address)]) as kv:
            assert await kv.put("foo", 1) == Entry("foo", 0, 1), "it serves again"
        nursery.cancel_scope.cancel()


async def read_replies(stream: trio.SocketStream) -> None:
    buffer = wire.FrameBuffer()
    while data := await stream.receive_some():
        for payload in buffer.feed(data):
            replies_in(payload)


async def test_r1_a_turn_that_comes_with_a_vote_does_not_hold_it_up_over_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client is slow to read, and meanwhile the disk fails, and forgets the vote."""
    monkeypatch.setattr("paxoskv.host.QUICK_FLUSH", 0.0)  # in a thread
    monkeypatch.setattr("paxoskv.host.MEND_PAUSE", 0.01)
    store = FailsOnce()
    (identity,) = new_cluster([Address("127.0.0.1", 1)])
    host = Host(identity, store)
    keys = [f"large {number}" for number in range(12)]
    for serial, key in enumerate(keys, 1):
        proposal = Proposal(ProposalId(b"p" * 16, serial), b"x" * 1_000_000)
        await host.answer([Accept(Instance(key, 0), FAST, proposal)])
        await host.answer([Commit(Instance(key, 0), proposal.id, None)])
    value = Proposal(ProposalId(b"q" * 16, 1), b"x")
    async with trio.open_nursery() as nursery:
        address = parse_address(
            await nursery.start(Server(host).serve, await server.listen(ANYWHERE))
        )
        async with await trio.open_tcp_stream(address.host, address.port) as slow:
            await slow.receive_some()  # the greeting
            turns = [frame(1 + number, Turn(key)) for number, key in enumerate(keys)]
            store.fails = True
            await slow.send_all(frame(0, Accept(Instance("foo", 0), FAST, value)) + b"".join(turns))
            await trio.sleep(0.1)
            with suppress(StoreError):
                await host.answer([Accept(Instance("bar", 0), FAST, value)])
            await trio.sleep(0.2)
            with pytest.raises(StoreError, match="no room"), trio.fail_after(10):
                await read_replies(slow)
        nursery.cancel_scope.cancel()


async def test_r12_turns_that_a_connection_waits_for_are_bounded() -> None:
    async with open_local_cluster(1) as cluster:
        (address,) = map(parse_address, cluster.addresses)
        async with (
            await trio.open_tcp_stream(address.host, address.port) as first,
            await trio.open_tcp_stream(address.host, address.port) as greedy,
        ):
            turns = [frame(number, Turn(f"{number}")) for number in range(3 * MAX_TURNS_AWAITED)]
            await first.send_all(b"".join(turns))
            await trio.sleep(0.01)
            tasks = trio.lowlevel.current_statistics().tasks_living
            await greedy.send_all(b"".join(turns))
            await trio.sleep(TURN_TIME / 2)
            more = trio.lowlevel.current_statistics().tasks_living - tasks
            assert 0 < more <= MAX_TURNS_AWAITED
