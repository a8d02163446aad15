"""Registers in memory: fast, and forgotten when the process ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sortedcontainers import SortedDict  # type: ignore[import-untyped]

from ..paxos.acceptor import BLANK, UNHEARD, Register, Summary
from ..paxos.messages import Instance


class MemoryStore:
    """What one acceptor remembers, in sorted dicts: by key, and of each key by version.

    Attributes:
        saved, flushed: how much was saved, and how much of it is as durable as it will ever
            be, which is all.
    """

    __slots__ = ("_registers", "_summaries")

    saved = flushed = 0

    def __init__(self) -> None:
        self._summaries: SortedDict[str, Summary] = SortedDict()
        self._registers: dict[str, SortedDict[int, Register]] = {}

    def summary(self, key: str) -> Summary:
        """The summary of a key, ``UNHEARD`` if there is none yet."""
        summary: Summary = self._summaries.get(key, UNHEARD)
        return summary

    def register(self, instance: Instance) -> Register:
        """The register of an instance, ``BLANK`` if there is none yet."""
        register: Register = self._registers.get(instance.key, {}).get(instance.ver, BLANK)
        return register

    def below(self, key: str, ver: int) -> tuple[int, Register] | None:
        """The highest version below ``ver`` whose register has a sight, and the register."""
        registers = self._registers.get(key)
        if registers is None:
            return None
        for version in registers.irange(maximum=ver, inclusive=(True, False), reverse=True):
            if registers[version].sight is not None:
                return version, registers[version]
        return None

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        """The keys with a summary that begin with ``prefix`` and are above ``after``, in order."""
        for key in self._summaries.irange(max(prefix, after)):
            if not key.startswith(prefix):
                return
            if key > after:
                yield key, self._summaries[key]

    def save(self, key: str, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Replace a summary and registers, and drop what is below the floor: all or nothing."""
        if summary != UNHEARD:
            self._summaries[key] = summary
        kept = self._registers.get(key)
        if kept is None:
            kept = self._registers[key] = SortedDict()
        for ver, register in registers.items():
            kept[ver] = register
        for ver in list(kept.irange(maximum=summary.floor, inclusive=(True, False))):
            del kept[ver]

    def flush(self) -> None:
        """There is nothing to do."""

    def statistics(self) -> tuple[int, int]:
        """The number of keys with a summary, and 0 bytes on disk."""
        return len(self._summaries), 0

    def reload(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """There is nothing to do."""
