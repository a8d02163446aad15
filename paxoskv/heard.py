"""The series of Accepts that clients sent last, until it is known what became of them.

A client tells in one word that all of a series is chosen (`paxoskv.paxos.series`); here stands what
that was about. It is a hint (rule R8), and may be forgotten at any time: what all connections have
heard has a limit, and where it is too much, the one that has heard most forgets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .limits import MAX_HEARD_ACCEPTS, MAX_HEARD_BYTES
from .paxos.messages import ProposalId
from .paxos.series import Accepts, Commits

_OVERHEAD = 256  # bytes of one Accept in memory, without key and value, roughly


class Hearing:
    """What all connections of an acceptor have heard.

    Attributes:
        size: in bytes, roughly.
    """

    def __init__(self) -> None:
        self._all: dict[Heard, None] = {}
        self.size = 0

    @contextmanager
    def one(self) -> Iterator[Heard]:
        """What one connection has heard, for the time of a block."""
        heard = Heard(self)
        self._all[heard] = None
        try:
            yield heard
        finally:
            heard.forget()
            del self._all[heard]

    def grew(self, size: int) -> None:
        """One of them takes so many bytes more in memory, or less."""
        self.size += size
        while self.size > MAX_HEARD_BYTES:
            max(self._all, key=lambda each: each.size).forget()


class Heard:
    """The series that one connection brought, as the Commits that they may come to.

    Of too many the oldest are forgotten.

    Args:
        hearing: that it belongs to; it makes it.

    Attributes:
        size: of what it holds, in bytes, roughly.
    """

    __slots__ = ("_count", "_hearing", "_series", "size")

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._series: dict[ProposalId, Commits] = {}
        self._count = 0  # of the messages in all of them
        self.size = 0

    def note(self, accepts: Accepts) -> None:
        """A series has come."""
        commits = accepts.commits
        self.take(commits.name)  # it may have come before
        self._series[commits.name] = commits
        self._grew(len(commits), _size(commits))
        while self._count > MAX_HEARD_ACCEPTS:
            self.take(next(iter(self._series)))

    def take(self, name: ProposalId) -> Commits | None:
        """What is to be learned where all of a series is chosen; after that it is forgotten.

        None: it is not known, or not any more.
        """
        commits = self._series.pop(name, None)
        if commits is not None:
            self._grew(-len(commits), -_size(commits))
        return commits

    def forget(self) -> None:
        """Forget all."""
        self._series.clear()
        self._grew(-self._count, -self.size)

    def _grew(self, count: int, size: int) -> None:
        self._count += count
        self.size += size
        self._hearing.grew(size)


def _size(commits: Commits) -> int:
    return _OVERHEAD * len(commits) + 4 * sum(map(len, commits.keys))
