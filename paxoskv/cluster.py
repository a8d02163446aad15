"""A client's view of the cluster: who the members are, and a link to each of them.

Rule R10. A client begins with addresses, links to each of them, and takes the members
from the first acceptor that greets. Then there is one link for each member, bound to
its identity: what answers there as somebody else is a stranger, and counts as no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random

import trio

from .errors import PaxosKVError, WrongCluster
from .identity import Address, Identity
from .link import Link
from .paxos.messages import AcceptorId
from .paxos.quorums import Quorums


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
        self._changed = changed
        self._identity: Identity | None = None  # the first that greeted
        self._known = trio.Event()
        self._links: dict[AcceptorId, Link] = {}  # of the members, in their order
        # Given addresses of which it is not known yet whose they are.
        self._seeds = [self._link(address) for address in addresses]

    @property
    def links(self) -> dict[AcceptorId, Link]:
        """The link to each member; empty until :meth:`known`."""
        return self._links

    @property
    def quorums(self) -> Quorums:
        """The quorums of the members, which must be known."""
        return Quorums(len(self._links))

    async def known(self) -> None:
        """Wait until the members are known."""
        await self._known.wait()

    def refusal(self) -> PaxosKVError | None:
        """Why no quorum is left to ask, if those who answer are not our acceptors."""
        if self._links:
            links = list(self._links.values())
            spare = len(links) - self.quorums.quorum
        else:
            links = self._seeds
            spare = len(links) - 1
        refused = [link.refused for link in links if link.refused is not None]
        if len(refused) <= spare:
            return None
        return type(refused[0])("; ".join(dict.fromkeys(map(str, refused))))

    def explain(self, answered: Collection[AcceptorId]) -> str:
        """Which acceptors did not answer, and why, for people."""
        links = (
            [link for acceptor, link in self._links.items() if acceptor not in answered]
            if self._links
            else self._seeds
        )
        return "; ".join(f"{link.addresses[0]}: {link.explain()}" for link in links)

    def _link(self, address: Address) -> Link:
        link = Link(address, self._welcome, self._changed, self._rng)
        self._nursery.start_soon(link.run)
        return link

    def _welcome(self, link: Link, identity: Identity) -> bool:
        """Judge whom a link has reached, and say whether the link is needed."""
        if self._identity is None:
            self._identity = identity
            self._bind_members(identity, link)
        elif identity.cluster != self._identity.cluster:
            raise WrongCluster(
                f"{link.addresses[0]} belongs to cluster {identity.cluster.hex()}, "
                f"and not to {self._identity.cluster.hex()}"
            )
        elif {m.id for m in identity.members} != {m.id for m in self._identity.members}:
            raise WrongCluster(f"{link.addresses[0]} has other members for the same cluster")
        if link.acceptor is None:
            # One of the addresses that were given leads to a member that has a link. It
            # was given, so it is the better way to that member, the next time.
            self._seeds.remove(link)
            self._links[identity.acceptor].addresses.insert(0, link.addresses[0])
            return False
        if link.acceptor != identity.acceptor:
            raise WrongCluster(
                f"{link.addresses[0]} is the address of acceptor {link.acceptor.hex()}, "
                f"but {identity.acceptor.hex()} answers there"
            )
        return True

    def _bind_members(self, identity: Identity, greeted: Link) -> None:
        """Find or make the link of each member, now that they are known."""
        by_address = {link.addresses[0]: link for link in self._seeds if link is not greeted}
        for member in identity.members:
            if member.id == identity.acceptor:
                link = greeted
                if member.address not in link.addresses:
                    link.addresses.append(member.address)
            else:
                link = by_address.get(member.address) or self._link(member.address)
            link.acceptor = member.id
            self._links[member.id] = link
        self._seeds = [link for link in self._seeds if link.acceptor is None]
        self._known.set()
