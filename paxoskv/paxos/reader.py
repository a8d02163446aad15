"""The reader: finds out what an instance has chosen, mostly in one round trip.

Rule R6 for a given version.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from .messages import AcceptorId, Instance, Proposal, Read, Reply, Report, Request, Vote
from .operation import Decided, Outcome, Pause
from .proposer import Ballots, Proposer
from .quorums import Quorums


class Reader:
    """Reads one instance, and finishes it by Paxos where a quorum leaves it open.

    What a quorum shows to be chosen is the answer; no vote in a quorum means that
    nothing is chosen. Anything else is somebody's unfinished proposal: one more reply
    may still settle it, else the reader becomes a proposer without a proposal.
    """

    def __init__(self, instance: Instance, quorums: Quorums, ballots: Ballots) -> None:
        self.instance = instance
        self._quorums = quorums
        self._ballots = ballots
        self._reports: dict[AcceptorId, Vote | None] = {}
        self._asked = False
        self._pausing = False
        self._finisher: Proposer | None = None

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        return self._reports.keys() if self._finisher is None else self._finisher.replied

    def ask(self) -> Request:
        """The read, or what finishes the instance after it."""
        if not self._asked:
            self._asked = True
            return Read(self.instance)
        if self._finisher is None:
            self._finisher = Proposer(self.instance, None, self._quorums, self._ballots)
        return self._finisher.ask()

    def receive(self, acceptor: AcceptorId, reply: Reply) -> Outcome | None:
        """Take an acceptor's reply to the latest request."""
        if self._finisher is not None:
            return self._finisher.receive(acceptor, reply)
        assert isinstance(reply, Report)
        self._reports[acceptor] = reply.voted
        decided = self._judge()
        if decided is not None:
            return decided
        if len(self._reports) == self._quorums.n:
            return Pause(0.0, 0.0)  # nobody is left who could settle it
        if len(self._reports) >= self._quorums.quorum and not self._pausing:
            self._pausing = True
            return Pause(1.0, 1.0)
        return None

    def _judge(self) -> Decided | None:
        votes = {acceptor: vote for acceptor, vote in self._reports.items() if vote is not None}
        chosen: Proposal | None = self._quorums.chosen(votes)
        if chosen is not None:
            return Decided(chosen)
        if len(self._reports) - len(votes) >= self._quorums.quorum:
            return Decided(None)
        return None
