"""Rules that could be broken without a test that failed, until ``nox -s mutants`` said so."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
import trio

from paxoskv import WrongCluster
from paxoskv.catchup import _Learner
from paxoskv.client import Client
from paxoskv.cluster import Cluster
from paxoskv.errors import DirectoryError, StoreError
from paxoskv.identity import Address, new_cluster
from paxoskv.limits import (
    MAX_PAGE_BYTES,
)
from paxoskv.paxos.acceptor import Acceptor, Register, Summary
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Commit,
    Find,
    Found,
    Instance,
    Noted,
    Page,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Reply,
    Scan,
    Vote,
    Voted,
)
from paxoskv.paxos.operation import Done, Latest, Pause
from paxoskv.paxos.proposer import Ballots, Proposer
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.reader import Finder
from paxoskv.server import Host
from paxoskv.storage.disk import DiskStore
from paxoskv.storage.memory import MemoryStore

ME, OTHER = b"m" * 16, b"o" * 16
A, B, C = (letter.encode() * 16 for letter in "ABC")
FOO = Instance("foo", 0)
P = Proposal(ProposalId(ME, 1), b"p")
THREE = Quorums(3)
NOBODY = Address("127.0.0.1", 1)


# --- R1 ------------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """A store whose flushes wait, each for the test to let it go on."""

    __slots__ = ("flushed", "gate", "saved")

    def __init__(self) -> None:
        super().__init__()
        self.saved = self.flushed = 0
        self.gate = threading.Semaphore(0)

    def save(self, key: str, summary: Summary, registers: Mapping[int, Register]) -> None:
        super().save(key, summary, registers)
        self.saved += 1

    def flush(self) -> None:
        saved = self.saved
        assert self.gate.acquire(timeout=20)
        self.flushed = saved


async def test_r1_a_flush_that_had_begun_before_is_not_enough() -> None:
    store = SlowStore()
    host = Host(new_cluster([NOBODY])[0], store)
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


@pytest.fixture
def on_disk(tmp_path: Path) -> DiskStore:
    identity = new_cluster([NOBODY])[0]
    DiskStore.create(tmp_path / "store", identity)
    return DiskStore(tmp_path / "store", identity)


def test_r1_only_a_flush_makes_a_promise_durable(on_disk: DiskStore) -> None:
    acceptor = Acceptor(on_disk)
    acceptor.handle(Prepare(FOO, Ballot(1, ME)))
    assert on_disk.flushed < on_disk.saved
    on_disk.flush()
    assert on_disk.flushed == on_disk.saved
    acceptor.handle(Prepare(FOO, Ballot(2, ME)))
    assert on_disk.flushed < on_disk.saved
    on_disk.close()


# --- R5 ------------------------------------------------------------------------------------


async def test_r5_no_two_calls_of_a_client_share_a_ballot_or_a_proposal() -> None:
    async with trio.open_nursery() as nursery:
        client = Client((NOBODY,), 1.0, Random(1), nursery)
        nursery.cancel_scope.cancel()
    calls = [client._ballots() for _ in range(10)]
    assert len({call.above(FAST) for call in calls}) == 10
    assert len({call.proposal(b"x").id for call in calls}) == 10


# --- R6 ------------------------------------------------------------------------------------


def test_r6_where_nothing_is_chosen_at_the_top_the_look_up_goes_on_below() -> None:
    finder = Finder("foo", THREE, Ballots(ME))
    assert finder.ask() == Find("foo", 2**53)
    left = Vote(Ballot(1, OTHER), Proposal(ProposalId(OTHER, 1), b"left behind"))
    assert finder.receive(A, Found(0, P, 0)) is None
    assert isinstance(finder.receive(C, Found(1, left, 1)), Pause)
    prepare = finder.ask()
    assert isinstance(prepare, Prepare)
    assert prepare.instance == Instance("foo", 1)
    # C is away by now, and a quorum without its vote promises: version 1 was never chosen.
    assert finder.receive(A, Promise(None, 0)) is None
    assert finder.receive(B, Promise(None, 0)) == Find("foo", 1)
    assert finder.receive(A, Found(0, P, 0)) is None
    assert finder.receive(B, Found(0, P, 0)) == Done(Latest(0, P))


# --- R8 ------------------------------------------------------------------------------------


def test_r8_a_commit_marks_no_other_proposal_of_the_same_proposer() -> None:
    store = MemoryStore()
    acceptor = Acceptor(store)
    acceptor.handle(Accept(FOO, Ballot(1, ME), P))
    assert acceptor.handle(Commit(FOO, ProposalId(ME, 2), None)) == Noted()
    assert store.register(FOO).chosen is None


def test_r8_nothing_is_told_to_be_chosen_before_a_quorum_has_voted() -> None:
    ballots = Ballots(ME)
    own = ballots.proposal(b"x")
    proposer = Proposer(FOO, own, THREE, ballots)
    steps: list[tuple[bytes, Reply]] = [
        (A, Promise(None, NO_TOP)),
        (B, Promise(None, NO_TOP)),
        (A, Voted(0)),
    ]
    proposer.ask()
    for acceptor, reply in steps:
        assert proposer.commit is None
        proposer.receive(acceptor, reply)
    assert proposer.commit is None
    assert proposer.receive(B, Voted(0)) == Done(own)
    assert proposer.commit == Commit(FOO, own.id, None)


async def test_r8_who_was_away_learns_the_versions_between_as_well() -> None:
    versions = [Latest(ver, Proposal(ProposalId(ME, ver + 1), b"x")) for ver in range(5)]

    class Others:
        async def history(self, key: str, above: int = -1) -> list[Latest]:
            assert key == "foo"
            return [version for version in versions if version.ver > above]

    store = MemoryStore()
    host = Host(new_cluster([NOBODY])[0], store)
    host.acceptor.handle(Commit(FOO, versions[0].proposal.id, versions[0].proposal))
    learner = _Learner(host, Others())  # type: ignore[arg-type]
    assert await learner._learn("foo", versions[4]) == 4
    await learner._commit(0)
    assert store.summary("foo") == Summary(top=4, chosen=(0, 1, 2, 3, 4))


# --- R9 ------------------------------------------------------------------------------------


class FailingRocks:
    """RocksDB, of which every batch fails."""

    def __init__(self, rocks: object) -> None:
        self._rocks = rocks

    def __getattr__(self, name: str) -> object:
        return getattr(self._rocks, name)

    def write(self, batch: object) -> None:
        raise Exception("IO error: No space left on device")  # noqa: TRY002 - as it does


def test_r9_nothing_is_dropped_without_its_floor(on_disk: DiskStore) -> None:
    acceptor = Acceptor(on_disk, keep=1)
    newer = Proposal(ProposalId(ME, 2), b"newer")
    acceptor.handle(Commit(FOO, P.id, P))
    on_disk.flush()
    on_disk._db = FailingRocks(on_disk._db)  # type: ignore[assignment]
    acceptor.handle(Commit(Instance("foo", 1), newer.id, newer))
    with pytest.raises(StoreError, match="No space left"):
        on_disk.flush()
    on_disk.reload()
    assert on_disk.summary("foo") == Summary(0, 0, (0,))
    assert on_disk.register(FOO) == Register(chosen=P)
    on_disk.close()


# --- R10 -----------------------------------------------------------------------------------


async def test_r10_all_acceptors_of_a_cluster_name_the_same_members() -> None:
    addresses = [Address("127.0.0.1", port) for port in (1, 2, 3)]
    one, other = new_cluster(addresses)[0], new_cluster(addresses)[1]
    async with trio.open_nursery() as nursery:
        cluster = Cluster(addresses, nursery, Random(1), lambda: None)
        first, second, _ = cluster.members()
        assert cluster._welcome(first, one)
        with pytest.raises(WrongCluster, match="other members"):
            cluster._welcome(second, other._replace(cluster=one.cluster))
        nursery.cancel_scope.cancel()


def test_r10_the_store_of_an_acceptor_with_other_members_is_refused(tmp_path: Path) -> None:
    identity = new_cluster([Address("127.0.0.1", port) for port in (1, 2, 3)])[0]
    DiskStore.create(tmp_path / "store", identity)
    fewer = identity._replace(members=identity.members[:2])
    with pytest.raises(DirectoryError, match="of other members"):
        DiskStore(tmp_path / "store", fewer)
    moved = [member._replace(address=NOBODY) for member in identity.members]
    DiskStore(tmp_path / "store", identity._replace(members=tuple(moved))).close()


# --- R12 -----------------------------------------------------------------------------------


def test_r12_a_page_is_cut_at_a_size() -> None:
    acceptor = Acceptor(MemoryStore())
    value = bytes(MAX_PAGE_BYTES // 4)
    for number in range(20):
        proposal = Proposal(ProposalId(ME, number + 1), value)
        acceptor.handle(Commit(Instance(f"key {number:02}", 0), proposal.id, proposal))
    page = acceptor.handle(Scan("", ""))
    assert isinstance(page, Page)
    assert page.more
    assert 1 <= len(page.items) <= 4
