"""Registers in memory: fast, and forgotten when the process ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sortedcontainers import SortedDict  # type: ignore[import-untyped]

from ..paxos.acceptor import BLANK, UNHEARD, Register, Summary
from ..paxos.messages import FAST, Proposal, ProposalId, Vote


class Ledger:
    """What is remembered of one key.

    Attributes:
        key: the key.
        summary: of the key as a whole.
        registers: by version.
    """

    __slots__ = ("key", "registers", "summary")

    def __init__(self, key: str) -> None:
        self.key = key
        self.summary = UNHEARD
        self.registers: dict[int, Register] = {}

    def register(self, ver: int) -> Register:
        """The register of a version, ``BLANK`` if there is none yet."""
        return self.registers.get(ver, BLANK)

    def has_vote_for(self, ver: int, id_: ProposalId) -> bool:
        """Whether the register of a version has a vote for the proposal with this id."""
        _, voted, _ = self.register(ver)
        return voted is not None and voted.proposal.id == id_

    def below(self, ver: int) -> tuple[int, Register] | None:
        """The highest version below ``ver`` whose register has a sight, and the register."""
        seen = [each for each, register in self.registers.items() if each < ver and register.sight]
        return (max(seen), self.registers[max(seen)]) if seen else None


class MemoryStore:
    """What one acceptor remembers, in dicts.

    Attributes:
        saved, flushed: how much was saved, and how much of it is as durable as it will ever
            be, which is all.
    """

    __slots__ = ("_keys", "_ledgers")

    saved = flushed = 0

    def __init__(self) -> None:
        self._ledgers: dict[str, Ledger] = {}
        self._keys: SortedDict[str, Ledger] = SortedDict()  # those that have a summary

    def ledger(self, key: str) -> Ledger:
        """What is remembered of a key."""
        return self._ledgers.get(key) or Ledger(key)

    def ledgers(self, keys: Sequence[str]) -> list[Ledger]:
        """The same of several; a key that comes again has the same one."""
        found = {key: self.ledger(key) for key in keys}
        return [found[key] for key in keys]

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        """The keys with a summary that begin with ``prefix`` and are above ``after``, in order."""
        for key in self._keys.irange(max(prefix, after)):
            if not key.startswith(prefix):
                return
            if key > after:
                yield key, self._keys[key].summary

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Replace a summary and registers, and drop what is below the floor: all or nothing."""
        known = self._ledgers.setdefault(ledger.key, ledger)
        assert known is ledger, "it was given last"
        if summary.floor > ledger.summary.floor:
            kept = ledger.registers.items()
            ledger.registers = {ver: each for ver, each in kept if ver >= summary.floor}
        for ver, register in registers.items():
            if ver >= summary.floor:
                ledger.registers[ver] = register
        ledger.summary = summary
        if summary != UNHEARD:
            self._keys[ledger.key] = ledger

    def cast(self, ledger: Ledger, ver: int, id_: ProposalId, value: bytes | None) -> None:
        """Save the first vote of a version above the top, for an append at ballot 0."""
        _, floor, chosen = ledger.summary
        vote = Vote(FAST, Proposal(id_, value), append=True)
        self.save(ledger, Summary(ver, floor, chosen), {ver: Register(FAST, vote)})

    def summarize(self, ledger: Ledger, summary: Summary) -> None:
        """Replace a summary with one in which one version more is chosen."""
        self.save(ledger, summary, {})

    def flush(self) -> None:
        """There is nothing to do."""

    def statistics(self) -> tuple[int, int]:
        """The number of keys with a summary, and 0 bytes on disk."""
        return len(self._keys), 0

    def reload(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """There is nothing to do."""
