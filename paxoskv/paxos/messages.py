"""The words of Paxos as types: ballots, proposals, votes, requests and replies.

All of them are immutable tuples: they can be compared, hashed, sent and kept.
The words are those of Lamport, *Paxos Made Simple* (2001), section 2, and, for
ballot 0, of his *Fast Paxos* (2006).
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

AcceptorId: TypeAlias = bytes
"""The identity of one acceptor: 16 random bytes, made when the cluster is (rule R10)."""

NO_TOP: Final = -1
"""The ``top`` of a key of which an acceptor has voted for no version."""


class Instance(NamedTuple):
    """One single-decree Paxos: one version of one key."""

    key: str
    ver: int


class Ballot(NamedTuple):
    """A ballot, ordered by its number and then by its proposer.

    Proposers use ``n >= 1`` with an id of their own; :data:`FAST` is everybody's.
    """

    n: int
    proposer: bytes


FAST: Final = Ballot(0, b"")
"""Ballot 0, the shared *fast* ballot, promised by every acceptor from the start."""


class ProposalId(NamedTuple):
    """What tells one proposal from every other, also from one of the same value."""

    proposer: bytes
    serial: int


class Proposal(NamedTuple):
    """What an instance decides on: an id and a value in bytes, or None for "deleted"."""

    id: ProposalId
    value: bytes | None


class Vote(NamedTuple):
    """A vote of one acceptor: for this proposal, at this ballot."""

    ballot: Ballot
    proposal: Proposal


# --- Requests: from a proposer to an acceptor --------------------------------------


class Read(NamedTuple):
    """Ask what an acceptor voted for, and ask for nothing more."""

    instance: Instance


class Prepare(NamedTuple):
    """Phase 1a: ask for the promise to refuse every ballot below this one."""

    instance: Instance
    ballot: Ballot


class Accept(NamedTuple):
    """Phase 2a: ask for a vote for this proposal at this ballot."""

    instance: Instance
    ballot: Ballot
    proposal: Proposal


Request: TypeAlias = Read | Prepare | Accept


# --- Replies: each carries the acceptor's ``top`` of the key ------------------------


class Report(NamedTuple):
    """The answer to a :class:`Read`."""

    voted: Vote | None
    top: int


class Promise(NamedTuple):
    """Phase 1b: the ballot is promised; this is what the acceptor voted for before."""

    voted: Vote | None
    top: int


class Voted(NamedTuple):
    """Phase 2b: the acceptor voted as it was asked to."""

    top: int


class Refusal(NamedTuple):
    """Neither promised nor voted: a higher ballot was promised, or this one is taken."""

    promised: Ballot
    voted: Vote | None
    top: int


Reply: TypeAlias = Report | Promise | Voted | Refusal


def answers(reply: Reply, request: Request) -> bool:
    """Whether an acceptor that keeps the rules may give this reply to this request."""
    match request, reply:
        case Read(), Report():
            return True
        case Prepare(_, ballot), Promise(voted):
            return voted is None or voted.ballot <= ballot
        case Accept(), Voted():
            return True
        case ((Prepare(_, ballot) | Accept(_, ballot)), Refusal(promised, voted)):
            return promised >= ballot and (voted is None or voted.ballot <= promised)
        case _:
            return False
