"""An acceptor like ``paxoskv serve``, but on SQLite, to compare the engines inside a server.

It is a stand-in for measurements: what it saves goes to SQLite (WAL, ``synchronous = FULL``),
in one transaction a flush, and what it reads it has in memory. It cannot be started again.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from paxoskv.paxos.acceptor import Register, Summary
from paxoskv.server import listen, serve
from paxoskv.storage.directory import hold_directory
from paxoskv.storage.memory import Ledger, MemoryStore
from paxoskv.storage.records import (
    dump_register,
    dump_summary,
    register_name,
    registers_prefix,
    summary_name,
)


class SqliteStore(MemoryStore):
    """A store in memory, of which each flush writes what is new to SQLite."""

    __slots__ = ("_db", "_rows", "flushed", "saved")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.saved = self.flushed = 0
        self._rows: list[tuple[bytes, bytes]] = []
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE records (name BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID")

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Replace a summary and registers."""
        super().save(ledger, summary, registers)
        self.saved += 1
        key = ledger.key
        prefix = registers_prefix(key)
        self._rows.append((summary_name(key), dump_summary(summary, summary.top)))
        for ver, register in registers.items():
            self._rows.append((register_name(prefix, ver), dump_register(register)))

    def flush(self) -> None:
        """Commit what was saved by now."""
        saved = self.saved
        rows, self._rows = self._rows, []
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)
        self._db.execute("COMMIT")
        self.flushed = max(self.flushed, saved)


async def main(directory: Path) -> None:
    """Serve the acceptor of a data directory until the process is ended."""
    with hold_directory(directory) as held:
        store = SqliteStore(directory / "measured.db")
        async with trio.open_nursery() as nursery:
            listeners = await listen(held.identity.address)
            bound = await nursery.start(serve, held.identity, store, listeners)
            print(f"listening on {bound}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
