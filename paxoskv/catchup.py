"""An acceptor that was away learns what it missed.

It asks as any client does, page by page, for the latest version of each key, and learns
those that it does not know to be chosen, with what the others still keep below them. So only
chosen entries travel, never votes or promises, and what is in the balance is finished as a
reader would (rule R6).

It goes through all keys when it starts, when it was stopped or cut off from the others for a
while, when its store had failed, and every now and then; and looks after single keys when it was
told of a choice that it had no vote for.
"""

from __future__ import annotations

import logging
import math
from random import Random
from typing import Final

import trio

from .client import Client, open_client
from .errors import PaxosKVError, StoreDamaged
from .host import Host
from .limits import (
    AWAY,
    CATCH_UP_BATCH,
    CATCH_UP_BYTES,
    CATCH_UP_INTERVAL,
    CATCH_UP_LEAST,
    CATCH_UP_PAUSE,
    CATCH_UP_SPEED,
    DEFAULT_TIMEOUT,
    MAX_BATCH_BYTES,
    MAX_VERSION,
)
from .paxos.messages import Commit, Instance
from .paxos.operation import Latest

logger: Final = logging.getLogger(__name__)

_ANY: Final = Instance("is anybody there?", MAX_VERSION)  # of which nobody ever writes anything


async def catch_up(host: Host, rng: Random | None = None) -> None:
    """Learn what this acceptor missed, until cancelled; return at once if it has no peers.

    An acceptor that cannot reach the others just tries again later.

    Args:
        host: the acceptor.
        rng: where jitter comes from; a test may seed it.
    """
    members = host.identity.members
    if len(members) == 1:
        return
    addresses = tuple(member.address for member in members)
    rng = rng or Random()  # noqa: S311 - jitter
    async with open_client(addresses, DEFAULT_TIMEOUT, rng) as client:
        learner = Learner(host, client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(learner.notice)
            while True:
                for step in (learner.learn_missed, learner.learn_all):
                    try:
                        await step()
                    except StoreDamaged:
                        raise
                    except PaxosKVError as error:
                        logger.debug("cannot catch up now: %s", error)
                await trio.sleep(CATCH_UP_PAUSE)


class Learner:
    """What an acceptor still has to learn.

    Args:
        host: the acceptor.
        client: how it asks the others.

    Attributes:
        due: when it is to go through all keys next.
    """

    def __init__(self, host: Host, client: Client) -> None:
        self.due = trio.current_time()
        self._host = host
        self._client = client
        self._after: str | None = None  # how far it has gone through all keys; None: it does not
        self._began = -math.inf  # to do that
        self._learned = 0  # versions, since then
        self._commits: list[Commit] = []  # to be handed over
        self._size = 0  # of these, in bytes

    async def notice(self) -> None:
        """Notice that it was stopped, or cut off from the others, until cancelled.

        A connection may be lost without a word, so it asks them now and then.
        """
        while True:
            began = trio.current_time()
            await trio.sleep(CATCH_UP_PAUSE)
            asked = trio.current_time()
            if asked - began > AWAY:
                self.due = asked  # it was stopped
            try:
                await self._client.read(_ANY)
                cut_off = trio.current_time() - asked > AWAY
            except PaxosKVError:
                cut_off = True
            if cut_off:  # or all are slow
                self.due = max(trio.current_time(), self._began + CATCH_UP_LEAST)

    async def learn_all(self) -> None:
        """Go through all keys, if that is due, or go on where that failed."""
        acceptor = self._host.acceptor
        if self._after is None:
            if trio.current_time() < self.due and not acceptor.missed_unnamed:
                return
            acceptor.missed_unnamed = False
            self._began = trio.current_time()
            self.due = self._began + CATCH_UP_INTERVAL
            self._after, self._learned = "", 0
        while self._after is not None:
            page, after = await self._client.page("", self._after)
            size = 0
            for key, latest in page.items():
                size += _size(key, latest)
                await self._learn(key, latest)
            await self._hand_over()
            self._after = after
            await trio.sleep(size / CATCH_UP_SPEED)
            await self.learn_missed()
        if self._learned:
            took = trio.current_time() - self._began
            logger.info("caught up in %.1f s: versions learned: %d", took, self._learned)

    async def learn_missed(self) -> None:
        """Look after the keys of which it was told more than it had heard of."""
        missed = self._host.acceptor.missed
        for key in list(missed):
            del missed[key]  # it may be missed again while we look
            try:
                latest = await self._client.find(key)
                if latest is not None:
                    await self._learn(key, latest)
                    await self._hand_over()
                    await trio.sleep(_size(key, latest) / CATCH_UP_SPEED)
            except PaxosKVError:
                missed[key] = None  # at worst one more than are noted otherwise
                raise

    async def _learn(self, key: str, latest: Latest) -> None:
        """Learn the latest version, and what is kept below it."""
        if latest.ver <= self._host.acceptor.known(key).ver:
            return
        # The latest comes last: once it is known, nothing below it is looked for any more.
        for version in reversed(await self._missed(key, latest)):
            proposal = version.proposal
            self._commits.append(Commit(Instance(key, version.ver), proposal.id, proposal))
            self._size += _size(key, version)
            self._learned += 1
            if len(self._commits) >= CATCH_UP_BATCH or self._size >= MAX_BATCH_BYTES:
                await self._hand_over()

    async def _missed(self, key: str, latest: Latest) -> list[Latest]:
        """The latest version, and those before it down to what is known, if they are not large."""
        known = self._host.acceptor.known(key).ver
        versions = [latest]
        room = CATCH_UP_BYTES - _size(key, latest)
        while room > 0 and versions[-1].ver > known + 1:
            before = await self._client.find(key, below=versions[-1].ver)
            if before is None or before.ver <= known:
                break
            versions.append(before)
            room -= _size(key, before)
            await trio.sleep(_size(key, before) / CATCH_UP_SPEED)
        return versions

    async def _hand_over(self) -> None:
        """Let the acceptor know what was learned."""
        if self._commits:
            commits, self._commits, self._size = self._commits, [], 0
            await self._host.answer(commits)


def _size(key: str, version: Latest) -> int:
    return 4 * len(key) + len(version.proposal.value or b"")
