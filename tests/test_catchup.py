"""Catching up, without a cluster; `test_durability` has it with processes."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from paxoskv import StoreError, Unavailable, catchup
from paxoskv.catchup import _Learner, catch_up
from paxoskv.host import Host
from paxoskv.identity import Address, new_cluster
from paxoskv.kv import open_kv
from paxoskv.limits import CATCH_UP_SPEED
from paxoskv.paxos.acceptor import Summary
from paxoskv.paxos.messages import Commit, Instance, Proposal, ProposalId
from paxoskv.paxos.operation import Latest
from paxoskv.server import Server, listen
from paxoskv.storage.memory import MemoryStore

from .stores import GatedStore


async def test_r8_who_was_away_learns_the_versions_between_as_well() -> None:
    versions = [Latest(ver, Proposal(ProposalId(b"m" * 16, ver + 1), b"x")) for ver in range(5)]

    class Others:
        async def history(self, key: str, above: int = -1) -> list[Latest]:
            assert key == "foo"
            return [version for version in versions if version.ver > above]

    store = MemoryStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)
    host.acceptor.handle(Commit(Instance("foo", 0), versions[0].proposal.id, versions[0].proposal))
    learner = _Learner(host, Others())  # type: ignore[arg-type]
    assert await learner._learn("foo", versions[4]) == 4
    await learner._commit(0)
    assert store.ledger("foo").summary == Summary(top=4, chosen=(0, 1, 2, 3, 4))


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
    learner = _Learner(host, Others())  # type: ignore[arg-type]
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
        await _Learner(host, Others()).learn_missed()  # type: ignore[arg-type]
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
    await _Learner(host, Others()).learn_all()  # type: ignore[arg-type]
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
        async with open_kv(map(str, addresses)) as kv:
            await kv.put("foo", 1)
        with trio.fail_after(10):
            while not all(host.acceptor.known("foo").proposal for host in hosts):  # noqa: ASYNC110
                await trio.sleep(0.01)
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
