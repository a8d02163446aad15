"""Phase 1 and phase 2 of one instance by hand, for those who learn or test.

    async with open_local_cluster(3) as cluster:
        async with byhand.open_proposer(cluster.addresses, "foo", 0) as x:
            prepared = await x.prepare(1, acceptors=[0, 1])
            accepted = await x.accept("from x", acceptors=[0, 1])
            assert accepted.chosen

What is by hand is which ballot, which acceptors, and when. The rules are kept all the
same: a proposer has an id of its own, uses each ballot for one proposal, and proposes
what rule R4 obliges it to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

import trio

from .cluster import Cluster
from .errors import Unavailable
from .identity import new_id, parse_addresses
from .limits import DEFAULT_TIMEOUT, MAX_BALLOT
from .link import Batch
from .paxos.messages import (
    Accept,
    Ballot,
    Instance,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Refusal,
    Reply,
    Request,
    Vote,
    Voted,
)
from .paxos.quorums import Quorums
from .tasks import background_nursery
from .values import check_key, check_version, decode_value, encode_value


@dataclass(frozen=True, slots=True)
class Prepared:
    """What came of phase 1.

    Attributes:
        ballot: the ballot that was asked for.
        promises: what each acceptor that promised had voted for, by the acceptor's number.
        refusals: what each acceptor that refused had promised instead. An acceptor that
            was asked and is in neither did not answer in time.
        quorum: whether a quorum promised, so that phase 2 may begin.
        bound: the proposal that rule R4 obliges to, or None: the choice is free.
    """

    ballot: Ballot
    promises: dict[int, Vote | None]
    refusals: dict[int, Ballot]
    quorum: bool
    bound: Proposal | None

    @property
    def higher(self) -> Ballot | None:
        """The highest ballot that it was refused for, if any."""
        return max(self.refusals.values(), default=None)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of phase 2.

    Attributes:
        ballot: the ballot that was voted at.
        proposal: what was proposed.
        votes: the numbers of the acceptors that voted for it at this ballot by now.
        refusals: what each acceptor that refused had promised instead.
        chosen: whether these votes are a quorum.
    """

    ballot: Ballot
    proposal: Proposal
    votes: frozenset[int]
    refusals: dict[int, Ballot]
    chosen: bool

    @property
    def val(self) -> object:
        """The value that was proposed."""
        return None if self.proposal.value is None else decode_value(self.proposal.value)

    @property
    def higher(self) -> Ballot | None:
        """The highest ballot that it was refused for, if any."""
        return max(self.refusals.values(), default=None)


class ManualProposer:
    """A proposer of one instance that does one phase when told to. See :func:`open_proposer`.

    Attributes:
        id: the random id in its ballots.
        instance: the key and version that it proposes for.
        prepared: what came of the latest phase 1, if there was one.
    """

    def __init__(self, instance: Instance, cluster: Cluster, timeout: float) -> None:
        self.id = new_id()
        self.instance = instance
        self._cluster = cluster
        self._timeout = timeout
        self.prepared: Prepared | None = None
        self._proposal: Proposal | None = None  # of the current ballot, once there is one
        self._voted: frozenset[int] = frozenset()
        self._serial = 0

    async def acceptors(self) -> int:
        """How many acceptors the cluster has; they are numbered from 0.

        Raises:
            Unavailable: none of them could be reached in time.
        """
        with trio.move_on_after(self._timeout):
            await self._cluster.known()
        if not self._cluster.links:
            raise Unavailable(f"no acceptor was reached: {self._cluster.explain(())}")
        return len(self._cluster.links)

    async def prepare(self, n: int, acceptors: Iterable[int] | None = None) -> Prepared:
        """Phase 1: ask acceptors for the promise of ballot ``n`` of this proposer.

        Args:
            n: the number of the ballot, above all that this proposer used before (R5).
            acceptors: the numbers of the acceptors to ask; None: all.

        Raises:
            ValueError: no such ballot or acceptor, or the ballot is not a new one.
            Unavailable: none of the cluster could be reached in time.
        """
        used = 0 if self.prepared is None else self.prepared.ballot.n
        if not used < n <= MAX_BALLOT:
            raise ValueError(f"the next ballot of this proposer is at least {used + 1}, not {n}")
        ballot = Ballot(n, self.id)
        chosen_acceptors = await self._numbers(acceptors)
        # From here on the ballot counts as used, also if we are cancelled.
        self.prepared = Prepared(ballot, {}, {}, quorum=False, bound=None)
        self._proposal, self._voted = None, frozenset()
        replies = await self._ask(Prepare(self.instance, ballot), chosen_acceptors)
        promises = {k: reply.voted for k, reply in replies.items() if isinstance(reply, Promise)}
        quorum = len(promises) >= self._quorums.quorum
        ids = list(self._cluster.links)
        bound = (
            self._quorums.choose({ids[number]: vote for number, vote in promises.items()})
            if quorum
            else None
        )
        self.prepared = Prepared(ballot, promises, _refusals(replies), quorum, bound)
        return self.prepared

    async def accept(self, val: object, acceptors: Iterable[int] | None = None) -> Accepted:
        """Phase 2: ask acceptors to vote at the ballot that was prepared last.

        It may be called again for the same ballot, for other acceptors; the proposal
        stays the same.

        Args:
            val: what to propose, if phase 1 left the choice free, and unless this ballot
                has its proposal already.
            acceptors: the numbers of the acceptors to ask; None: all.

        Raises:
            RuntimeError: phase 1 has not reached a quorum.
            TypeError, ValueError: no such value or acceptor.
        """
        if self.prepared is None or not self.prepared.quorum:
            raise RuntimeError("phase 2 needs the promises of a quorum: prepare first")
        ballot = self.prepared.ballot
        encoded = encode_value(val)
        numbers = await self._numbers(acceptors)
        if self._proposal is None:
            self._serial += 1
            own = Proposal(ProposalId(self.id, self._serial), encoded)
            self._proposal = self.prepared.bound or own
        proposal = self._proposal
        replies = await self._ask(Accept(self.instance, ballot, proposal), numbers)
        self._voted |= {k for k, reply in replies.items() if isinstance(reply, Voted)}
        chosen = len(self._voted) >= self._quorums.quorum
        return Accepted(ballot, proposal, self._voted, _refusals(replies), chosen)

    @property
    def _quorums(self) -> Quorums:
        return self._cluster.quorums

    async def _numbers(self, acceptors: Iterable[int] | None) -> Collection[int]:
        n = await self.acceptors()
        numbers = list(range(n)) if acceptors is None else list(dict.fromkeys(acceptors))
        for number in numbers:
            if not 0 <= number < n:
                raise ValueError(f"the acceptors are numbered 0 to {n - 1}; there is no {number}")
        return numbers

    async def _ask(self, request: Request, acceptors: Collection[int]) -> dict[int, Reply]:
        """The replies of these acceptors, without those that do not come in time."""
        replies: dict[int, Reply] = {}

        def deliver(number: int, _start: int, batch_replies: Iterable[Reply], *_: bool) -> None:
            (replies[number],) = batch_replies

        links = list(self._cluster.links.values())
        batch = Batch([request])
        with trio.move_on_after(self._timeout):
            async with trio.open_nursery() as nursery:
                for number in acceptors:
                    nursery.start_soon(links[number].ask, batch, partial(deliver, number))
        return dict(sorted(replies.items()))


def _refusals(replies: Mapping[int, Reply]) -> dict[int, Ballot]:
    return {k: reply.promised for k, reply in replies.items() if isinstance(reply, Refusal)}


@asynccontextmanager
async def open_proposer(
    addresses: Iterable[str], key: str, ver: int, *, timeout: float = DEFAULT_TIMEOUT
) -> AsyncIterator[ManualProposer]:
    """A proposer of one instance that does one phase when told to.

    Args:
        addresses: ``HOST:PORT`` of one or more acceptors of the cluster.
        key: the key of the instance.
        ver: its version.
        timeout: seconds to wait for the acceptors that a phase asks.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    parsed = parse_addresses(addresses)
    instance = Instance(check_key(key), check_version(ver))
    async with background_nursery() as nursery:
        cluster = Cluster(parsed, nursery, Random(), changed=lambda: None)  # noqa: S311 - jitter
        yield ManualProposer(instance, cluster, timeout)
