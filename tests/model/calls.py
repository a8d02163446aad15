"""Calls as one machine each, from their invocation to what they return.

Most are operations as they are. ``put`` and ``update`` are a row of them, and this is the loop of
``Client.append`` without its awaits.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from paxoskv.paxos.appender import Appender
from paxoskv.paxos.messages import (
    FAST,
    AcceptorId,
    Commit,
    Compacted,
    Instance,
    Proposal,
    Reply,
    Request,
)
from paxoskv.paxos.operation import Done, Doubtful, Latest
from paxoskv.paxos.preparer import Preparer
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


class PutNext(NamedTuple):
    """Write a version that was prepared ahead, as the one after what this client writes now.

    It does not wait until that is chosen, which is more than ``Client.append`` does.
    """

    ver: int
    value: bytes = b"next"


class Update(NamedTuple):
    """Write the version after the latest, with a value that is computed from that."""

    remembered: int | None = None


Call: TypeAlias = Set | Get | GetLatest | Put | PutNext | Update


def computed(call: Put | PutNext | Update, latest: Proposal | None) -> bytes:
    """What a call writes after this proposal."""
    if not isinstance(call, Update):
        return call.value
    return b"u" if latest is None or latest.value is None else latest.value + b"u"


class Append:
    """``Client.append`` as a machine; ``fast`` of its operations begin at ballot 0."""

    commit: Commit | None = None

    def __init__(
        self,
        call: Put | PutNext | Update,
        who: bytes,
        quorums: Quorums,
        latest: Latest | None,
        fast: int,
    ) -> None:
        self._call = call
        self._who = who
        self._quorums = quorums
        self._fast = fast
        self._tops = Tops(quorums)
        self._part = 0  # how many operations it has begun
        self._own: Proposal | None = None
        self._operation: Appender | Finder | Preparer
        if isinstance(call, PutNext):
            self._prepared = self._ballots()
            instance = Instance(KEY, call.ver)
            self._operation = Preparer(instance, quorums, self._prepared, self._tops)
        elif latest is not None:
            self._operation = self._appender(latest)
        else:
            self._operation = Finder(KEY, quorums, self._ballots(), tops=self._tops)

    @property
    def own(self) -> Proposal | None:
        """What it tries to write, or tried last."""
        return self._own

    @property
    def maybe(self) -> Proposal | None:
        """Its own proposal, if that may have been written, or may yet be."""
        return self._operation.maybe if isinstance(self._operation, Appender) else None

    @property
    def attempts(self) -> int:
        """How many ballots the operation has begun that it is at."""
        return self._operation.attempts

    def ask(self) -> Request:
        """The next step of the operation that it is at."""
        return self._operation.ask()

    def receive(self, acceptor: AcceptorId, reply: Reply, again: bool) -> Any:
        """Take a reply, and go on with the next operation where one is done."""
        outcome = self._operation.receive(acceptor, reply, again)
        if not isinstance(outcome, Done):
            return outcome
        self.commit = self._operation.commit
        found = outcome.result
        if isinstance(self._operation, Preparer):
            assert isinstance(self._call, PutNext)
            instance = Instance(KEY, self._call.ver)
            ballots = self._ballots() if found is None else self._prepared
            self._own = ballots.proposal(self._call.value)
            self._operation = Appender(
                instance, self._own, self._quorums, ballots, self._tops, promised=found
            )
            return self._operation.ask()
        if isinstance(found, Doubtful):
            return Done(None)  # nobody can tell whether it was written
        assert not isinstance(found, Compacted), "the latest is never dropped"
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
        self._own = ballots.proposal(computed(self._call, latest.proposal if latest else None))
        instance = Instance(KEY, 0 if latest is None else latest.ver + 1)
        fast = self._fast > 0
        self._fast -= fast
        promised = FAST if fast else None
        return Appender(instance, self._own, self._quorums, ballots, self._tops, promised=promised)

    def _ballots(self) -> Ballots:
        """Of the next operation; the first one has the id of the call."""
        self._part += 1
        return Ballots(self._who if self._part == 1 else self._who[:-1] + bytes([100 + self._part]))


def machine(
    call: Call, who: bytes, quorums: Quorums, known: Latest | None = None, fast: int = 0
) -> Any:
    """The machine of a call.

    Args:
        call: what is called.
        who: the id of the proposer that it is; other ids that it needs begin like this one.
        quorums: of the cluster.
        known: what the client of a put or an update remembers as the latest.
        fast: how many of its operations begin at ballot 0.
    """
    ballots = Ballots(who)
    match call:
        case Set(ver, value):
            own = ballots.proposal(value)
            promised = FAST if fast else None
            return Proposer(Instance(KEY, ver), own, quorums, ballots, promised=promised)
        case Get(ver):
            return Reader(Instance(KEY, ver), quorums, ballots)
        case GetLatest():
            return Finder(KEY, quorums, ballots)
        case Put() | PutNext() | Update():
            return Append(call, who, quorums, known, fast)
