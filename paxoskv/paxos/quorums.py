"""What counts as a quorum, and what may be concluded from the votes of one.

Both conclusions of Paxos are here, as two pure functions over votes:
:meth:`Quorums.chosen` says what *has been* decided, :meth:`Quorums.choose` what a
proposer *must propose* so that nothing decided is ever undone (rule R4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .messages import FAST, AcceptorId, Ballot, Proposal, ProposalId, Vote


class Quorums:
    """The quorums of a cluster of ``n`` acceptors.

    Attributes:
        n: how many acceptors the cluster has.
        quorum: any majority; two of them always share an acceptor.
        fast_quorum: any ⌈3n/4⌉; two of them and a quorum always share an acceptor
            (Lamport, *Fast Paxos*, section 2.2, the Fast Quorum Requirement).
    """

    __slots__ = ("fast_quorum", "n", "quorum")

    def __init__(self, n: int) -> None:
        assert n >= 1, "a cluster has at least one acceptor"
        self.n = n
        self.quorum = n // 2 + 1
        self.fast_quorum = (3 * n + 3) // 4
        assert 2 * self.quorum > n
        assert 2 * self.fast_quorum + self.quorum > 2 * n

    def chosen(self, votes: Mapping[AcceptorId, Vote]) -> Proposal | None:
        """The proposal that these votes show to be chosen, or None if they show none.

        A proposal is chosen once it has the votes, at one ballot, of a quorum, or at
        ballot 0 of a fast quorum. Votes need not be of the same moment: what was cast
        stays cast.
        """
        if len(votes) < self.quorum:
            return None
        tally = Counter((vote.ballot, vote.proposal.id) for vote in votes.values())
        (ballot, winner), count = tally.most_common(1)[0]
        if count < (self.fast_quorum if ballot == FAST else self.quorum):
            return None
        return _proposal_at(votes, ballot, winner)

    def choose(self, promises: Mapping[AcceptorId, Vote | None]) -> Proposal | None:
        """The proposal that a quorum of promises obliges to, or None: free to choose.

        This is rule R4. The highest ballot voted for counts. A classic ballot has one
        proposal only (R5), and that one may have been chosen. Ballot 0 may have several;
        only one that has at least ``|Q| + F - N`` votes here can have a fast quorum.

        Args:
            promises: what each acceptor of the quorum Q had voted for when it promised.
        """
        assert len(promises) >= self.quorum, "choosing without a quorum of promises"
        votes = {acceptor: vote for acceptor, vote in promises.items() if vote is not None}
        if not votes:
            return None
        highest = max(vote.ballot for vote in votes.values())
        tally = Counter(v.proposal.id for v in votes.values() if v.ballot == highest)
        if highest != FAST:
            assert len(tally) == 1, f"two proposals share {highest} (R5 is broken)"
            return _proposal_at(votes, highest, next(iter(tally)))
        needed = len(promises) + self.fast_quorum - self.n
        candidates = [proposal for proposal, count in tally.items() if count >= needed]
        assert len(candidates) <= 1, "two proposals could have the same fast quorum"
        return _proposal_at(votes, highest, candidates[0]) if candidates else None


def _proposal_at(
    votes: Mapping[AcceptorId, Vote], ballot: Ballot, proposal_id: ProposalId
) -> Proposal:
    """The proposal with this id among the votes at this ballot."""
    return next(
        vote.proposal
        for vote in votes.values()
        if vote.ballot == ballot and vote.proposal.id == proposal_id
    )
