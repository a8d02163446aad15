"""What an operation is to the one that drives it: a machine without I/O.

The driver asks for the first step with :meth:`Operation.ask`, sends it to all
acceptors, and hands each reply to :meth:`Operation.receive`, whose answer says what
to do next. Who sends, waits and draws lots is the driver's business: the client
(`paxoskv.rounds`), a test, a model checker.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from .messages import AcceptorId, Commit, Proposal, Reply, Request

ResultT = TypeVar("ResultT")


class Done(NamedTuple, Generic[ResultT]):
    """The end, and what the operation found out or brought about."""

    result: ResultT


class Pause(NamedTuple):
    """Wait between ``low`` and ``high`` round trips, drawn at random, then ``ask`` again.

    Replies that arrive in the pause still count, and may end it. No pause is longer than
    ``MAX_PAUSE``, though the bounds be infinite.
    """

    low: float
    high: float


Outcome: TypeAlias = Request | Pause | Done[ResultT]
"""What comes next: send this to all acceptors now, pause and ask, or done."""


class Latest(NamedTuple):
    """A chosen version of a key, above which none was chosen when it was looked up."""

    ver: int
    proposal: Proposal


class Doubtful(NamedTuple):
    """The end of an append that cannot tell whether its own proposal is written (rule R7).

    Attributes:
        latest: of the key, as it was found then.
    """

    latest: Latest | None


class Operation(Protocol[ResultT]):
    """An operation as a machine: messages in, messages out.

    ``ask`` and ``receive`` may raise :class:`~paxoskv.errors.ProtocolError` when the acceptors
    said what acceptors that keep the rules never say; it ends this operation alone.
    """

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        ...

    @property
    def attempts(self) -> int:
        """How many ballots it has begun."""
        ...

    @property
    def commit(self) -> Commit | None:
        """What to tell the acceptors, if it saw what they may not know to be chosen (R8)."""
        ...

    def ask(self) -> Request:
        """The request to send now: the first one, or the one after a pause."""
        ...

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Outcome[ResultT] | None:
        """Take an acceptor's reply to the latest request; None: wait for more.

        A reply may come twice. After a quorum of replies there always was an outcome,
        so that nobody ever waits for an acceptor that is away.

        Args:
            acceptor: who replied.
            reply: what it said.
            again: whether the request was sent to it more than once, so that it may have
                handled it before.
        """
        ...
