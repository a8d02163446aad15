"""The acceptors of the model: what each remembers, and how it answers, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from paxoskv.paxos.acceptor import UNHEARD, Acceptor, Register, Summary
from paxoskv.paxos.messages import (
    FAST,
    Accept,
    Ballot,
    Commit,
    Proposal,
    ProposalId,
    Reply,
    Request,
    Vote,
    Voted,
    answers,
)
from paxoskv.paxos.series import Accepts, Commits
from paxoskv.storage.memory import Ledger

from .calls import KEY
from .frozen import freeze
from .kept import Kept
from .violation import WRONG


class Cast(NamedTuple):
    """A vote that was cast. It stays so, whatever its acceptor votes for later."""

    ver: int
    ballot: Ballot
    proposal: Proposal


class Remembered(NamedTuple):
    """What an acceptor remembers, and, of which it knows nothing, every vote that it has cast."""

    summary: Summary
    registers: Mapping[int, Register]
    cast: frozenset[Cast]


class Acceptors:
    """The states of acceptors by their numbers, and what follows from a request.

    Attributes:
        replies: all replies, by their numbers.
        cast: of each state the votes that were cast, as a set of bits.
        blank: the state of an acceptor that never heard of anything.
        failed: the state and the request at which there was an error.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._states: Kept[Remembered] = Kept()
        self.replies: Kept[Reply] = Kept()
        self._handled: dict[tuple[int, Request], tuple[int, int]] = {}
        self._casts: Kept[Cast] = Kept()
        self.cast: list[int] = []
        self.failed: tuple[int, Request] | None = None
        self.blank = self._number(Remembered(UNHEARD, {}, frozenset()))

    def __getitem__(self, number: int) -> Remembered:
        return self._states[number]

    def handle(self, number: int, request: Request) -> tuple[int, int]:
        """The state after a request, and the reply."""
        known = self._handled.get((number, request))
        if known is None:
            try:
                known = self._handled[number, request] = self._handle(number, request)
            except WRONG:
                self.failed = number, request
                raise
        return known

    def _handle(self, number: int, request: Request) -> tuple[int, int]:
        before = self._states[number]
        store = _Store(before.summary, before.registers)
        reply = Acceptor(store, self._keep).handle(request)
        assert answers(reply, request), "that is no answer to this request"
        self._check_series(before, request, store, reply)
        cast = {
            Cast(ver, register.voted.ballot, register.voted.proposal)
            for ver, register in store.registers.items()
            if register.voted is not None
        }
        after = self._number(Remembered(store.summary, store.registers, before.cast | cast))
        return after, self.replies.number(freeze(reply), reply)

    def _number(self, state: Remembered) -> int:
        key = state.summary, frozenset(state.registers.items()), state.cast
        number = self._states.number(key, state)
        if number == len(self.cast):
            bits = [1 << self._casts.number(each, each) for each in state.cast]
            self.cast.append(sum(bits))
        return number

    def _check_series(
        self, before: Remembered, request: Request, store: _Store, reply: Reply
    ) -> None:
        """A series must mean what its requests mean, whatever the acceptor remembers."""
        again = _Store(before.summary, before.registers)
        acceptor = Acceptor(again, self._keep)
        match request:
            case Accept((key, ver), ballot, ((owner, serial), value), True, None):
                assert ballot == FAST, "no other is an append"
                series = Accepts(owner, [serial], [key], [ver], [value])
                answer = Voted(ver) if acceptor.vote(series) else acceptor.handle(request)
                assert answer == reply, "it would have another answer"
            case Commit((key, ver), (owner, serial), None):
                acceptor.learn(Commits(owner, [serial], [key], [ver]))
            case _:
                return
        same = again.summary == store.summary and again.registers == store.registers
        assert same, "it would leave something else behind"


class _Store(Ledger):
    """A store of one key, and its ledger, that starts from a state and remembers how it ended."""

    def __init__(self, summary: Summary, registers: Mapping[int, Register]) -> None:
        super().__init__(KEY)
        self.summary = summary
        self.registers = dict(registers)

    def ledger(self, key: str) -> Self:
        assert key == KEY
        return self

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        raise AssertionError("nobody scans here")

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        assert ledger is self
        self.summary = summary
        kept = {**self.registers, **registers}
        self.registers = {ver: each for ver, each in kept.items() if ver >= summary.floor}

    def summarize(self, ledger: Ledger, summary: Summary) -> None:
        self.save(ledger, summary, {})

    def ledgers(self, keys: Sequence[str]) -> list[Self]:
        return [self.ledger(key) for key in keys]

    def cast(self, ledger: Ledger, ver: int, id_: ProposalId, value: bytes | None) -> None:
        vote = Vote(FAST, Proposal(id_, value), append=True)
        self.save(ledger, self.summary._replace(top=ver), {ver: Register(FAST, vote)})

    def statistics(self) -> tuple[int, int]:
        raise AssertionError("nobody asks for the status here")
