"""Who is who: addresses, the members of a cluster, and what an acceptor greets with.

Rule R10. A cluster is a fixed set of acceptor identities. Addresses only say where to
look for them; votes are counted by identity.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from .limits import MAX_ACCEPTORS
from .paxos.messages import AcceptorId

ID_BYTES: Final = 16
"""The length of the random ids of clusters, acceptors and proposers."""

_DRAWN: Final = 256  # ids that a client draws at a time


def new_id() -> bytes:
    """A fresh random id, which nobody else has."""
    return secrets.token_bytes(ID_BYTES)


class Ids:
    """Makes fresh random ids, drawn from the system a few at a time, for one client."""

    __slots__ = ("_drawn",)

    def __init__(self) -> None:
        self._drawn: list[bytes] = []

    def new(self) -> bytes:
        """An id that nobody else has."""
        if not self._drawn:
            data = secrets.token_bytes(_DRAWN * ID_BYTES)
            self._drawn = [data[at : at + ID_BYTES] for at in range(0, len(data), ID_BYTES)]
        return self._drawn.pop()


class Address(NamedTuple):
    """Where an acceptor listens. ``str(address)`` is ``HOST:PORT``, or ``[HOST]:PORT``."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


_ADDRESS: Final = re.compile(
    r"(?:\[([0-9a-f:.%a-z]+)\]|([^\s:\[\]/@\"\\]+)):([0-9]{1,5})", re.ASCII
)


def parse_address(text: object, *, lowest_port: int = 1) -> Address:
    """Read ``HOST:PORT``; an IPv6 host stands in square brackets.

    Raises:
        TypeError: it is no ``str``.
        ValueError: it is no such address, or the port is below ``lowest_port``.
    """
    if not isinstance(text, str):
        raise TypeError(f"an address is a str like '127.0.0.1:3331', not {type(text).__name__}")
    match = _ADDRESS.fullmatch(text.lower())
    if match is None or not text.isprintable():
        raise ValueError(f"{text!r} is no address; write HOST:PORT, or [IPV6]:PORT")
    port = int(match[3])
    if not lowest_port <= port <= 65535:
        raise ValueError(f"{text!r} is no address; a port is between {lowest_port} and 65535")
    host = match[1] or match[2]
    try:
        if match[1]:
            host = str(IPv6Address(host))  # one form for each
        else:
            host.encode("idna")
    except ValueError:
        raise ValueError(f"{text!r} is no address; its host is no name") from None
    if match[2] and not all(letter.isalnum() or letter in "-_." for letter in host):
        raise ValueError(f"{text!r} is no address; its host is no name")
    return Address(host, port)


def parse_addresses(texts: Iterable[object]) -> tuple[Address, ...]:
    """Read one or more addresses; the same address twice counts once.

    Raises:
        TypeError: it is no collection of ``str``.
        ValueError: there is none, or one of them is no address.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TypeError("addresses come in a list, also when there is only one")
    addresses = tuple(dict.fromkeys(parse_address(text) for text in texts))
    if not addresses:
        raise ValueError("at least one address of the cluster is needed")
    return addresses


class Member(NamedTuple):
    """One acceptor of a cluster: who it is, and where it says it can be found."""

    id: AcceptorId
    address: Address


class Identity(NamedTuple):
    """What an acceptor knows of itself and greets with: its cluster, itself, all members.

    It never changes: a cluster is fixed when it is made.
    """

    cluster: bytes
    acceptor: AcceptorId
    members: tuple[Member, ...]

    @property
    def address(self) -> Address:
        """Where this acceptor says it can be found."""
        return next(member.address for member in self.members if member.id == self.acceptor)

    def check(self) -> None:
        """Check that it is the identity of an acceptor of a cluster.

        Raises:
            ValueError: it is not; the message says why.
        """
        ids = {member.id for member in self.members}
        if not 1 <= len(self.members) <= MAX_ACCEPTORS:
            raise ValueError(
                f"a cluster has 1 to {MAX_ACCEPTORS} acceptors, not {len(self.members)}"
            )
        if len(ids) < len(self.members):
            raise ValueError("two members have the same id")
        if len({member.address for member in self.members}) < len(self.members):
            raise ValueError("two members have the same address")
        if self.acceptor not in ids:
            raise ValueError("the acceptor is not among the members")


def new_cluster(addresses: Sequence[Address]) -> list[Identity]:
    """The identities of a new cluster with an acceptor at each of these addresses.

    Raises:
        ValueError: there are too few or too many addresses, or one stands twice.
    """
    cluster = new_id()
    members = tuple(Member(new_id(), address) for address in addresses)
    identities = [Identity(cluster, member.id, members) for member in members]
    if not identities:
        raise ValueError("a cluster needs at least one address")
    identities[0].check()
    return identities
