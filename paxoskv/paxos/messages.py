"""The words of Paxos as types: ballots, proposals, votes, requests and replies.

All of them are immutable tuples: they can be compared, hashed, sent and kept.
The words are those of Lamport, *Paxos Made Simple* (2001), section 2, and, for
ballot 0, of his *Fast Paxos* (2006).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from ..limits import MAX_VERSION

AcceptorId: TypeAlias = bytes
"""The identity of one acceptor: 16 random bytes, made when the cluster is (rule R10)."""

NO_TOP: Final = -1
"""The ``top`` of a key of which an acceptor has voted for no version."""

END: Final = MAX_VERSION + 1
"""Above every version: to :class:`Find` below it is to find the highest of all."""


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
    """A vote of one acceptor: for this proposal, at this ballot.

    ``append``: it was given because the key had no higher version. Nobody proposes such a
    proposal for its proposer, unless he is obliged to (R4): it may have given up (R7).
    """

    ballot: Ballot
    proposal: Proposal
    append: bool = False


Sight: TypeAlias = Vote | Proposal
"""What an acceptor shows of an instance: the proposal that it knows to be chosen, or its
vote. A bare proposal is a fact, a vote is evidence."""


# --- Requests: from a client to an acceptor -----------------------------------------


class Read(NamedTuple):
    """Ask what an acceptor knows of an instance, and ask for nothing more."""

    instance: Instance


class Prepare(NamedTuple):
    """Phase 1a: ask for the promise to refuse every ballot below this one."""

    instance: Instance
    ballot: Ballot


class Accept(NamedTuple):
    """Phase 2a: ask for a vote for this proposal at this ballot.

    ``append`` asks for it only where the key has no higher version (rule R7). ``after`` is
    the id of what is chosen for the version before, as a :class:`Commit` would tell it.
    """

    instance: Instance
    ballot: Ballot
    proposal: Proposal
    append: bool = False
    after: ProposalId | None = None


class Commit(NamedTuple):
    """Tell that the proposal with this id is chosen (rule R8).

    Without the proposal itself, only an acceptor that voted for it can make use of it.
    """

    instance: Instance
    id: ProposalId
    proposal: Proposal | None


class Find(NamedTuple):
    """Ask for the highest version below ``below`` that is voted for or known as chosen."""

    key: str
    below: int


class Scan(NamedTuple):
    """Ask for the tops of the keys that begin with ``prefix`` and come after ``after``."""

    prefix: str
    after: str


class Turn(NamedTuple):
    """Ask for the turn to write a key, which comes after those who asked before.

    A mere courtesy: the answer may come at any time.
    """

    key: str


class Status(NamedTuple):
    """Ask an acceptor how it is."""


Request: TypeAlias = Read | Prepare | Accept | Commit | Find | Scan | Status | Turn

# --- Replies. Most of those about one key carry the acceptor's ``top`` of it ----------


class Report(NamedTuple):
    """The answer to a :class:`Read` of an instance not known to be chosen."""

    voted: Vote | None
    top: int


class Promise(NamedTuple):
    """Phase 1b: the ballot is promised; this is what the acceptor voted for before."""

    voted: Vote | None
    top: int


class Voted(NamedTuple):
    """Phase 2b: the acceptor voted as it was asked to.

    ``crowded``: others wait there for their turn to write the key, or have it; see :class:`Turn`.
    """

    top: int
    crowded: bool = False


class Refusal(NamedTuple):
    """Neither promised nor voted: a higher ballot was promised, or this one is taken."""

    promised: Ballot
    voted: Vote | None
    top: int


class Chosen(NamedTuple):
    """The instance is decided, and this is its proposal; whoever asked is done (R3)."""

    proposal: Proposal
    top: int


class Compacted(NamedTuple):
    """The instance was dropped; ``latest`` is the latest version known as chosen (R9)."""

    latest: int
    proposal: Proposal
    top: int


class Noted(NamedTuple):
    """The answer to a :class:`Commit`: it has arrived, and may still be forgotten (rule R8)."""


class Found(NamedTuple):
    """The answer to a :class:`Find`: a version and what is shown of it.

    ``ver`` is :data:`NO_TOP`, and ``sight`` None, where there is no such version.
    """

    ver: int
    sight: Sight | None
    top: int


class Told(NamedTuple):
    """The answer to a :class:`Turn`: the latest version that the acceptor knows to be chosen.

    ``ver`` is :data:`NO_TOP`, and ``proposal`` None, where it knows of none. It says nothing
    of the acceptor itself, and rests on no disk of its own: whoever told it had seen the votes
    of a quorum, which are on theirs, and what is chosen stays so, whoever forgets it.
    """

    ver: int
    proposal: Proposal | None


class Page(NamedTuple):
    """The answer to a :class:`Scan`: keys in order, each with its top version and its sight.

    ``more`` says that keys may follow after the last of these.
    """

    items: tuple[tuple[str, int, Sight], ...]
    more: bool


class State(NamedTuple):
    """The answer to a :class:`Status`: release, number of keys, bytes on disk."""

    release: str
    keys: int
    size: int


Reply: TypeAlias = (
    Report | Promise | Voted | Refusal | Chosen | Compacted | Noted | Found | Told | Page | State
)


def answers(reply: Reply, request: Request) -> bool:
    """Whether an acceptor that keeps the rules may give this reply to this request."""
    match request:
        case Accept() if isinstance(reply, Voted):
            return True
        case Find(_, below):
            match reply:
                case Found(ver, sight):
                    return ver < below and (sight is None) == (ver == NO_TOP)
                case Compacted(latest):
                    return latest >= below
        case Prepare(instance, ballot) | Accept(instance, ballot):
            match reply:
                case Promise(voted):
                    allowed = voted is None or voted.ballot <= ballot
                    return isinstance(request, Prepare) and allowed
                case Refusal(promised, voted):
                    return promised >= ballot and (voted is None or voted.ballot <= promised)
                case Chosen():
                    return True
                case Compacted(latest):
                    return latest > instance.ver
        case Read(instance):
            match reply:
                case Report() | Chosen():
                    return True
                case Compacted(latest):
                    return latest > instance.ver
        case Commit():
            return isinstance(reply, Noted)
        case Turn():
            match reply:
                case Told(ver, proposal):
                    return (proposal is None) == (ver == NO_TOP)
        case Scan(prefix, after):
            match reply:
                case Page(items, more):
                    keys = [item[0] for item in items]
                    return (
                        all(key.startswith(prefix) for key in keys)
                        and all(low < high for low, high in pairwise((after, *keys)))
                        and (bool(items) or not more)
                    )
        case Status():
            return isinstance(reply, State)
    return False
