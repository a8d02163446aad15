"""Phase 1 and phase 2 of one instance by hand, for those who learn or test.

    async with open_local_cluster(3) as cluster:
        async with byhand.open_proposer(cluster.addresses, "foo", 0) as x:
            prepared = await x.prepare(1, acceptors=[0, 1])
            accepted = await x.accept("from x", acceptors=[0, 1])
            assert accepted.chosen

What is by hand is which ballot, which acceptors, and when. The rules are kept all the
same: a proposer has an id of its own, uses each ballot for one proposal, proposes what
rule R4 obliges it to, and stops where rule R9 says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

import trio

from .arguments import check_int, check_key, check_timeout, check_version
from .cluster import Cluster
from .errors import Unavailable
from .identity import Address, new_id, parse_addresses
from .limits import DEFAULT_TIMEOUT, MAX_BALLOT_BY_HAND
from .link import Batch
from .paxos.messages import (
    Accept,
    Ballot,
    Chosen,
    Compacted,
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
from .values import decode_value, encode_value


@dataclass(frozen=True, slots=True)
class _Phase:
    """What came of a phase.

    Attributes:
        ballot: the ballot that was asked for.
        refusals: what each acceptor that refused had promised instead, by its number.
        decided: the proposal that an acceptor knows to be chosen here, or None. There is
            nothing left to do then (rule R3).
        compacted: whether an acceptor has dropped this version, for there are newer ones.
            Nothing may be proposed here any more (rule R9).
    """

    ballot: Ballot
    refusals: dict[int, Ballot]
    decided: Proposal | None
    compacted: bool

    @property
    def higher(self) -> Ballot | None:
        """The highest ballot that it was refused for, if any."""
        return max(self.refusals.values(), default=None)


@dataclass(frozen=True, slots=True)
class Prepared(_Phase):
    """What came of phase 1. An acceptor that is nowhere in it did not answer in time.

    Attributes:
        promises: what each acceptor that promised had voted for, by the acceptor's number.
        quorum: whether a quorum promised, so that phase 2 may begin.
        bound: the proposal that rule R4 obliges to, or None: the choice is free.
    """

    promises: dict[int, Vote | None]
    quorum: bool
    bound: Proposal | None


@dataclass(frozen=True, slots=True)
class Accepted(_Phase):
    """What came of phase 2.

    Attributes:
        proposal: what was proposed.
        votes: the numbers of the acceptors that voted for it at this ballot by now.
        chosen: whether these votes are a quorum.
    """

    proposal: Proposal
    votes: frozenset[int]
    chosen: bool

    @property
    def val(self) -> object:
        """The value that was proposed."""
        return None if self.proposal.value is None else decode_value(self.proposal.value)


class Phases:
    """The two phases of one proposer: what to send, and what the replies say. Without I/O.

    Args:
        id_: what tells its ballots from those of all others (rule R5).
        instance: the key and version that it proposes for.

    Attributes:
        prepared: what came of the latest phase 1, if there was one.
    """

    def __init__(self, id_: bytes, instance: Instance) -> None:
        self._id = id_
        self._instance = instance
        self.prepared: Prepared | None = None
        self._proposal: Proposal | None = None  # of the current ballot, once there is one
        self._votes: set[int] = set()  # for it
        self._serial = 0
        self._dropped = False  # whether an acceptor has said so, even once (rule R9)

    def begin_phase_1(self, n: int) -> Prepare:
        """Use a ballot, above all that were used before: whatever comes of it, it is used.

        Raises:
            TypeError, ValueError: it is no such ballot.
        """
        used = 0 if self.prepared is None else self.prepared.ballot.n
        ballot = Ballot(check_int(n, "the next ballot", used + 1, MAX_BALLOT_BY_HAND), self._id)
        self.prepared = Prepared(ballot, {}, None, False, {}, False, None)
        self._proposal, self._votes = None, set()
        return Prepare(self._instance, ballot)

    def end_phase_1(self, replies: Mapping[int, Reply], quorums: Quorums) -> Prepared:
        """What the replies of acceptors, by their numbers, say.

        Raises:
            ProtocolError: somebody broke rule R5.
        """
        assert self.prepared is not None
        for number, reply in replies.items():
            self.hear(number, reply)
        promises = {k: reply.voted for k, reply in replies.items() if isinstance(reply, Promise)}
        quorum = len(promises) >= quorums.quorum
        votes = {bytes([number]): vote for number, vote in promises.items()}
        bound = quorums.choose(votes) if quorum else None
        phase = _phase(self.prepared.ballot, replies)
        self.prepared = Prepared(*phase, promises, quorum, bound)
        return self.prepared

    def check_promised(self) -> Prepared:
        """Return what came of phase 1, if phase 2 may follow.

        Raises:
            RuntimeError: it has not reached a quorum, or the version was dropped.
        """
        if self.prepared is None or not self.prepared.quorum:
            raise RuntimeError("phase 2 needs the promises of a quorum: prepare first")
        if self._dropped:
            raise RuntimeError("this version was dropped; nothing may be proposed here any more")
        return self.prepared

    def begin_phase_2(self, value: bytes) -> Accept:
        """Propose at the ballot that was prepared: what it is bound to, or was before, or this.

        Raises:
            RuntimeError: phase 2 may not follow.
        """
        prepared = self.check_promised()
        if self._proposal is None:
            self._serial += 1
            own = Proposal(ProposalId(self._id, self._serial), value)
            self._proposal = prepared.bound or own
        return Accept(self._instance, prepared.ballot, self._proposal)

    def hear(self, number: int, reply: Reply) -> None:
        """Take a reply as it comes, for whoever asks may be cancelled before the others come."""
        if isinstance(reply, Voted):
            self._votes.add(number)
        elif isinstance(reply, Compacted):
            self._dropped = True

    def end_phase_2(self, replies: Mapping[int, Reply], quorums: Quorums) -> Accepted:
        """What the replies of acceptors, by their numbers, say."""
        assert self.prepared is not None
        assert self._proposal is not None
        for number, reply in replies.items():
            self.hear(number, reply)
        chosen = len(self._votes) >= quorums.quorum
        phase = _phase(self.prepared.ballot, replies)
        return Accepted(*phase, self._proposal, frozenset(self._votes), chosen)


def _phase(
    ballot: Ballot, replies: Mapping[int, Reply]
) -> tuple[Ballot, dict[int, Ballot], Proposal | None, bool]:
    refusals = {k: reply.promised for k, reply in replies.items() if isinstance(reply, Refusal)}
    decided = [reply.proposal for reply in replies.values() if isinstance(reply, Chosen)]
    compacted = any(isinstance(reply, Compacted) for reply in replies.values())
    return ballot, refusals, decided[0] if decided else None, compacted


class ManualProposer:
    """A proposer of one instance that does one phase when told to. See :func:`open_proposer`.

    One task at a time may use it.

    Attributes:
        id: the random id in its ballots.
        instance: the key and version that it proposes for.
    """

    def __init__(self, instance: Instance, cluster: Cluster, timeout: float) -> None:
        self.id = new_id()
        self.instance = instance
        self._phases = Phases(self.id, instance)
        self._cluster = cluster
        self._timeout = timeout
        self._busy = self._closed = False
        self._waiting: set[trio.CancelScope] = set()

    @property
    def prepared(self) -> Prepared | None:
        """What came of the latest phase 1, if there was one."""
        return self._phases.prepared

    async def acceptors(self) -> int:
        """How many acceptors the cluster has; they are numbered from 0.

        Raises:
            Unavailable: no cluster was found in time.
            trio.ClosedResourceError: the block of the proposer has ended.
        """
        with self._in_time():
            await self._cluster.known()
        if not self._cluster.links:
            raise Unavailable(self._cluster.explain(()))
        return len(self._cluster.links)

    async def prepare(self, n: int, acceptors: Iterable[int] | None = None) -> Prepared:
        """Phase 1: ask acceptors for the promise of ballot ``n`` of this proposer.

        Cancelled, the ballot is used, and some may have promised it.

        Args:
            n: the number of the ballot, above all that this proposer used before (R5).
            acceptors: the numbers of the acceptors to ask; None: all.

        Raises:
            TypeError, ValueError: no such ballot or acceptor, or the ballot is not a new one.
            Unavailable: no cluster was found in time.
            ProtocolError: the acceptors show that somebody broke the rules.
            trio.BusyResourceError: another task is in one of its phases.
            trio.ClosedResourceError: the block of the proposer has ended.
        """
        with self._alone():
            numbers = await self._numbers(acceptors)
            replies = await self._ask(self._phases.begin_phase_1(n), numbers)
            return self._phases.end_phase_1(replies, self._cluster.quorums)

    async def accept(self, val: object, acceptors: Iterable[int] | None = None) -> Accepted:
        """Phase 2: ask acceptors to vote at the ballot that was prepared last.

        It may be called again for the same ballot, for other acceptors; the proposal
        stays the same. Cancelled, it may have votes; those that have come are counted.

        Args:
            val: what to propose, if phase 1 left the choice free, and unless this ballot
                has its proposal already.
            acceptors: the numbers of the acceptors to ask; None: all.

        Raises:
            RuntimeError: phase 1 has not reached a quorum, or the version was dropped.
            TypeError, ValueError, TooLarge: no such value or acceptor.
            Unavailable: no cluster was found in time.
            trio.BusyResourceError: another task is in one of its phases.
            trio.ClosedResourceError: the block of the proposer has ended.
        """
        with self._alone():
            self._phases.check_promised()
            encoded = encode_value(val)
            numbers = await self._numbers(acceptors)
            replies = await self._ask(self._phases.begin_phase_2(encoded), numbers)
            return self._phases.end_phase_2(replies, self._cluster.quorums)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two phases at a time could take each other's ballot for their own (rules R4 and R5)."""
        if self._busy:
            raise trio.BusyResourceError("another task is in a phase of this proposer")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """A block in which it waits, for as long as it has time.

        Raises:
            trio.ClosedResourceError: the block of the proposer has ended, or ends meanwhile.
        """
        self._check_open()
        with trio.move_on_after(self._timeout) as scope:
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.remove(scope)
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this proposer is closed")

    def close(self) -> None:
        """Its block has ended: it asks nobody any more, and nobody waits for the answers."""
        self._closed = True
        for scope in self._waiting:
            scope.cancel()

    async def _numbers(self, acceptors: Iterable[int] | None) -> Collection[int]:
        n = await self.acceptors()
        if acceptors is None:
            return range(n)
        return [check_int(each, "the number of an acceptor", 0, n - 1) for each in set(acceptors)]

    async def _ask(self, request: Request, acceptors: Collection[int]) -> dict[int, Reply]:
        """The replies of these acceptors, without those that do not come in time."""
        replies: dict[int, Reply] = {}

        def deliver(number: int, _start: int, batch_replies: Iterable[Reply], *_: bool) -> None:
            (replies[number],) = batch_replies
            self._phases.hear(number, replies[number])

        links = list(self._cluster.links.values())
        batch = Batch([request])
        with self._in_time():
            async with trio.open_nursery() as nursery:
                for number in acceptors:
                    nursery.start_soon(links[number].ask, batch, partial(deliver, number))
        return dict(sorted(replies.items()))


@asynccontextmanager
async def _open_proposer(
    addresses: tuple[Address, ...], instance: Instance, timeout: float
) -> AsyncIterator[ManualProposer]:
    async with background_nursery() as nursery:
        cluster = Cluster(addresses, nursery, Random(), changed=lambda: None)  # noqa: S311 - jitter
        proposer = ManualProposer(instance, cluster, timeout)
        try:
            yield proposer
        finally:
            proposer.close()


def open_proposer(
    addresses: Iterable[str], key: str, ver: int, *, timeout: float = DEFAULT_TIMEOUT
) -> AbstractAsyncContextManager[ManualProposer]:
    """A proposer of one instance that does one phase when told to.

    Args:
        addresses: ``HOST:PORT`` of one or more acceptors of the cluster.
        key: the key of the instance.
        ver: its version.
        timeout: seconds to wait for the acceptors that a phase asks.

    Raises:
        TypeError, ValueError, TooLarge: an argument is not as above; at once.
    """
    instance = Instance(check_key(key), check_version(ver))
    return _open_proposer(parse_addresses(addresses), instance, check_timeout(timeout))
