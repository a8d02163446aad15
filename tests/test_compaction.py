"""Rules R8 and R9 on the pure code: commit is a hint, and compaction forgets nothing."""

from __future__ import annotations

import pytest

from paxoskv.errors import ProtocolError
from paxoskv.limits import MAX_MISSED_KEYS
from paxoskv.paxos.acceptor import UNHEARD, Acceptor, Register, Summary
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Chosen,
    Commit,
    Compacted,
    Find,
    Found,
    Instance,
    Noted,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Read,
    Reply,
    Scan,
    Vote,
    Voted,
)
from paxoskv.paxos.operation import Done, Latest
from paxoskv.paxos.proposer import Ballots, Proposer
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.reader import Finder, Reader
from paxoskv.storage.memory import MemoryStore

from .pure import Acceptors

ME, OTHER = b"m" * 16, b"o" * 16
FOO = Instance("foo", 0)
P, Q = Proposal(ProposalId(ME, 1), b"p"), Proposal(ProposalId(OTHER, 1), b"q")
TWIN = Proposal(ProposalId(OTHER, 2), b"p")


def voted_for(proposal: Proposal) -> tuple[Acceptor, MemoryStore]:
    store = MemoryStore()
    acceptor = Acceptor(store, keep=2)
    acceptor.handle(Accept(FOO, Ballot(1, ME), proposal))
    return acceptor, store


# --- R8 ------------------------------------------------------------------------------------


def test_r8_a_commit_marks_the_vote_with_the_same_id() -> None:
    acceptor, store = voted_for(P)
    assert acceptor.handle(Commit(FOO, P.id, None)) == Noted()
    assert store.ledger("foo").summary.chosen == (0,)
    assert acceptor.handle(Read(FOO)) == Chosen(P, 0)
    assert acceptor.handle(Commit(FOO, P.id, None)) == Noted()


def test_r8_an_accept_commits_the_version_before() -> None:
    """It is as if the commit had come first, whatever becomes of the accept itself."""
    following = Instance("foo", 1)
    accepts = [
        Accept(following, FAST, Q, append, after)
        for append in (False, True)
        for after in (P.id, Q.id, TWIN.id)
    ]
    for accept in (*accepts, accepts[0]._replace(ballot=Ballot(5, ME))):
        for promised in (FAST, Ballot(3, OTHER)):
            (one, store), (two, other_store) = voted_for(P), voted_for(P)
            for each in (one, two):
                if promised != FAST:
                    each.handle(Prepare(following, promised))
            assert accept.after is not None
            two.handle(Commit(FOO, accept.after, None))
            assert one.handle(accept) == two.handle(accept._replace(after=None))
            assert store.ledger("foo").summary == other_store.ledger("foo").summary
            for instance in (FOO, following):
                assert store.ledger(instance.key).register(instance.ver) == other_store.ledger(
                    instance.key
                ).register(instance.ver)
            assert one.missed == two.missed
            assert store.ledger("foo").summary.chosen == ((0,) if accept.after == P.id else ())


def test_r9_an_accept_that_commits_what_is_dropped_already_is_answered() -> None:
    acceptor = Acceptor(MemoryStore(), keep=2)
    for ver in range(5):
        acceptor.handle(Commit(Instance("foo", ver), Q.id, Q))
    accept = Accept(Instance("foo", 2), FAST, P, False, P.id)
    assert acceptor.handle(accept) == Compacted(4, Q, 4)
    assert acceptor.handle(accept._replace(instance=Instance("foo", 3))) == Chosen(Q, 4)


@pytest.mark.parametrize("other", [Q, TWIN])
def test_r8_a_commit_never_marks_a_vote_with_another_id(other: Proposal) -> None:
    acceptor, store = voted_for(P)
    before = store.ledger(FOO.key).register(FOO.ver)
    # Also when the ballot is the same, or the value is equal.
    assert acceptor.handle(Commit(FOO, other.id, None)) == Noted()
    assert store.ledger(FOO.key).register(FOO.ver) == before
    assert list(acceptor.missed) == ["foo"]
    assert acceptor.handle(Commit(FOO, other.id, other)) == Noted()
    assert store.ledger(FOO.key).register(FOO.ver) == Register(chosen=other)


def test_r8_a_commit_marks_no_other_proposal_of_the_same_proposer() -> None:
    store = MemoryStore()
    acceptor = Acceptor(store)
    acceptor.handle(Accept(FOO, Ballot(1, ME), P))
    assert acceptor.handle(Commit(FOO, ProposalId(ME, 2), None)) == Noted()
    assert store.ledger("foo").summary.chosen == ()


def test_r8_nothing_is_told_to_be_chosen_before_a_quorum_has_voted() -> None:
    ballots = Ballots(ME)
    own = ballots.proposal(b"x")
    proposer = Proposer(FOO, own, Quorums(3), ballots)
    steps: list[tuple[bytes, Reply]] = [
        (b"A", Promise(None, NO_TOP)),
        (b"B", Promise(None, NO_TOP)),
        (b"A", Voted(0)),
    ]
    proposer.ask()
    for acceptor, reply in steps:
        assert proposer.commit is None
        proposer.receive(acceptor, reply)
    assert proposer.commit is None
    assert proposer.receive(b"B", Voted(0)) == Done(own)
    assert proposer.commit == Commit(FOO, own.id, None)


def test_r8_a_commit_without_a_vote_needs_the_proposal() -> None:
    store = MemoryStore()
    acceptor = Acceptor(store)
    assert acceptor.handle(Commit(FOO, P.id, None)) == Noted()
    assert store.ledger("foo").summary == UNHEARD
    assert acceptor.handle(Commit(FOO, P.id, P)) == Noted()
    assert store.ledger("foo").summary == Summary(0, 0, (0,))
    assert acceptor.handle(Read(FOO)) == Chosen(P, 0)


def test_r8_what_is_chosen_stays_chosen() -> None:
    acceptor, _ = voted_for(P)
    acceptor.handle(Commit(FOO, P.id, None))
    with pytest.raises(ProtocolError, match="another proposal is chosen"):
        acceptor.handle(Commit(FOO, Q.id, Q))


def test_r3_an_acceptor_that_knows_what_is_chosen_answers_everything_with_it() -> None:
    acceptor, store = voted_for(P)
    before = store.ledger(FOO.key).register(FOO.ver)
    acceptor.handle(Commit(FOO, P.id, None))
    high = Ballot(9, OTHER)
    for request in (Read(FOO), Prepare(FOO, high), Accept(FOO, high, Q)):
        assert acceptor.handle(request) == Chosen(P, 0)
    assert acceptor.handle(Find("foo", 5)) == Found(0, P, 0)
    assert store.ledger(FOO.key).register(FOO.ver) == before


def test_r8_a_proposer_that_is_told_what_is_chosen_is_done() -> None:
    acceptors = Acceptors()
    acceptors.commit("A", 0, P)
    ballots = Ballots(OTHER)
    proposer = Proposer(FOO, ballots.proposal(b"other"), Quorums(3), ballots)
    assert acceptors.drive(proposer, "ABC") == P
    assert proposer.maybe is None
    assert proposer.commit is None, "somebody told it already"


# --- R9 ------------------------------------------------------------------------------------


def compacted(keep: int = 2, versions: int = 5) -> tuple[Acceptor, MemoryStore, list[Proposal]]:
    store = MemoryStore()
    acceptor = Acceptor(store, keep)
    proposals = [Proposal(ProposalId(ME, ver + 1), b"%d" % ver) for ver in range(versions)]
    for ver, proposal in enumerate(proposals):
        acceptor.handle(Commit(Instance("foo", ver), proposal.id, proposal))
    return acceptor, store, proposals


def test_r9_what_is_older_than_the_newest_chosen_ones_is_dropped_whole() -> None:
    acceptor, store, proposals = compacted()
    assert store.ledger("foo").summary == Summary(top=4, floor=3, chosen=(3, 4))
    assert store.ledger("foo").below(3) is None
    for ver in (3, 4):
        assert acceptor.handle(Read(Instance("foo", ver))) == Chosen(proposals[ver], 4)


def test_r9_a_dropped_version_is_never_answered_as_if_it_were_new() -> None:
    acceptor, store, proposals = compacted()
    gone = Compacted(4, proposals[4], 4)
    high = Ballot(9, OTHER)
    for ver in range(3):
        instance = Instance("foo", ver)
        for request in (Read(instance), Prepare(instance, high), Accept(instance, high, Q)):
            assert acceptor.handle(request) == gone
        assert acceptor.handle(Commit(instance, Q.id, Q)) == Noted()
    assert acceptor.handle(Find("foo", 3)) == gone
    assert acceptor.handle(Find("foo", 4)) == Found(3, proposals[3], 4)
    assert store.ledger("foo").below(3) is None


def test_r9_open_instances_above_the_floor_stay() -> None:
    store = MemoryStore()
    acceptor = Acceptor(store, keep=1)
    vote = Vote(Ballot(1, ME), P)
    acceptor.handle(Accept(Instance("foo", 9), *vote))
    acceptor.handle(Prepare(Instance("foo", 7), Ballot(3, OTHER)))
    acceptor.handle(Accept(Instance("foo", 2), *vote))
    for ver in (4, 5):
        acceptor.handle(Commit(Instance("foo", ver), Q.id, Q))
    assert store.ledger("foo").summary == Summary(top=9, floor=5, chosen=(5,))
    assert store.ledger("foo").register(9).voted == vote
    assert store.ledger("foo").register(7).promised == Ballot(3, OTHER)
    assert store.ledger("foo").register(2) == Register()


def test_r9_versions_may_become_known_in_any_order() -> None:
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        store = MemoryStore()
        acceptor = Acceptor(store, keep=2)
        for ver in order:
            acceptor.handle(Commit(Instance("foo", ver), P.id, P))
        assert store.ledger("foo").summary == Summary(top=3, floor=2, chosen=(2, 3))


def test_r9_one_compacted_answer_stops_a_proposer() -> None:
    acceptors = Acceptors(keep=1)
    for ver in range(3):
        acceptors.commit("A", ver, Proposal(ProposalId(ME, ver + 1), b"x"))
    ballots = Ballots(OTHER)
    # B and C never heard of version 0, and would vote for anything.
    proposer = Proposer(FOO, ballots.proposal(b"other"), Quorums(3), ballots)
    assert isinstance(acceptors.drive(proposer, "ABC"), Compacted)
    assert not any(isinstance(request, Accept) for request in acceptors.requests)
    assert isinstance(acceptors.drive(Reader(FOO, Quorums(3), Ballots(ME)), "ABC"), Compacted)


def test_r9_the_look_up_of_the_latest_starts_anew_when_it_is_overtaken_by_compaction() -> None:
    acceptors = Acceptors(keep=1)
    acceptors.vote("C", 5, b"left behind")
    for ver in range(3):
        acceptors.commit("AB", ver, Proposal(ProposalId(ME, ver + 1), b"x"))
    finder = Finder("foo", Quorums(3), Ballots(OTHER))
    assert finder.ask() == Find("foo", 2**53)
    vote = Vote(Ballot(1, ME), P)
    finder.receive(b"C" * 16, Found(5, vote, 5))
    finder.receive(b"A" * 16, Found(2, vote, 2))
    assert finder.receive(b"B" * 16, Found(2, vote, 2)) == Find("foo", 5)
    newer = Proposal(ProposalId(ME, 9), b"y")
    assert finder.receive(b"A" * 16, Compacted(6, newer, 6)) == Find("foo", 2**53)


def test_a_tombstone_is_kept_like_other_versions() -> None:
    store = MemoryStore()
    acceptor = Acceptor(store, keep=1)
    tombstone = Proposal(ProposalId(ME, 2), None)
    acceptor.handle(Commit(Instance("foo", 0), P.id, P))
    acceptor.handle(Commit(Instance("foo", 1), tombstone.id, tombstone))
    assert acceptor.handle(Read(Instance("foo", 1))) == Chosen(tombstone, 1)
    assert acceptor.handle(Read(Instance("foo", 0))) == Compacted(1, tombstone, 1)
    assert acceptor.handle(Scan("", "")).items == (("foo", 1, tombstone),)  # type: ignore[union-attr]


def test_a_key_with_promises_only_is_in_no_page() -> None:
    acceptor = Acceptor(MemoryStore())
    acceptor.handle(Prepare(FOO, Ballot(1, ME)))
    assert acceptor.handle(Scan("", "")).items == ()  # type: ignore[union-attr]


def test_history_ends_where_versions_were_dropped() -> None:
    acceptors = Acceptors(keep=2)
    proposals = [Proposal(ProposalId(ME, ver + 1), b"x") for ver in range(4)]
    for ver, proposal in enumerate(proposals):
        acceptors.commit("ABC", ver, proposal)
    seen = []
    below = 2**53
    while isinstance(
        found := acceptors.drive(Finder("foo", Quorums(3), Ballots(OTHER), below), "AB"), Latest
    ):
        seen.append(found)
        below = found.ver
    assert seen == [Latest(3, proposals[3]), Latest(2, proposals[2])]
    assert isinstance(found, Compacted)


def test_r12_missed_keys_are_noted_up_to_a_limit() -> None:
    acceptor = Acceptor(MemoryStore())
    for number in range(MAX_MISSED_KEYS):
        acceptor.handle(Commit(Instance(f"key {number}", 0), P.id, None))
    assert not acceptor.missed_unnamed
    acceptor.handle(Commit(Instance("one more", 0), P.id, None))
    assert acceptor.missed_unnamed
    assert len(acceptor.missed) == MAX_MISSED_KEYS
