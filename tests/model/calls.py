"""Calls as one machine each, from their invocation to what they return.

Most are operations as they are. ``put`` is a row of them, and this is the loop of
``Client.append`` without its awaits.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from paxoskv.paxos.appender import Appender
from paxoskv.paxos.messages import AcceptorId, Commit, Compacted, Instance, Proposal, Reply, Request
from paxoskv.paxos.operation import Done, Latest
from paxoskv.paxos.proposer import Ballots, Proposer, Tops
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.reader import Finder, Reader

KEY = "foo"


class Set(NamedTuple):
    """Decide a version, with this value if it may be."""

    ver: int
    value: bytes = b"set"


class Get(NamedTuple):
    """Read a version."""

    ver: int


class GetLatest(NamedTuple):
    """Read the latest version."""


class Put(NamedTuple):
    """Write the version after the latest; ``remembered`` is the one that the client knows."""

    value: bytes = b"put"
    remembered: int | None = None


Call: TypeAlias = Set | Get | GetLatest | Put


class PutMachine:
    """``Client.append`` as a machine."""

    def __init__(self, call: Put, who: bytes, quorums: Quorums, latest: Latest | None) -> None:
        self._call = call
        self._who = who
        self._quorums = quorums
        self._tops = Tops(quorums)
        self._part = 0  # how many operations it has begun
        self._own: Proposal | None = None
        self._operation: Appender | Finder = (
            self._appender(latest) if latest else Finder(KEY, quorums, self._ballots())
        )

    commit: Commit | None = None

    def ask(self) -> Request:
        """The next step of the operation that it is at."""
        return self._operation.ask()

    def receive(self, acceptor: AcceptorId, reply: Reply) -> Any:
        """Take a reply, and go on with the next operation where one is done."""
        outcome = self._operation.receive(acceptor, reply)
        if not isinstance(outcome, Done):
            return outcome
        self.commit = self._operation.commit
        found = outcome.result
        if isinstance(found, Compacted):
            return Done(None)  # nobody can tell whether it was written
        was_tried = isinstance(self._operation, Appender)
        if was_tried and found is not None and found.proposal == self._own:
            return Done(found)
        if was_tried and found is not None and not self._tops.allow(found.ver + 1):
            self._operation = Finder(KEY, self._quorums, self._ballots(), tops=self._tops)
        else:
            self._operation = self._appender(found)
        return self._operation.ask()

    def _appender(self, latest: Latest | None) -> Appender:
        ballots = self._ballots()
        self._own = ballots.proposal(self._call.value)
        instance = Instance(KEY, 0 if latest is None else latest.ver + 1)
        return Appender(instance, self._own, self._quorums, ballots, self._tops)

    def _ballots(self) -> Ballots:
        """Of the next operation; the first one has the id of the call."""
        self._part += 1
        return Ballots(self._who if self._part == 1 else self._who[:-1] + bytes([100 + self._part]))


def machine(call: Call, who: bytes, quorums: Quorums, known: Latest | None) -> Any:
    """The machine of a call; ``known`` is what the client of a put remembers."""
    ballots = Ballots(who)
    match call:
        case Set(ver, value):
            return Proposer(Instance(KEY, ver), ballots.proposal(value), quorums, ballots)
        case Get(ver):
            return Reader(Instance(KEY, ver), quorums, ballots)
        case GetLatest():
            return Finder(KEY, quorums, ballots)
        case Put():
            return PutMachine(call, who, quorums, known)


def attempts(live: Any) -> int:
    """How many phases 1 the operation has begun that a machine is at."""
    operation = live._operation if isinstance(live, PutMachine) else live
    return int(operation.attempts)
