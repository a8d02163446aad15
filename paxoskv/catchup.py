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
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Final

import trio

from .client import Client, open_client
from .errors import PaxosKVError, StoreDamaged, Unavailable
from .host import Host
from .limits import (
    AWAY,
    CATCH_UP_BATCH,
    CATCH_UP_INTERVAL,
    CATCH_UP_PAUSE,
    CATCH_UP_SPEED,
    DEFAULT_TIMEOUT,
)
from .paxos.messages import Commit, Instance
from .paxos.operation import Latest

logger: Final = logging.getLogger(__name__)


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
        learner = _Learner(host, client)
        due = awake = trio.current_time()
        while True:
            now = trio.current_time()
            away = now - awake > AWAY or not client.connected
            if away or host.acceptor.missed_unnamed:
                due = min(due, now)
            try:
                if now >= due:
                    host.acceptor.missed_unnamed = False
                    await learner.learn_all()
                    due = trio.current_time() + CATCH_UP_INTERVAL
                await learner.learn_missed()
            except StoreDamaged:
                raise
            except PaxosKVError as error:
                logger.debug("cannot catch up now: %s", error)
            awake = trio.current_time()
            await trio.sleep(CATCH_UP_PAUSE)


class _Learner:
    def __init__(self, host: Host, client: Client) -> None:
        self._host = host
        self._client = client
        self._commits: list[Commit] = []

    async def learn_all(self) -> None:
        """Go through all keys, no faster than ``CATCH_UP_SPEED``."""
        began = trio.current_time()
        learned = size = 0
        after: str | None = ""
        while after is not None:
            page, after = await self._client.page("", after)
            before = size
            for key, latest in page.items():
                learned += await self._learn(key, latest)
                size += len(key) + len(latest.proposal.value or b"")
            await self._commit(0)
            await trio.sleep((size - before) / CATCH_UP_SPEED)
        if learned:
            took = trio.current_time() - began
            logger.info("caught up in %.1f s: versions learned: %d", took, learned)

    async def learn_missed(self) -> None:
        """Look after the keys of which it was told more than it had heard of."""
        missed = self._host.acceptor.missed
        for key in list(missed):
            del missed[key]  # it may be missed again while we look
            try:
                latest = await self._client.find(key)
                if latest is not None:
                    await self._learn(key, latest)
                    await self._commit(0)
            except PaxosKVError:
                missed[key] = None  # at worst one more than are noted otherwise
                raise

    async def _learn(self, key: str, latest: Latest) -> int:
        """Learn the latest version, and what is kept below it; how many versions it was."""
        known = self._host.acceptor.known(key).ver
        if latest.ver <= known:
            return 0
        versions: Sequence[Latest] = [latest]
        if latest.ver > known + 1:
            # Too many to be read in time: then the latest alone, for it is what counts.
            with suppress(Unavailable):
                versions = await self._client.history(key, above=known)
        for version in versions:
            proposal = version.proposal
            self._commits.append(Commit(Instance(key, version.ver), proposal.id, proposal))
            await self._commit(CATCH_UP_BATCH)
        return len(versions)

    async def _commit(self, room: int) -> None:
        """Hand over what was learned, if there is more of it than so much."""
        if len(self._commits) > room:
            commits, self._commits = self._commits, []
            await self._host.answer(commits)
