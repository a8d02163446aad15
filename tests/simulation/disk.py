"""A simulated disk: what is not flushed is lost in a crash, or only its end is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

import trio

from paxoskv.errors import StoreError
from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.storage.memory import Ledger, MemoryStore

from .clock import Clock


class Save(NamedTuple):
    """The arguments of one :meth:`Store.save`."""

    key: str
    summary: Summary
    registers: dict[int, Register]


class Disk:
    """What one acceptor has on disk, whatever becomes of its process.

    Args:
        clock: of the world.
        rng: where it is drawn from how long a flush takes, and what a crash leaves.
        flush_time: how long one usually takes, on average.
        on_durable: is told of each save, in order, once it cannot be lost any more.

    Attributes:
        flush_time: how long a flush takes at the moment, on average.
        full: whether flushes fail, and mostly saves.
    """

    def __init__(
        self, clock: Clock, rng: Random, flush_time: float, on_durable: Callable[[Save], None]
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.usual_flush_time = self.flush_time = flush_time
        self.full = False
        self._on_durable = on_durable
        self._durable = MemoryStore()

    def open(self) -> Store:
        """What a process that starts now finds on it."""
        return Store(self)

    def keep(self, saves: list[Save]) -> None:
        """Make saves durable."""
        for save in saves:
            key, summary, registers = save
            self._durable.save(self._durable.ledger(key), summary, registers)
            self._on_durable(save)

    def durable(self) -> MemoryStore:
        """What is durable."""
        return self._durable


class Store(MemoryStore):
    """A store of one process, on a disk.

    Attributes:
        saved: how many saves there were.
        flushed: how many of these are durable.
    """

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self.saved = self.flushed = 0
        self._disk = disk
        self._unflushed: list[Save] = []
        self._failure: StoreError | None = None
        self._crashed = False
        self._flusher: trio.lowlevel.Task | None = None  # waits for the disk
        self._read()

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Save, so that it can be read at once, and is durable after the next flush."""
        self._check()
        if self._disk.full and self._disk.rng.random() < 0.75:
            raise self._fail()
        super().save(ledger, summary, registers)
        self._unflushed.append(Save(ledger.key, summary, dict(registers)))
        self.saved += 1

    def flush(self) -> None:
        """Only :meth:`flush_in_time` does; simulated time does not pass in threads."""
        raise AssertionError("a flush must take simulated time")

    async def flush_in_time(self) -> None:
        """Make durable what is saved by now. It takes a while, and others save meanwhile.

        As a thread is, it is never cancelled; but a crash ends it at once.
        """
        self._check()
        disk = self._disk
        saved, count = self.saved, len(self._unflushed)
        assert self._flusher is None, "two flushes at a time"
        self._flusher = trio.lowlevel.current_task()
        disk.clock.after(disk.rng.expovariate(1.0) * disk.flush_time, self._wake)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        self._check()
        if disk.full:
            raise self._fail()
        self._keep(count)
        self.flushed = saved

    def reload(self) -> None:
        """After a failure: forget what is in memory, and read the disk again."""
        if self._crashed or self._disk.full:
            raise StoreError("no space left on device")
        self._tear()
        self._failure = None
        self._read()
        self.flushed = self.saved

    def crash(self) -> None:
        """The process ends: of what was not flushed the disk has a part, or nothing."""
        self._tear()
        self._failure = StoreError("the process is no more")
        self._crashed = True
        self._wake()

    def _wake(self) -> None:
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            trio.lowlevel.reschedule(flusher)

    def _read(self) -> None:
        self._ledgers.clear()
        self._keys.clear()
        for key, ledger in self._disk.durable()._ledgers.items():
            super().save(self.ledger(key), ledger.summary, ledger.registers)

    def _tear(self) -> None:
        rng, count = self._disk.rng, len(self._unflushed)
        self._keep(rng.choice((0, rng.randint(0, count), count)))
        self._unflushed.clear()

    def _keep(self, count: int) -> None:
        kept, self._unflushed = self._unflushed[:count], self._unflushed[count:]
        self._disk.keep(kept)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self) -> StoreError:
        self._failure = StoreError("no space left on device")
        return self._failure
