"""What an operation is to the one that drives it: a machine without I/O.

The driver asks for the first step with :meth:`Operation.ask`, sends it to all
acceptors, and hands each reply to :meth:`Operation.receive`, whose answer says what
to do next. Who sends, waits and draws lots is the driver's business: the client
(`paxoskv.rounds`), a test, a model checker.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol, TypeAlias

from .messages import AcceptorId, Proposal, Reply, Request


class Decided(NamedTuple):
    """The end: this proposal is chosen, or (None) nothing was when the operation asked."""

    proposal: Proposal | None


class Pause(NamedTuple):
    """Wait between ``low`` and ``high`` round trips, drawn at random, then ``ask`` again.

    Replies that arrive in the pause still count, and may end it.
    """

    low: float
    high: float


Outcome: TypeAlias = Request | Pause | Decided
"""What comes next: send this to all acceptors now, pause and ask, or done."""


class Operation(Protocol):
    """An operation on one instance, as a machine: messages in, messages out."""

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied to the request now being asked."""
        ...

    def ask(self) -> Request:
        """The request to send now: the first one, or the one after a pause."""
        ...

    def receive(self, acceptor: AcceptorId, reply: Reply) -> Outcome | None:
        """Take an acceptor's reply to the latest request; None: wait for more.

        A reply may come twice. After a quorum of replies there always was an outcome,
        so that nobody ever waits for an acceptor that is away.
        """
        ...
