"""Catching up, without a cluster; `test_durability` has it with processes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from paxoskv import ProtocolError, StoreError, Unavailable, catchup
from paxoskv.catchup import Learner, catch_up
from paxoskv.host import Host
from paxoskv.identity import Address, new_cluster
from paxoskv.limits import (
    AWAY,
    CATCH_UP_BYTES,
    CATCH_UP_INTERVAL,
    CATCH_UP_LEAST,
    CATCH_UP_SPEED,
    MIB,
)
from paxoskv.paxos.acceptor import Summary
from paxoskv.paxos.messages import (
    Accept,
    Ballot,
    Commit,
    Instance,
    Proposal,
    ProposalId,
    Reply,
    Request,
)
from paxoskv.paxos.operation import Latest
from paxoskv.server import Server, listen
from paxoskv.storage.memory import MemoryStore

from .stores import GatedStore


async def test_r8_who_was_away_learns_the_versions_between_as_well() -> None:
    versions = [Latest(ver, Proposal(ProposalId(b"m" * 16, ver + 1), b"x")) for ver in range(5)]

    class Others:
        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            return {"foo": versions[4]}, None

        async def find(self, key: str, below: int) -> Latest:
            assert key == "foo"
            return versions[below - 1]

    store = MemoryStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)
    host.acceptor.handle(Commit(Instance("foo", 0), versions[0].proposal.id, versions[0].proposal))
    await Learner(host, Others()).learn_all()  # type: ignore[arg-type]
    assert store.ledger("foo").summary == Summary(top=4, chosen=(0, 1, 2, 3, 4))


def chosen(ver: int, value: bytes = b"x") -> Latest:
    return Latest(ver, Proposal(ProposalId(b"m" * 16, ver + 1), value))


async def test_r12_the_versions_of_one_key_are_read_no_faster_and_no_more_than_the_limits_say(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = bytes(MIB)
    handed_over: list[int] = []
    asked = 0

    class Others:
        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            return {"foo": chosen(99, large)}, None

        async def find(self, key: str, below: int) -> Latest:
            nonlocal asked
            asked += 1
            return chosen(below - 1, large)

    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    answer = host.answer

    async def noted(requests: Sequence[Request]) -> list[Reply]:
        handed_over.append(len(requests))
        return await answer(requests)

    monkeypatch.setattr(host, "answer", noted)
    began = trio.current_time()
    await Learner(host, Others()).learn_all()  # type: ignore[arg-type]
    assert asked == CATCH_UP_BYTES // MIB - 1
    assert handed_over == [1] * (asked + 1), "others are served between two large ones"
    assert trio.current_time() - began >= (asked + 1) * MIB / CATCH_UP_SPEED
    assert host.acceptor.known("foo").ver == 99


async def test_what_was_learned_in_part_is_learned_in_full_the_next_time() -> None:
    """The latest comes last, for whoever knows that looks for nothing below."""
    fails = True

    class Others:
        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            return {"foo": chosen(4)}, None

        async def find(self, key: str, below: int) -> Latest:
            if below == 2 and fails:
                raise Unavailable("nobody is there")
            return chosen(below - 1)

    store = MemoryStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)
    learner = Learner(host, Others())  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await learner.learn_all()
    fails = False
    await learner.learn_all()
    assert store.ledger("foo").summary == Summary(top=4, chosen=(0, 1, 2, 3, 4))


async def test_the_latest_is_learned_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a disk that fails in between leaves the others unlearned for ever."""
    monkeypatch.setattr(catchup, "CATCH_UP_BATCH", 2)

    class Others:
        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            return {"foo": chosen(4)}, None

        async def find(self, key: str, below: int) -> Latest | None:
            return chosen(below - 1) if below else None

    store = MemoryStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)
    learner = Learner(host, Others())  # type: ignore[arg-type]
    answer = host.answer
    disk = iter((answer, None))

    async def fails_once(requests: Sequence[Request]) -> list[Reply]:
        works = next(disk, answer)
        if works is None:
            raise StoreError("no room")
        return await works(requests)

    monkeypatch.setattr(host, "answer", fails_once)
    with pytest.raises(StoreError):
        await learner.learn_all()
    await learner.learn_all()
    assert store.ledger("foo").summary == Summary(top=4, chosen=(0, 1, 2, 3, 4))


async def test_where_a_page_cannot_be_read_it_goes_on_from_there(
    autojump_clock: MockClock,
) -> None:
    asked: list[str] = []

    class Others:
        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            asked.append(after)
            if asked == ["", "a"]:
                raise Unavailable("nobody is there")
            return {(after or "0") + "a": chosen(0)}, {"": "a", "a": "b", "b": None}[after]

    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    learner = Learner(host, Others())  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await learner.learn_all()
    await learner.learn_all()
    assert asked == ["", "a", "a", "b"]
    await learner.learn_all()
    assert asked == ["", "a", "a", "b"], "it is not due again"
    await trio.sleep(CATCH_UP_INTERVAL)
    await learner.learn_all()
    assert asked[4:] == ["", "a", "b"]


async def test_keys_that_were_missed_are_looked_after_while_all_are_gone_through(
    autojump_clock: MockClock,
) -> None:
    pages = 0

    class Others:
        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            nonlocal pages
            pages += 1
            host.acceptor.handle(Commit(Instance("missed", 0), ProposalId(b"m" * 16, 1), None))
            return {}, str(pages) if pages < 3 else None

        async def find(self, key: str) -> Latest:
            looked_up_at.append(pages)
            return chosen(0)

    looked_up_at: list[int] = []
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    await Learner(host, Others()).learn_all()  # type: ignore[arg-type]
    assert looked_up_at == [1]


async def test_who_was_stopped_or_cut_off_goes_through_all_keys(autojump_clock: MockClock) -> None:
    """Also where no connection was lost, and in the middle of going through all keys."""
    takes: list[float] = []

    class Others:
        async def read(self, instance: Instance) -> None:
            await trio.sleep(takes.pop() if takes else 0.001)

    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    learner = Learner(host, Others())  # type: ignore[arg-type]
    learner.due = later = trio.current_time() + CATCH_UP_INTERVAL
    async with trio.open_nursery() as nursery:
        nursery.start_soon(learner.notice)
        await trio.sleep(20.5)
        assert learner.due == later
        autojump_clock.jump(AWAY + 0.01)  # stopped
        await trio.sleep(1.1)
        assert learner.due <= trio.current_time()
        learner.due = later
        takes.append(AWAY + 0.01)  # cut off, for as long as a connection survives it
        await trio.sleep(AWAY + 3)
        assert learner.due <= trio.current_time()
        nursery.cancel_scope.cancel()


async def test_r12_where_all_are_slow_the_keys_are_not_gone_through_without_end(
    autojump_clock: MockClock,
) -> None:
    passes = 0

    class Slow:
        async def read(self, instance: Instance) -> None:
            await trio.sleep(AWAY + 1)

        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            nonlocal passes
            passes += 1
            return {}, None

    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    learner = Learner(host, Slow())  # type: ignore[arg-type]
    with trio.move_on_after(20 * CATCH_UP_LEAST):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(learner.notice)
            while True:
                await learner.learn_all()
                await trio.sleep(0.1)
    assert 10 < passes <= 21


async def test_r12_missed_keys_are_read_no_faster_than_the_limit_says(
    autojump_clock: MockClock,
) -> None:
    class Others:
        async def find(self, key: str) -> Latest:
            return chosen(0, bytes(MIB))

    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    for number in range(16):
        host.acceptor.handle(Commit(Instance(f"{number}", 0), ProposalId(b"m" * 16, 1), None))
    began = trio.current_time()
    await Learner(host, Others()).learn_missed()  # type: ignore[arg-type]
    assert trio.current_time() - began >= 16 * MIB / CATCH_UP_SPEED


async def test_a_missed_key_that_cannot_be_looked_up_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catchup, "CATCH_UP_PAUSE", 0.01)
    passed = trio.Event()

    async def missed(_: Learner) -> None:
        raise ProtocolError("two proposals where there can be only one")

    async def learn_all(_: Learner) -> None:
        passed.set()

    monkeypatch.setattr(Learner, "learn_missed", missed)
    monkeypatch.setattr(Learner, "learn_all", learn_all)
    addresses = [Address("127.0.0.1", port) for port in (1, 2, 3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catch_up, Host(new_cluster(addresses)[0], MemoryStore()))
        with trio.fail_after(5):
            await passed.wait()
        nursery.cancel_scope.cancel()


async def test_who_is_cut_off_without_a_word_notices_that(
    autojump_clock: MockClock,
) -> None:
    class Nobody:
        async def read(self, instance: Instance) -> None:
            raise Unavailable("nobody is there")

    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    learner = Learner(host, Nobody())  # type: ignore[arg-type]
    learner.due = trio.current_time() + CATCH_UP_INTERVAL
    async with trio.open_nursery() as nursery:
        nursery.start_soon(learner.notice)
        await trio.sleep(1.5)
        assert learner.due <= trio.current_time()
        nursery.cancel_scope.cancel()


async def test_a_key_that_is_missed_again_while_it_is_looked_up_is_looked_up_again() -> None:
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    versions = [Latest(ver, Proposal(ProposalId(b"m" * 16, ver + 1), b"x")) for ver in range(2)]
    found = iter(versions)

    class Others:
        async def find(self, key: str) -> Latest:
            latest = next(found)
            if latest.ver == 0:  # and just now the next one is chosen
                host.acceptor.handle(Commit(Instance(key, 1), versions[1].proposal.id, None))
            return latest

    host.acceptor.handle(Commit(Instance("foo", 0), versions[0].proposal.id, None))
    learner = Learner(host, Others())  # type: ignore[arg-type]
    await learner.learn_missed()
    assert host.acceptor.known("foo").ver == 0
    await learner.learn_missed()
    assert host.acceptor.known("foo").ver == 1
    assert not host.acceptor.missed


async def test_a_key_that_cannot_be_looked_up_stays_missed() -> None:
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())

    class Others:
        async def find(self, key: str) -> Latest:
            raise Unavailable("nobody is there")

    host.acceptor.handle(Commit(Instance("foo", 0), ProposalId(b"m" * 16, 1), None))
    with pytest.raises(Unavailable):
        await Learner(host, Others()).learn_missed()  # type: ignore[arg-type]
    assert list(host.acceptor.missed) == ["foo"]


async def test_r12_all_keys_are_gone_through_no_faster_than_the_limit_says(
    autojump_clock: MockClock,
) -> None:
    value = bytes(CATCH_UP_SPEED // 4)
    pages = [
        {f"key {number}": Latest(0, Proposal(ProposalId(b"m" * 16, number + 1), value))}
        for number in range(12)
    ]

    class Others:
        async def page(self, prefix: str, after: str) -> tuple[dict[str, Latest], str | None]:
            return pages.pop(), "more" if pages else None

    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], MemoryStore())
    began = trio.current_time()
    await Learner(host, Others()).learn_all()  # type: ignore[arg-type]
    assert 3.0 <= trio.current_time() - began < 3.1
    assert host.acceptor.known("key 11").proposal


class Forgetful(GatedStore):
    """A store that notes what it has forgotten when it is read again."""

    forgot: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def reload(self) -> None:
        before = self.ledger("foo").summary
        super().reload()
        self.forgot = before.chosen, self.ledger("foo").summary.chosen


async def test_who_forgot_a_commit_with_a_flush_that_failed_learns_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had said that the commit arrived, so nobody tells it once more."""
    monkeypatch.setattr("paxoskv.host.MEND_PAUSE", 0.01)
    monkeypatch.setattr("paxoskv.host.HINT_FLUSH_INTERVAL", 60.0)
    monkeypatch.setattr(catchup, "CATCH_UP_PAUSE", 0.01)

    async def notice(_: Learner) -> None:
        """Ask nothing: to answer would flush the commit."""

    looked = trio.Event()
    learn_all = Learner.learn_all

    async def noted(learner: Learner) -> None:
        await learn_all(learner)
        looked.set()

    monkeypatch.setattr(Learner, "notice", notice)
    monkeypatch.setattr(Learner, "learn_all", noted)
    listeners = [await listen(Address("127.0.0.1", 0)) for _ in range(3)]
    addresses = [Address(*each[0].socket.getsockname()) for each in listeners]
    stores = [Forgetful() for _ in addresses]
    hosts = [
        Host(identity, store)
        for identity, store in zip(new_cluster(addresses), stores, strict=True)
    ]
    async with trio.open_nursery() as nursery:
        for host, store, each in zip(hosts, stores, listeners, strict=True):
            store.gate.set()
            await nursery.start(Server(host).serve, each)
        nursery.start_soon(catch_up, hosts[0])
        await looked.wait()  # which asks, and so flushes, as well
        proposal = chosen(0).proposal
        for host in hosts:
            await host.answer([Accept(Instance("foo", 0), Ballot(1, b"m" * 16), proposal)])
            host.reply(Commit(Instance("foo", 0), proposal.id, None))
        assert stores[0].flushed < stores[0].saved, "the commit is not on disk"
        stores[0].problem = StoreError("no room")
        with pytest.raises(StoreError, match="no room"):
            await hosts[0].answer([Commit(Instance("bar", 0), ProposalId(b"m" * 16, 1), None)])
        stores[0].problem = None
        with trio.fail_after(10):
            while not stores[0].forgot or not hosts[0].acceptor.known("foo").proposal:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert stores[0].forgot == ((0,), ())
        nursery.cancel_scope.cancel()
