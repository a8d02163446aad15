"""The proposer: drives one instance through both phases until something is chosen.

Rules R4 and R5. The textbook algorithm (Lamport, *Paxos Made Simple*, section 2.2)
with one addition: every reply shows what its acceptor voted for, so a proposer that
loses a duel often sees from the refusals alone what has been chosen, and is done.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import Enum
from typing import assert_never

from ..errors import ProtocolError
from ..limits import MAX_BALLOT, MAX_PAUSE_ROUND_TRIPS
from .messages import (
    FAST,
    Accept,
    AcceptorId,
    Ballot,
    Instance,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Refusal,
    Reply,
    Report,
    Vote,
    Voted,
)
from .operation import Decided, Outcome, Pause
from .quorums import Quorums


class Ballots:
    """Makes ballots and proposal ids that nobody else ever makes (rule R5).

    One for each opened client, with a proposer id that is fresh and random. It never
    gives the same ballot twice, so two tasks of one client, or a cancelled call and
    the next, cannot share one.

    Attributes:
        count: how many ballots it has given.
    """

    __slots__ = ("_n", "_proposer", "_serial", "count")

    def __init__(self, proposer: bytes) -> None:
        assert proposer, "only ballot 0 belongs to nobody"
        self._proposer = proposer
        self._n = 0
        self._serial = 0
        self.count = 0

    def above(self, seen: Ballot) -> Ballot:
        """A new ballot, higher than the one seen and than all given before.

        Raises:
            ProtocolError: there is none; only a broken acceptor or client gets there.
        """
        n = max(self._n, seen.n) + 1
        if n > MAX_BALLOT:
            raise ProtocolError(f"the acceptors report ballot {n - 1}, and none is left above it")
        self._n = n
        self.count += 1
        return Ballot(n, self._proposer)

    def proposal(self, value: bytes | None) -> Proposal:
        """A new proposal of this value (None: deleted)."""
        self._serial += 1
        return Proposal(ProposalId(self._proposer, self._serial), value)


class _Phase(Enum):
    IDLE = "before the first request"
    PREPARING = "phase 1"
    ACCEPTING = "phase 2"
    DONE = "decided"


class Proposer:
    """Decides one instance: proposes its own proposal unless it has to finish another's.

    Args:
        instance: what to decide.
        own: what to propose if the choice is free. With None, a free choice ends in
            ``Decided(None)``: nothing was chosen yet, as a reader wants to know.
        quorums: of the cluster.
        ballots: where the ballots come from.
    """

    def __init__(
        self, instance: Instance, own: Proposal | None, quorums: Quorums, ballots: Ballots
    ) -> None:
        self.instance = instance
        self.own = own
        self.proposed_own = False  # whether an Accept of our own proposal may be under way
        self._quorums = quorums
        self._ballots = ballots
        self._phase = _Phase.IDLE
        self._ballot = FAST  # of the current attempt
        self._highest = FAST  # that any acceptor was seen to have promised
        self._proposal: Proposal | None = None  # that phase 2 asks to vote for
        self._promises: dict[AcceptorId, Vote | None] = {}
        self._replied: set[AcceptorId] = set()
        self._refused = False
        self._pausing = False
        self._lost = 0  # attempts that were refused
        self._votes: dict[AcceptorId, Vote] = {}  # the highest seen of each acceptor

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        return self._replied

    def ask(self) -> Prepare:
        """Begin phase 1, at a new ballot above all that were seen."""
        assert self._phase is not _Phase.DONE
        self._enter(_Phase.PREPARING)
        self._promises = {}
        self._ballot = self._ballots.above(self._highest)
        return Prepare(self.instance, self._ballot)

    def receive(self, acceptor: AcceptorId, reply: Reply) -> Outcome | None:
        """Take an acceptor's reply to the latest request."""
        assert self._phase in {_Phase.PREPARING, _Phase.ACCEPTING}
        self._replied.add(acceptor)
        match reply:
            case Promise(voted):
                assert self._phase is _Phase.PREPARING
                self._promises[acceptor] = voted
                self._learn(acceptor, voted)
            case Voted():
                assert self._phase is _Phase.ACCEPTING
                assert self._proposal is not None
                self._learn(acceptor, Vote(self._ballot, self._proposal))
            case Refusal(promised, voted):
                self._refused = True
                self._highest = max(self._highest, promised)
                self._learn(acceptor, voted)
            case Report():
                raise AssertionError("a proposer never reads")
            case _:
                assert_never(reply)
        chosen = self._quorums.chosen(self._votes)
        if chosen is not None:
            return self._decide(chosen)
        if self._phase is _Phase.PREPARING and len(self._promises) >= self._quorums.quorum:
            return self._accept()
        if len(self._replied) >= self._quorums.quorum and not self._pausing:
            return self._pause()
        return None

    def _learn(self, acceptor: AcceptorId, vote: Vote | None) -> None:
        known = self._votes.get(acceptor)
        if vote is not None and (known is None or vote.ballot > known.ballot):
            self._votes[acceptor] = vote

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._replied = set()
        self._refused = False
        self._pausing = False

    def _accept(self) -> Outcome:
        """Begin phase 2 with what the promises oblige to, else with our own."""
        proposal = self._quorums.choose(self._promises)
        if proposal is None:
            proposal = self.own
        if proposal is None:
            return self._decide(None)
        if proposal is self.own:
            self.proposed_own = True
        self._enter(_Phase.ACCEPTING)
        self._proposal = proposal
        return Accept(self.instance, self._ballot, proposal)

    def _pause(self) -> Pause:
        """Another proposer is at work: leave it a growing, random while to finish."""
        assert self._refused, "a quorum without a refusal always decides something"
        self._pausing = True
        self._lost += 1
        return Pause(0.0, min(2.0**self._lost, MAX_PAUSE_ROUND_TRIPS))

    def _decide(self, proposal: Proposal | None) -> Decided:
        self._enter(_Phase.DONE)
        return Decided(proposal)
