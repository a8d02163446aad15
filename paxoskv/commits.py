"""Commits under way: what is chosen, and the acceptors are still to be told (rule R8).

Each waits for a moment. Where the next version of the key is written meanwhile, its ``Accept``
tells what is chosen for the last one; what is left goes to all acceptors, together. Nobody waits
for commits, and one that is lost is no harm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate

import trio

from .limits import (
    COMMIT_DELAY,
    COMMIT_PATIENCE,
    MAX_BATCH_BYTES,
    MAX_BATCH_MESSAGES,
    MAX_PENDING_COMMITS,
)
from .link import Batch, Link
from .paxos.messages import Accept, AcceptorId, Commit, Instance, ProposalId, Reply, Request
from .paxos.series import Commits
from .wire import size_of


def _ignore(_start: int, _replies: Collection[Reply], _again: bool, _complete: bool) -> None:
    """What comes of commits is of no interest."""


class PendingCommits:
    """The commits of one client that wait to be told. Of too many, the oldest are lost.

    Args:
        links: the links to all members of the cluster; it may be empty at first.
        nursery: where what sends them runs.
    """

    def __init__(self, links: Mapping[AcceptorId, Link], nursery: trio.Nursery) -> None:
        self._links = links
        self._nursery = nursery
        self._waiting: dict[Instance, tuple[Commit, float]] = {}  # and until when
        self._sending = False  # whether a task waits to send them
        self._nap = trio.CancelScope()  # until when it sleeps

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, commit: Commit, delay: float) -> None:
        """Let a commit wait for so many seconds, if nothing takes it along before.

        The delay is ``COMMIT_DELAY`` or longer.
        """
        self.add_all((commit,), delay)

    def add_all(self, commits: Iterable[Commit], delay: float) -> None:
        """The same for several."""
        assert delay >= COMMIT_DELAY, "so that many go together"
        until = trio.current_time() + delay
        waiting = self._waiting
        for commit in commits:
            waiting.pop(commit.instance, None)
            if len(waiting) == MAX_PENDING_COMMITS:
                del waiting[next(iter(waiting))]
            waiting[commit.instance] = commit, until
        if until < self._nap.deadline:
            self._nap.deadline = until
        if not self._sending:
            self._sending = True
            self._nursery.start_soon(self._send_later)

    def take(self, instance: Instance) -> Commit | None:
        """Let a commit wait no more, and give it back: whoever takes it tells it, or others do."""
        commit, _ = self._waiting.pop(instance, (None, 0.0))
        if not self._waiting:  # else whoever sends them would wake for nothing, again and again
            self._nap.deadline = trio.current_time() + COMMIT_PATIENCE
        return commit

    def ride(self, request: Request) -> Request:
        """The request; an Accept takes along what is chosen for the version before."""
        if isinstance(request, Accept) and self._waiting:
            key, ver = request.instance
            commit = self.take(Instance(key, ver - 1))
            if commit is not None:
                return Accept(*request[:4], commit.id)
        return request

    def ahead(self, keys: Sequence[str], vers: Sequence[int]) -> Sequence[ProposalId | None]:
        """What is chosen for the versions before these, as a series of Accepts takes it along."""
        if not self._waiting:
            return (None,) * len(keys)
        instances = zip(keys, vers, strict=True)
        commits = [self.take(Instance(key, ver - 1)) if ver else None for key, ver in instances]
        return [None if commit is None else commit.id for commit in commits]

    def tell_now(self, instance: Instance, link: Link) -> None:
        """Tell one acceptor at once, for others wait there; the rest hear of it from these.

        If nobody writes the next version after all, they are told in the end.
        """
        commit = self.take(instance)
        if commit is not None:
            self.add(commit, COMMIT_PATIENCE)
            if link.ready:
                link.tell(Batch([commit]))

    async def send(self) -> None:
        """Send the commits that wait, and wait for a bounded while until they have arrived."""
        with trio.move_on_after(COMMIT_PATIENCE):
            while commits := self._due(math.inf):
                batch = Batch(commits)
                async with trio.open_nursery() as nursery:
                    for link in self._links.values():
                        if link.ready:
                            nursery.start_soon(link.ask, batch, _ignore)

    async def _send_later(self) -> None:
        """Send the commits that nothing has taken along by their time."""
        while self._waiting:
            earliest = min(until for _, until in self._waiting.values())
            soon = trio.current_time() + COMMIT_DELAY  # so that many go together
            with trio.CancelScope(deadline=max(earliest, soon)) as self._nap:
                await trio.sleep_forever()
            now = trio.current_time()  # what becomes due while these are sent is sent later
            while commits := self._due(now):
                batch = Batch((), commits=_series(commits))
                for link in self._links.values():
                    if link.ready:
                        link.tell(batch)
        self._sending = False

    def _due(self, due: float) -> list[Commit]:
        """Take those that wait no longer than until then, as many as a frame has room for."""
        waiting = self._waiting.values()
        commits = [commit for commit, until in waiting if until <= due][:MAX_BATCH_MESSAGES]
        if sum(map(size_of, commits)) > MAX_BATCH_BYTES:
            ends = accumulate(map(size_of, commits))
            commits = [
                commit for commit, end in zip(commits, ends, strict=True) if end <= MAX_BATCH_BYTES
            ]
        for commit in commits:
            del self._waiting[commit.instance]
        return commits


def _series(commits: Iterable[Commit]) -> list[Commits]:
    """Commits as series, of which mostly there is one: for each owner of proposals."""
    owned: dict[bytes, list[tuple[int, str, int]]] = {}
    for (key, ver), (owner, serial), _ in commits:
        owned.setdefault(owner, []).append((serial, key, ver))
    return [Commits(owner, *zip(*rows, strict=True)) for owner, rows in owned.items()]
