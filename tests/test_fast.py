"""Ballot 0, by rule: one round trip where nobody else writes, and no rule broken elsewhere."""

from __future__ import annotations

from math import inf

import pytest
import trio

from paxoskv import Entry, open_kv, open_local_cluster
from paxoskv.paxos.acceptor import BLANK, Register, answer
from paxoskv.paxos.appender import Appender
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Chosen,
    Compacted,
    Find,
    Found,
    Instance,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Refusal,
    Vote,
    Voted,
)
from paxoskv.paxos.operation import Done, Doubtful, Latest, Pause
from paxoskv.paxos.proposer import Ballots, Proposer, Tops
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.reader import Finder, Reader

from .pure import Acceptors

FOO = Instance("foo", 3)
ME, OTHER = b"m" * 16, b"o" * 16
OTHERS = Proposal(ProposalId(OTHER, 1), b"other's")
ACCEPTORS = A, B, C, D, E = tuple(bytes([letter]) * 16 for letter in b"ABCDE")
THREE, FIVE = Quorums(3), Quorums(5)


def proposer(quorums: Quorums = THREE) -> tuple[Proposer, Proposal]:
    ballots = Ballots(ME)
    own = ballots.proposal(b"mine")
    return Proposer(FOO, own, quorums, ballots, promised=FAST), own


def appender(quorums: Quorums = THREE) -> tuple[Appender, Proposal]:
    ballots = Ballots(ME)
    own = ballots.proposal(b"mine")
    return Appender(FOO, own, quorums, ballots, Tops(quorums), promised=FAST), own


def fast_vote(proposal: Proposal, *, append: bool = False) -> Vote:
    return Vote(FAST, proposal, append)


# --- the acceptor -----------------------------------------------------------------------


def test_r7_no_vote_for_an_append_below_the_top() -> None:
    append = Accept(FOO, FAST, OTHERS, append=True)
    assert answer(BLANK, 4, append) == (BLANK, Refusal(FAST, None, 4))
    for top in (NO_TOP, 2, 3):
        voted = Register(FAST, fast_vote(OTHERS, append=True))
        assert answer(BLANK, top, append) == (voted, Voted(3))
    # The same again is a success, however high the top is by now (R3).
    assert answer(voted, 9, append)[1] == Voted(9)


# --- the proposer -----------------------------------------------------------------------


@pytest.mark.parametrize(("n", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (7, 6)])
def test_a_fast_quorum_of_votes_at_ballot_0_decides_in_one_round_trip(n: int, needed: int) -> None:
    ballots = Ballots(ME)
    own = ballots.proposal(b"mine")
    fast = Proposer(FOO, own, Quorums(n), ballots, promised=FAST)
    assert fast.ask() == Accept(FOO, FAST, own)
    for number in range(needed - 1):
        assert not isinstance(fast.receive(bytes([number]) * 16, Voted(3)), Done)
    assert fast.receive(b"z" * 16, Voted(3)) == Done(own)
    assert fast.commit is not None
    assert fast.attempts == 1


def test_r4_a_majority_at_ballot_0_is_not_enough_and_is_finished_by_phase_1() -> None:
    fast, own = proposer()
    fast.ask()
    fast.receive(A, Voted(3))
    assert fast.receive(B, Voted(3)) == Pause(1.0, 1.0), "one more reply may complete it"
    assert fast.maybe == own
    assert fast.ask() == Prepare(FOO, Ballot(1, ME))
    fast.receive(A, Promise(fast_vote(own), 3))
    assert fast.receive(B, Promise(fast_vote(own), 3)) == Accept(FOO, Ballot(1, ME), own)


def test_a_late_vote_ends_the_pause() -> None:
    fast, own = proposer()
    fast.ask()
    fast.receive(A, Voted(3))
    assert isinstance(fast.receive(B, Voted(3)), Pause)
    assert fast.receive(C, Voted(3)) == Done(own)


def test_after_a_collision_the_one_with_most_votes_goes_first() -> None:
    ahead, _ = proposer()
    ahead.ask()
    ahead.receive(A, Voted(3))
    ahead.receive(B, Voted(3))
    assert ahead.receive(C, Refusal(FAST, fast_vote(OTHERS), 3)) == Pause(0.0, 0.0)
    behind, _ = proposer()
    behind.ask()
    behind.receive(A, Refusal(FAST, fast_vote(OTHERS), 3))
    pause = behind.receive(B, Refusal(FAST, fast_vote(OTHERS), 3))
    assert isinstance(pause, Pause)
    assert pause.low > 0
    assert behind.lost == 1


def test_what_a_collision_shows_to_be_chosen_is_the_result() -> None:
    late, _ = proposer()
    late.ask()
    late.receive(A, Refusal(Ballot(2, OTHER), Vote(Ballot(2, OTHER), OTHERS), 3))
    assert late.receive(C, Refusal(Ballot(2, OTHER), Vote(Ballot(2, OTHER), OTHERS), 3)) == Done(
        OTHERS
    )


# --- the appender -----------------------------------------------------------------------


def test_r7_an_append_without_a_look_up_is_marked_and_its_votes_are_the_look_up() -> None:
    append, own = appender()
    assert append.ask() == Accept(FOO, FAST, own, append=True)
    for acceptor in (A, B):
        append.receive(acceptor, Voted(3))
    assert append.receive(C, Voted(3)) == Done(Latest(3, own))


def test_r7_after_a_look_up_it_is_an_append_all_the_same_and_needs_no_other_look() -> None:
    """So it can be given up as soon; and it is won, though votes alone tell too little."""
    ballots = Ballots(ME)
    tops = Tops(FIVE)
    for acceptor in (A, B, C):
        tops.hear(acceptor, 2)
    own = ballots.proposal(b"")
    append = Appender(FOO, own, FIVE, ballots, tops, promised=FAST)
    request = append.ask()
    assert isinstance(request, Accept)
    assert request.append
    append.receive(A, Voted(3))
    append.receive(B, Voted(3))
    for acceptor in (C, D, E):
        append.receive(acceptor, Refusal(FAST, None, 5))
    assert isinstance(append.ask(), Prepare)
    for acceptor in (B, C):
        append.receive(acceptor, Promise(fast_vote(own) if acceptor == B else None, 5))
    accept = append.receive(A, Promise(fast_vote(own, append=True), 3))
    assert isinstance(accept, Accept)
    assert accept.proposal == own
    for acceptor in (A, B):
        append.receive(acceptor, Voted(5))
    assert append.receive(C, Voted(5)) == Done(Latest(3, own))


def test_r7_an_append_that_cannot_be_chosen_any_more_goes_on_where_the_latest_is() -> None:
    """One vote of three obliges nobody, and two that refused never vote for it."""
    append, own = appender()
    append.ask()
    append.receive(A, Voted(3))
    append.receive(B, Refusal(FAST, None, 5))
    assert append.maybe == own
    assert append.receive(C, Refusal(FAST, None, 5)) == Pause(0.0, 0.0)
    assert append.maybe is None
    assert append.ask() == Find("foo", 2**53)
    append.receive(B, Found(5, OTHERS, 5))
    assert append.receive(C, Found(5, OTHERS, 5)) == Done(Latest(5, OTHERS))


def in_the_balance() -> tuple[Appender, Proposal]:
    """One has voted for it, one has a later version, and only the third can tell its fate."""
    append, own = appender()
    append.ask()
    append.receive(A, Voted(3))
    append.receive(B, Refusal(FAST, None, 5))
    assert isinstance(append.ask(), Prepare)
    append.receive(A, Promise(fast_vote(own, append=True), 3))
    assert append.receive(B, Promise(None, 5)) == Pause(inf, inf)
    assert append.maybe == own
    return append, own


def test_r7_whose_vote_decides_whether_it_can_be_chosen_is_waited_for() -> None:
    append, _ = in_the_balance()
    # It comes before the pause is over.
    assert append.receive(C, Promise(None, 5)) == Pause(0.0, 0.0)
    assert append.maybe is None
    assert isinstance(append.ask(), Find)


def test_r7_votes_that_oblige_below_later_versions_leave_a_doubt() -> None:
    append, own = appender(FIVE)
    append.ask()
    for acceptor in (A, B):
        append.receive(acceptor, Voted(3))
    for acceptor in (C, D, E):
        append.receive(acceptor, Refusal(FAST, None, 5))
    append.ask()
    for acceptor in (C, D, E, B):
        append.receive(acceptor, Promise(fast_vote(own) if acceptor == B else None, 5))
    assert append.receive(A, Promise(fast_vote(own), 3)) == Pause(0.0, 0.0)
    assert append.maybe == own
    assert isinstance(append.ask(), Find)
    for acceptor in (C, D):
        append.receive(acceptor, Found(5, OTHERS, 5))
    assert append.receive(E, Found(5, OTHERS, 5)) == Done(Doubtful(Latest(5, OTHERS)))


def test_r7_an_append_waits_for_all_who_may_say_that_they_never_voted_for_it() -> None:
    """They may be far away: a new ballot would outrun what they say."""
    append, own = appender(FIVE)
    append.ask()
    for acceptor in (A, B):
        append.receive(acceptor, Refusal(FAST, None, 5))
    assert append.receive(C, Voted(3)) == Pause(1.0, 2.0)
    prepare = append.ask()
    for acceptor in (A, B):
        append.receive(acceptor, Promise(None, 5))
    vote = fast_vote(own, append=True)
    assert append.receive(C, Promise(vote, 3)) == Pause(inf, inf)
    assert append.receive(D, Promise(None, 5)) is None, "E may have voted for it"
    assert append.maybe == own
    assert append.receive(E, Promise(None, 5)) == Pause(0.0, 0.0)
    assert append.maybe is None
    assert isinstance(append.ask(), Find), "and the next ballot was not needed"
    assert isinstance(prepare, Prepare)


def test_r7_the_look_up_of_a_put_does_not_propose_the_append_of_another() -> None:
    """The other may have given it up, and have written its value elsewhere."""
    acceptors = Acceptors()
    chosen = acceptors.vote("AB", 2, b"latest")
    other, _ = appender()
    acceptors.by_name["A"].handle(other.ask())
    tops = Tops(THREE)
    finder = Finder("foo", THREE, Ballots(OTHER), tops=tops)
    assert acceptors.drive(finder, "AB") == Latest(2, chosen)
    assert tops.allow(3)


def test_r7_the_look_up_of_a_put_finishes_what_an_append_must_finish() -> None:
    acceptors = Acceptors()
    acceptors.vote("AB", 2, b"latest")
    other, proposal = appender()
    request = other.ask()
    for name in "AB":
        acceptors.by_name[name].handle(request)
    finder = Finder("foo", THREE, Ballots(OTHER), tops=Tops(THREE))
    assert acceptors.drive(finder, "AB") == Latest(3, proposal)


def test_r7_one_vote_is_enough_for_what_is_no_append_to_be_written_by_others() -> None:
    """A put that looks up the latest version proposes what it finds there (`Finder`)."""
    acceptors = Acceptors()
    for name in "BC":
        acceptors.by_name[name].handle(Prepare(FOO, Ballot(1, OTHER)))
    fast, own = proposer()
    accept = fast.ask()
    acceptors.by_name["A"].handle(accept)  # it votes, and its reply is lost
    for acceptor, name in ((B, "B"), (C, "C")):
        fast.receive(acceptor, acceptors.by_name[name].handle(accept))
    assert fast.maybe == own
    ballots = Ballots(OTHER)
    put = Appender(Instance("foo", 0), ballots.proposal(b"put"), THREE, ballots, Tops(THREE))
    assert acceptors.drive(put, "AB") == Latest(3, own)
    # Had A refused as well, it were certain.
    fast, _ = proposer()
    fast.ask()
    for acceptor in (A, B, C):
        fast.receive(acceptor, Refusal(Ballot(1, OTHER), None, 3))
    assert fast.maybe is None


def test_r9_an_append_in_phase_1_stops_where_its_version_was_dropped() -> None:
    append, own = appender()
    append.ask()
    assert append.receive(A, Refusal(Ballot(1, OTHER), None, 2)) is None
    assert append.receive(B, Voted(3)) == Pause(1.0, 2.0)
    prepare = append.ask()
    assert isinstance(prepare, Prepare)
    assert append.maybe == own
    assert append.receive(A, Compacted(30, OTHERS, 31)) == Pause(inf, inf)
    assert append.receive(B, Promise(fast_vote(own, append=True), 3)) is None
    # A quorum, and nothing is proposed.
    assert append.receive(C, Promise(None, 2)) == Pause(0.0, 0.0)
    assert isinstance(append.ask(), Find)


def test_r9_an_append_at_a_dropped_version_goes_on_where_the_latest_is() -> None:
    append, _ = appender()
    append.ask()
    dropped = Compacted(30, OTHERS, 31)
    assert append.receive(A, Voted(3)) is None
    assert append.receive(B, dropped) == Pause(inf, inf)
    assert append.receive(C, dropped) == Done(Latest(30, OTHERS))
    assert append.maybe is None


def test_r7_an_append_whose_fate_nobody_tells_in_time_ends_in_doubt() -> None:
    append, own = in_the_balance()
    assert isinstance(append.ask(), Find), "and no ballot after the other"
    append.receive(A, Found(3, fast_vote(own, append=True), 3))
    append.receive(B, Found(5, OTHERS, 5))
    assert append.maybe == own


def test_r9_a_shorter_pause_is_made_long_where_the_version_was_dropped() -> None:
    append, _ = appender(FIVE)
    append.ask()
    for acceptor in (A, B):
        append.receive(acceptor, Voted(3))
    assert append.receive(C, Refusal(Ballot(1, OTHER), None, 2)) == Pause(1.0, 2.0)
    dropped = Compacted(30, OTHERS, 31)
    assert append.receive(D, dropped) == Pause(inf, inf)
    assert append.receive(E, dropped) == Pause(0.0, 0.0), "these were all"


def test_r9_a_dropped_version_is_left_once_those_far_away_have_said_so_too() -> None:
    append, own = appender(FIVE)
    append.ask()
    dropped = Compacted(30, OTHERS, 31)
    assert append.receive(A, dropped) == Pause(inf, inf)
    assert append.receive(B, dropped) is None
    assert append.receive(C, dropped) is None
    assert append.maybe == own, "two could have voted, and oblige others to it"
    assert append.receive(D, Refusal(Ballot(1, OTHER), None, 2)) == Pause(0.0, 0.0)
    assert append.maybe is None
    assert isinstance(append.ask(), Find)


def test_r9_who_was_asked_twice_may_have_voted_before_it_dropped_the_version() -> None:
    append, own = appender()
    append.ask()
    dropped = Compacted(30, OTHERS, 31)
    append.receive(A, dropped, again=True)
    append.receive(B, dropped, again=True)
    append.receive(C, dropped)
    assert append.maybe == own
    assert isinstance(append.ask(), Find), "nothing is proposed there any more"
    append.receive(A, Found(30, OTHERS, 31))
    assert append.receive(B, Found(30, OTHERS, 31)) == Done(Doubtful(Latest(30, OTHERS)))


@pytest.mark.parametrize("higher", [False, True])
def test_r7_what_others_finished_without_a_look_at_the_tops_is_looked_at_again(
    higher: bool,
) -> None:
    """Two votes of five at ballot 0 oblige a recovery; they are no quorum of tops."""
    append, own = appender(FIVE)
    append.ask()
    append.receive(A, Voted(3))
    append.receive(B, Voted(3))
    append.receive(C, Refusal(Ballot(1, OTHER), None, 5))
    append.ask()
    assert append.receive(A, Chosen(own, 3)) == Find("foo", 2**53)
    append.receive(A, Found(3, own, 3))
    append.receive(B, Found(3, own, 3))
    if higher:
        append.receive(C, Found(5, OTHERS, 5))
        assert append.maybe == own
        append.receive(D, Found(5, OTHERS, 5))
        assert append.receive(E, Found(5, OTHERS, 5)) == Done(Doubtful(Latest(5, OTHERS)))
    else:
        assert append.receive(D, Found(3, own, 3)) == Done(Latest(3, own))


# --- what others make of it -------------------------------------------------------------


def test_r6_votes_of_a_majority_at_ballot_0_are_not_shown_to_be_chosen() -> None:
    acceptors = Acceptors()
    fast, own = proposer()
    request = fast.ask()
    for name in "AB":
        acceptors.by_name[name].handle(request)
    reading = Reader(FOO, THREE, Ballots(OTHER))
    found = acceptors.drive(reading, "AB")
    assert found == own
    kinds = [type(each) for each in acceptors.requests]
    assert Prepare in kinds, "it had to be finished"


def test_r6_a_fast_quorum_is_read_without_a_write() -> None:
    acceptors = Acceptors()
    fast, own = proposer()
    assert acceptors.drive(fast, "ABC") == own
    before = len(acceptors.requests)
    assert acceptors.drive(Reader(FOO, THREE, Ballots(OTHER)), "ABC") == own
    assert acceptors.drive(Finder("foo", THREE, Ballots(OTHER)), "ABC") == Latest(3, own)
    assert len(acceptors.requests) == before + 2


# --- over TCP ---------------------------------------------------------------------------


async def test_who_does_not_send_ballot_0_reads_and_recovers_it() -> None:
    async with open_local_cluster() as cluster:
        async with open_kv(cluster.addresses) as kv:
            await kv.put("foo", 1)
        async with open_kv(cluster.addresses, fast=False) as kv:
            assert await kv.get("foo") == Entry("foo", 0, 1)
            assert await kv.put("foo", 2) == Entry("foo", 1, 2)
            assert await kv.propose("foo", 0, 3) == Entry("foo", 0, 1)


async def test_without_one_acceptor_ballot_0_is_left_out() -> None:
    async with open_local_cluster() as cluster, open_kv(cluster.addresses) as kv:
        await kv.put("foo", 0)
        cluster.stop(0)
        await kv.put("foo", 1)
        before = kv.attempts
        for val in range(2, 7):
            assert (await kv.put("foo", val)).ver == val
        assert kv.attempts == before + 5, "one classic ballot each"


async def test_writers_that_collide_at_ballot_0_all_come_through() -> None:
    async with open_local_cluster() as cluster:
        entries: list[Entry] = []

        async def write(number: int) -> None:
            async with open_kv(cluster.addresses) as kv:
                for _ in range(10):
                    entries.append(await kv.put("foo", number))  # noqa: PERF401 - not at once

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(write, number)
        assert sorted(entry.ver for entry in entries) == list(range(40))
        async with open_kv(cluster.addresses) as kv:
            history = await kv.history("foo")
        assert history == sorted(entries, key=lambda entry: entry.ver)[-16:]
