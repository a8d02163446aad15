"""The calls of the model: what each may do once it hears what the acceptors have told it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from paxoskv.paxos.messages import Compacted, Proposal, Reply, Request
from paxoskv.paxos.operation import Done, Latest, Pause
from paxoskv.paxos.proposer import Proposer
from paxoskv.paxos.quorums import Quorums

from .calls import Append, Call, machine
from .frozen import copied, freeze, marked, renamed
from .kept import Kept
from .violation import Violation

GONE = 0
"""The number of the state of a call that has returned, and told so."""


PAUSE_OVER: Final = -1, 0
"""What a call hears when its pause is over."""


class _Untold:
    """Whether a request may have been handled before, where that must not matter."""

    def __bool__(self) -> bool:
        raise AssertionError("only of what was dropped it may matter if it is told again")


UNTOLD: Final[Any] = _Untold()


class Result(NamedTuple):
    """What a call returns, and the request that it then tells the acceptors (0: none)."""

    value: Any
    commit: int


class Move(NamedTuple):
    """A call asks something: its state then, and the number of the request."""

    machine: int
    request: int


class Outcomes(NamedTuple):
    """What a call may do next: ask something else, return, or give up and say what it did not do.

    Attributes:
        moves: what it may ask.
        results: the numbers of what it may return.
        denied: the proposals of its own of which it may say that they are not, and never will
            be, written.
    """

    moves: tuple[Move, ...]
    results: tuple[int, ...]
    denied: frozenset[Proposal]


class Hearing(NamedTuple):
    """A call that has heard a part of what it could: its state, and from whom (a set of bits)."""

    machine: int
    pausing: bool
    acceptors: int


class _Waits(NamedTuple):
    """A call has heard a reply, and waits for more; perhaps it may also go on after a pause."""

    machine: int
    pausing: bool


Heard: TypeAlias = Hearing | Move | int
"""What comes of a reply: the call hears on, asks something else, or returns a result."""


class Machines:
    """The states of calls by their numbers, and what follows from what they hear.

    Only states in which a call has just asked something are states of the world. What it then
    hears is up to the network, and nobody else can tell: so it hears all at once, at the moment
    at which that makes it ask something else, or return.

    Attributes:
        results: what calls return, by numbers.
    """

    def __init__(
        self,
        names: Sequence[bytes],
        quorums: Quorums,
        requests: Kept[Request | None],
        replies: Kept[Reply],
        told: Kept[tuple[int, ...]],
        most: int,
        fast: int,
    ) -> None:
        self._names = names
        self._quorums = quorums
        self._requests = requests
        self._replies = replies
        self._told = told
        self._most = most  # how many ballots an operation may begin
        self._fast = fast  # how many operations of a call begin at ballot 0
        self._states: Kept[Any] = Kept()
        self._attempts: dict[int, int] = {}  # how many ballots each has begun
        self._states.number("gone", None)
        self.results: Kept[Result] = Kept()
        self._begun: dict[tuple[int, Latest | None], Move] = {}
        self._received: dict[tuple[int, int, int], _Waits | Move | int] = {}
        self._again: dict[int, Move] = {}
        self._outcomes: dict[tuple[int, tuple[int, ...]], Outcomes] = {}
        self._renamed: dict[tuple[int, tuple[int, ...]], int] = {}
        self._signs: dict[tuple[int, int], int] = {}
        self._marks: Kept[None] = Kept()

    def new(self, call: int) -> int:
        """The state of a call that has not begun."""
        return self._states.number(("new", call), None)

    def begin(self, number: int, call: Call, known: Latest | None) -> Move:
        """A call begins; ``known`` is what its client remembers."""
        key = number, known
        if key not in self._begun:
            live = machine(call, bytes([number + 1]) * 16, self._quorums, known, self._fast)
            request = self._request(live.ask())
            self._begun[key] = Move(self._number(live), request)
        return self._begun[key]

    def outcomes(self, number: int, told: tuple[int, ...]) -> Outcomes:
        """What a call may do next.

        Args:
            number: its state.
            told: the numbers of what each acceptor has told it.
        """
        key = number, told
        known = self._outcomes.get(key)
        if known is None:
            known = self._outcomes[key] = self._listen(number, told)
        return known

    def _listen(self, number: int, told: tuple[int, ...]) -> Outcomes:
        moves: dict[Move, None] = {}
        results: dict[int, None] = {}
        denied: set[Proposal] = set()
        start = Hearing(number, pausing=False, acceptors=0)
        seen = {start}
        waiting = [start]
        while waiting:
            here = waiting.pop()
            live = self._states[here.machine]
            if isinstance(live, Proposer | Append) and live.own and not live.maybe:
                denied.add(live.own)
            for next_ in self.audible(here, told):
                heard = self.hear(here, *next_)
                if isinstance(heard, int):
                    results[heard] = None
                elif isinstance(heard, Move):
                    if self.may(heard):
                        moves[heard] = None
                elif heard not in seen:
                    seen.add(heard)
                    waiting.append(heard)
        return Outcomes(tuple(moves), tuple(results), frozenset(denied))

    def may(self, move: Move) -> bool:
        """Whether a call has not begun too many ballots by that."""
        return self._attempts[move.machine] <= self._most

    def audible(self, here: Hearing, told: tuple[int, ...]) -> list[tuple[int, int]]:
        """What a call may hear next: an acceptor and its reply, or :data:`PAUSE_OVER`."""
        next_ = [(k, reply) for k, replies in enumerate(told) for reply in self._told[replies]]
        return [*next_, PAUSE_OVER] if here.pausing else next_

    def hear(self, here: Hearing, acceptor: int, reply: int) -> Heard:
        """What comes of a reply.

        Raises:
            Violation: the call waits for more than a quorum, and for no pause.
        """
        if (acceptor, reply) == PAUSE_OVER:
            return self._ask_again(here.machine)
        outcome = self._receive(here.machine, acceptor, reply)
        if not isinstance(outcome, _Waits):
            return outcome
        pausing = here.pausing or outcome.pausing
        heard = here.acceptors | 1 << acceptor
        if not pausing and heard.bit_count() >= self._quorums.quorum:
            raise Violation("a call waits, though a quorum has answered it")
        return Hearing(outcome.machine, pausing, heard)

    def _receive(self, number: int, acceptor: int, reply: int) -> _Waits | Move | int:
        key = number, acceptor, reply
        known = self._received.get(key)
        if known is None:
            live = copied(self._states[number])
            what = self._replies[reply // 2]
            again = reply % 2 == 1 if isinstance(what, Compacted) else UNTOLD
            outcome = live.receive(self._names[acceptor], what, again)
            known = self._received[key] = self._outcome(live, outcome)
        return known

    def _outcome(self, live: Any, outcome: Any) -> _Waits | Move | int:
        match outcome:
            case None | Pause():
                return _Waits(self._number(live), outcome is not None)
            case Done(value):
                commit = 0 if live.commit is None else self._request(live.commit)
                return self.results.number((freeze(value), commit), Result(value, commit))
            case _:
                return Move(self._number(live), self._request(outcome))

    def _ask_again(self, number: int) -> Move:
        if number not in self._again:
            live = copied(self._states[number])
            request = self._request(live.ask())
            self._again[number] = Move(self._number(live), request)
        return self._again[number]

    def alone(self, number: int, replies: Sequence[int]) -> Move | None:
        """What a call does that hears these replies, one from each acceptor; None: it returns."""
        here = Hearing(number, pausing=False, acceptors=0)
        for acceptor, reply in enumerate(replies):
            again = isinstance(self._replies[reply], Compacted)
            heard = self.hear(here, acceptor, 2 * reply + again)
            if not isinstance(heard, Hearing):
                return heard if isinstance(heard, Move) else None
            here = heard
        return self._ask_again(here.machine)

    # --- which acceptor is which -------------------------------------------------------------

    def renamed(self, number: int, order: tuple[int, ...]) -> int:
        """A call's state once the acceptor ``order[k]`` has become number k."""
        known = self._renamed.get((number, order))
        if known is None:
            live = self._states[number]
            if live is None:
                known = number
            else:
                names = {self._names[old]: self._names[new] for new, old in enumerate(order)}
                known = self._number(renamed(live, names))
            self._renamed[number, order] = known
        return known

    def sign(self, number: int, acceptor: int) -> int:
        """A number for what a call has kept of an acceptor, whatever the acceptors' names are.

        A call keeps things of one acceptor each, and nothing of two together: so two acceptors
        of the same sign can change places.
        """
        known = self._signs.get((number, acceptor))
        if known is None:
            frozen = freeze(self._states[number])
            mark = marked(frozen, self._names[acceptor], frozenset(self._names))
            known = self._signs[number, acceptor] = self._marks.number(mark, None)
        return known

    def _number(self, live: Any) -> int:
        number = self._states.number(freeze(live), live)
        if number not in self._attempts:
            self._attempts[number] = live.attempts
        return number

    def _request(self, request: Request) -> int:
        return self._requests.number(freeze(request), request)
