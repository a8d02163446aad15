"""The acceptor: rules R2, R3, R8 and R9.

:func:`answer` is its heart, a pure function from what an acceptor remembers of an
instance and a request to what it remembers then and its reply. :class:`Acceptor` applies
it to a store, and keeps what belongs to a key as a whole: its top, and its floor.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar, assert_never

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
    Noted,
    Page,
    Prepare,
    Promise,
    Proposal,
    ProposalId,
    Read,
    Refusal,
    Reply,
    Report,
    Request,
    Scan,
    Sight,
    State,
    Status,
    Told,
    Turn,
    Vote,
    Voted,
)
from .series import Accepts, Commits


class Register(NamedTuple):
    """What an acceptor remembers of one instance.

    Once it knows what is chosen, that alone counts. Where that is what it voted for, it need
    not keep it twice: then ``chosen`` is None, and the :class:`Summary` says so.
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
        chosen: the versions that are known as chosen, and kept, in order. Where the register
            of one has no ``chosen``, what it voted for is.
    """

    top: int = NO_TOP
    floor: int = 0
    chosen: tuple[int, ...] = ()

    def knows(self, ver: int) -> bool:
        """Whether it is known what is chosen for a version, and kept."""
        chosen = self.chosen
        return bool(chosen) and (chosen[-1] == ver or ver in chosen)


UNHEARD: Final = Summary()
"""The summary of a key that an acceptor never voted on."""


class Ledger(Protocol):
    """What an acceptor remembers of one key, good until it is read from disk again.

    Attributes:
        key: the key.
        summary: of the key as a whole, :data:`UNHEARD` if there is none yet.
    """

    @property
    def key(self) -> str: ...  # noqa: D102 - as above
    @property
    def summary(self) -> Summary: ...  # noqa: D102 - as above

    def register(self, ver: int) -> Register:
        """The register of a version, :data:`BLANK` if there is none yet."""
        ...

    def has_vote_for(self, ver: int, id_: ProposalId) -> bool:
        """Whether the register of a version has a vote for the proposal with this id."""
        ...

    def below(self, ver: int) -> tuple[int, Register] | None:
        """The highest version below ``ver`` whose register has a sight, and the register."""
        ...


LedgerT = TypeVar("LedgerT", bound=Ledger)


class Store(Protocol[LedgerT]):
    """Where an acceptor keeps its registers. ``paxoskv.storage`` has them.

    What is saved can be read at once, and is durable after the next flush. A summary that is
    :data:`UNHEARD` is not kept: such a key has promises only.
    """

    def ledger(self, key: str) -> LedgerT:
        """What is remembered of a key, and what is saved later on of it."""
        ...

    def ledgers(self, keys: Sequence[str]) -> Sequence[LedgerT]:
        """The same of several; a key that comes again has the same one."""
        ...

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        """The keys with a summary that begin with ``prefix`` and are above ``after``, in order."""
        ...

    def save(self, ledger: LedgerT, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Replace a summary and registers, and drop what is below the floor: all or nothing.

        Args:
            ledger: of the key, as it was given last.
            summary: the new one.
            registers: the new ones, by version.
        """
        ...

    def cast(self, ledger: LedgerT, ver: int, id_: ProposalId, value: bytes | None) -> None:
        """Save the first vote of a version above the top, for an append at ballot 0.

        Its register is blank until then, and it is the top then. This is most of what there is
        to save.
        """
        ...

    def summarize(self, ledger: LedgerT, summary: Summary) -> None:
        """Replace a summary with one in which one version more is chosen.

        All else is as it was. This is most of the rest of what there is to save.
        """
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
        case Accept():
            (_, ver), ballot, proposal, append, _ = request
            vote = Vote(ballot, proposal, append)
            if ballot < promised or _taken(voted, vote):
                return register, Refusal(promised, voted, top)
            if append and top > ver and vote != voted:
                return register, Refusal(promised, voted, top)
            return Register(ballot, vote), Voted(max(top, ver))
        case Read():
            return register, Report(voted, top)
        case Prepare(_, ballot):
            if ballot < promised:
                return register, Refusal(promised, voted, top)
            return Register(ballot, voted), Promise(voted, top)
        case _:
            assert_never(request)


def _taken(voted: Vote | None, vote: Vote) -> bool:
    """Whether another proposal has this acceptor's vote at the ballot already."""
    return voted is not None and voted.ballot == vote.ballot and voted != vote


def _with_chosen(ver: int, register: Register, summary: Summary) -> Register:
    """The register of a version, with what is chosen there if the acceptor knows that."""
    if ver > summary.top or register.chosen is not None or not summary.knows(ver):
        return register
    assert register.voted is not None, "who keeps no chosen proposal has voted for it"
    return Register(chosen=register.voted.proposal)


def _known(ledger: Ledger) -> Told:
    """The latest version that is known to be chosen."""
    summary = ledger.summary
    if not summary.chosen:
        return Told(NO_TOP, None)
    latest = summary.chosen[-1]
    return Told(latest, _with_chosen(latest, ledger.register(latest), summary).chosen)


def _compacted(ledger: Ledger) -> Compacted:
    latest, proposal = _known(ledger)
    assert proposal is not None, "what is dropped is older than something known"
    return Compacted(latest, proposal, ledger.summary.top)


class Acceptor:
    """One acceptor: a store, and the answers that keep the promises in it.

    Args:
        store: what it remembers.
        keep: how many of the newest chosen versions of a key it keeps.
        release: what it runs, for :class:`~.messages.Status`.

    Attributes:
        missed: the keys of commits that it could make no use of, for it had no vote for the
            proposal, in the order in which they came; whoever looks after them takes them out.
        missed_unnamed: whether there were others, of which it does not know the keys: there were
            more than it notes, or they were lost.
    """

    __slots__ = ("_keep", "_release", "_store", "missed", "missed_unnamed")

    def __init__(self, store: Store[Any], keep: int = DEFAULT_KEEP, release: str = "") -> None:
        assert keep >= 1, "the latest version is always kept"
        self._store = store
        self._keep = keep
        self._release = release
        self.missed: dict[str, None] = {}
        self.missed_unnamed = False

    def known(self, key: str) -> Told:
        """The latest version of a key that it knows to be chosen."""
        return _known(self._store.ledger(key))

    def handle(self, request: Request) -> Reply:
        """Answer a request, and keep in the store what the answer rests on."""
        match request:
            case Accept() | Read() | Prepare():
                return self._answer(self._store.ledger(request.instance.key), request)
            case Commit((key, ver), id_, proposal):
                self._commit(self._store.ledger(key), ver, id_, proposal)
                return Noted()
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

    def vote(self, accepts: Accepts) -> int:
        """Vote for Accepts, one after the other, as long as the answer is a plain :class:`Voted`.

        Returns:
            How many were answered so. The next one is to be handled by itself, which gives the
            answer that it has, and then those that follow.
        """
        store, owner = self._store, accepts.owner
        columns = zip(
            store.ledgers(accepts.keys),
            accepts.vers,
            accepts.serials,
            accepts.values,
            strict=True,
        )
        for index, (ledger, ver, serial, value) in enumerate(columns):
            if ver > ledger.summary.top and ledger.register(ver) is BLANK:
                # As `answer` does with a blank register, above the top.
                store.cast(ledger, ver, ProposalId(owner, serial), value)
            elif self._answer(ledger, accepts[index]) != Voted(ver):
                return index
        return len(accepts)

    def learn(self, commits: Commits) -> None:
        """Take Commits, one after the other."""
        store, owner = self._store, commits.owner
        columns = zip(store.ledgers(commits.keys), commits.vers, commits.serials, strict=True)
        for ledger, ver, serial in columns:
            top, floor, chosen = ledger.summary
            id_ = ProposalId(owner, serial)
            is_next = (not chosen or chosen[-1] < ver) and len(chosen) < self._keep
            if is_next and ledger.has_vote_for(ver, id_):
                # As `_learn` does, where there is nothing to be dropped.
                store.summarize(ledger, Summary(top, floor, (*chosen, ver)))
            else:
                self._commit(ledger, ver, id_, None)

    def _answer(self, ledger: Ledger, request: Read | Prepare | Accept) -> Reply:
        """Answer what is asked about an instance (rules R2, R3 and R9)."""
        ver = request.instance.ver
        summary = ledger.summary
        changed: dict[int, Register] = {}
        if isinstance(request, Accept) and request.after is not None:
            summary = self._learn(ledger, ver - 1, request.after, None, changed)
        reply: Reply
        if ver < summary.floor:
            reply = _compacted(ledger)
        else:
            before = _with_chosen(ver, ledger.register(ver), summary)
            after, reply = answer(before, summary.top, request)
            if after != before:
                assert after.promised >= before.promised, "a promise is never taken back"
                assert after.voted is None or after.voted.ballot <= after.promised
                if after.voted is not None and ver > summary.top:
                    summary = Summary(ver, summary.floor, summary.chosen)
                changed[ver] = after
        if changed or summary is not ledger.summary:
            self._store.save(ledger, summary, changed)
        return reply

    def _commit(self, ledger: Ledger, ver: int, id_: ProposalId, proposal: Proposal | None) -> None:
        changed: dict[int, Register] = {}
        summary = self._learn(ledger, ver, id_, proposal, changed)
        before = ledger.summary
        if changed or summary.floor > before.floor:
            self._store.save(ledger, summary, changed)
        elif summary is not before:
            self._store.summarize(ledger, summary)

    def _learn(
        self,
        ledger: Ledger,
        ver: int,
        id_: ProposalId,
        proposal: Proposal | None,
        changed: dict[int, Register],
    ) -> Summary:
        """Learn what is chosen, and drop what that makes too old (rules R8 and R9).

        Args:
            ledger: of the key.
            ver: the version of which it is told.
            id_: of the proposal that is chosen there.
            proposal: the proposal, if it came along.
            changed: takes the registers that are to be saved with the summary.

        Returns:
            The new summary.
        """
        summary = ledger.summary
        if ver < summary.floor:
            return summary
        chosen = summary.chosen
        at = bisect(chosen, ver)
        if at and chosen[at - 1] == ver:
            _, voted, known = ledger.register(ver)
            known = known or (voted and voted.proposal)
            if known is None or known.id != id_:
                raise ProtocolError(f"another proposal is chosen for {ledger.key!r} version {ver}")
            return summary
        its_own = ledger.has_vote_for(ver, id_)
        if not its_own and proposal is None:
            self._miss(ledger.key)
            return summary
        chosen = chosen[:at] + (ver,) + chosen[at:]  # noqa: RUF005 - half the time of (*a, …)
        kept = chosen[-self._keep :]
        floor = kept[0] if len(chosen) > self._keep else summary.floor
        assert floor >= summary.floor, "the floor never sinks"
        if proposal is not None and not its_own and ver >= floor:
            changed[ver] = Register(chosen=proposal)
        return Summary(max(summary.top, ver), floor, kept)

    def _miss(self, key: str) -> None:
        if len(self.missed) < MAX_MISSED_KEYS:
            self.missed[key] = None
        else:
            self.missed_unnamed = True

    def _find(self, key: str, below: int) -> Found | Compacted:
        ledger = self._store.ledger(key)
        summary = ledger.summary
        if below <= summary.floor and summary.chosen:
            return _compacted(ledger)
        # Above the top are promises at most, and these may be many.
        if below <= summary.top:
            found = ledger.below(below)
        elif summary.top == NO_TOP:
            found = None
        else:
            found = summary.top, ledger.register(summary.top)
        ver, register = found or (NO_TOP, BLANK)
        return Found(ver, _with_chosen(ver, register, summary).sight, summary.top)

    def _scan(self, prefix: str, after: str) -> Page:
        """One page: as much as the limits of a page allow, and at least one key."""
        items: list[tuple[str, int, Sight]] = []
        size = 0
        for key, summary in self._store.keys(prefix, after):
            if len(items) == MAX_PAGE_KEYS or size >= MAX_PAGE_BYTES:
                return Page(tuple(items), more=True)
            register = self._store.ledger(key).register(summary.top)
            sight = _with_chosen(summary.top, register, summary).sight
            assert sight is not None, "the top has a vote, or is known as chosen"
            items.append((key, summary.top, sight))
            proposal = sight if isinstance(sight, Proposal) else sight.proposal
            size += len(proposal.value or b"") + 4 * len(key)
        return Page(tuple(items), more=False)
