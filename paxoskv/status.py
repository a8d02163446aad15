"""How each acceptor of a cluster is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import trio

from .arguments import check_timeout
from .cluster import Cluster
from .identity import parse_addresses
from .link import Batch, Link
from .paxos.messages import Reply, State, Status
from .tasks import background_nursery


@dataclass(frozen=True, slots=True)
class AcceptorStatus:
    """How one acceptor is.

    Attributes:
        address: where it was looked for.
        acceptor: its identity in hexadecimal; "" if it never greeted.
        problem: why it did not answer; "" if it did, and only then the rest means something.
        round_trip: of the question, in seconds.
        release: of paxoskv, that it runs.
        keys: of how many it has voted for a version or knows one.
        size: what it has on disk, in bytes; 0: it keeps everything in memory.
    """

    address: str
    acceptor: str
    problem: str = ""
    round_trip: float = 0.0
    release: str = ""
    keys: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """How a cluster is.

    Attributes:
        acceptors: in the order of the members, as far as they are known.
        quorum: how many acceptors are needed.
    """

    acceptors: Sequence[AcceptorStatus]
    quorum: int

    @property
    def available(self) -> bool:
        """Whether a quorum answers."""
        return sum(not each.problem for each in self.acceptors) >= self.quorum


async def cluster_status(addresses: Iterable[str], timeout: float) -> ClusterStatus:
    """Ask all acceptors of a cluster how they are.

    Args:
        addresses: ``HOST:PORT`` of one or more of them.
        timeout: seconds to wait for those that do not answer.

    Raises:
        TypeError, ValueError: the addresses are none, or the timeout is not above zero.
        WrongCluster: the addresses belong to different clusters, and none has most of them.
    """
    parsed = parse_addresses(addresses)
    changed = trio.Event()
    async with background_nursery() as nursery:
        cluster = Cluster(parsed, nursery, Random(), lambda: changed.set())  # noqa: S311 - jitter
        found: dict[Link, AcceptorStatus] = {}

        async def ask(link: Link) -> None:
            began = trio.current_time()

            def deliver(_start: int, replies: Collection[Reply], *_: bool) -> None:
                (state,) = replies
                assert isinstance(state, State)
                took = trio.current_time() - began
                found[link] = AcceptorStatus(
                    str(link.addresses[0]), _identity(link), "", took, *state
                )

            await link.ask(Batch([Status()]), deliver)

        asked: set[Link] = set()
        with trio.move_on_after(check_timeout(timeout)):
            async with trio.open_nursery() as asking:
                # Members become known while we look; each is asked, or has failed to answer.
                while True:
                    for link in cluster.members():
                        if link.up and link not in asked:
                            asked.add(link)
                            asking.start_soon(ask, link)
                    if all(link in asked or link.failed for link in cluster.members()):
                        break
                    await changed.wait()
                    changed = trio.Event()
        if dispute := cluster.dispute():
            raise dispute

        def status_of(link: Link) -> AcceptorStatus:
            if link in found and cluster.reached(link):
                return found[link]
            return AcceptorStatus(str(link.addresses[0]), _identity(link), cluster.reason(link))

        acceptors = [status_of(link) for link in cluster.members()]
    return ClusterStatus(acceptors, len(acceptors) // 2 + 1)


def _identity(link: Link) -> str:
    return "" if link.acceptor is None else link.acceptor.hex()
