"""The columns of a state: an acceptor each, with what it has told to each call.

A column holds, for each call, the request that the call is waiting for an answer to, and all
the replies that this acceptor can have given to it: the call may hear any of them, in any
order, at any later time, or none. A request that has arrived once may arrive again, and then
changes nothing (rules R2, R3); neither does one that is refused, nor a read. So all these are
taken to arrive again and again, whenever the answer would be a new one: what could be heard
is heard by those who wish. Only what changes an acceptor is a step of the world.

A driver tells its operation whether a request may have been handled before (``again``). Where
the answer is that the instance was dropped, both are possible until the request has changed
the acceptor, and then only that it was; for no other answer may it matter (`machines`).
"""

from __future__ import annotations

from typing import NamedTuple

from paxoskv.paxos.messages import Commit, Compacted, Request

from .acceptors import Acceptors
from .kept import Kept
from .violation import WRONG

NONE = 0
"""The number of no request."""


class Column(NamedTuple):
    """An acceptor, and of each call what it asks, and what it was told in answer to that.

    ``took`` says whether the request has changed the acceptor.
    """

    acceptor: int
    asked: tuple[int, ...]
    took: tuple[bool, ...]
    told: tuple[int, ...]


class Columns:
    """The columns by their numbers, and what follows from what happens to one.

    Attributes:
        requests: all requests, by their numbers.
        told: sets of replies, by their numbers. Of each reply there is twice its number, and
            one more if it is told that the request may have been handled before.
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
        self.blank = self._number(Column(acceptors.blank, nothing, (False,) * calls, nothing))

    def __getitem__(self, number: int) -> Column:
        return self._columns[number]

    def ask(self, number: int, call: int, request: int) -> int:
        """The column once a call waits for the answers to another request, or (NONE) for none."""
        key = number, call, request
        known = self._asked.get(key)
        if known is None:
            acceptor, asked, took, told = self._columns[number]
            asked = (*asked[:call], request, *asked[call + 1 :])
            took = (*took[:call], False, *took[call + 1 :])
            told = (*told[:call], self.silent, *told[call + 1 :])
            known = self._asked[key] = self._listened(Column(acceptor, asked, took, told))
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
            acceptor, asked, took, told = self._columns[number]
            live = self.requests[request]
            assert live is not None
            changed, reply = self.acceptors.handle(acceptor, live)
            took = tuple([t or each == request for t, each in zip(took, asked, strict=True)])
            told = tuple(
                [
                    self._heard(heard, 2 * reply) if each == request else heard
                    for heard, each in zip(told, asked, strict=True)
                ]
            )
            after = self._listened(Column(changed, asked, took, told))
            self._after[number][request] = after
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

    def _listened(self, column: Column) -> int:
        """The column once all calls have been told what changes nothing."""
        acceptor, asked, took, told = column
        now = list(told)
        for call, request in enumerate(asked):
            live = self.requests[request]
            if live is not None:
                after, reply = self.acceptors.handle(acceptor, live)
                if after == acceptor:
                    now[call] = self._heard(now[call], *self._ways(reply, took[call]))
        return self._number(Column(acceptor, asked, took, tuple(now)))

    def _ways(self, reply: int, took: bool) -> tuple[int, ...]:
        """How a reply may be told."""
        if not isinstance(self.acceptors.replies[reply], Compacted):
            return (2 * reply,)
        return (2 * reply + 1,) if took else (2 * reply, 2 * reply + 1)

    def _heard(self, told: int, *replies: int) -> int:
        now = tuple(sorted({*self.told[told], *replies}))
        return self.told.number(now, now)

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
