"""What counts as a quorum, and what may be concluded from the votes of one.

Both conclusions of Paxos are here, as two pure functions over votes:
:meth:`Quorums.chosen` says what *has been* decided, :meth:`Quorums.choose` what a
proposer *must propose* so that nothing decided is ever undone (rule R4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..errors import ProtocolError
from .messages import FAST, AcceptorId, Ballot, Proposal, Sight, Vote


class Quorums:
    """The quorums of a cluster of ``n`` acceptors.

    Attributes:
        n: how many acceptors the cluster has.
        quorum: any majority; two of them always share an acceptor.
        fast_quorum: any ⌈3n/4⌉; two of them and a quorum always share an acceptor
            (Lamport, *Fast Paxos*, section 2.2, the Fast Quorum Requirement).
        obliging: the fewest votes at ballot 0 by which :meth:`choose` may be obliged.
    """

    __slots__ = ("fast_quorum", "n", "obliging", "quorum")

    def __init__(self, n: int) -> None:
        assert n >= 1, "a cluster has at least one acceptor"
        self.n = n
        self.quorum = n // 2 + 1
        self.fast_quorum = (3 * n + 3) // 4
        self.obliging = self.quorum + self.fast_quorum - n
        assert 2 * self.quorum > n
        assert 2 * self.fast_quorum + self.quorum > 2 * n

    def chosen(self, sights: Iterable[Sight]) -> Proposal | None:
        """The proposal that these sights show to be chosen, or None if they show none.

        Each acceptor has one sight among them at most.

        A proposal is chosen when an acceptor knows that it is, or when it has the votes, at
        one ballot, of a quorum, or at ballot 0 of a fast quorum. Votes need not be of the
        same moment: what was cast stays cast.

        Raises:
            ProtocolError: two acceptors know different proposals to be chosen.
        """
        seen = [*sights]
        if seen and seen.count(first := seen[0]) == len(seen):
            # Mostly all are alike, and votes then a matter of how many there are.
            if isinstance(first, Proposal):
                return first
            return first.proposal if len(seen) >= self._needed(first.ballot) else None
        votes = [sight for sight in seen if isinstance(sight, Vote)]
        if len(votes) < len(seen):
            return _only([sight for sight in seen if isinstance(sight, Proposal)])
        # Whatever has the votes of a majority is among any n - quorum + 1 of all.
        for vote in votes[: len(votes) - self.quorum + 1]:
            ballot, id_ = vote.ballot, vote.proposal.id
            same = [v.proposal for v in votes if v.ballot == ballot and v.proposal.id == id_]
            if len(same) >= self._needed(ballot):
                return _only(same)
        return None

    def _needed(self, ballot: Ballot) -> int:
        """How many votes at a ballot make its proposal chosen."""
        return self.fast_quorum if ballot == FAST else self.quorum

    def choose(self, promises: Mapping[AcceptorId, Vote | None]) -> Proposal | None:
        """The proposal that a quorum of promises obliges to, or None: free to choose.

        This is rule R4. The highest ballot voted for counts. A classic ballot has one
        proposal only (R5), and that one may have been chosen. Ballot 0 may have several;
        only one that has at least ``|Q| + F - N`` votes here can have a fast quorum.

        Args:
            promises: what each acceptor of the quorum Q had voted for when it promised.

        Raises:
            ProtocolError: two proposals share a classic ballot, so somebody broke R5.
        """
        assert len(promises) >= self.quorum, "choosing without a quorum of promises"
        votes = [vote for vote in promises.values() if vote is not None]
        highest = max((vote.ballot for vote in votes), default=FAST)
        candidates = [vote.proposal for vote in votes if vote.ballot == highest]
        if highest == FAST:
            needed = len(promises) + self.fast_quorum - self.n
            assert 2 * needed > len(promises), "no two proposals can have a fast quorum"
            tally = Counter([proposal.id for proposal in candidates])
            candidates = [each for each in candidates if tally[each.id] >= needed]
        return _only(candidates)


def _only(proposals: Iterable[Proposal]) -> Proposal | None:
    """The proposal that all of these are, or None if there is none.

    Raises:
        ProtocolError: they are not the same.
    """
    only: Proposal | None = None
    for proposal in proposals:
        if only is None:
            only = proposal
        elif proposal != only:
            raise ProtocolError("the acceptors show two proposals where there can be only one")
    return only
