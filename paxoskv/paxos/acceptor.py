"""The acceptor: rules R2, R3, R8 and R9.

:func:`answer` is its heart, a pure function from what an acceptor remembers of an
instance and a request to what it remembers then and its reply. :class:`Acceptor` applies
it to a store, and keeps what belongs to a key as a whole: its top, and its floor.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol, assert_never

from ..errors import ProtocolError
from ..limits import DEFAULT_KEEP, MAX_MISSED_KEYS, MAX_PAGE_BYTES, MAX_PAGE_KEYS
from .messages import (
    FAST,
    NO_TOP,
    Accept,
    Ballot,
    Chosen,
    Commit,
    Compacted,
    Find,
    Found,
    Instance,
    Noted,
    Page,
    Prepare,
    Promise,
    Proposal,
    Read,
    Refusal,
    Reply,
    Report,
    Request,
    Scan,
    Sight,
    State,
    Status,
    Turn,
    Vote,
    Voted,
)


class Register(NamedTuple):
    """What an acceptor remembers of one instance.

    Once it knows what is chosen, that alone counts, and the rest is blank.
    """

    promised: Ballot = FAST
    voted: Vote | None = None
    chosen: Proposal | None = None

    @property
    def sight(self) -> Sight | None:
        """What the acceptor shows of the instance to those who only look."""
        return self.chosen or self.voted


BLANK: Final = Register()
"""The register of an instance that an acceptor never heard of."""


class Summary(NamedTuple):
    """What an acceptor remembers of a key as a whole.

    Attributes:
        top: the highest version with a vote or known as chosen, or ``NO_TOP``.
        floor: versions below it were dropped (rule R9).
        chosen: the versions that are known as chosen, and kept, in order.
    """

    top: int = NO_TOP
    floor: int = 0
    chosen: tuple[int, ...] = ()


UNHEARD: Final = Summary()
"""The summary of a key that an acceptor never voted on."""


class Store(Protocol):
    """Where an acceptor keeps its registers. ``paxoskv.storage`` has them.

    What is saved can be read at once, and is durable after the next flush. A summary that is
    :data:`UNHEARD` is not kept: such a key has promises only.
    """

    def summary(self, key: str) -> Summary:
        """The summary of a key, :data:`UNHEARD` if there is none yet."""
        ...

    def register(self, instance: Instance) -> Register:
        """The register of an instance, :data:`BLANK` if there is none yet."""
        ...

    def below(self, key: str, ver: int) -> tuple[int, Register] | None:
        """The highest version below ``ver`` whose register has a sight, and the register."""
        ...

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        """The keys with a summary that begin with ``prefix`` and are above ``after``, in order."""
        ...

    def save(self, key: str, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Replace a summary and registers, and drop what is below the floor: all or nothing."""
        ...

    def statistics(self) -> tuple[int, int]:
        """The number of keys with a summary, and the size on disk in bytes."""
        ...


def answer(
    register: Register, top: int, request: Read | Prepare | Accept
) -> tuple[Register, Reply]:
    """Answer one request about an instance (Lamport, *Paxos Made Simple*, section 2.2).

    Args:
        register: what the acceptor remembers of the instance of the request.
        top: the highest version of its key that the acceptor voted for or knows as chosen.
        request: what it is asked.

    Returns:
        The register and the reply that follow. The reply may leave only once the
        register is stored (rule R1).
    """
    promised, voted, chosen = register
    if chosen is not None:
        return register, Chosen(chosen, top)
    match request:
        case Read():
            return register, Report(voted, top)
        case Prepare(_, ballot):
            if ballot < promised:
                return register, Refusal(promised, voted, top)
            return Register(ballot, voted), Promise(voted, top)
        case Accept(instance, ballot, proposal, append):
            vote = Vote(ballot, proposal, append)
            if ballot < promised or _taken(voted, vote):
                return register, Refusal(promised, voted, top)
            if append and top > instance.ver and vote != voted:
                return register, Refusal(promised, voted, top)
            return Register(ballot, vote), Voted(max(top, instance.ver))
        case _:
            assert_never(request)


def _taken(voted: Vote | None, vote: Vote) -> bool:
    """Whether another proposal has this acceptor's vote at the ballot already."""
    return voted is not None and voted.ballot == vote.ballot and voted != vote


_ABOUT_AN_INSTANCE: Final = (Read, Prepare, Accept, Commit)


class Acceptor:
    """One acceptor: a store, and the answers that keep the promises in it.

    Args:
        store: what it remembers.
        keep: how many of the newest chosen versions of a key it keeps.
        release: what it runs, for :class:`~.messages.Status`.

    Attributes:
        missed: the keys of commits that it could make no use of, for it had no vote for the
            proposal, in the order in which they came; whoever looks after them takes them out.
        missed_too_many: whether there were more of them than it notes.
    """

    __slots__ = ("_keep", "_release", "_store", "missed", "missed_too_many")

    def __init__(self, store: Store, keep: int = DEFAULT_KEEP, release: str = "") -> None:
        assert keep >= 1, "the latest version is always kept"
        self._store = store
        self._keep = keep
        self._release = release
        self.missed: dict[str, None] = {}
        self.missed_too_many = False

    def known(self, key: str) -> Found:
        """The latest version of a key that it knows to be chosen."""
        summary = self._store.summary(key)
        if not summary.chosen:
            return Found(NO_TOP, None, summary.top)
        latest = summary.chosen[-1]
        return Found(latest, self._store.register(Instance(key, latest)).chosen, summary.top)

    def handle(self, request: Request) -> Reply:
        """Answer a request, and keep in the store what the answer rests on."""
        if not isinstance(request, _ABOUT_AN_INSTANCE):
            return self._look(request)
        instance = request.instance
        summary = self._store.summary(instance.key)
        if instance.ver < summary.floor:
            if isinstance(request, Commit):
                return Noted(True, summary.top)
            return self._compacted(instance.key)
        before = self._store.register(instance)
        if isinstance(request, Commit):
            return self._commit(request, summary, before)
        after, reply = answer(before, summary.top, request)
        if after != before:
            assert after.promised >= before.promised, "a promise is never taken back"
            assert after.voted is None or after.voted.ballot <= after.promised
            if after.voted is not None and instance.ver > summary.top:
                summary = Summary(instance.ver, summary.floor, summary.chosen)
            self._store.save(instance.key, summary, {instance.ver: after})
        return reply

    def _look(self, request: Find | Scan | Turn | Status) -> Reply:
        match request:
            case Find(key, below):
                return self._find(key, below)
            case Scan(prefix, last):
                return self._scan(prefix, last)
            case Turn(key):
                return self.known(key)
            case Status():
                return State(self._release, *self._store.statistics())
            case _:
                assert_never(request)

    def _compacted(self, key: str) -> Compacted:
        latest, proposal, top = self.known(key)
        assert isinstance(proposal, Proposal), "what is dropped is older than something known"
        return Compacted(latest, proposal, top)

    def _commit(self, commit: Commit, summary: Summary, before: Register) -> Noted:
        """Learn what is chosen, and drop what that makes too old (rules R8 and R9)."""
        (key, ver), id_, proposal = commit
        if before.chosen is not None:
            if before.chosen.id != id_:
                raise ProtocolError(f"another proposal is chosen for {key!r} version {ver}")
            return Noted(True, summary.top)
        if proposal is None and before.voted is not None and before.voted.proposal.id == id_:
            proposal = before.voted.proposal
        if proposal is None:
            self._miss(key)
            return Noted(False, summary.top)
        chosen = list(summary.chosen)
        insort(chosen, ver)
        kept = chosen[-self._keep :]
        floor = kept[0] if len(chosen) > self._keep else summary.floor
        assert floor >= summary.floor, "the floor never sinks"
        after = Summary(max(summary.top, ver), floor, tuple(kept))
        registers = {ver: Register(chosen=proposal)} if ver >= floor else {}
        self._store.save(key, after, registers)
        return Noted(True, after.top)

    def _miss(self, key: str) -> None:
        if len(self.missed) < MAX_MISSED_KEYS:
            self.missed[key] = None
        else:
            self.missed_too_many = True

    def _find(self, key: str, below: int) -> Found | Compacted:
        summary = self._store.summary(key)
        if below <= summary.floor and summary.chosen:
            return self._compacted(key)
        # Above the top are promises at most, and these may be many.
        if below <= summary.top:
            found = self._store.below(key, below)
        elif summary.top == NO_TOP:
            found = None
        else:
            found = summary.top, self._store.register(Instance(key, summary.top))
        ver, register = found or (NO_TOP, BLANK)
        return Found(ver, register.sight, summary.top)

    def _scan(self, prefix: str, after: str) -> Page:
        """One page: as much as the limits of a page allow, and at least one key."""
        items: list[tuple[str, int, Sight]] = []
        size = 0
        for key, summary in self._store.keys(prefix, after):
            if len(items) == MAX_PAGE_KEYS or size >= MAX_PAGE_BYTES:
                return Page(tuple(items), more=True)
            sight = self._store.register(Instance(key, summary.top)).sight
            assert sight is not None, "the top has a vote, or is known as chosen"
            items.append((key, summary.top, sight))
            proposal = sight if isinstance(sight, Proposal) else sight.proposal
            size += len(proposal.value or b"") + 4 * len(key)
        return Page(tuple(items), more=False)
