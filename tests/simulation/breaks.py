"""Single rules broken, to see that the simulation finds them: each replaces one piece of code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from typing import Any

import trio

from paxoskv.host import Host
from paxoskv.identity import Ids
from paxoskv.paxos import acceptor
from paxoskv.paxos.acceptor import Acceptor, Register
from paxoskv.paxos.messages import Commit, Noted, Prepare, Proposal, Report
from paxoskv.paxos.operation import Done
from paxoskv.paxos.proposer import Tops
from paxoskv.paxos.quorums import Quorums
from paxoskv.paxos.reader import Finder, Reader
from paxoskv.server import Connection
from paxoskv.storage.memory import Ledger

from . import disk
from .seams import replaced

Break = Callable[[], AbstractContextManager[None]]

BREAKS: dict[str, Break] = {}
"""All of them, by what is wrong."""


def _breaks(owner: Any, name: str) -> Callable[[Callable[[Any], object]], None]:
    """Make a break of a function that makes another of the one that it replaces."""

    def register(make: Callable[[Any], object]) -> None:
        @contextmanager
        def broken() -> Iterator[None]:
            with replaced(owner, name, make(getattr(owner, name))):
                yield

        BREAKS[make.__name__.strip("_").replace("_", " ")] = broken

    return register


@_breaks(Quorums, "__init__")
def _a_quorum_of_one(right: Any) -> object:
    def broken(self: Quorums, n: int) -> None:
        right(self, n)
        self.quorum = 1

    return broken


@_breaks(Quorums, "choose")
def _its_own_value_though_another_was_voted_for(right: Any) -> object:
    return lambda self, promises: None


@_breaks(Connection, "_send")
def _the_word_before_the_disk(right: Any) -> object:
    async def broken(self: Connection, replies: bytearray, rests: bool) -> None:
        await self._sender.send(replies)
        await self._host.durable()

    return broken


@_breaks(Host, "durable")
def _reads_that_rest_on_what_is_not_on_disk(right: Any) -> object:
    async def broken(self: Host, who: int | None = None) -> None:
        if self._flushing:  # by another connection
            await trio.lowlevel.checkpoint()
        else:
            await right(self, who)

    return broken


@_breaks(acceptor, "answer")
def _a_promise_that_is_forgotten(right: Any) -> object:
    def broken(register: Register, top: int, request: object) -> object:
        after, reply = right(register, top, request)
        return (register if isinstance(request, Prepare) else after), reply

    return broken


@_breaks(Ids, "new")
def _the_same_ballots_for_all(right: Any) -> object:
    return lambda self: b"everybody's id :)"[:16]


@_breaks(Reader, "receive")
def _a_get_that_believes_a_minority(right: Any) -> object:
    def broken(self: Reader, who: bytes, reply: object, again: bool) -> object:
        if isinstance(reply, Report) and reply.voted is not None:
            return Done(reply.voted.proposal)
        return right(self, who, reply, again)

    return broken


@_breaks(Finder, "_judge")
def _the_latest_of_two_is_the_one_that_is_known(right: Any) -> object:
    def broken(self: Finder) -> object:
        known = [found for found in self._seen.values() if isinstance(found.sight, Proposal)]
        if known:
            self._seen = {b"": max(known, key=lambda found: found.ver)}
        return right(self)

    return broken


@_breaks(Tops, "allow")
def _a_put_that_ignores_the_tops(right: Any) -> object:
    return lambda self, ver: True


@_breaks(disk.Store, "ledger")
def _compaction_that_forgets_its_floor(right: Any) -> object:
    def broken(self: disk.Store, key: str) -> Ledger:
        ledger: Ledger = copy(right(self, key))
        ledger.summary = ledger.summary._replace(floor=0)
        return ledger

    return broken


@_breaks(Acceptor, "_commit")
def _a_commit_that_goes_by_the_instance_alone(right: Any) -> object:
    def broken(self: Acceptor, commit: Commit) -> Noted:
        voted = self._store.ledger(commit.instance.key).register(commit.instance.ver).voted
        if voted is not None:
            commit = commit._replace(id=voted.proposal.id)
        noted: Noted = right(self, commit)
        return noted

    return broken
