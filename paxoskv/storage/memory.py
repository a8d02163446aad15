"""Registers in memory: fast, and forgotten when the process ends."""

from __future__ import annotations

from ..paxos.acceptor import BLANK, Register
from ..paxos.messages import NO_TOP, Instance


class MemoryStore:
    """The registers of one acceptor in two dicts."""

    __slots__ = ("_registers", "_tops")

    def __init__(self) -> None:
        self._registers: dict[Instance, Register] = {}
        self._tops: dict[str, int] = {}

    def register(self, instance: Instance) -> Register:
        """The register of an instance, blank if there is none yet."""
        return self._registers.get(instance, BLANK)

    def top(self, key: str) -> int:
        """The highest version of a key with a vote, or ``NO_TOP``."""
        return self._tops.get(key, NO_TOP)

    def save(self, instance: Instance, register: Register) -> None:
        """Replace the register of an instance, and raise the top of its key if it voted."""
        self._registers[instance] = register
        if register.voted is not None and instance.ver > self.top(instance.key):
            self._tops[instance.key] = instance.ver
