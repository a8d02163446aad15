"""A client's view of the cluster: who the members are, and a link to each of them.

Rule R10. A client begins with addresses, and links to each of them. Each cluster that an
acceptor greets with is a *candidate*, whose members get links too. One of them is
*adopted*, once a quorum of its members has greeted, and once most of the given addresses
are known to be its own, so that a client which was given addresses of two clusters by
mistake never writes to the wrong one. From then on each link is bound to one identity:
what answers there as somebody else is a stranger, and counts as no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from random import Random

import trio

from .errors import PaxosKVError, WrongCluster
from .identity import Address, Identity
from .limits import LATE
from .link import Link
from .paxos.messages import AcceptorId
from .paxos.quorums import Quorums


class _Candidate:
    """A cluster that may be ours: its members, and a link to each."""

    def __init__(self, identity: Identity) -> None:
        self.id = identity.cluster
        self.members = {member.id: member.address for member in identity.members}
        self.links: dict[AcceptorId, Link] = {}
        self.greeted: set[AcceptorId] = set()

    @property
    def quorums(self) -> Quorums:
        return Quorums(len(self.members))


class Cluster:
    """The members of one cluster, learned from the greetings of its acceptors.

    Args:
        addresses: where to look for acceptors.
        nursery: where the links run; they end when it is cancelled.
        rng: for the jitter of reconnects.
        changed: is called when a link came up, went down or was turned down.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        nursery: trio.Nursery,
        rng: Random,
        changed: Callable[[], None],
    ) -> None:
        self._nursery = nursery
        self._rng = rng
        self._on_change = changed
        self._candidates: dict[bytes, _Candidate] = {}
        self._adopted = trio.Event()
        self._links: dict[AcceptorId, Link] = {}  # of the members, in their order
        self._quorums: Quorums | None = None
        # The links to the addresses that were given, and whose they turned out to be.
        self._given = {self._link(address): b"" for address in addresses}

    @property
    def links(self) -> dict[AcceptorId, Link]:
        """The link to each member; empty until :meth:`known`."""
        return self._links

    @property
    def quorums(self) -> Quorums:
        """The quorums of the members, which must be known."""
        assert self._quorums is not None
        return self._quorums

    async def known(self) -> None:
        """Wait until the members are known."""
        await self._adopted.wait()

    def refusal(self) -> PaxosKVError | None:
        """Why no quorum is left to ask, if those who answer are not our acceptors."""
        if self._links:
            return self._hopeless(self._links.values(), self.quorums.quorum)
        if not self._candidates:
            return self._hopeless(self._given, 1)
        if dispute := self.dispute():
            return dispute
        bound = {link for each in self._candidates.values() for link in each.links.values()}
        if any(
            not leads_to and not link.refused
            for link, leads_to in self._given.items()
            if link not in bound
        ):
            return None  # it may lead to a member that has moved there
        refusals = [
            self._hopeless(each.links.values(), each.quorums.quorum, each)
            for each in self._candidates.values()
        ]
        # As long as one cluster may have its quorum yet, there is something to wait for.
        return refusals[0] if all(refusals) else None

    def _hopeless(
        self, links: Collection[Link], needed: int, candidate: _Candidate | None = None
    ) -> PaxosKVError | None:
        """Why so many of these links do not lead to acceptors of ours that too few are left."""
        refused = {link: error for link in links if (error := self._refused(link, candidate))}
        if len(links) - len(refused) >= needed:
            return None
        kind = type(next(iter(refused.values())))
        return kind("; ".join(f"{link.reached}: {error}" for link, error in refused.items()))

    def _refused(self, link: Link, candidate: _Candidate | None) -> PaxosKVError | None:
        """Why whoever answers there is no acceptor of ours, or none of this cluster's."""
        leads_to = self._given.get(link, b"")
        if candidate is not None and leads_to and leads_to != candidate.id:
            return _belongs_to(leads_to)
        return link.refused

    def reached(self, link: Link) -> bool:
        """Whether this member is there, and no stranger in its place."""
        return link.up and self._stranger(link) is None

    def reason(self, link: Link) -> str:
        """Why this member has not answered, for people."""
        stranger = self._stranger(link)
        return link.explain() if stranger is None else str(stranger)

    def _stranger(self, link: Link) -> PaxosKVError | None:
        """Why whoever answers there is not the member, as far as the cluster is known."""
        return self._refused(link, None if self._links else self._likeliest())

    def members(self) -> list[Link]:
        """The links to the members; while the cluster is not known, to who may be members."""
        if self._links:
            return list(self._links.values())
        candidate = self._likeliest()
        if candidate is None:
            return list(self._given)
        return [candidate.links[acceptor] for acceptor in candidate.members]

    def _likeliest(self) -> _Candidate | None:
        """The cluster of which most members have greeted."""
        return max(self._candidates.values(), key=lambda each: len(each.greeted), default=None)

    def explain(self, answered: Collection[AcceptorId]) -> str:
        """How many acceptors answered, how many are needed, and why the others did not."""
        links = self._links
        if not links:
            candidate = self._likeliest()
            if candidate is None:
                return f"no acceptor was reached: {self._reasons(self._given)}"
            links, answered = candidate.links, candidate.greeted
        quorums = Quorums(len(links))
        missing = [link for acceptor, link in links.items() if acceptor not in answered]
        return (
            f"{len(answered)} of {quorums.n} acceptors answered, and {quorums.quorum} are "
            f"needed: {self._reasons(missing)}"
        )

    def absent(self, answered: Collection[AcceptorId]) -> str:
        """Why those who owe an answer did not give it, if there are any."""
        return self._reasons(
            link
            for acceptor, link in self._links.items()
            if acceptor not in answered and not link.prompt(LATE)
        )

    def _reasons(self, links: Iterable[Link]) -> str:
        return "; ".join(f"{link.reached}: {self.reason(link)}" for link in links)

    def _link(self, address: Address, acceptor: AcceptorId | None = None) -> Link:
        link = Link(address, self._welcome, self._changed, self._rng)
        link.acceptor = acceptor
        self._nursery.start_soon(link.run)
        return link

    def _changed(self) -> None:
        self._adopt()  # an address that could not be reached does not stand in the way
        self._on_change()

    def _welcome(self, link: Link, identity: Identity) -> bool:
        """Judge whom a link has reached, and say whether the link is needed."""
        candidate = self._candidates.get(identity.cluster)
        if link not in self._given and not self._is_of(link, candidate):
            raise _belongs_to(identity.cluster)
        if candidate is None:
            if self._adopted.is_set():
                raise _belongs_to(identity.cluster)
            candidate = _Candidate(identity)
        elif {member.id for member in identity.members} != candidate.members.keys():
            raise WrongCluster("it has other members for the same cluster")
        if link in self._given and self._given[link] != candidate.id:
            self._leads_to(link, candidate)
        needed = self._bind(candidate, link, identity.acceptor)
        candidate.greeted.add(identity.acceptor)
        self._find_members(candidate)
        self._adopt()
        return needed

    def _is_of(self, link: Link, candidate: _Candidate | None) -> bool:
        """Whether it is the link of a member."""
        return candidate is not None and link in candidate.links.values()

    def _leads_to(self, link: Link, candidate: _Candidate) -> None:
        """A given address leads to this cluster. One that no given address leads to is dropped."""
        before = self._given[link]
        self._given[link] = candidate.id
        self._candidates[candidate.id] = candidate
        if before and before not in self._given.values() and not self._adopted.is_set():
            self._drop(self._candidates.pop(before))

    def _bind(self, candidate: _Candidate, link: Link, acceptor: AcceptorId) -> bool:
        """Make it the link of the acceptor that it reached; say whether it is needed.

        Raises:
            WrongCluster: it is the link of another acceptor.
        """
        bound = candidate.links.get(acceptor)
        expected = next((each for each, own in candidate.links.items() if own is link), acceptor)
        if expected != acceptor:
            # Now we know where this one is, and that the other one is not there.
            if bound is None:
                candidate.links[acceptor] = self._link(link.reached, acceptor)
            elif link.reached not in bound.addresses:
                bound.addresses.insert(0, link.reached)
            raise WrongCluster(
                f"it is the address of acceptor {expected.hex()}, "
                f"but {acceptor.hex()} answers there"
            )
        if bound is None:
            candidate.links[acceptor] = link
            link.acceptor = acceptor
            if candidate.members[acceptor] not in link.addresses:
                link.addresses.append(candidate.members[acceptor])
        elif bound is not link:
            # One of the addresses that were given leads to a member that has a link. It
            # was given, so it is the better way to that member, the next time.
            if link.reached not in bound.addresses:
                bound.addresses.insert(0, link.reached)
            return any(link in each.links.values() for each in self._candidates.values())
        return True

    def _find_members(self, candidate: _Candidate) -> None:
        """Find or make the link of each member."""
        bound = list(candidate.links.values())
        unbound = {link.addresses[0]: link for link in self._given if link not in bound}
        for acceptor, address in candidate.members.items():
            if acceptor not in candidate.links:
                given = unbound.get(address)
                if given is not None and self._given[given] in {b"", candidate.id}:
                    candidate.links[acceptor] = given
                else:
                    candidate.links[acceptor] = self._link(address, acceptor)

    def _drop(self, candidate: _Candidate) -> None:
        """Give up the links of a cluster that is not ours."""
        for link in candidate.links.values():
            link.reopen() if link in self._given else link.close()

    def _adopt(self) -> None:
        """Adopt a candidate, if there is one that can only be meant."""
        if self._adopted.is_set():
            return
        for candidate in self._candidates.values():
            enough = len(candidate.greeted) >= candidate.quorums.quorum
            if (enough or len(self._given) == 1) and self._is_meant(candidate):
                break
        else:
            return
        for other in self._candidates.values():
            if other is not candidate:
                self._drop(other)
        for acceptor in candidate.members:
            self._links[acceptor] = candidate.links[acceptor]
            self._links[acceptor].acceptor = acceptor
        self._quorums = candidate.quorums
        self._candidates = {candidate.id: candidate}
        self._adopted.set()

    def _is_meant(self, candidate: _Candidate) -> bool:
        """Whether most of the given addresses are this cluster's, or can only be its own."""
        ours, others, unknown = 0, 0, 0
        for link, cluster in self._given.items():
            if cluster == candidate.id:
                ours += 1
            elif cluster:
                others += 1
            elif link in candidate.links.values():
                ours += 1
            elif not link.failed:
                unknown += 1
        return ours > others + unknown

    def dispute(self) -> WrongCluster | None:
        """The error of a client that was given addresses of more than one cluster."""
        if len(self._candidates) < 2 or any(map(self._is_meant, self._candidates.values())):
            return None
        if not all(cluster or link.failed for link, cluster in self._given.items()):
            return None  # who has not answered yet may make it clear
        return WrongCluster(
            "the addresses belong to different clusters, and none has most of them: "
            + "; ".join(
                f"{link.addresses[0]} to {cluster.hex()}"
                for link, cluster in self._given.items()
                if cluster
            )
        )


def _belongs_to(cluster: bytes) -> WrongCluster:
    return WrongCluster(f"it belongs to cluster {cluster.hex()}")
