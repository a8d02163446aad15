"""The readers: find out what is chosen, mostly in one round trip and without a disk write.

Rule R6. :class:`Reader` reads one version, :class:`Finder` looks for the highest one.
Where a quorum leaves somebody's unfinished proposal in the balance, one more reply may
still settle it; else the reader becomes a proposer without a proposal, and finishes it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

from .messages import (
    END,
    NO_TOP,
    AcceptorId,
    Chosen,
    Commit,
    Compacted,
    Find,
    Found,
    Instance,
    Noted,
    Page,
    Proposal,
    Read,
    Reply,
    Report,
    Request,
    State,
    Told,
    Vote,
)
from .operation import Done, Latest, Outcome, Pause
from .proposer import Ballots, Decision, Proposer, Tops
from .quorums import Quorums

_SeenT = TypeVar("_SeenT")


class _Looking(Generic[_SeenT]):
    """What both readers share: replies that are looked at, and the proposer that finishes."""

    def __init__(self, quorums: Quorums, ballots: Ballots) -> None:
        self._quorums = quorums
        self._ballots = ballots
        self._seen: dict[AcceptorId, _SeenT] = {}
        self._hesitating = False
        self._finisher: Proposer | None = None
        self._attempts = 0  # of the finishers before

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        return self._seen.keys() if self._finisher is None else self._finisher.replied

    @property
    def attempts(self) -> int:
        """How many ballots it has begun."""
        return self._attempts + (0 if self._finisher is None else self._finisher.attempts)

    @property
    def commit(self) -> Commit | None:
        """What to tell the acceptors, if it had to finish an instance."""
        return None if self._finisher is None else self._finisher.commit

    def _hesitate(self) -> Pause | None:
        """A quorum leaves it open: finish it, unless one more reply settles it."""
        waiting = len(self._seen) < self._quorums.n
        if self._hesitating and waiting:
            return None
        self._hesitating = True
        return Pause(1.0, 1.0) if waiting else Pause(0.0, 0.0)

    def _finish(self, instance: Instance, own: Proposal | None = None) -> Request:
        self._hesitating = False
        self._finisher = Proposer(instance, own, self._quorums, self._ballots)
        return self._finisher.ask()


class Reader(_Looking["Vote | None"]):
    """Reads one version of a key."""

    def __init__(self, instance: Instance, quorums: Quorums, ballots: Ballots) -> None:
        super().__init__(quorums, ballots)
        self._instance = instance

    def ask(self) -> Request:
        """The read, or what finishes the instance after it."""
        if self._finisher is not None:
            return self._finisher.ask()
        return self._finish(self._instance) if self._hesitating else Read(self._instance)

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Outcome[Decision] | None:
        """Take an acceptor's reply to the latest request."""
        if self._finisher is not None:
            return self._finisher.receive(acceptor, reply)
        match reply:
            case Report(voted):
                self._seen[acceptor] = voted
            case Chosen(proposal):
                return Done(proposal)
            case Compacted():
                return Done(reply)
            case _:
                raise AssertionError(f"a reader never asks for a {type(reply).__name__}")
        if len(self._seen) < self._quorums.quorum:
            return None
        votes = [vote for vote in self._seen.values() if vote is not None]
        chosen = self._quorums.chosen(votes)
        if chosen is not None or len(self._seen) - len(votes) >= self._quorums.quorum:
            return Done(chosen)
        return self._hesitate()


class Finder(_Looking[Found]):
    """Finds the highest chosen version of a key, or the highest below a given one.

    Args:
        key: the key.
        quorums: of the cluster.
        ballots: of the operation that this is part of.
        below: look only below this version. What is found may then be :class:`Compacted`:
            versions as low as that have been dropped.
        tops: given, this is the look-up of a put (rule R7): the tops that the acceptors tell
            are kept there, and the highest version is finished even where nothing can be
            chosen yet, with somebody's unfinished proposal; for as long as it stood above the
            latest version, the tops would allow no other. An unfinished append is no such
            obstacle, for it stands right after the latest version, where the put goes.
    """

    def __init__(
        self,
        key: str,
        quorums: Quorums,
        ballots: Ballots,
        below: int = END,
        tops: Tops | None = None,
    ) -> None:
        super().__init__(quorums, ballots)
        assert 0 < below <= END
        self._key = key
        self._start = self._below = below
        self._tops = tops
        self._highest = NO_TOP  # the version in the balance, once a quorum has replied
        self._leftover: Proposal | None = None  # what to propose there if that may be

    def ask(self) -> Request:
        """What is the highest version? Or, after a pause, what finishes that version."""
        if self._finisher is not None:
            return self._finisher.ask()
        if self._hesitating:
            return self._finish(Instance(self._key, self._highest), self._leftover)
        return Find(self._key, self._below)

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Outcome[Latest | Compacted | None] | None:
        """Take an acceptor's reply to the latest request."""
        assert not isinstance(reply, (Noted, Told, Page, State)), "these show no top"
        if self._tops is not None:
            self._tops.hear(acceptor, reply.top)
        if self._finisher is not None:
            outcome = self._finisher.receive(acceptor, reply)
            return self._finished(outcome.result) if isinstance(outcome, Done) else outcome
        if isinstance(reply, Compacted):
            return self._compacted(reply)
        assert isinstance(reply, Found)
        self._seen[acceptor] = reply
        return self._judge() if len(self._seen) >= self._quorums.quorum else None

    def _judge(self) -> Outcome[Latest | Compacted | None] | None:
        """A quorum has replied: only the highest version that it shows counts."""
        seen = self._seen.values()
        self._highest = highest = max([ver for ver, _, _ in seen])
        self._leftover = None  # of another version, if a reply that came again shows a higher one
        if highest == NO_TOP:
            return Done(None)
        sights = [sight for ver, sight, _ in seen if ver == highest and sight is not None]
        chosen = self._quorums.chosen(sights)
        if chosen is not None:
            return Done(Latest(highest, chosen))
        votes = [sight for sight in sights if isinstance(sight, Vote) and not sight.append]
        if self._tops is not None and votes:
            self._leftover = max(votes, key=lambda vote: vote.ballot).proposal
        elif len(self._seen) - len(sights) >= self._quorums.quorum:
            return self._look(below=highest)
        return self._hesitate()

    def _finished(self, decision: Decision) -> Outcome[Latest | Compacted | None]:
        match decision:
            case Proposal():
                return Done(Latest(self._highest, decision))
            case Compacted():
                return self._compacted(decision)
            case None:
                return self._look(below=self._highest)

    def _compacted(self, reply: Compacted) -> Outcome[Latest | Compacted | None]:
        """So low a version was dropped, for there are newer ones; these are looked for."""
        return self._look(below=END) if self._start == END else Done(reply)

    def _look(self, below: int) -> Outcome[Latest | Compacted | None]:
        """Ask a quorum afresh."""
        self._attempts = self.attempts
        self._seen = {}
        self._finisher = None
        self._hesitating = False
        self._below = below
        return self.ask() if below > 0 else Done(None)
