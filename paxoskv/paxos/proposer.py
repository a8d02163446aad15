"""The proposer: drives one instance through both phases until something is chosen.

Rules R4 and R5. The textbook algorithm (Lamport, *Paxos Made Simple*, section 2.2)
with one addition: every reply shows what its acceptor voted for, so a proposer that
loses a duel often sees from the refusals alone what has been chosen, and is done.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import Enum
from typing import TypeAlias

from ..errors import ProtocolError
from ..limits import MAX_BALLOT, MAX_PAUSE_ROUND_TRIPS
from .messages import (
    FAST,
    Accept,
    AcceptorId,
    Ballot,
    Chosen,
    Commit,
    Compacted,
    Instance,
    Page,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Refusal,
    Reply,
    Request,
    State,
    Vote,
    Voted,
)
from .operation import Done, Outcome, Pause
from .quorums import Quorums

Decision: TypeAlias = Proposal | Compacted | None
"""What became of an instance: this is chosen; it was dropped; nothing was chosen yet."""


class Ballots:
    """Makes the ballots and proposal ids of one operation, which nobody else makes (R5).

    Its proposer id is unique to the operation, so two tasks of one client, or a cancelled
    call and the next, cannot share a ballot, and a high ballot that one instance was pushed
    to is of no consequence to others.

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


class Tops:
    """The tops of a key that acceptors told during one call (rule R7).

    Whatever was chosen before the call began is no higher than the highest of a quorum's
    tops. What an acceptor told first counts.
    """

    __slots__ = ("_quorum", "_told")

    def __init__(self, quorums: Quorums) -> None:
        self._quorum = quorums.quorum
        self._told: dict[AcceptorId, int] = {}

    def hear(self, acceptor: AcceptorId, reply: Reply) -> None:
        """Take note of the top in a reply about the key."""
        assert not isinstance(reply, Page | State), "these are not about a key"
        self._told.setdefault(acceptor, reply.top)

    def allow(self, ver: int) -> bool:
        """Whether a quorum told a top of at most ``ver``, so that a put may return it."""
        return sum(top <= ver for top in self._told.values()) >= self._quorum


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
            ``Done(None)``: nothing was chosen yet, as a reader wants to know.
        quorums: of the cluster.
        ballots: of the operation that this is part of.
        tops: what the acceptors told during the call; given, the own proposal is sent only
            if they allow its version (rule R7).

    Attributes:
        instance: what it decides.
        own: what it proposes if it may.
        proposed_own: whether an Accept of its own proposal may be under way.
        overtaken: whether it cannot go on, for the tops do not allow its version.
        commit: what to tell the acceptors once it is decided.
    """

    def __init__(
        self,
        instance: Instance,
        own: Proposal | None,
        quorums: Quorums,
        ballots: Ballots,
        tops: Tops | None = None,
    ) -> None:
        self.instance = instance
        self.own = own
        self.proposed_own = False
        self.overtaken = False
        self.commit: Commit | None = None
        self._quorums = quorums
        self._ballots = ballots
        self._tops = tops
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

    @property
    def maybe(self) -> Proposal | None:
        """Its own proposal, if that may have been written."""
        return self.own if self.proposed_own else None

    @property
    def attempts(self) -> int:
        """How many ballots this operation has begun."""
        return self._ballots.count

    def ask(self) -> Request:
        """Begin phase 1, at a new ballot above all that were seen."""
        assert self._phase is not _Phase.DONE
        self._enter(_Phase.PREPARING)
        self._promises = {}
        self._ballot = self._ballots.above(self._highest)
        return Prepare(self.instance, self._ballot)

    def receive(self, acceptor: AcceptorId, reply: Reply) -> Outcome[Decision] | None:
        """Take an acceptor's reply to the latest request."""
        if self._tops is not None:
            self._tops.hear(acceptor, reply)
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
            case Chosen(proposal):
                return self._decide(proposal)
            case Compacted():
                return self._decide(reply)
            case _:
                raise AssertionError(f"a proposer never asks for a {type(reply).__name__}")
        chosen = self._quorums.chosen(self._votes)
        if chosen is not None:
            self.commit = Commit(self.instance, chosen.id, None)
            return self._decide(chosen)
        if self._phase is _Phase.PREPARING and len(self._promises) >= self._quorums.quorum:
            return self._choose()
        if len(self._replied) >= self._quorums.quorum and not self._pausing:
            return self._pause()
        return None

    def _learn(self, acceptor: AcceptorId, vote: Vote | None) -> None:
        known = self._votes.get(acceptor)
        if vote is None:
            return
        if known is None or vote.ballot > known.ballot:
            self._votes[acceptor] = vote
        elif vote.ballot == known.ballot and vote.proposal != known.proposal:
            raise ProtocolError("an acceptor shows two votes at one ballot")

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._replied = set()
        self._refused = False
        self._pausing = False

    def _choose(self) -> Outcome[Decision] | None:
        """A quorum has promised: propose what that obliges to, or choose."""
        bound = self._quorums.choose(self._promises)
        return self._free_choice() if bound is None else self._accept(bound)

    def _free_choice(self) -> Outcome[Decision] | None:
        if self.own is None:
            return self._decide(None)
        if self._tops is not None and not self._tops.allow(self.instance.ver):
            return self._wait_for_tops()
        self.proposed_own = True
        return self._accept(self.own)

    def _wait_for_tops(self) -> Pause | None:
        """One more reply may still allow the version."""
        assert not self.proposed_own, "what was allowed stays so"
        all_replied = len(self._replied) == self._quorums.n
        if self._pausing and not all_replied:
            return None
        self._pausing = self.overtaken = True
        return Pause(0.0, 0.0) if all_replied else Pause(1.0, 1.0)

    def _accept(self, proposal: Proposal) -> Accept:
        """Begin phase 2."""
        self.overtaken = False
        self._enter(_Phase.ACCEPTING)
        self._proposal = proposal
        return Accept(self.instance, self._ballot, proposal)

    def _pause(self) -> Pause:
        """Another proposer is at work: leave it a growing, random while to finish."""
        if not self._refused:
            raise ProtocolError("the acceptors contradict what they said before")
        self._pausing = True
        self._lost += 1
        return Pause(0.0, min(2.0**self._lost, MAX_PAUSE_ROUND_TRIPS))

    def _decide(self, decision: Decision) -> Done[Decision]:
        self._enter(_Phase.DONE)
        return Done(decision)
