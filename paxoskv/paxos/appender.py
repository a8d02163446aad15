"""The appender: writes the version after the latest, or says what the latest is now.

Rule R7. One appender tries one version. Whoever drives it goes on from what it returns:
its own proposal, another that won, or a later version that it was overtaken by.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from .messages import AcceptorId, Commit, Compacted, Instance, Proposal, Reply, Request
from .operation import Done, Latest, Outcome
from .proposer import Ballots, Decision, Proposer, Tops
from .quorums import Quorums
from .reader import Finder


class Appender:
    """Proposes for one version, provided that it is newer than all that was chosen before.

    Its result is what the version holds in the end; or, if later versions may have been
    chosen already, the latest of the key; or :class:`Compacted`: the version was dropped
    while its own proposal was under way, and nobody can tell any more whether it was chosen.

    Args:
        instance: the version after the latest that is known.
        own: what to propose.
        quorums: of the cluster.
        ballots: of the operation that this is part of.
        tops: what the acceptors told during this call.
    """

    def __init__(
        self, instance: Instance, own: Proposal, quorums: Quorums, ballots: Ballots, tops: Tops
    ) -> None:
        self._proposer = Proposer(instance, own, quorums, ballots, tops)
        self._finder = Finder(instance.key, quorums, ballots, tops=tops)
        self._active: Proposer | Finder = self._proposer

    @property
    def instance(self) -> Instance:
        """The version that it proposes for."""
        return self._proposer.instance

    @property
    def maybe(self) -> Proposal | None:
        """Its own proposal, if that may have been written."""
        return self._proposer.maybe

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        return self._active.replied

    @property
    def attempts(self) -> int:
        """How many times it has begun phase 1."""
        return self._active.attempts

    @property
    def commit(self) -> Commit | None:
        """What to tell the acceptors once it is done."""
        return self._active.commit

    def ask(self) -> Request:
        """The next step of the proposer, or the look-up once it was overtaken."""
        if self._proposer.overtaken:
            self._active = self._finder
        return self._active.ask()

    def receive(
        self, acceptor: AcceptorId, reply: Reply
    ) -> Outcome[Latest | Compacted | None] | None:
        """Take an acceptor's reply to the latest request."""
        if self._active is self._finder:
            return self._finder.receive(acceptor, reply)
        outcome = self._proposer.receive(acceptor, reply)
        return self._decided(outcome.result) if isinstance(outcome, Done) else outcome

    def _decided(self, decision: Decision) -> Done[Latest | Compacted | None]:
        if isinstance(decision, Compacted):
            known = Latest(decision.latest, decision.proposal)
            return Done(decision if self._proposer.proposed_own else known)
        assert decision is not None, "whoever proposes something ends with something"
        return Done(Latest(self.instance.ver, decision))
