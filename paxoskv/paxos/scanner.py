"""The scanner: one page of the keys with a prefix, merged from the pages of a quorum.

Rule R6 for many keys at once. Each acceptor's page ends somewhere else; the merged one is
cut at the smallest last key of the pages that are not the last, so that no key hides behind
a longer page.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from .messages import NO_TOP, AcceptorId, Commit, Found, Page, Reply, Request, Scan
from .operation import Done, Latest
from .proposer import Ballots
from .quorums import Quorums
from .reader import Finder


class Merged(NamedTuple):
    """A merged page.

    Attributes:
        settled: the latest version of each key that a quorum's pages show to have one.
        open: the keys of which they do not show enough.
        after: where the next page begins, or None: this was the last.
    """

    settled: dict[str, Latest]
    open: list[str]
    after: str | None


class Scanner:
    """Reads one page of the keys that begin with ``prefix`` and come after ``after``."""

    attempts = 0
    commit: Commit | None = None

    def __init__(self, prefix: str, after: str, quorums: Quorums) -> None:
        self._scan = Scan(prefix, after)
        self._quorums = quorums
        self._pages: dict[AcceptorId, Page] = {}

    @property
    def replied(self) -> AbstractSet[AcceptorId]:
        """The acceptors that replied."""
        return self._pages.keys()

    def ask(self) -> Request:
        """The request for a page."""
        return self._scan

    def receive(
        self, acceptor: AcceptorId, reply: Reply, again: bool = False
    ) -> Done[Merged] | None:
        """Take an acceptor's page."""
        assert isinstance(reply, Page)
        self._pages[acceptor] = reply
        return Done(self._merge()) if len(self._pages) >= self._quorums.quorum else None

    def _merge(self) -> Merged:
        after = min((page.items[-1][0] for page in self._pages.values() if page.more), default=None)
        shown: dict[str, dict[AcceptorId, Found]] = {}
        for acceptor, page in self._pages.items():
            for key, ver, sight in page.items:
                if after is None or key <= after:
                    shown.setdefault(key, {})[acceptor] = Found(ver, sight, ver)
        settled: dict[str, Latest] = {}
        unsettled: list[str] = []
        for key in sorted(shown):
            outcome = self._judge(key, shown[key])
            if outcome is None:
                unsettled.append(key)
            else:
                settled[key] = outcome
        return Merged(settled, unsettled, after)

    def _judge(self, key: str, shown: dict[AcceptorId, Found]) -> Latest | None:
        """The latest version of a key, if a finder would see it from these replies alone."""
        finder = Finder(key, self._quorums, Ballots(b"none"))
        finder.ask()
        for acceptor in self._pages:
            found = shown.get(acceptor, Found(NO_TOP, None, NO_TOP))
            match finder.receive(acceptor, found):
                case Done(Latest() as latest):
                    return latest
        return None
