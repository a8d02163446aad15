"""Rules R6 and R7 on the pure code: the latest version, and the one after it."""

from __future__ import annotations

import pytest

from paxoskv.errors import ProtocolError
from paxoskv.limits import MAX_PAGE_BYTES, MAX_REMEMBERED_BYTES, MIB
from paxoskv.paxos.acceptor import Acceptor, Register
from paxoskv.paxos.appender import Appender
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Commit,
    Compacted,
    Find,
    Found,
    Instance,
    Page,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Scan,
    Vote,
    Voted,
    answers,
)
from paxoskv.paxos.operation import Done, Doubtful, Latest, Pause
from paxoskv.paxos.proposer import Ballots, Proposer, Tops
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.reader import Finder, Reader
from paxoskv.paxos.scanner import Scanner
from paxoskv.remembered import Remembered
from paxoskv.storage import memory
from paxoskv.storage.memory import MemoryStore

from .pure import Acceptors

ME, OTHER = b"m" * 16, b"o" * 16
A, B, C = (letter.encode() * 16 for letter in "ABC")
THREE = Quorums(3)
KNOWN = Proposal(ProposalId(OTHER, 1), b"x")


def find(acceptors: Acceptors, answering: str, *, finishing: bool = False) -> Latest | None:
    quorums = Quorums(len(acceptors.by_name))
    tops = Tops(quorums) if finishing else None
    found = acceptors.drive(Finder("foo", quorums, Ballots(ME), tops=tops), answering)
    assert not isinstance(found, Compacted)
    return found


def finishes(finder: Finder, ver: int) -> None:
    """Its next step is phase 1 of that version."""
    prepare = finder.ask()
    assert isinstance(prepare, Prepare)
    assert prepare.instance == Instance("foo", ver)


def put(
    acceptors: Acceptors, ver: int, value: bytes, answering: str, who: bytes = ME
) -> tuple[Latest | Compacted | None, Proposal]:
    quorums = Quorums(len(acceptors.by_name))
    ballots = Ballots(who)
    own = ballots.proposal(value)
    appender = Appender(Instance("foo", ver), own, quorums, ballots, Tops(quorums))
    return acceptors.drive(appender, answering), own


# --- R6, the latest version --------------------------------------------------------------


def test_r6_a_key_without_a_vote_has_no_latest_version() -> None:
    assert find(Acceptors(), "AB") is None


def test_r6_the_latest_takes_one_round_trip_and_no_write_when_a_quorum_agrees() -> None:
    acceptors = Acceptors()
    acceptors.vote("ABC", 0, b"old")
    chosen = acceptors.vote("AB", 1, b"new")
    assert find(acceptors, "AB") == Latest(1, chosen)
    assert [type(request) for request in acceptors.requests] == [Find]


def test_r6_what_one_acceptor_knows_to_be_chosen_is_the_answer() -> None:
    acceptors = Acceptors()
    chosen = acceptors.vote("AB", 1, b"new")
    acceptors.commit("A", 1, chosen)
    assert find(acceptors, "AC") == Latest(1, chosen)
    assert len(acceptors.requests) == 1
    reader = Reader(Instance("foo", 1), THREE, Ballots(ME))
    assert acceptors.drive(reader, "AC") == chosen


def test_r6_a_committed_version_is_not_the_answer_when_a_higher_one_was_shown() -> None:
    acceptors = Acceptors()
    acceptors.commit("ABC", 0, acceptors.vote("ABC", 0, b"old"))
    newer = acceptors.vote("AB", 1, b"new")  # chosen, and nobody knows it yet
    # A and C answer: one vote for version 1. Believing in version 0 would be a stale read.
    assert find(acceptors, "AC") == Latest(1, newer)


def test_r6_a_minority_at_the_top_is_not_believed_but_finished_or_found_to_be_nothing() -> None:
    acceptors = Acceptors()
    old = acceptors.vote("ABC", 0, b"old")
    left = acceptors.vote("C", 1, b"left behind")
    # A quorum without a vote at version 1: it was not chosen, and the look-up goes below.
    assert find(acceptors, "ABC") == Latest(0, old)
    assert all(isinstance(request, Find) for request in acceptors.requests)
    # Only a quorum with the vote answers: whether it was chosen cannot be seen.
    assert find(acceptors, "CA") == Latest(1, left)
    assert find(acceptors, "AB") == Latest(1, left)


def test_r6_the_look_up_below_asks_afresh() -> None:
    finder = Finder("foo", Quorums(5), Ballots(ME))
    assert finder.ask() == Find("foo", 2**53)
    vote = Vote(Ballot(1, OTHER), Proposal(ProposalId(OTHER, 1), b"x"))
    assert finder.receive(A, Found(9, vote, 9)) is None
    assert finder.receive(B, Found(3, vote, 3)) is None
    assert isinstance(finder.receive(C, Found(3, vote, 3)), Pause)
    # What these said of version 3 is of another moment, and does not count any more.
    assert finder.receive(b"D" * 16, Found(3, vote, 3)) == Find("foo", 9)
    assert finder.replied == set()


def test_r6_a_tombstone_is_a_version_like_others() -> None:
    acceptors = Acceptors()
    acceptors.vote("ABC", 0, b"old")
    ballots = Ballots(ME)
    tombstone = ballots.proposal(None)
    proposer = Proposer(Instance("foo", 1), tombstone, THREE, ballots)
    acceptors.drive(proposer, "ABC")
    assert find(acceptors, "AB") == Latest(1, tombstone)


def test_r6_looking_below_version_0_ends() -> None:
    acceptors = Acceptors()
    acceptors.vote("C", 0, b"left behind")
    assert find(acceptors, "ABC") is None


# --- R7 ------------------------------------------------------------------------------------


def test_r7_a_put_whose_quorum_tells_a_low_top_takes_two_round_trips() -> None:
    acceptors = Acceptors()
    acceptors.vote("ABC", 0, b"old")
    result, own = put(acceptors, 1, b"new", "AB")
    assert result == Latest(1, own)
    assert [type(request) for request in acceptors.requests] == [Prepare, Accept]


def test_r7_two_puts_of_equal_values_do_not_both_win() -> None:
    acceptors = Acceptors()
    first, own = put(acceptors, 0, b"same", "ABC", ME)
    assert first == Latest(0, own)
    second, other = put(acceptors, 0, b"same", "ABC", OTHER)
    assert second == Latest(0, own)
    assert other.id != own.id


def test_r7_a_put_is_not_hidden_behind_a_gap() -> None:
    acceptors = Acceptors()
    acceptors.vote("ABC", 0, b"old")
    gap = acceptors.vote("ABC", 7, b"set with a gap")
    # The client remembers version 0, and begins with version 1.
    result, _ = put(acceptors, 1, b"new", "AB")
    assert result == Latest(7, gap)
    assert not any(isinstance(request, Accept) for request in acceptors.requests)


def test_r7_one_low_top_is_no_quorum_of_low_tops() -> None:
    acceptors = Acceptors()
    acceptors.vote("ABC", 0, b"old")
    gap = acceptors.vote("AB", 7, b"set with a gap")  # chosen, and C has not heard of it
    result, _ = put(acceptors, 1, b"new", "CA")
    assert result == Latest(7, gap)


def test_r7_a_third_reply_may_allow_the_version() -> None:
    acceptors = Acceptors()
    acceptors.vote("ABC", 0, b"old")
    acceptors.vote("A", 7, b"left behind")  # not chosen: one vote, and its writer is gone
    result, own = put(acceptors, 1, b"new", "ABC")
    assert result == Latest(1, own)


def test_r7_what_is_left_behind_never_blocks_a_put_for_good() -> None:
    acceptors = Acceptors()
    acceptors.vote("ABC", 0, b"old")
    acceptors.vote("A", 9, b"left behind")
    below = acceptors.vote("B", 7, b"left behind too")
    # No quorum tells a top of at most 1, though neither 7 nor 9 is chosen. The put finishes
    # what stands in its way.
    result, _ = put(acceptors, 1, b"new", "ABC")
    assert isinstance(result, Latest)
    assert result.ver in {7, 9}
    latest, own = put(acceptors, result.ver + 1, b"new", "ABC")
    if latest != Latest(result.ver + 1, own):
        assert isinstance(latest, Latest)
        latest, own = put(acceptors, latest.ver + 1, b"new", "ABC")
    assert isinstance(latest, Latest)
    assert latest.proposal == own
    assert below.value == b"left behind too"


def test_r7_the_lowest_top_told_counts() -> None:
    tops = Tops(THREE)
    tops.hear(A, 3)
    assert not tops.allow(3)
    tops.hear(A, 9)
    tops.hear(B, 2)
    assert tops.allow(3)
    assert not tops.allow(2)


def test_r7_a_put_goes_on_only_when_its_proposal_cannot_be_chosen_any_more() -> None:
    ballots = Ballots(ME)
    own = ballots.proposal(b"mine")
    appender = Appender(Instance("foo", 1), own, THREE, ballots, Tops(THREE))
    appender.ask()
    appender.receive(A, Promise(None, 0))
    accept = appender.receive(B, Promise(None, 0))
    assert isinstance(accept, Accept)
    assert appender.maybe == own
    high = Ballot(9, OTHER)
    # One vote, two refusals without another's vote: ours may still be finished by somebody.
    appender.receive(A, Voted(1))
    assert isinstance(appender.receive(B, Refusal(high, None, 0)), Pause)
    assert isinstance(appender.ask(), Prepare)
    # Dropped meanwhile: nobody can tell whether it was ours that was chosen.
    other = Proposal(ProposalId(OTHER, 1), b"other")
    assert appender.receive(A, Compacted(30, other, 30)) == Pause(1.0, 2.0)
    assert isinstance(appender.ask(), Find)
    assert appender.receive(A, Found(30, other, 30)) is None
    assert appender.receive(B, Found(30, other, 30)) == Done(Doubtful(Latest(30, other)))


def test_r7_a_version_dropped_before_anything_was_proposed_shows_where_to_go_on() -> None:
    ballots = Ballots(ME)
    tops = Tops(THREE)
    appender = Appender(Instance("foo", 1), ballots.proposal(b"x"), THREE, ballots, tops)
    appender.ask()
    other = Proposal(ProposalId(OTHER, 1), b"other")
    assert appender.receive(A, Compacted(30, other, 31)) == Done(Latest(30, other))
    assert appender.maybe is None


def test_r6_where_nothing_is_chosen_at_the_top_the_look_up_goes_on_below() -> None:
    finder = Finder("foo", THREE, Ballots(ME))
    assert finder.ask() == Find("foo", 2**53)
    left = Vote(Ballot(1, OTHER), Proposal(ProposalId(OTHER, 2), b"left behind"))
    assert finder.receive(A, Found(0, KNOWN, 0)) is None
    assert isinstance(finder.receive(C, Found(1, left, 1)), Pause)
    finishes(finder, 1)
    # C is away by now, and a quorum without its vote promises: version 1 was never chosen.
    assert finder.receive(A, Promise(None, 0)) is None
    assert finder.receive(B, Promise(None, 0)) == Find("foo", 1)
    assert finder.receive(A, Found(0, KNOWN, 0)) is None
    assert finder.receive(B, Found(0, KNOWN, 0)) == Done(Latest(0, KNOWN))
    assert finder.attempts == 1, "what it began at version 1 still counts"


def test_r7_what_is_left_of_one_version_is_never_proposed_at_another() -> None:
    """While a put finishes version 5, others choose 5 and 6, drop 5, and begin 7."""
    finder = Finder("foo", THREE, Ballots(ME), tops=Tops(THREE))
    finder.ask()
    left = Vote(Ballot(1, OTHER), Proposal(ProposalId(OTHER, 2), b"left at 5"))
    assert finder.receive(A, Found(5, left, 5)) is None
    assert isinstance(finder.receive(B, Found(NO_TOP, None, NO_TOP)), Pause)
    finishes(finder, 5)
    assert finder.receive(C, Compacted(6, KNOWN, 7)) == Find("foo", 2**53)
    append = Vote(FAST, Proposal(ProposalId(OTHER, 3), b"an append at 7"), append=True)
    assert finder.receive(B, Found(6, KNOWN, 6)) is None
    assert isinstance(finder.receive(C, Found(7, append, 7)), Pause)
    finishes(finder, 7)
    assert finder.receive(A, Promise(None, 5)) is None
    assert finder.receive(B, Promise(None, 6)) == Find("foo", 7), "nothing is proposed there"


def test_r7_a_reply_that_comes_again_moves_nothing_to_another_version() -> None:
    """The connection to A was lost, so it is asked again, and shows a higher version now."""
    finder = Finder("foo", THREE, Ballots(ME), tops=Tops(THREE))
    finder.ask()
    left = Vote(FAST, Proposal(ProposalId(OTHER, 2), b"left at 0"))
    assert finder.receive(A, Found(0, left, 0)) is None
    assert isinstance(finder.receive(B, Found(NO_TOP, None, NO_TOP)), Pause)
    append = Vote(FAST, Proposal(ProposalId(OTHER, 3), b"an append at 1"), append=True)
    assert not isinstance(finder.receive(A, Found(1, append, 1)), Accept)
    finishes(finder, 1)
    assert finder.receive(B, Promise(None, 0)) is None
    assert finder.receive(C, Promise(None, 0)) == Find("foo", 1), "nothing is proposed there"


# --- what acceptors that keep the rules never say ---------------------------------------------


def test_two_proposals_at_one_ballot_end_only_the_operation_that_meets_them() -> None:
    def vote(proposer: bytes) -> Vote:
        return Vote(Ballot(2, OTHER), Proposal(ProposalId(proposer, 1), b"x"))

    with pytest.raises(ProtocolError, match="two proposals"):
        THREE.choose({A: vote(ME), B: vote(OTHER)})
    known = [vote(ME).proposal, vote(OTHER).proposal]
    with pytest.raises(ProtocolError, match="two proposals"):
        THREE.chosen(known)
    with pytest.raises(ProtocolError, match="two proposals"):
        # The same id with two values.
        THREE.chosen([vote(ME), vote(ME)._replace(proposal=Proposal(vote(ME).proposal.id, b"y"))])


def test_a_version_pushed_to_the_highest_ballot_is_of_no_consequence_to_others() -> None:
    acceptor = Acceptor(Acceptors().stores["A"])
    assert isinstance(
        acceptor.handle(Prepare(Instance("foo", 0), Ballot(2**53 - 1, OTHER))), Promise
    )
    assert Ballots(ME).above(Ballot(0, b"")) == Ballot(1, ME)
    assert isinstance(acceptor.handle(Prepare(Instance("foo", 1), Ballot(1, ME))), Promise)


def test_an_acceptor_that_takes_back_its_report_ends_only_the_operation() -> None:
    """After a reconnect a batch is asked again, and a liar may answer it differently."""
    ballots = Ballots(ME)
    proposer = Proposer(Instance("foo", 0), ballots.proposal(b"x"), THREE, ballots)
    prepare = proposer.ask()
    assert isinstance(prepare, Prepare)
    lie = Vote(prepare.ballot, Proposal(ProposalId(OTHER, 1), b"lie"))
    proposer.receive(A, Promise(lie, 0))
    proposer.receive(A, Promise(None, 0))
    assert isinstance(proposer.receive(B, Promise(None, 0)), Accept)
    with pytest.raises(ProtocolError, match="two votes at one ballot"):
        proposer.receive(A, Voted(0))


def test_looking_for_the_latest_never_walks_over_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    below = memory.Ledger.below

    def watched(ledger: memory.Ledger, ver: int) -> tuple[int, Register] | None:
        asked.append(ver)
        return below(ledger, ver)

    monkeypatch.setattr(memory.Ledger, "below", watched)
    acceptor = Acceptor(MemoryStore())
    vote = Vote(Ballot(1, ME), Proposal(ProposalId(ME, 1), b"x"))
    acceptor.handle(Accept(Instance("foo", 3), *vote))
    for ver in range(4, 50):
        acceptor.handle(Prepare(Instance("foo", ver), Ballot(1, ME)))
        acceptor.handle(Prepare(Instance("bar", ver), Ballot(1, ME)))
    assert acceptor.handle(Find("foo", 2**53)) == Found(3, vote, 3)
    assert acceptor.handle(Find("bar", 2**53)) == Found(NO_TOP, None, NO_TOP)
    assert asked == []
    acceptor.handle(Find("foo", 3))
    assert asked == [3]


# --- scan ----------------------------------------------------------------------------------


def page(keys: str, *, more: bool) -> Page:
    """A page that shows these keys as known to be chosen, at version 0."""
    return Page(tuple((key, 0, KNOWN) for key in keys), more)


def test_r6_a_merged_page_ends_where_the_shortest_unfinished_one_does() -> None:
    scanner = Scanner("", "", THREE)
    assert scanner.ask() == Scan("", "")
    assert scanner.receive(A, page("abc", more=True)) is None
    done = scanner.receive(B, page("adef", more=True))
    # What A has at d and beyond is not known yet.
    assert isinstance(done, Done)
    assert (list(done.result.settled), done.result.open, done.result.after) == (
        ["a", "b", "c"],
        [],
        "c",
    )


def test_r6_a_page_that_is_the_last_cuts_nothing() -> None:
    scanner = Scanner("", "", THREE)
    scanner.receive(A, page("ab", more=False))
    done = scanner.receive(B, page("acd", more=True))
    assert isinstance(done, Done)
    assert (list(done.result.settled), done.result.after) == (["a", "b", "c", "d"], "d")
    scanner = Scanner("", "d", THREE)
    scanner.receive(A, page("", more=False))
    done = scanner.receive(B, page("e", more=False))
    assert isinstance(done, Done)
    assert (list(done.result.settled), done.result.after) == (["e"], None)


def test_r6_a_key_that_one_page_leaves_open_is_looked_up_by_itself() -> None:
    scanner = Scanner("", "", THREE)
    vote = Vote(Ballot(1, OTHER), Proposal(ProposalId(OTHER, 1), b"x"))
    scanner.receive(A, Page((("a", 3, vote),), more=False))
    done = scanner.receive(B, page("a", more=False))
    assert isinstance(done, Done)
    assert (done.result.settled, done.result.open) == ({}, ["a"])


def test_a_page_that_no_acceptor_would_give_answers_nothing() -> None:
    asked = Scan("b", "b1")
    assert answers(Page((("b2", 0, KNOWN), ("b3", 0, KNOWN)), more=True), asked)
    for keys in (["a"], ["c"], ["b1"], ["b0"], ["b3", "b2"], ["b2", "b2"]):
        assert not answers(Page(tuple((key, 0, KNOWN) for key in keys), more=False), asked)
    assert not answers(Page((), more=True), asked), "it would be asked for ever"
    assert not answers(Found(7, KNOWN, 7), Find("foo", 7))
    assert not answers(Found(NO_TOP, KNOWN, 7), Find("foo", 7))
    assert not answers(Compacted(6, KNOWN, 7), Find("foo", 7))
    assert not answers(Compacted(6, KNOWN, 7), Read(Instance("foo", 6)))


def test_r12_a_client_remembers_a_bounded_amount() -> None:
    remembered = Remembered()
    value = bytes(MIB)
    for number in range(100):
        proposal = Proposal(ProposalId(ME, number + 1), value)
        remembered.learn(f"key {number}", Latest(5, proposal))
    known = [number for number in range(100) if remembered.get(f"key {number}")]
    assert known == list(range(100 - len(known), 100))
    assert 0 < len(known) * MIB <= MAX_REMEMBERED_BYTES
    # A lower version that turns up late does not count.
    remembered.learn("key 99", Latest(4, KNOWN))
    assert remembered.get("key 99") == Latest(5, proposal)


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
