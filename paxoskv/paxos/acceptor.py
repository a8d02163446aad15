"""The acceptor: rules R2 and R3, and nothing else.

:func:`answer` is the whole of it, a pure function from what an acceptor remembers of
an instance and a request to what it remembers then and its reply. :class:`Acceptor`
applies it to a store.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol, assert_never

from .messages import (
    FAST,
    Accept,
    Ballot,
    Instance,
    Prepare,
    Promise,
    Read,
    Refusal,
    Reply,
    Report,
    Request,
    Vote,
    Voted,
)


class Register(NamedTuple):
    """What an acceptor remembers of one instance."""

    promised: Ballot = FAST
    voted: Vote | None = None


BLANK: Final = Register()
"""The register of an instance that an acceptor never heard of."""


def answer(register: Register, top: int, request: Request) -> tuple[Register, Reply]:
    """Answer one request (Lamport, *Paxos Made Simple*, section 2.2).

    Args:
        register: what the acceptor remembers of the instance of the request.
        top: the highest version of its key that the acceptor has voted for.
        request: what it is asked.

    Returns:
        The register and the reply that follow. The reply may leave only once the
        register is stored (rule R1).
    """
    promised, voted = register
    match request:
        case Read():
            return register, Report(voted, top)
        case Prepare(_, ballot):
            if ballot < promised:
                return register, Refusal(promised, voted, top)
            return Register(ballot, voted), Promise(voted, top)
        case Accept(instance, ballot, proposal):
            vote = Vote(ballot, proposal)
            if ballot < promised or _taken(voted, vote):
                return register, Refusal(promised, voted, top)
            return Register(ballot, vote), Voted(max(top, instance.ver))
        case _:
            assert_never(request)


def _taken(voted: Vote | None, vote: Vote) -> bool:
    """Whether another proposal has this acceptor's vote at the ballot already."""
    return voted is not None and voted.ballot == vote.ballot and voted != vote


class Store(Protocol):
    """Where an acceptor keeps its registers. ``paxoskv.storage`` has them."""

    def register(self, instance: Instance) -> Register:
        """The register of an instance, :data:`BLANK` if there is none yet."""
        ...

    def top(self, key: str) -> int:
        """The highest version of a key with a vote, or :data:`~.messages.NO_TOP`."""
        ...

    def save(self, instance: Instance, register: Register) -> None:
        """Replace the register of an instance, and raise the top of its key if it voted."""
        ...


class Acceptor:
    """One acceptor: a store, and the answers that keep the promises in it."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def handle(self, request: Request) -> Reply:
        """Answer a request, and keep in the store what the answer rests on."""
        instance = request.instance
        before = self._store.register(instance)
        after, reply = answer(before, self._store.top(instance.key), request)
        if after is not before:
            assert after.promised >= before.promised, "a promise is never taken back"
            assert after.voted is None or after.voted.ballot <= after.promised
            self._store.save(instance, after)
        return reply
