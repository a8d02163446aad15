"""The series of Accepts that came last on a connection, until it is known what became of them.

A client tells in one word that all of a series is chosen (`paxoskv.paxos.series`); here stands what
that was about.
"""

from __future__ import annotations

from .limits import MAX_HEARD_ACCEPTS
from .paxos.messages import ProposalId
from .paxos.series import Accepts, Commits

_OVERHEAD = 256  # bytes of one Accept in memory, without key and value, roughly


class Heard:
    """The series that one connection brought, as the Commits that they may come to.

    Of too many the oldest are forgotten, which is no harm: a commit is a hint (rule R8).

    Attributes:
        size: of what it holds, in bytes, roughly.
    """

    __slots__ = ("_count", "_series", "size")

    def __init__(self) -> None:
        self._series: dict[ProposalId, Commits] = {}
        self._count = 0  # of the messages in all of them
        self.size = 0

    def note(self, accepts: Accepts) -> None:
        """A series has come."""
        self.take(accepts.name)  # it may have come before
        commits = accepts.commits
        self._series[accepts.name] = commits
        self._count += len(commits)
        self.size += _size(commits)
        while self._count > MAX_HEARD_ACCEPTS:
            self.take(next(iter(self._series)))

    def take(self, name: ProposalId) -> Commits | None:
        """What is to be learned where all of a series is chosen; after that it is forgotten.

        None: it is not known, or not any more.
        """
        commits = self._series.pop(name, None)
        if commits is not None:
            self._count -= len(commits)
            self.size -= _size(commits)
        return commits


def _size(commits: Commits) -> int:
    return _OVERHEAD * len(commits) + 4 * sum(map(len, commits.keys))
