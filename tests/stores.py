"""A store for tests of what is durable, and when."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping

from paxoskv.errors import StoreError
from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.storage.memory import Ledger, MemoryStore


class GatedStore(MemoryStore):
    """A store whose flushes wait until the test lets them go on, or makes them fail.

    What was not flushed is gone when it is read again, as after a power cut.
    """

    __slots__ = ("_durable", "flushed", "flushes", "gate", "problem", "saved")

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.problem: StoreError | None = None
        self.saved = self.flushed = self.flushes = 0
        self._durable = copy.deepcopy((self._ledgers, self._keys))

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        super().save(ledger, summary, registers)
        self.saved += 1

    def flush(self) -> None:
        self.flushes += 1
        saved, state = self.saved, copy.deepcopy((self._ledgers, self._keys))
        assert self.gate.wait(20)
        if self.problem is not None:
            raise self.problem
        self.flushed, self._durable = saved, state

    def reload(self) -> None:
        if self.problem is not None:
            raise self.problem
        self._ledgers, self._keys = copy.deepcopy(self._durable)
        self.flushed = self.saved
