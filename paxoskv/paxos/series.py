"""Series: many messages of one kind, by one proposer, told as one.

A series means what its messages mean, one after the other, and each of its requests is answered as
if it had come alone. It is kept as columns, so that who has many to send, to answer or to count
need not make each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from .messages import FAST, Accept, Commit, Instance, Proposal, ProposalId, Voted

MessageT = TypeVar("MessageT", Accept, Commit, Voted, covariant=True)


class Series(Generic[MessageT]):
    """Messages as columns, which are all of one length.

    Attributes:
        vers: the versions that the messages are about.
    """

    __slots__ = ("vers",)

    vers: Sequence[int]

    def __getitem__(self, index: int) -> MessageT:
        """One of them."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[MessageT]:
        return map(self.__getitem__, range(len(self.vers)))

    def __len__(self) -> int:
        return len(self.vers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[*self]})"

    def __contains__(self, item: object) -> bool:
        return any(each == item for each in self)


class Accepts(Series[Accept]):
    """Accepts at ballot 0, each of them an append.

    Attributes:
        owner: whose proposals they are.
        serials: the rest of the ids of the proposals.
        keys, vers: the instances.
        values: of the proposals.
    """

    __slots__ = ("keys", "owner", "serials", "values")

    def __init__(
        self,
        owner: bytes,
        serials: Sequence[int],
        keys: Sequence[str],
        vers: Sequence[int],
        values: Sequence[bytes | None],
    ) -> None:
        self.owner = owner
        self.serials = serials
        self.keys = keys
        self.vers = vers
        self.values = values

    def __getitem__(self, index: int) -> Accept:
        """One of them."""
        proposal = Proposal(ProposalId(self.owner, self.serials[index]), self.values[index])
        instance = Instance(self.keys[index], self.vers[index])
        return Accept(instance, FAST, proposal, append=True)

    @property
    def commits(self) -> Commits:
        """What tells that all of them are chosen."""
        return Commits(self.owner, self.serials, self.keys, self.vers)


class Commits(Series[Commit]):
    """Commits without the proposals, of a series of Accepts.

    Attributes:
        owner: whose proposals are chosen.
        serials: the rest of their ids.
        keys, vers: the instances.
    """

    __slots__ = ("keys", "owner", "serials")

    def __init__(
        self, owner: bytes, serials: Sequence[int], keys: Sequence[str], vers: Sequence[int]
    ) -> None:
        self.owner = owner
        self.serials = serials
        self.keys = keys
        self.vers = vers

    def __getitem__(self, index: int) -> Commit:
        """One of them."""
        id_ = ProposalId(self.owner, self.serials[index])
        return Commit(Instance(self.keys[index], self.vers[index]), id_, None)

    @property
    def name(self) -> ProposalId:
        """By which the series is known: the id of its first proposal, which no other one has."""
        return ProposalId(self.owner, self.serials[0])


class CommitSeries(NamedTuple):
    """Commits, told in one word: all that a series of Accepts proposed is chosen.

    It means something to whoever was sent that series, on the same connection and before.

    Attributes:
        name: of the series.
    """

    name: ProposalId


class Votes(Series[Voted]):
    """The answer to a series of Accepts by an acceptor that has voted for all of them.

    It knows of no higher version of any of the keys, and nobody waits to write one.
    """

    __slots__ = ()

    def __init__(self, vers: Sequence[int]) -> None:
        self.vers = vers

    def __getitem__(self, index: int) -> Voted:
        """One of them."""
        return Voted(self.vers[index])
