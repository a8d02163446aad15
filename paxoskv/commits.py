"""Commits under way: what is chosen, and the acceptors are still to be told (rule R8).

Each waits for a moment. Where all of a series is chosen, the next round tells that by the name of
the series; it means something to who was sent the series on the connection that is there now, and
where it would say nothing to somebody, all are told one by one. Where a single Accept for the next
version of a key is sent meanwhile, it tells what is chosen for the last one. What is left goes to
all acceptors, together. Nobody waits for commits, and one that is lost is no harm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

import trio

from .limits import (
    COMMIT_DELAY,
    COMMIT_PATIENCE,
    MAX_BATCH_BYTES,
    MAX_BATCH_MESSAGES,
    MAX_PENDING_COMMITS,
    MAX_PENDING_SERIES,
)
from .link import Batch, Link
from .paxos.messages import Accept, AcceptorId, Commit, Instance, Reply, Request
from .paxos.series import Commits, CommitSeries
from .wire import size_of


def _ignore(_start: int, _replies: Collection[Reply], _again: bool, _complete: bool) -> None:
    """What comes of commits is of no interest."""


class _Pending(NamedTuple):
    """The commits of a series that wait; see :meth:`PendingCommits.add_series`."""

    commits: Commits
    carried: Mapping[Link, int]
    until: float


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
        self._series: list[_Pending] = []
        self._sending = False  # whether a task waits to send them
        self._nap = trio.CancelScope()  # until when it sleeps

    def __len__(self) -> int:
        """How many wait, all of a series as one."""
        return len(self._waiting) + len(self._series)

    def add(self, commit: Commit, delay: float) -> None:
        """Let a commit wait for so many seconds, if nothing takes it along before.

        The delay is ``COMMIT_DELAY`` or longer.
        """
        self.add_all((commit,), delay)

    def add_all(self, commits: Iterable[Commit], delay: float) -> None:
        """The same for several."""
        self._keep(commits, self._send_after(delay))

    def add_series(self, commits: Commits, carried: Mapping[Link, int], delay: float) -> None:
        """The same for those of a series of Accepts.

        Args:
            commits: which it comes to.
            carried: on which of its connections a link has sent the Accepts.
            delay: in seconds.
        """
        if len(self._series) == MAX_PENDING_SERIES:
            del self._series[0]
        self._series.append(_Pending(commits, carried, self._send_after(delay)))

    def _keep(self, commits: Iterable[Commit], until: float) -> None:
        waiting = self._waiting
        for commit in commits:
            waiting.pop(commit.instance, None)
            if len(waiting) == MAX_PENDING_COMMITS:
                del waiting[next(iter(waiting))]
            waiting[commit.instance] = commit, until

    def _send_after(self, delay: float) -> float:
        """See to it that a task sends what is added now after so many seconds; when that is."""
        assert delay >= COMMIT_DELAY, "so that many go together"
        until = trio.current_time() + delay
        if until < self._nap.deadline:
            self._nap.deadline = until
        if not self._sending:
            self._sending = True
            self._nursery.start_soon(self._send_later)
        return until

    def take(self, instance: Instance) -> Commit | None:
        """Let a commit wait no more, and give it back: whoever takes it tells it, or others do."""
        commit, _ = self._waiting.pop(instance, (None, 0.0))
        return commit

    def ride(self, request: Request) -> Request:
        """The request; an Accept takes along what is chosen for the version before."""
        if isinstance(request, Accept) and self._waiting:
            key, ver = request.instance
            commit = self.take(Instance(key, ver - 1))
            if commit is not None:
                return Accept(*request[:4], commit.id)
        return request

    def take_series(self) -> list[CommitSeries]:
        """Let those of whole series wait no more, and give them back: whoever takes them tells."""
        if not self._series:
            return []
        return self._named(math.inf)

    def _named(self, due: float) -> list[CommitSeries]:
        """Take the series that wait no longer than until then, if all know them by name.

        The commits of others wait one by one from now on.
        """
        named = []
        there = {link: link.connection for link in self._links.values() if link.up}
        pending, self._series = self._series, []
        for each in pending:
            if each.until > due:
                self._series.append(each)
            elif there.items() <= each.carried.items():
                named.append(CommitSeries(each.commits.name))
            else:
                self._keep(each.commits, each.until)
        return named

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
            # Of each series the first is told by itself as well, for that is answered.
            commits = [pending.commits[0] for pending in self._series]
            series = self._named(math.inf)
            while commits := commits + self._due(math.inf):
                batch = Batch(commits, commits=series)
                commits, series = [], []
                async with trio.open_nursery() as nursery:
                    for link in self._links.values():
                        if link.ready:
                            nursery.start_soon(link.ask, batch, _ignore)

    async def _send_later(self) -> None:
        """Send the commits that nothing has taken along by their time."""
        while self:
            times = [until for _, until in self._waiting.values()]
            times += [pending.until for pending in self._series]
            soon = trio.current_time() + COMMIT_DELAY  # so that many go together
            with trio.CancelScope(deadline=max(min(times), soon)) as self._nap:
                await trio.sleep_forever()
            now = trio.current_time()  # what becomes due while these are sent is sent later
            series = self._named(now)
            while (commits := self._due(now)) or series:
                batch = Batch(commits, commits=series)
                series = []
                for link in self._links.values():
                    if link.ready:
                        link.tell(batch)
        self._sending = False

    def _due(self, due: float) -> list[Commit]:
        """Take those that wait no longer than until then, as many as a frame has room for."""
        waiting = self._waiting.values()
        most = MAX_BATCH_MESSAGES - 2 * MAX_PENDING_SERIES  # which may go along
        commits = [commit for commit, until in waiting if until <= due][:most]
        if sum(map(size_of, commits)) > MAX_BATCH_BYTES:
            ends = accumulate(map(size_of, commits))
            commits = [
                commit for commit, end in zip(commits, ends, strict=True) if end <= MAX_BATCH_BYTES
            ]
        for commit in commits:
            del self._waiting[commit.instance]
        return commits
