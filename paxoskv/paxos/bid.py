"""The bid: an append at ballot 0, of which mostly nothing need be known but who has voted.

Bids of one round go out as a series of Accepts, and where all goes well each acceptor says in one
word that it has voted for all of them. A fast quorum of such words decides all. Whoever drives
bids counts the words, once for the series; a bid that hears anything else, or is to go on without
a fast quorum, turns to an :class:`~.appender.Appender`, and that is told what was said by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from .appender import Appender
from .messages import AcceptorId, Commit, Instance, Proposal, Reply, Request, Voted
from .operation import Doubtful, Latest, Outcome
from .proposer import Ballots

_NOBODY: Final[Mapping[AcceptorId, bool]] = {}


class Bid:
    """One of many appends that begin at ballot 0; else as an :class:`~.appender.Appender`.

    Args:
        instance: the version after the latest that is known.
        own: what to propose.
        begin: makes the appender, which has ballot 0 to begin with; called once at most.

    Attributes:
        instance, own: the same.
        heard: who has voted for the series that the bid is in, and whether his request was sent
            more than once. The driver lets all bids of a series share it.
    """

    __slots__ = ("_appender", "_begin", "heard", "instance", "own")

    def __init__(self, instance: Instance, own: Proposal, begin: Callable[[], Appender]) -> None:
        self.instance = instance
        self.own = own
        self.heard = _NOBODY
        self._begin = begin
        self._appender: Appender | None = None

    @property
    def whole(self) -> bool:
        """Whether it has not turned."""
        return self._appender is None

    @property
    def won(self) -> Latest:
        """What is chosen, once a fast quorum has voted for the series."""
        return Latest(self.instance.ver, self.own)

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        return self.heard.keys() if self._appender is None else self._appender.replied

    @property
    def attempts(self) -> int:
        """How many ballots it has begun."""
        return 1 if self._appender is None else self._appender.attempts

    @property
    def lost(self) -> int:
        """How many of its attempts to write were refused."""
        return 0 if self._appender is None else self._appender.lost

    @property
    def crowded(self) -> bool:
        """Whether others wait for their turn to write the key."""
        return self._appender is not None and self._appender.crowded

    @property
    def maybe(self) -> Proposal | None:
        """Its own proposal, if that may have been written, or may yet be."""
        return self.own if self._appender is None else self._appender.maybe

    @property
    def commit(self) -> Commit | None:
        """What to tell the acceptors once it is done; of a series that won, the driver does."""
        return None if self._appender is None else self._appender.commit

    @property
    def ballots(self) -> Ballots:
        """With which to go on, if it comes to no end."""
        self.turn()
        assert self._appender is not None
        return self._appender.ballots

    def turn(self) -> Outcome[Latest | Doubtful | None] | None:
        """Turn to an appender, unless it has; what that makes of the votes heard so far."""
        if self._appender is not None:
            return None
        self._appender = self._begin()
        self._appender.ask()  # for the votes that the series has asked for
        outcome = None
        for acceptor, again in self.heard.items():
            latest = self._appender.receive(acceptor, Voted(self.instance.ver), again)
            outcome = outcome if latest is None else latest
        return outcome

    def ask(self) -> Request:
        """The next step, once it has turned."""
        assert self._appender is not None, "its first step goes out with the series"
        return self._appender.ask()

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Outcome[Latest | Doubtful | None] | None:
        """Take an acceptor's reply to the latest request, once it has turned."""
        assert self._appender is not None, "the driver counts what answers the series"
        return self._appender.receive(acceptor, reply, again)
