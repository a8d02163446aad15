"""Rules R2 to R5 and R6 on the pure code, a test a rule. Named after the rules."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from paxoskv.errors import ProtocolError
from paxoskv.limits import MAX_BALLOT, MAX_PAUSE_ROUND_TRIPS
from paxoskv.paxos.acceptor import BLANK, Acceptor, Register, answer
from paxoskv.paxos.messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Instance,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Reply,
    Report,
    Vote,
    Voted,
    answers,
)
from paxoskv.paxos.operation import Done, Operation, Pause
from paxoskv.paxos.proposer import Ballots, Proposer
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.reader import Reader
from paxoskv.storage.memory import MemoryStore

FOO = Instance("foo", 0)
X, Y = b"x" * 16, b"y" * 16
A, B, C, D, E = (letter.encode() * 16 for letter in "ABCDE")


def ballot(n: int, proposer: bytes = X) -> Ballot:
    return Ballot(n, proposer)


def proposal(value: bytes, proposer: bytes = X, serial: int = 1) -> Proposal:
    return Proposal(ProposalId(proposer, serial), value)


P, Q = proposal(b"p", X), proposal(b"q", Y)


# --- R2 ----------------------------------------------------------------------------


def test_r2_a_ballot_as_high_as_the_promise_is_promised() -> None:
    register, reply = answer(BLANK, NO_TOP, Prepare(FOO, ballot(1)))
    assert (register, reply) == (Register(ballot(1)), Promise(None, NO_TOP))
    again, reply = answer(register, NO_TOP, Prepare(FOO, ballot(1)))
    assert (again, reply) == (register, Promise(None, NO_TOP))


def test_r2_a_lower_ballot_is_refused_and_shown_the_promise_and_the_vote() -> None:
    vote = Vote(ballot(2), P)
    register = Register(ballot(3), vote)
    for lower in (ballot(2), ballot(2, Y), ballot(1, Y)):
        assert answer(register, 0, Prepare(FOO, lower)) == (
            register,
            Refusal(ballot(3), vote, 0),
        )


def test_r2_ballots_of_one_number_are_ordered_by_proposer() -> None:
    register, _ = answer(BLANK, NO_TOP, Prepare(FOO, ballot(1, Y)))
    assert isinstance(answer(register, NO_TOP, Prepare(FOO, ballot(1, X)))[1], Refusal)


def test_r2_a_promise_reports_the_vote() -> None:
    vote = Vote(ballot(1), P)
    register = Register(ballot(1), vote)
    assert answer(register, 0, Prepare(FOO, ballot(2))) == (
        Register(ballot(2), vote),
        Promise(vote, 0),
    )


# --- R3 ----------------------------------------------------------------------------


def test_r3_a_vote_promises_its_ballot() -> None:
    register, reply = answer(BLANK, NO_TOP, Accept(FOO, ballot(3), P))
    assert (register, reply) == (Register(ballot(3), Vote(ballot(3), P)), Voted(0))
    assert isinstance(answer(register, 0, Prepare(FOO, ballot(2)))[1], Refusal)


def test_r3_no_vote_below_the_promise() -> None:
    register = Register(ballot(2), None)
    after, reply = answer(register, NO_TOP, Accept(FOO, ballot(1, Y), P))
    assert (after, reply) == (register, Refusal(ballot(2), None, NO_TOP))


@pytest.mark.parametrize("at", [FAST, ballot(1)])
def test_r3_a_second_proposal_at_a_ballot_is_refused_and_the_same_again_succeeds(
    at: Ballot,
) -> None:
    register, _ = answer(BLANK, NO_TOP, Accept(FOO, at, P))
    assert answer(register, 0, Accept(FOO, at, Q)) == (register, Refusal(at, Vote(at, P), 0))
    assert answer(register, 0, Accept(FOO, at, P)) == (register, Voted(0))
    # An equal value is not the same proposal.
    twin = Proposal(Q.id, P.value)
    assert isinstance(answer(register, 0, Accept(FOO, at, twin))[1], Refusal)


def test_r3_ballot_0_is_promised_from_the_start_and_closed_by_a_promise() -> None:
    assert isinstance(answer(BLANK, NO_TOP, Accept(FOO, FAST, P))[1], Voted)
    closed = Register(ballot(1), None)
    assert isinstance(answer(closed, NO_TOP, Accept(FOO, FAST, P))[1], Refusal)


def test_r3_a_read_changes_nothing() -> None:
    register = Register(ballot(2), Vote(ballot(1), P))
    assert answer(register, 0, Read(FOO)) == (register, Report(register.voted, 0))


def test_r7_every_reply_carries_the_top_of_its_key() -> None:
    acceptor = Acceptor(MemoryStore())
    assert acceptor.handle(Accept(Instance("foo", 7), ballot(1), P)) == Voted(7)
    assert acceptor.handle(Accept(Instance("foo", 3), ballot(1), P)) == Voted(7)
    assert acceptor.handle(Prepare(Instance("foo", 9), ballot(1))) == Promise(None, 7)
    assert acceptor.handle(Read(Instance("foo", 9))) == Report(None, 7)
    refusal = acceptor.handle(Accept(Instance("foo", 9), FAST, P))
    assert isinstance(refusal, Refusal)
    assert refusal.top == 7
    assert acceptor.handle(Read(Instance("other", 0))) == Report(None, NO_TOP)


# --- quorums, "chosen", and R4 ---------------------------------------------------------


def test_quorums_of_every_size_intersect_as_they_must() -> None:
    sizes = {n: (Quorums(n).quorum, Quorums(n).fast_quorum) for n in range(1, 8)}
    assert sizes == {1: (1, 1), 2: (2, 2), 3: (2, 3), 4: (3, 3), 5: (3, 4), 6: (4, 5), 7: (4, 6)}


def test_chosen_takes_a_quorum_at_one_ballot() -> None:
    quorums = Quorums(3)
    at_1, at_2 = Vote(ballot(1), P), Vote(ballot(2), P)
    assert quorums.chosen([at_1, at_1]) == P
    assert quorums.chosen([at_1]) is None
    # The same proposal at two ballots has no quorum at either.
    assert quorums.chosen([at_1, at_2]) is None


def test_chosen_at_ballot_0_takes_a_fast_quorum() -> None:
    fast = Vote(FAST, P)
    assert Quorums(3).chosen([fast, fast]) is None
    assert Quorums(3).chosen([fast, fast, fast]) == P
    assert Quorums(4).chosen([fast, fast, fast]) == P
    assert Quorums(5).chosen([fast, fast, fast]) is None
    # Two proposals of the same value are two proposals.
    assert Quorums(3).chosen([fast, fast, Vote(FAST, Proposal(Q.id, b"p"))]) is None


def test_r4_no_vote_in_the_quorum_leaves_the_choice_free() -> None:
    assert Quorums(3).choose({A: None, B: None}) is None


def test_r4_the_highest_ballot_voted_for_counts() -> None:
    low, high = Vote(ballot(1), P), Vote(ballot(2, Y), Q)
    for votes in itertools.permutations([low, high, None]):
        assert Quorums(3).choose(dict(zip((A, B, C), votes, strict=True))) == Q
    # Three votes at a lower ballot weigh less than one at a higher.
    assert Quorums(5).choose({A: low, B: low, C: low, D: high}) == Q


def test_r4_a_single_classic_vote_obliges() -> None:
    assert Quorums(3).choose({A: None, B: Vote(ballot(1), P)}) == P


@pytest.mark.parametrize(
    ("n", "fast_votes", "chosen"),
    [
        (3, [P, P], P),  # both of Q: the third may have made it three of three
        (3, [P, None], None),
        (3, [P, Q], None),
        (4, [P, P, None], P),
        (4, [P, Q, None], None),
        (4, [P, P, Q], P),
        (4, [P, P, Q, None], None),  # with all four promises two votes are too few
        (5, [P, P, None], P),
        (5, [P, None, None], None),
        (5, [P, P, Q], P),
        (5, [P, P, Q, None], None),
        (5, [P, P, P, Q], P),
    ],
)
def test_r4_ballot_0_obliges_only_to_what_may_have_a_fast_quorum(
    n: int, fast_votes: list[Proposal | None], chosen: Proposal | None
) -> None:
    promises = {
        acceptor: None if voted is None else Vote(FAST, voted)
        for acceptor, voted in zip((A, B, C, D, E), fast_votes, strict=False)
    }
    assert Quorums(n).choose(promises) == chosen


def test_r4_a_classic_vote_outweighs_every_fast_one() -> None:
    fast = Vote(FAST, P)
    assert Quorums(5).choose({A: fast, B: fast, C: Vote(ballot(1, Y), Q)}) == Q


# --- R5 ----------------------------------------------------------------------------


def test_r5_ballots_and_proposals_never_repeat() -> None:
    ballots = Ballots(X)
    rng = Random(1)
    made = [ballots.above(Ballot(rng.randrange(50), Y)) for _ in range(200)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert len({ballots.proposal(b"same").id for _ in range(100)}) == 100


def test_r5_a_proposer_uses_each_ballot_for_one_proposal() -> None:
    ballots = Ballots(X)
    proposers = [Proposer(FOO, ballots.proposal(b"p"), Quorums(3), ballots) for _ in range(3)]
    assert len({proposer.ask().ballot for _ in range(5) for proposer in proposers}) == 15


def test_r5_no_ballot_above_the_last() -> None:
    with pytest.raises(ProtocolError, match="none is left"):
        Ballots(X).above(Ballot(MAX_BALLOT, Y))


def test_a_reply_that_no_acceptor_would_give_answers_nothing() -> None:
    prepare, accept = Prepare(FOO, ballot(2)), Accept(FOO, ballot(2), P)
    assert answers(Promise(Vote(ballot(1), P), 0), prepare)
    assert answers(Refusal(ballot(3), None, 0), prepare)
    assert answers(Refusal(ballot(2), Vote(ballot(2), Q), 0), accept)
    assert not answers(Voted(0), prepare)
    assert not answers(Promise(Vote(ballot(3), P), 0), prepare)
    assert not answers(Refusal(ballot(1), None, 0), prepare)
    assert not answers(Refusal(ballot(3), Vote(ballot(4), P), 0), accept)
    assert not answers(Report(None, 0), accept)


# --- the proposer ----------------------------------------------------------------------


def propose(value: bytes = b"p", n: int = 3) -> Proposer:
    ballots = Ballots(X)
    return Proposer(FOO, ballots.proposal(value), Quorums(n), ballots)


def feed(operation: Operation[Any], **replies: Reply) -> object:
    """Hand replies over; all but the last leave the operation waiting."""
    *early, (last, reply) = replies.items()
    for name, each in early:
        assert operation.receive(name.encode() * 16, each) is None
    return operation.receive(last.encode() * 16, reply)


def test_an_undisturbed_proposer_takes_two_phases() -> None:
    proposer = propose()
    assert proposer.ask() == Prepare(FOO, ballot(1))
    assert proposer.maybe is None
    accept = feed(proposer, A=Promise(None, NO_TOP), B=Promise(None, NO_TOP))
    assert accept == Accept(FOO, ballot(1), P)
    assert proposer.maybe == P
    assert feed(proposer, A=Voted(0), B=Voted(0)) == Done(P)


def test_a_reply_that_comes_twice_counts_once() -> None:
    proposer = propose()
    proposer.ask()
    feed(proposer, A=Promise(None, NO_TOP))
    assert feed(proposer, A=Promise(None, NO_TOP)) is None
    feed(proposer, B=Promise(None, NO_TOP))
    feed(proposer, C=Voted(0))
    assert feed(proposer, C=Voted(0)) is None


def test_r4_a_proposer_finishes_what_it_finds() -> None:
    proposer = propose()
    proposer.ask()
    found = Vote(ballot(1, b"a" * 16), Q)
    accept = feed(proposer, A=Promise(None, NO_TOP), B=Promise(found, 0))
    assert accept == Accept(FOO, ballot(1), Q)
    assert proposer.maybe is None
    assert feed(proposer, A=Voted(0), C=Voted(0)) == Done(Q)


def test_a_refused_proposer_pauses_longer_each_time_and_goes_above_what_it_was_shown() -> None:
    proposer = propose()
    proposer.ask()
    highs = []
    for n in (5, 9, 14):
        pause = feed(proposer, A=Promise(None, NO_TOP), B=Refusal(ballot(n, Y), None, NO_TOP))
        assert isinstance(pause, Pause)
        highs.append(pause.high)
        assert proposer.ask().ballot == ballot(n + 1)
    assert highs == sorted(set(highs))


def test_a_late_reply_ends_the_pause() -> None:
    proposer = propose()
    proposer.ask()
    refusal = Refusal(ballot(5, Y), None, NO_TOP)
    assert isinstance(feed(proposer, A=Promise(None, NO_TOP), B=refusal), Pause)
    assert feed(proposer, C=Promise(None, NO_TOP)) == Accept(FOO, ballot(1), P)


def test_refusals_that_show_a_choice_end_a_duel() -> None:
    proposer = propose()
    proposer.ask()
    refusal = Refusal(ballot(5, Y), Vote(ballot(5, Y), Q), 0)
    assert feed(proposer, A=refusal, B=refusal) == Done(Q)


# --- R6 for a version --------------------------------------------------------------------


def read(n: int = 3) -> Reader:
    reader = Reader(FOO, Quorums(n), Ballots(X))
    assert reader.ask() == Read(FOO)
    return reader


def test_r6_a_quorum_without_a_vote_means_nothing_is_chosen() -> None:
    assert feed(read(), A=Report(None, NO_TOP), B=Report(None, NO_TOP)) == Done(None)


def test_r6_what_a_quorum_shows_to_be_chosen_is_returned() -> None:
    voted = Report(Vote(ballot(1), P), 0)
    assert feed(read(), A=voted, B=voted) == Done(P)


def test_r6_a_minority_is_not_believed_but_finished() -> None:
    reader = read()
    vote = Vote(ballot(1, b"a" * 16), P)
    assert isinstance(feed(reader, A=Report(vote, 0), B=Report(None, NO_TOP)), Pause)
    assert isinstance(reader.ask(), Prepare)
    accept = feed(reader, A=Promise(vote, 0), B=Promise(None, NO_TOP))
    assert isinstance(accept, Accept)
    assert accept.proposal == P
    assert feed(reader, A=Voted(0), B=Voted(0)) == Done(P)


def test_r6_one_more_reply_may_settle_a_read() -> None:
    for third, decided in ((Report(None, NO_TOP), None), (Report(Vote(ballot(1), P), 0), P)):
        reader = read()
        first = Report(Vote(ballot(1), P), 0)
        assert isinstance(feed(reader, A=first, B=Report(None, NO_TOP)), Pause)
        assert feed(reader, C=third) == Done(decided)


def test_r6_a_majority_at_ballot_0_is_not_chosen() -> None:
    fast = Report(Vote(FAST, P), 0)
    reader = read()
    assert isinstance(feed(reader, A=fast, B=fast), Pause)
    # The third voted for another: nobody has a fast quorum, so the reader must finish.
    assert feed(reader, C=Report(Vote(FAST, Q), 0)) == Pause(0, 0)
    assert isinstance(reader.ask(), Prepare)


def test_r6_a_reader_of_an_open_choice_proposes_nothing() -> None:
    reader = read(5)
    voted = Report(Vote(FAST, P), 0)
    feed(reader, A=voted, B=Report(None, NO_TOP), C=Report(Vote(FAST, Q), 0))
    reader.ask()
    # Each of the two may have too few votes for a fast quorum; nothing was chosen.
    promises = {
        "A": Promise(Vote(FAST, P), 0),
        "B": Promise(None, 0),
        "C": Promise(Vote(FAST, Q), 0),
    }
    assert feed(reader, **promises) == Done(None)


def test_r12_who_loses_again_and_again_pauses_longer_up_to_a_limit() -> None:
    proposer = propose()
    pauses: list[Pause] = []
    for n in range(20):
        proposer.ask()
        refusal = Refusal(ballot(10 + n, Y), None, NO_TOP)
        pause = feed(proposer, A=refusal, B=refusal)
        assert isinstance(pause, Pause)
        pauses.append(pause)
    assert [pause.high for pause in pauses[:3]] == [2.0, 4.0, 8.0]
    assert {pause.high for pause in pauses[6:]} == {MAX_PAUSE_ROUND_TRIPS}
