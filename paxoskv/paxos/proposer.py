"""The proposer: drives one instance through both phases until something is chosen.

Rules R4 and R5. The textbook algorithm (Lamport, *Paxos Made Simple*, section 2.2)
with two additions. Every refusal shows what its acceptor voted for, so a proposer that
loses a duel often sees from the refusals alone what has been chosen, and is done. And it
may begin with an Accept at ballot 0, which belongs to nobody and is promised from the
start (Lamport, *Fast Paxos*, 2006, section 3.3): where a fast quorum votes for it, one
round trip was all; else the textbook goes on from what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Final, TypeAlias

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
    Noted,
    Page,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Refusal,
    Reply,
    Request,
    State,
    Told,
    Vote,
    Voted,
)
from .operation import Done, Outcome, Pause
from .quorums import Quorums

Decision: TypeAlias = Proposal | Compacted | None
"""What became of an instance: this is chosen; it was dropped; nothing was chosen yet."""


class Proposals:
    """Makes proposals, each with an id that no other has (R5).

    Args:
        proposer: the unique id of whoever makes them.
    """

    __slots__ = ("_proposer", "_serial")

    def __init__(self, proposer: bytes) -> None:
        assert proposer, "only ballot 0 belongs to nobody"
        self._proposer = proposer
        self._serial = 0

    def proposal(self, value: bytes | None) -> Proposal:
        """A new proposal of this value (None: deleted)."""
        self._serial += 1
        return Proposal(ProposalId(self._proposer, self._serial), value)


class Ballots(Proposals):
    """Makes the ballots of one client at one instance, as nobody else does (R5).

    Its proposer id is unique. Operations that follow each other at the instance may share it, for
    no ballot comes twice; and a preparer may be given a ballot while another operation proposes at
    the version before. A high ballot that one instance was pushed to is of no consequence to
    others.
    """

    __slots__ = ("_n",)

    def __init__(self, proposer: bytes) -> None:
        super().__init__(proposer)
        self._n = 0

    def above(self, seen: Ballot) -> Ballot:
        """A new ballot, higher than the one seen and than all given before.

        Raises:
            ProtocolError: there is none; only a broken acceptor or client gets there.
        """
        n = max(self._n, seen.n) + 1
        if n > MAX_BALLOT:
            raise ProtocolError(f"the acceptors report ballot {n - 1}, and none is left above it")
        self._n = n
        return Ballot(n, self._proposer)


class Tops:
    """The tops of a key that acceptors told during one call (rule R7).

    Whatever was chosen before the call began is no higher than the highest of a quorum's
    tops. The lowest that an acceptor told counts, for tops only rise.
    """

    __slots__ = ("_quorum", "_told")

    def __init__(self, quorums: Quorums) -> None:
        self._quorum = quorums.quorum
        self._told: dict[AcceptorId, int] = {}

    def hear(self, acceptor: AcceptorId, top: int) -> None:
        """Take note of what an acceptor told."""
        known = self._told.get(acceptor)
        if known is None or top < known:
            self._told[acceptor] = top

    def allow(self, ver: int) -> bool:
        """Whether a quorum told a top of at most ``ver``, so that a put may return it."""
        told = self._told.values()
        return len(told) >= self._quorum and len([0 for top in told if top <= ver]) >= self._quorum


class _Phase(Enum):
    IDLE = "before the first request"
    PREPARING = "phase 1"
    ACCEPTING = "phase 2"
    DONE = "decided"


_FOR_ALL: Final = Pause(math.inf, math.inf)
"""As long as a driver lets a pause be, for the replies of all: each that comes may end it."""

_ASKING: Final = _Phase.PREPARING, _Phase.ACCEPTING


class Proposer:
    """Decides one instance: proposes its own proposal unless it has to finish another's.

    Args:
        instance: what to decide.
        own: what to propose if the choice is free. With None, a free choice ends in
            ``Done(None)``: nothing was chosen yet, as a reader wants to know.
        quorums: of the cluster.
        ballots: of the operation that this is part of.
        tops: what the acceptors told during the call; given, the own proposal is marked
            ``append`` at ballot 0, and sent at others only if they allow its version (rule R7).
        promised: a ballot of its own ``ballots`` that is promised already, to begin phase 2 with:
            ballot 0, which is so from the start, or one that a :class:`~.preparer.Preparer` got
            for it.

    Attributes:
        instance: what it decides.
        own: what it proposes if it may.
        overtaken: whether it cannot go on, for the tops do not allow its version, or it was
            dropped.
        attempts: how many ballots it has begun; not the one that a preparer began for it.
        lost: how many of its attempts were refused.
        crowded: whether others wait for their turn to write the key, or have it.
        commit: what to tell the acceptors once it is decided.
    """

    def __init__(
        self,
        instance: Instance,
        own: Proposal | None,
        quorums: Quorums,
        ballots: Ballots,
        tops: Tops | None = None,
        *,
        promised: Ballot | None = None,
    ) -> None:
        self.instance = instance
        self.own = own
        self.overtaken = False
        self.attempts = 0
        self.lost = 0
        self.crowded = False
        self.commit: Commit | None = None
        self._quorums = quorums
        self._ballots = ballots
        self._tops = tops
        self._promised = promised  # until phase 2 has begun with it
        self._phase = _Phase.IDLE
        self._ballot = FAST  # of the current attempt
        self._highest = FAST  # that any acceptor was seen to have promised
        self._accept: Accept | None = None  # by which phase 2 asks
        self._vote: Vote | None = None  # for the vote that it asks for
        self._promises: dict[AcceptorId, Vote | None] = {}
        self._replied: set[AcceptorId] = set()
        self._refused = False
        self._pausing = False
        self._votes: dict[AcceptorId, Vote] = {}  # the highest seen of each acceptor
        # What became of the own proposal: at which ballots it may be under way; how many votes
        # at ballot 0 let others propose it; and which acceptors have said that they never voted
        # for it there, nor ever will.
        self._sent_fast = self._sent_classic = False
        self._enough = 1
        self._never: set[AcceptorId] = set()
        self._is_dropped = False  # whether an acceptor has said so

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        return self._replied

    @property
    def maybe(self) -> Proposal | None:
        """Its own proposal, if that may have been written, or may yet be (rule R7)."""
        return self.own if self._sent_classic or (self._sent_fast and not self._dead) else None

    @property
    def _dead(self) -> bool:
        """Whether the own proposal, sent at ballot 0 alone, can no longer be chosen.

        An append is proposed by others only where enough votes oblige them to (R4). What is
        none may be proposed by whoever looks up the latest version and meets a single vote.
        """
        return self._quorums.n - len(self._never) < self._enough

    def ask(self) -> Request:
        """Begin phase 2, if that is promised; or phase 1, at a new ballot above all seen."""
        assert self._phase is not _Phase.DONE
        if self._promised is not None:
            assert self.own is not None, "who has nothing to propose begins with phase 1"
            self._ballot, self._promised = self._promised, None
            assert self._ballot == FAST or self._allowed, "nothing is prepared beyond the tops"
            self.attempts += self._ballot == FAST
            return self._begin_phase_2(self.own)
        self._enter(_Phase.PREPARING)
        self._promises = {}
        self._ballot = self._ballots.above(self._highest)
        self.attempts += 1
        return Prepare(self.instance, self._ballot)

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Outcome[Decision] | None:
        """Take an acceptor's reply to the latest request."""
        assert not isinstance(reply, (Noted, Told, Page, State)), "these show no top"
        if self._tops is not None:
            top = reply.top
            if isinstance(reply, Voted) and self._accept is not None and self._accept.append:
                # It voted during this call, and when it did, its top was no higher.
                top = min(top, self.instance.ver)
            self._tops.hear(acceptor, top)
        assert self._phase in _ASKING
        self._replied.add(acceptor)
        match reply:
            case Voted():
                assert self._phase is _Phase.ACCEPTING
                self.crowded = self.crowded or reply.crowded
                self._learn(acceptor, self._vote)
            case Promise(voted):
                assert self._phase is _Phase.PREPARING
                self._promises[acceptor] = voted
                self._learn(acceptor, voted)
                self._exclude(acceptor, voted)
            case Refusal(promised, voted):
                self._refused = True
                self._highest = max(self._highest, promised)
                self._learn(acceptor, voted)
                self._exclude(acceptor, voted)
            case Chosen(proposal):
                return self._decide(proposal)
            case Compacted():
                return self._dropped(acceptor, reply, again)
            case _:
                raise AssertionError(f"a proposer never asks for a {type(reply).__name__}")
        quorum = self._quorums.quorum
        if len(self._replied) < quorum and len(self._votes) < quorum:
            return None
        chosen = self._quorums.chosen(self._votes.values())
        if chosen is not None:
            self.commit = Commit(self.instance, chosen.id, None)
            return self._decide(chosen)
        if self._is_dropped:
            return self._look_later(first=False)
        if self._phase is _Phase.PREPARING and len(self._promises) >= quorum:
            return self._choose()
        if len(self._replied) < quorum:
            return None
        return self._pause_at_ballot_0() if self._ballot == FAST else self._pause()

    def _learn(self, acceptor: AcceptorId, vote: Vote | None) -> None:
        if vote is None:
            return
        known = self._votes.get(acceptor)
        if known is None or vote.ballot > known.ballot:
            self._votes[acceptor] = vote
        elif vote.ballot == known.ballot and vote.proposal != known.proposal:
            raise ProtocolError("an acceptor shows two votes at one ballot")

    def _exclude(self, acceptor: AcceptorId, voted: Vote | None) -> None:
        """Take note if this shows that it never votes for the own proposal at ballot 0.

        It has promised a higher ballot or refused, and whatever it refused for stays so: its
        promise, its vote at ballot 0, and its top.
        """
        if voted is None or (voted.ballot == FAST and voted.proposal != self.own):
            self._never.add(acceptor)

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._replied = set()
        self._refused = False
        self._pausing = False

    def _choose(self) -> Outcome[Decision] | None:
        """A quorum has promised: propose what that obliges to, or choose."""
        bound = self._quorums.choose(self._promises)
        if bound is not None:
            return self._begin_phase_2(bound)
        if self.own is None:
            return self._decide(None)
        if self._allowed:
            return self._begin_phase_2(self.own)
        return self._give_way()

    @property
    def _all_replied(self) -> bool:
        return len(self._replied) == self._quorums.n

    @property
    def _allowed(self) -> bool:
        """Whether the tops allow the own proposal (rule R7)."""
        return self._tops is None or self._tops.allow(self.instance.ver)

    def _give_way(self) -> Pause | None:
        """There may be later versions already, and no phase 2 before these were looked at.

        One more reply may show more. Where it is open what becomes of the own proposal, it waits
        for those of all; after that, later versions are looked at, and it stays in doubt.
        """
        waits = self._pausing and (self.overtaken or self.maybe is not None)
        if waits and not self._all_replied:
            return None
        self.overtaken = True  # unless they tell in time
        if self._all_replied:
            return Pause(0.0, 0.0)
        self._pausing = True
        if self.maybe is None:
            return Pause(1.0, 1.0)
        self.lost += 1
        return _FOR_ALL

    def _dropped(
        self, acceptor: AcceptorId, reply: Compacted, again: bool
    ) -> Outcome[Decision] | None:
        """The instance was dropped: nothing may be proposed here any more (rule R9)."""
        if self._ballot == FAST and not again:
            # That is what it says to the Accept when it comes for the first time.
            self._never.add(acceptor)
        if self._tops is None or self.maybe is None:
            return self._decide(reply)
        first = not self._is_dropped
        self._pausing = self.overtaken = self._is_dropped = True
        return self._look_later(first)

    def _look_later(self, first: bool) -> Pause | None:
        """Look for later versions; before, others may say that they never voted for ours."""
        if self.maybe is None or self._all_replied:
            return Pause(0.0, 0.0)
        if not first:
            return None
        return Pause(1.0, 2.0) if self._sent_classic else _FOR_ALL

    def _begin_phase_2(self, proposal: Proposal) -> Accept:
        is_own = self.own is not None and proposal.id == self.own.id
        self._sent_fast |= is_own and self._ballot == FAST
        self._sent_classic |= is_own and self._ballot != FAST
        self.overtaken = False
        self._enter(_Phase.ACCEPTING)
        append = self._ballot == FAST and self._tops is not None
        if append:
            self._enough = self._quorums.obliging
        self._accept = Accept(self.instance, self._ballot, proposal, append)
        self._vote = Vote(self._ballot, proposal)
        return self._accept

    def _pause_at_ballot_0(self) -> Pause | None:
        """One more reply may be all that is missing; else whoever has most votes goes on first."""
        if self._pausing and not self._all_replied:
            return None
        self._pausing = True
        if not self._refused:
            return Pause(1.0, 1.0)
        if self.maybe is None and not self._allowed:
            self.overtaken = True  # an append that came too late, and can no longer be chosen
            return Pause(0.0, 0.0)
        self.lost = 1
        own = sum(vote.proposal == self.own for vote in self._votes.values())
        return Pause(0.0, 0.0) if own >= self._quorums.quorum else Pause(1.0, 2.0)

    def _pause(self) -> Pause | None:
        """Another proposer is at work: leave it a growing, random while to finish."""
        if self._pausing:
            return None
        if not self._refused:
            raise ProtocolError("the acceptors contradict what they said before")
        self._pausing = True
        self.lost += 1
        return self._back_off(0.0)

    def _back_off(self, least: float) -> Pause:
        return Pause(least, min(2.0 ** min(self.lost, 16), MAX_PAUSE_ROUND_TRIPS))

    def _decide(self, decision: Decision) -> Done[Decision]:
        self._enter(_Phase.DONE)
        return Done(decision)
