"""The calls of one client that are under way: each has its time, and all end with the client.

What a call does is `paxoskv.client`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import trio

from .cluster import Cluster
from .errors import SETTLE, PaxosKVError, Unavailable
from .paxos.appender import Appender
from .paxos.bid import Bid
from .paxos.operation import Operation
from .paxos.proposer import Proposer
from .rounds import Job, Rounds
from .values import to_entry


class Call:
    """A call under way, within its limits: its time, and the life of its client.

    Mostly it waits for a job, which is woken when the call must end; where it waits for
    something else, it is in a block of :meth:`waiting`. Neither costs it a cancel scope
    in the common case.
    """

    __slots__ = ("_calls", "_error", "_job", "_scope", "awaited", "deadline", "what")

    def __init__(self, calls: Calls, what: str, deadline: float) -> None:
        self._calls = calls
        self.what = what  # for people
        self.deadline = deadline
        self.awaited = ""  # what it waits for instead of a job, for people
        self._job: Job[Any] | None = None  # the latest
        self._scope: trio.CancelScope | None = None
        self._error: Exception | None = None  # why it must end

    def __enter__(self) -> Self:
        self._calls.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._job = None  # which knows of this call: a cycle is work for the collector
        self._calls.end(self)

    @property
    def operation(self) -> Operation[Any] | None:
        """What it is at; None: it has not begun that, or has done it."""
        return None if self._job is None or self._job.ended else self._job.operation

    @property
    def stopped(self) -> bool:
        """Whether it must end, as its task will notice."""
        return self._error is not None

    def begin(self, job: Job[Any]) -> None:
        """It is to wait for this next."""
        if self._error is not None:
            raise self._error
        self._job = job

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A block in which it waits for something else."""
        if self._error is not None:
            raise self._error
        if self._scope is not None:  # it is in such a block already
            yield
            return
        with trio.CancelScope() as scope:
            self._scope, self.awaited = scope, what
            try:
                yield
            finally:
                self._scope, self.awaited = None, ""
        if scope.cancelled_caught:
            assert self._error is not None
            raise self._error from None

    def stop(self, error: Exception) -> None:
        """End it with this error, unless it is at its end already."""
        if self._error is not None:
            return
        self._error = error
        if self._scope is not None:
            self._scope.cancel()
        if self._job is not None:  # in a scope as well, of which the end may have come
            self._calls.rounds.stop(self._job, error)


class Calls:
    """The calls that are under way, and what ends them.

    Args:
        cluster: who is asked.
        rounds: what carries their operations.
        timeout: seconds that a call may take.
        nursery: where the task runs that ends the late ones.

    Attributes:
        rounds: the same.
        under_way: the oldest, whose time is up first, come first.
    """

    def __init__(
        self, cluster: Cluster, rounds: Rounds, timeout: float, nursery: trio.Nursery
    ) -> None:
        self.rounds = rounds
        self.under_way: dict[Call, None] = {}
        self._cluster = cluster
        self._timeout = timeout
        self._nursery = nursery
        self._watching = False  # whether a task waits until the time of the oldest is up
        self._refusal: PaxosKVError | None = None
        self._closed = False

    def new(self, what: str) -> Call:
        """A call, which begins with its block; ``what`` names it for people."""
        return Call(self, what, trio.current_time() + self._timeout)

    def check_open(self) -> None:
        """Raise what ends every call that begins, if there is no client or no cluster to ask."""
        if self._closed:
            raise _closed()
        if self._refusal is not None:
            raise _copy(self._refusal)

    def begin(self, call: Call) -> None:
        """A call begins."""
        self.check_open()
        self.under_way[call] = None
        if not self._watching:
            self._watching = True
            self._nursery.start_soon(self._end_late_calls)

    def end(self, call: Call) -> None:
        """A call has ended."""
        del self.under_way[call]

    def close(self) -> None:
        """End those that still wait, and let no new one begin."""
        self._closed = True
        for call in self.under_way:
            call.stop(_closed())

    async def _end_late_calls(self) -> None:
        """End each call whose time is up. Runs while there are any: they have the same time."""
        while self.under_way:
            oldest = next(iter(self.under_way))
            await trio.sleep_until(oldest.deadline)
            for call in self.under_way:
                if call.deadline > trio.current_time():
                    break
                call.stop(self.unavailable(call))
        self._watching = False

    def unavailable(self, call: Call) -> Unavailable:
        """Why a call did not end in time, with the acceptors that did not answer."""
        text = f"{call.what}: not done within {self._timeout:g} s: "
        operation = call.operation
        if not self._cluster.links:
            return Unavailable(text + self._cluster.explain(()))
        if operation is not None and len(operation.replied) < self._cluster.quorums.quorum:
            text += self._cluster.explain(operation.replied)
        elif call.awaited:
            text += f"it waited for {call.awaited}"
        else:
            text += "other proposers kept overtaking it"
            if operation is not None and (absent := self._cluster.absent(operation.replied)):
                text += f"; {absent}"
        if not isinstance(operation, Proposer | Appender | Bid) or operation.maybe is None:
            return Unavailable(text)
        text += f"; it may have been written all the same{SETTLE}"
        maybe = operation.maybe
        return Unavailable(text, to_entry(operation.instance, maybe), maybe)

    def judge(self) -> None:
        """A link went up or down: is there still a cluster to ask?"""
        self._refusal = self._cluster.refusal()
        if self._refusal is not None:
            for call in self.under_way:
                call.stop(_copy(self._refusal))


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this client is closed")


def _copy(error: PaxosKVError) -> PaxosKVError:
    """The same error for another caller, who adds a traceback of its own."""
    return type(error)(*error.args)
