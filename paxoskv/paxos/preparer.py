"""The preparer: phase 1 of an instance, ahead of the time at which it is needed.

While a client writes one version of a key, and another call of it waits to write the next one,
the promises which that call will need can be asked for in the same round. When its turn comes,
phase 2 is all that is left: one round trip, to a majority (Lamport, *Paxos Made Simple*, 2001,
section 3, where phase 1 is executed in advance; Rystsov, *CASPaxos*, 2018, where it is so for a
register).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from .messages import (
    FAST,
    AcceptorId,
    Ballot,
    Chosen,
    Commit,
    Compacted,
    Instance,
    Prepare,
    Promise,
    Refusal,
    Reply,
)
from .operation import Done
from .proposer import Ballots, Tops
from .quorums import Quorums


class Preparer:
    """Asks once for the promises of an instance, and goes no further.

    Its result is a ballot with which the choice is free: a quorum has promised it, nobody of
    which had voted (rule R4), and the tops allow the version (rule R7). One proposer may begin
    phase 2 with it, once (rule R5). Where it is not so, the result is None.

    Args:
        instance: what to prepare.
        quorums: of the cluster.
        ballots: of the operation that may go on with it.
        tops: what the acceptors told during the call.

    Attributes:
        instance, ballots: the same.
        attempts: one, for the ballot that it begins.
        commit: nothing, for it finds nothing to be chosen.
    """

    def __init__(self, instance: Instance, quorums: Quorums, ballots: Ballots, tops: Tops) -> None:
        self.attempts = 1
        self.commit: Commit | None = None
        self.instance = instance
        self.ballots = ballots
        self._ballot = ballots.above(FAST)
        self._quorum = quorums.quorum
        self._tops = tops
        self._replied: set[AcceptorId] = set()
        self._free: set[AcceptorId] = set()  # those that have promised, and never voted

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that have replied."""
        return self._replied

    def ask(self) -> Prepare:
        """Ask for the promises."""
        return Prepare(self.instance, self._ballot)

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Done[Ballot | None] | None:
        """Take an acceptor's reply."""
        assert isinstance(reply, Promise | Refusal | Chosen | Compacted), "answers to a Prepare"
        self._tops.hear(acceptor, reply.top)
        self._replied.add(acceptor)
        if isinstance(reply, Promise) and reply.voted is None:
            self._free.add(acceptor)
        if len(self._replied) < self._quorum:
            return None
        free = len(self._free) >= self._quorum and self._tops.allow(self.instance.ver)
        return Done(self._ballot if free else None)
