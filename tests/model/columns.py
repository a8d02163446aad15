"""The columns of a state: an acceptor each, with what it has told to each call.

A column holds, for each call, the request that the call is waiting for an answer to, and all
the replies that this acceptor can have given to it: the call may hear any of them, in any
order, at any later time, or none. A request that has arrived once may arrive again, and then
changes nothing (rules R2, R3); neither does one that is refused, nor a read. So all these are
taken to arrive again and again, whenever the answer would be a new one: what could be heard
is heard by those who wish. Only what changes an acceptor is a step of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paxoskv.paxos.messages import Commit, Request

from .acceptors import Acceptors
from .kept import Kept
from .violation import WRONG

NONE = 0
"""The number of no request."""


class Column(NamedTuple):
    """An acceptor, and of each call what it asks, and what it was told in answer to that."""

    acceptor: int
    asked: tuple[int, ...]
    told: tuple[int, ...]


class Columns:
    """The columns by their numbers, and what follows from what happens to one.

    Attributes:
        requests: all requests, by their numbers.
        told: sets of replies (of their numbers, sorted), by their numbers.
        tells: of each call and column, the number of what the acceptor has told.
        acceptor: of each column, the number of the acceptor's state.
    """

    def __init__(self, acceptors: Acceptors, calls: int) -> None:
        self.acceptors = acceptors
        self.requests: Kept[Request | None] = Kept()
        self.requests.number(None, None)
        self.told: Kept[tuple[int, ...]] = Kept()
        self.silent = self.told.number((), ())
        self._columns: Kept[Column] = Kept()
        self.acceptor: list[int] = []
        self.tells: list[list[int]] = [[] for _ in range(calls)]
        self._asked: dict[tuple[int, int, int], int] = {}
        # Of each column: which requests were tried, which of them would change it, and which of
        # them may yet; and what it has become by those that it took.
        self._tried: list[int] = []
        self._changing: list[int] = []
        self._mattering: list[int] = []
        self._after: list[dict[int, int]] = []
        nothing = (0,) * calls
        self.blank = self._number(Column(acceptors.blank, nothing, nothing))

    def __getitem__(self, number: int) -> Column:
        return self._columns[number]

    def ask(self, number: int, call: int, request: int) -> int:
        """The column once a call waits for the answers to another request, or (NONE) for none."""
        key = number, call, request
        known = self._asked.get(key)
        if known is None:
            acceptor, asked, told = self._columns[number]
            asked = (*asked[:call], request, *asked[call + 1 :])
            told = (*told[:call], self.silent, *told[call + 1 :])
            known = self._asked[key] = self._listened(acceptor, asked, told)
        return known

    def changing(self, number: int, requests: int) -> int:
        """Which of these requests (a set of bits) would change the acceptor."""
        if requests & ~self._tried[number]:
            self._try(number, requests & ~self._tried[number])
        return self._changing[number] & requests

    def take(self, number: int, request: int) -> int:
        """The column once its acceptor has taken a request that changes it."""
        after = self._after[number].get(request)
        if after is None:
            acceptor, asked, told = self._columns[number]
            live = self.requests[request]
            assert live is not None
            changed, reply = self.acceptors.handle(acceptor, live)
            heard = [
                self._heard(told[call], reply) if each == request else told[call]
                for call, each in enumerate(asked)
            ]
            after = self._after[number][request] = self._listened(changed, asked, heard)
        return after

    def mattering(self, number: int, requests: int) -> int:
        """Which of these requests (a set of bits) may change the acceptor, now or later.

        What changes nothing never will, for promises, tops and floors only rise, and what is
        chosen stays so; but a commit waits for the vote that it may meet.
        """
        if requests & ~self._tried[number]:
            self._try(number, requests & ~self._tried[number])
        return self._mattering[number] & requests

    def _try(self, number: int, requests: int) -> None:
        self._tried[number] |= requests
        acceptor = self.acceptor[number]
        while requests:
            bit = requests & -requests
            requests ^= bit
            live = self.requests[bit.bit_length() - 1]
            assert live is not None
            if self._changes(acceptor, live):
                self._changing[number] |= bit
                self._mattering[number] |= bit
            elif isinstance(live, Commit):
                summary = self.acceptors[acceptor].summary
                ver = live.instance.ver
                if ver >= summary.floor and ver not in summary.chosen:
                    self._mattering[number] |= bit

    def _changes(self, acceptor: int, request: Request) -> bool:
        try:
            after, _ = self.acceptors.handle(acceptor, request)
        except WRONG:
            return True  # it shall happen as a step of the world
        return after != acceptor

    def _listened(self, acceptor: int, asked: Sequence[int], told: Sequence[int]) -> int:
        """The column once all calls have been told what changes nothing."""
        now = list(told)
        for call, request in enumerate(asked):
            live = self.requests[request]
            if live is not None:
                after, reply = self.acceptors.handle(acceptor, live)
                if after == acceptor:
                    now[call] = self._heard(now[call], reply)
        return self._number(Column(acceptor, tuple(asked), tuple(now)))

    def _heard(self, told: int, reply: int) -> int:
        replies = tuple(sorted({*self.told[told], reply}))
        return self.told.number(replies, replies)

    def _number(self, column: Column) -> int:
        number = self._columns.number(column, column)
        if number == len(self.acceptor):
            self.acceptor.append(column.acceptor)
            for tells, told in zip(self.tells, column.told, strict=True):
                tells.append(told)
            self._tried.append(0)
            self._changing.append(0)
            self._mattering.append(0)
            self._after.append({})
        return number
