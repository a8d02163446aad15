"""Registers in memory: fast, and forgotten when the process ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sortedcontainers import SortedDict  # type: ignore[import-untyped]

from ..paxos.acceptor import BLANK, UNHEARD, Register, Summary
from ..paxos.messages import Instance


class MemoryStore:
    """What one acceptor remembers: summaries by key, in order, and of each key registers by version.

    Attributes:
        saved, flushed: how much was saved, and how much of it is as durable as it will ever
            be, which is all.
    """

    __slots__ = ("_registers", "_summaries")

    saved = flushed = 0

    def __init__(self) -> None:
        self._summaries: SortedDict[str, Summary] = SortedDict()
        # Not sorted: of most keys there are few, and a sorted dict takes ten times as long to make.
        self._registers: dict[str, dict[int, Register]] = {}

    def summary(self, key: str) -> Summary:
        """The summary of a key, ``UNHEARD`` if there is none yet."""
        summary: Summary = self._summaries.get(key, UNHEARD)
        return summary

    def register(self, instance: Instance) -> Register:
        """The register of an instance, ``BLANK`` if there is none yet."""
        registers = self._registers.get(instance.key)
        return BLANK if registers is None else registers.get(instance.ver, BLANK)

    def below(self, key: str, ver: int) -> tuple[int, Register] | None:
        """The highest version below ``ver`` whose register has a sight, and the register."""
        registers = self._registers.get(key, {})
        seen = [each for each, register in registers.items() if each < ver and register.sight]
        return (max(seen), registers[max(seen)]) if seen else None

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        """The keys with a summary that begin with ``prefix`` and are above ``after``, in order."""
        for key in self._summaries.irange(max(prefix, after)):
            if not key.startswith(prefix):
                return
            if key > after:
                yield key, self._summaries[key]

    def save(self, key: str, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Replace a summary and registers, and drop what is below the floor: all or nothing."""
        floor, before = summary.floor, self.summary(key).floor
        if summary != UNHEARD:
            self._summaries[key] = summary
        kept = self._registers.setdefault(key, {})
        kept.update(registers)
        if floor > before or min(registers, default=floor) < floor:
            self._registers[key] = {ver: each for ver, each in kept.items() if ver >= floor}

    def flush(self) -> None:
        """There is nothing to do."""

    def statistics(self) -> tuple[int, int]:
        """The number of keys with a summary, and 0 bytes on disk."""
        return len(self._summaries), 0

    def reload(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """There is nothing to do."""
