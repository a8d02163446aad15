"""The appender: writes the version after the latest, or says what the latest is now.

Rule R7. One appender tries one version. Whoever drives it goes on from what it returns:
its own proposal, another that won, or a later version that it was overtaken by.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from .messages import AcceptorId, Ballot, Commit, Compacted, Instance, Proposal, Reply, Request
from .operation import Done, Doubtful, Latest, Outcome
from .proposer import Ballots, Decision, Proposer, Tops
from .quorums import Quorums
from .reader import Finder


class Appender:
    """Proposes for one version, provided that it is newer than all that was chosen before.

    Its result is what the version holds in the end; or, if later versions may have been
    chosen already, the latest of the key; or :class:`Doubtful`: its own proposal was under
    way, and nobody can tell whether it is, or will be, chosen where it is no append.

    Args:
        instance: the version after the latest that is known.
        own: what to propose.
        quorums: of the cluster.
        ballots: of the operation that this is part of.
        tops: what the acceptors told during this call.
        promised: a ballot that is promised already, to begin phase 2 with; see
            :class:`~.proposer.Proposer`.

    Attributes:
        ballots: the same.
    """

    def __init__(
        self,
        instance: Instance,
        own: Proposal,
        quorums: Quorums,
        ballots: Ballots,
        tops: Tops,
        *,
        promised: Ballot | None = None,
    ) -> None:
        self._own = own
        self._tops = tops
        self._quorums = quorums
        self.ballots = ballots
        self._proposer = Proposer(instance, own, quorums, ballots, tops, promised=promised)
        self._finder: Finder | None = None  # once it looks for later versions

    @property
    def instance(self) -> Instance:
        """The version that it proposes for."""
        return self._proposer.instance

    @property
    def maybe(self) -> Proposal | None:
        """Its own proposal, if that may have been written, or may yet be."""
        return self._proposer.maybe

    @property
    def _active(self) -> Proposer | Finder:
        return self._proposer if self._finder is None else self._finder

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        return self._active.replied

    @property
    def attempts(self) -> int:
        """How many ballots it has begun."""
        return self._proposer.attempts + (0 if self._finder is None else self._finder.attempts)

    @property
    def lost(self) -> int:
        """How many of its attempts to write were refused."""
        return self._proposer.lost

    @property
    def crowded(self) -> bool:
        """Whether others wait for their turn to write the key."""
        return self._proposer.crowded

    @property
    def commit(self) -> Commit | None:
        """What to tell the acceptors once it is done."""
        return self._active.commit

    def ask(self) -> Request:
        """The next step of the proposer, or the look-up once it was overtaken."""
        if self._finder is None and self._proposer.overtaken:
            return self._look_up()
        return self._active.ask()

    def _look_up(self) -> Request:
        """Look for later versions."""
        key = self._proposer.instance.key
        self._finder = Finder(key, self._quorums, self.ballots, tops=self._tops)
        return self._finder.ask()

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Outcome[Latest | Doubtful | None] | None:
        """Take an acceptor's reply to the latest request."""
        if self._finder is None:
            outcome = self._proposer.receive(acceptor, reply, again)
            return self._decided(outcome.result) if isinstance(outcome, Done) else outcome
        found = self._finder.receive(acceptor, reply, again)
        return self._found(found.result) if isinstance(found, Done) else found

    def _decided(self, decision: Decision) -> Outcome[Latest | Doubtful | None]:
        if isinstance(decision, Compacted):
            return self._found(Latest(decision.latest, decision.proposal))
        assert decision is not None, "whoever proposes something ends with something"
        if decision.id == self._own.id and not self._tops.allow(self.instance.ver):
            return self._look_up()  # others have finished it, and did not look at the tops
        return Done(Latest(self.instance.ver, decision))

    def _found(self, latest: Latest | Compacted | None) -> Done[Latest | Doubtful | None]:
        assert not isinstance(latest, Compacted), "the latest is never dropped"
        if latest is not None and latest.proposal.id == self._own.id:
            ours = self._tops.allow(latest.ver)
            return Done(latest if ours else Doubtful(latest))
        return Done(latest if self.maybe is None else Doubtful(latest))
