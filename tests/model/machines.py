"""The calls of the model: what each may do once it hears what the acceptors have told it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from paxoskv.paxos.messages import Reply, Request
from paxoskv.paxos.operation import Done, Latest, Pause
from paxoskv.paxos.quorums import Quorums

from .calls import Call, attempts, machine
from .frozen import copied, freeze, marked
from .kept import Kept
from .violation import Violation

GONE = 0
"""The number of the state of a call that has returned, and told so."""


class Result(NamedTuple):
    """What a call returns, and the request that it then tells the acceptors (0: none)."""

    value: Any
    commit: int


class Move(NamedTuple):
    """A call asks something: its state then, and the number of the request."""

    machine: int
    request: int


class Outcomes(NamedTuple):
    """What a call may do next: ask something else, or return (the numbers of the results)."""

    moves: tuple[Move, ...]
    results: tuple[int, ...]


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
    ) -> None:
        self._names = names
        self._quorums = quorums
        self._requests = requests
        self._replies = replies
        self._told = told
        self._most = most  # how many phases 1 a call may begin
        self._states: Kept[Any] = Kept()
        self._states.number("gone", None)
        self.results: Kept[Result] = Kept()
        self._begun: dict[tuple[int, Latest | None], Move] = {}
        self._received: dict[tuple[int, int, int], _Waits | Move | int | None] = {}
        self._again: dict[int, Move | None] = {}
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
            live = machine(call, bytes([number + 1]) * 16, self._quorums, known)
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
        start = Hearing(number, pausing=False, acceptors=0)
        seen = {start}
        waiting = [start]
        while waiting:
            for _, _, heard in self.hear(waiting.pop(), told):
                if isinstance(heard, int):
                    results[heard] = None
                elif isinstance(heard, Move):
                    moves[heard] = None
                elif heard not in seen:
                    seen.add(heard)
                    waiting.append(heard)
        return Outcomes(tuple(moves), tuple(results))

    def hear(self, here: Hearing, told: tuple[int, ...]) -> list[tuple[int, int, Heard]]:
        """What may come of the next reply that a call hears, or of the end of its pause.

        Returns:
            The acceptor and the reply, or -1 and 0 for the end of the pause; and what comes.

        Raises:
            Violation: it waits for more than a quorum, and for no pause.
        """
        found: list[tuple[int, int, Heard]] = []
        machine, pausing, acceptors = here
        for acceptor, replies in enumerate(told):
            heard = acceptors | 1 << acceptor
            for reply in self._told[replies]:
                outcome = self._receive(machine, acceptor, reply)
                if isinstance(outcome, _Waits):
                    pauses = pausing or outcome.pausing
                    if not pauses and heard.bit_count() >= self._quorums.quorum:
                        raise Violation("a call waits, though a quorum has answered it")
                    found.append((acceptor, reply, Hearing(outcome.machine, pauses, heard)))
                elif outcome is not None:
                    found.append((acceptor, reply, outcome))
        if pausing and (move := self._ask_again(machine)) is not None:
            found.append((-1, 0, move))
        return found

    def _receive(self, number: int, acceptor: int, reply: int) -> _Waits | Move | int | None:
        """What comes of a reply; None: the call gives up, for it has begun phase 1 too often."""
        key = number, acceptor, reply
        if key not in self._received:
            live = copied(self._states[number])
            outcome = live.receive(self._names[acceptor], self._replies[reply])
            self._received[key] = self._outcome(live, outcome)
        return self._received[key]

    def _outcome(self, live: Any, outcome: Any) -> _Waits | Move | int | None:
        match outcome:
            case None | Pause():
                return _Waits(self._number(live), outcome is not None)
            case Done(value):
                commit = 0 if live.commit is None else self._request(live.commit)
                return self.results.number((freeze(value), commit), Result(value, commit))
            case _:
                return self._move(live, outcome)

    def _ask_again(self, number: int) -> Move | None:
        if number not in self._again:
            live = copied(self._states[number])
            self._again[number] = self._move(live, live.ask())
        return self._again[number]

    def _move(self, live: Any, request: Request) -> Move | None:
        if attempts(live) > self._most:
            return None
        return Move(self._number(live), self._request(request))

    def alone(self, number: int, replies: Sequence[int]) -> Move | None:
        """What a call does that hears these replies, one from each acceptor; None: it ends."""
        pausing = False
        for acceptor, reply in enumerate(replies):
            outcome = self._receive(number, acceptor, reply)
            if not isinstance(outcome, _Waits):
                return outcome if isinstance(outcome, Move) else None
            number = outcome.machine
            pausing = pausing or outcome.pausing
        if not pausing:
            raise Violation("a call waits, though all have answered it")
        return self._ask_again(number)

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
                known = self._number(copied(live, names))
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
        return self._states.number(freeze(live), live)

    def _request(self, request: Request) -> int:
        return self._requests.number(freeze(request), request)
