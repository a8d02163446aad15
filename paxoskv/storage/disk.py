"""Registers on disk, in RocksDB. ``docs/storage.md`` has the layout and the reasons.

What is saved can be read at once, and is durable after the next flush (rule R1), which writes
all that was saved since the last one, in one batch. What is found on disk is what was written
there, or is refused: an acceptor that forgets is worse than one that is away.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import cbor2
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
)

from ..errors import DirectoryError, StoreDamaged, StoreError
from ..identity import Identity
from ..limits import (
    BLOOM_BITS,
    MAX_CACHE_BYTES,
    MAX_INFO_LOG_BYTES,
    MAX_INFO_LOGS,
    MAX_MANIFEST_BYTES,
    MAX_OPEN_TABLES,
    MAX_RECENT_BYTES,
    MAX_UNWRITTEN_BYTES,
    MAX_WRITE_BUFFERS,
    WRITE_BUFFER_BYTES,
)
from ..paxos.acceptor import BLANK, UNHEARD, Register, Summary
from ..paxos.messages import NO_TOP, ProposalId
from .logs import check_logs
from .recent import Recent
from .records import (
    REGISTER,
    dump_first_vote,
    dump_register,
    dump_summary,
    is_vote_for,
    load_register,
    load_summary,
    register_name,
    registers_prefix,
    size_of_value,
    summary_name,
    version_of,
)

FORMAT: Final = 3
"""The version of the layout. In 2, summaries and registers were CBOR."""

# The names of summaries and registers are above "m".
_IDENTITY: Final = b"identity"
_COUNT: Final = b"keys"

_OVERHEAD: Final = 1024  # bytes of one summary or register in memory, with its key, roughly
_PER_VERSION: Final = 40  # bytes of a version in a summary, roughly
_FEW: Final = 64  # versions to drop that are named rather than looked up
AnyT = TypeVar("AnyT")

_AT_HAND: Final = 4  # registers of a key in memory, unless they are not written yet


class Ledger:
    """What is remembered of one key; in memory are its summary, and the registers used last.

    Attributes:
        key: the key.
        summary: as it was saved last.
        registers: by version; those that are in memory, as bytes until somebody looks at them.
        reach: the highest version that has a register, or ``NO_TOP``.
        name: of its summary in RocksDB.
        prefix: of the names of its registers there.
        size: in bytes, roughly.
    """

    __slots__ = ("_store", "key", "name", "prefix", "reach", "registers", "size", "summary")

    def __init__(self, store: DiskStore, key: str) -> None:
        self._store = store
        self.key = key
        self.name = summary_name(key)
        self.prefix = registers_prefix(key)
        self.summary = UNHEARD
        self.reach = NO_TOP
        self.registers: dict[int, Register | bytes] = {}
        self.size = _OVERHEAD + 3 * len(self.name)

    def register(self, ver: int) -> Register:
        """The register of a version, ``BLANK`` if there is none yet."""
        if not self.summary.floor <= ver <= self.reach:
            return BLANK
        register = self.registers.get(ver)
        if register is None:
            return self._store.read_register(self, ver)
        if isinstance(register, bytes):
            register = self.registers[ver] = load_register(register)
        return register

    def has_vote_for(self, ver: int, id_: ProposalId) -> bool:
        """Whether the register of a version has a vote for the proposal with this id."""
        if not self.summary.floor <= ver <= self.reach:
            return False
        register = self.registers.get(ver)
        if register is None:  # not to be kept: it may be large, and nobody has looked at it
            register = self._store.read_record(self, ver)
        if register is None or isinstance(register, bytes):
            return is_vote_for(register or b"", id_)
        return register.voted is not None and register.voted.proposal.id == id_

    def below(self, ver: int) -> tuple[int, Register] | None:
        """The highest version below ``ver`` whose register has a sight, and the register."""
        return self._store.search_below(self, ver)


class _Changes:
    """What was saved and is not yet on disk: as a batch, and by key as it is in memory."""

    __slots__ = ("batch", "ledgers", "size")

    def __init__(self) -> None:
        self.batch = WriteBatch(raw_mode=True)
        self.ledgers: dict[str, Ledger] = {}
        self.size = 0  # in bytes, roughly


class DiskStore:
    """What one acceptor remembers, on disk.

    One thread at a time may use it, but :meth:`flush` may run in another beside it.
    What is looked at again and again, it keeps in memory.
    After a flush that failed, everything but :meth:`reload` and :meth:`close` raises: nobody
    knows what is on disk.

    Args:
        path: where :meth:`create` made it.
        identity: the acceptor that it belongs to.

    Attributes:
        saved: how many saves there were.
        flushed: how many of them, counted from the first, are durable.

    Raises:
        DirectoryError: it is gone, in use, another acceptor's, or another version made it.
        StoreDamaged: it is not as it was written.
        StoreError: it cannot be read or written at the moment.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._owner = _owner(identity)
        self._failure: StoreError | None = None
        self.saved = self.flushed = 0
        self._changing = threading.Lock()  # for a moment: what is saved does not change
        self._writing_out = threading.Lock()  # one batch after the other
        self._open()

    @classmethod
    def create(cls, path: Path, identity: Identity) -> None:
        """Make a new empty store, durably.

        Raises:
            StoreError: it cannot be made; what there is of it may be removed.
        """
        with _told(path):
            options = _options()
            options.create_if_missing(True)
            options.set_error_if_exists(True)
            db = Rdict(str(path), options, {"default": options})
            try:
                batch = WriteBatch(raw_mode=True)
                batch.put(_IDENTITY, _owner(identity))
                batch.put(_COUNT, cbor2.dumps(0))
                db.write(batch)
                db.flush_wal(sync=True)
            finally:
                db.close()
            sync_directory(path)
            sync_directory(path.parent)

    def _open(self) -> None:
        path = self._path
        with _told(path):
            if not (path / "CURRENT").exists():
                raise DirectoryError(
                    f"{path} has no store any more, and its acceptor has forgotten its promises; "
                    "make a new cluster with `paxoskv init`"
                )
            check_logs(path, suspect=False)
            options = _options()
            try:
                self._db = Rdict(str(path), options, {"default": options})
            except Exception as error:
                if not str(error).startswith("Corruption"):
                    raise
                # A torn write looks like this as well, where its length was written in time.
                if not check_logs(path, suspect=True):
                    raise
                self._db = Rdict(str(path), options, {"default": options})
        self._is_open = True
        failure, self._failure = self._failure, None
        self._recent: Recent[str, Ledger] = Recent(MAX_RECENT_BYTES)
        self._unwritten = _Changes()
        self._being_written = _Changes()
        try:
            self._check_owner()
            self._count = self._load_count()
        except BaseException:
            self._failure = failure
            self._shut()
            raise

    def _check_owner(self) -> None:
        owner = self._get(_IDENTITY)
        if owner is None:
            raise StoreDamaged(f"{self._path} does not say whose it is")
        if owner != self._owner:
            made = self._load(_IDENTITY, owner)
            if isinstance(made, list) and made[:1] == [FORMAT]:
                raise DirectoryError(
                    f"{self._path} is the store of another acceptor, or of other members; put back "
                    "the one that was here, or its acceptor.toml"
                )
            raise DirectoryError(
                f"{self._path} was made by another version of paxoskv; run that one"
            )

    def reload(self) -> None:
        """Open it anew: what it shows then is on disk, whatever failed before.

        Raises:
            StoreError: it still cannot be used; this may be tried again.
        """
        self._failure = self._failure or StoreError(f"{self._path} is being reloaded")
        with suppress(Exception):  # it failed before, and that is why it is closed
            self._shut()
        try:
            self._open()
        except DirectoryError as error:
            raise StoreError(str(error)) from None
        # RocksDB has moved what it found in its logs to tables, and synced these: what is
        # read now is durable, also where a failed sync left it in the page cache only.
        self.flushed = self.saved

    def close(self) -> None:
        """Close it; what was not flushed may be lost, or not."""
        self._failure = StoreError(f"{self._path} is closed")
        with _told(self._path):
            self._shut()

    def _shut(self) -> None:
        """Close RocksDB, unless that was done: a reload may have failed in between."""
        if self._is_open:
            self._is_open = False
            self._db.close()

    # --- Reading ----------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether nothing was ever saved, not even a promise."""
        self._write_out()
        return next(self._records(REGISTER), None) is None

    def ledger(self, key: str) -> Ledger:
        """What is remembered of a key; it is in memory from now on, if it was not."""
        if self._failure is not None:
            self._check()
        ledger = self._at_hand(key)
        if ledger is None:
            ledger = Ledger(self, key)
            self._fill(ledger, self._get(ledger.name))
        return ledger

    def ledgers(self, keys: Sequence[str]) -> list[Ledger]:
        """The same of several, in less time; a key that comes again has the same one."""
        self._check()
        found: dict[str, Ledger] = {}
        missing: list[Ledger] = []
        for key in keys:
            if key not in found:
                ledger = self._at_hand(key)
                if ledger is None:
                    ledger = Ledger(self, key)
                    missing.append(ledger)
                found[key] = ledger
        if missing:
            records = self._get_all([ledger.name for ledger in missing])
            for ledger, data in zip(missing, records, strict=True):
                self._fill(ledger, data)
        return [found[key] for key in keys]

    def _at_hand(self, key: str) -> Ledger | None:
        """What is remembered of a key, if it is in memory."""
        ledger = self._recent.get(key)
        if ledger is None:
            # In the order in which a flush in a thread moves it on; then it can be read.
            ledger = self._unwritten.ledgers.get(key) or self._being_written.ledgers.get(key)
            if ledger is not None:
                self._recent.put(key, ledger)
        return ledger

    def _fill(self, ledger: Ledger, data: bytes | None) -> None:
        """A ledger that this is written of is in memory from now on."""
        if data is not None:
            ledger.summary, ledger.reach = self._load_summary(ledger.name, data)
            ledger.size += _PER_VERSION * len(ledger.summary.chosen)
        self._recent.put(ledger.key, ledger)

    def read_register(self, ledger: Ledger, ver: int) -> Register:
        """The register of a version that is not in memory, but is from now on."""
        data = self.read_record(ledger, ver)
        if data is None:
            return BLANK
        register = self._load_register(register_name(ledger.prefix, ver), data)
        self._make_room(ledger)
        self._grew(ledger, _remember(ledger, ver, register))
        return register

    def read_record(self, ledger: Ledger, ver: int) -> bytes | None:
        """The same as bytes, which are not kept in memory; None: there is none."""
        return self._get(register_name(ledger.prefix, ver))

    def search_below(self, ledger: Ledger, ver: int) -> tuple[int, Register] | None:
        """The highest version below ``ver`` whose register has a sight, and the register."""
        if ver <= 0:
            return None
        self._write_out()
        for name, data in self._records(register_name(ledger.prefix, ver - 1), backwards=True):
            if not name.startswith(ledger.prefix):
                break
            register = self._load_register(name, data)
            if register.sight is not None:
                return version_of(name), register
        return None

    def _make_room(self, ledger: Ledger) -> None:
        """Of many registers of one key, let go those that can be read again."""
        if len(ledger.registers) < _AT_HAND:
            return
        key = ledger.key
        if key not in self._unwritten.ledgers and key not in self._being_written.ledgers:
            size = sum(map(_size_of_register, ledger.registers.values()))
            ledger.registers.clear()
            self._grew(ledger, -size)

    def _grew(self, ledger: Ledger, size: int) -> None:
        """A ledger takes so many bytes more in memory."""
        ledger.size += size
        self._recent.grew(size)

    def keys(self, prefix: str, after: str) -> Iterator[tuple[str, Summary]]:
        """The keys with a summary that begin with ``prefix`` and are above ``after``, in order."""
        self._write_out()
        start = summary_name(prefix)
        for name, data in self._records(max(start, summary_name(after) + b"\0")):
            if not name.startswith(start):
                break
            summary, _ = self._load_summary(name, data)
            if summary != UNHEARD:  # else there are promises only
                yield name[1:].decode(), summary

    def statistics(self) -> tuple[int, int]:
        """The number of keys with a summary, and the size of all files in bytes."""
        self._check()
        with _told(self._path):
            return self._count, sum(map(_size, self._path.iterdir()))

    # --- Writing ----------------------------------------------------------------------

    def save(self, ledger: Ledger, summary: Summary, registers: Mapping[int, Register]) -> None:
        """Replace a summary and registers, and drop what is below the floor: all or nothing."""
        self._check()
        before, reach, floor = ledger.summary, ledger.reach, summary.floor
        new = {ver: dump_register(each) for ver, each in registers.items() if ver >= floor}
        records = [(register_name(ledger.prefix, ver), data) for ver, data in new.items()]
        reach = max(reach, *new) if new else reach
        changed = summary != before
        if changed or reach > ledger.reach:
            records.append((ledger.name, dump_summary(summary, reach)))
        dropped = self._dropped(ledger, floor) if floor > before.floor else ()
        self._make_room(ledger)
        grown = _PER_VERSION * (len(summary.chosen) - len(before.chosen))
        with self._changing:
            changes = self._unwritten
            for name, data in records:
                changes.batch.put(name, data)
                changes.size += _OVERHEAD + len(data)
            for ver in dropped:
                changes.batch.delete(register_name(ledger.prefix, ver))
                changes.size += _OVERHEAD
            for ver, data in new.items():
                grown += _remember(ledger, ver, data)
            self._count += changed and before == UNHEARD
            ledger.summary, ledger.reach = summary, reach
            changes.ledgers[ledger.key] = ledger
            self.saved += bool(registers or dropped or changed)
        self._grew(ledger, grown)
        if changes.size > MAX_UNWRITTEN_BYTES:
            self._write_out()

    # The other two ways to save are most of what there is to do, and so each is all in one piece.

    def cast(self, ledger: Ledger, ver: int, id_: ProposalId, value: bytes | None) -> None:
        """Save the first vote of a version above the top, for an append at ballot 0."""
        if self._failure is not None:
            self._check()
        before, reach = ledger.summary, ledger.reach
        if ver > reach:
            reach = ver
        summary = Summary(ver, before.floor, before.chosen)
        record, data = dump_summary(summary, reach), dump_first_vote(id_, value)
        registers = ledger.registers
        if len(registers) >= _AT_HAND:
            self._make_room(ledger)
        grown = _OVERHEAD + len(value or b"")
        with self._changing:
            changes = self._unwritten
            changes.batch.put(ledger.name, record)
            changes.batch.put(register_name(ledger.prefix, ver), data)
            changes.size += _OVERHEAD + len(record) + grown
            changes.ledgers[ledger.key] = ledger
            if before == UNHEARD:
                self._count += 1
            ledger.summary, ledger.reach = summary, reach
            registers[ver] = data
            self.saved += 1
        self._grew(ledger, grown)
        if changes.size > MAX_UNWRITTEN_BYTES:
            self._write_out()

    def summarize(self, ledger: Ledger, summary: Summary) -> None:
        """Replace a summary with one in which one version more is chosen."""
        if self._failure is not None:
            self._check()
        record = dump_summary(summary, ledger.reach)
        with self._changing:
            changes = self._unwritten
            changes.batch.put(ledger.name, record)
            changes.size += _OVERHEAD + len(record)
            changes.ledgers[ledger.key] = ledger
            ledger.summary = summary
            self.saved += 1
        self._grew(ledger, _PER_VERSION)
        if changes.size > MAX_UNWRITTEN_BYTES:
            self._write_out()

    def _dropped(self, ledger: Ledger, higher: int) -> Sequence[int]:
        """The versions to drop when the floor rises, and perhaps some that are not there."""
        floor = ledger.summary.floor
        # Not a range delete: there is about one to drop per save, and range tombstones pile
        # up in every later read. The search begins at the old floor, above the tombstones.
        if floor + _FEW >= higher:
            return range(floor, higher)
        self._write_out()
        end = register_name(ledger.prefix, higher)
        dropped = []
        for name, _ in self._records(register_name(ledger.prefix, floor)):
            if name >= end:
                break
            dropped.append(version_of(name))
        return dropped

    def flush(self) -> None:
        """Make durable what was saved before this was called. It may run in a thread."""
        saved = self.saved  # what is saved from here on may be in this flush, or not
        self._write_out()
        self._write(self._db.flush_wal, True)  # synced
        self.flushed = max(self.flushed, saved)

    def _write_out(self) -> None:
        """Hand to RocksDB what is saved, in one batch; a flush, or a thread, may do so."""
        with self._writing_out:
            with self._changing:
                changes = self._being_written = self._unwritten
                self._unwritten = _Changes()
                count = self._count
            if not changes.ledgers:
                return
            changes.batch.put(_COUNT, cbor2.dumps(count))
            self._write(self._db.write, changes.batch)
            self._being_written = _Changes()

    # --- How it is done ---------------------------------------------------------------

    def _check(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args)

    def _write(self, write: Callable[[AnyT], object], what: AnyT) -> None:
        """Let RocksDB write; what fails is the end of it, until it is opened anew."""
        self._check()
        try:
            write(what)
        except Exception as error:  # noqa: BLE001 - as in _told
            failure = _translated(self._path, error)
            if isinstance(failure, StoreError):
                self._failure = failure
            raise failure from None

    def _get(self, name: bytes) -> bytes | None:
        try:  # for most of what is new, and so without the cost of a context manager
            data: bytes | None = self._db.get(name)
        except Exception as error:  # noqa: BLE001 - as in _told
            raise _translated(self._path, error) from None
        return data

    def _get_all(self, names: list[Any]) -> list[bytes | None]:
        """The same of several."""
        with _told(self._path):
            records: Any = self._db.get(names)
        return [*records]

    def _records(self, start: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The records from one on, or from it back to the first."""
        self._check()
        with _told(self._path):
            records = self._db.iter()
            try:
                (records.seek_for_prev if backwards else records.seek)(start)
                while records.valid():
                    yield records.key(), records.value()
                    (records.prev if backwards else records.next)()
                records.status()
            finally:
                del records  # it keeps RocksDB open, and a traceback would keep it

    def _load(self, name: bytes, data: bytes) -> object:
        try:
            return cbor2.loads(data)
        except Exception as error:  # whatever is wrong with it, it is damage
            raise self._bad(name) from error

    def _load_count(self) -> int:
        match self._load(_COUNT, self._get(_COUNT) or b""):
            case int(count):
                return count
        raise self._bad(_COUNT)

    def _load_summary(self, name: bytes, data: bytes) -> tuple[Summary, int]:
        try:
            return load_summary(data)
        except ValueError as error:
            raise self._bad(name) from error

    def _load_register(self, name: bytes, data: bytes) -> Register:
        try:
            return load_register(data)
        except ValueError as error:
            raise self._bad(name) from error

    def _bad(self, name: bytes) -> StoreDamaged:
        return StoreDamaged(f"{self._path} is damaged: its record {name!r} is no such record")


def _remember(ledger: Ledger, ver: int, register: Register | bytes) -> int:
    """Keep a register in memory; how many bytes more that takes."""
    before = ledger.registers.get(ver)
    ledger.registers[ver] = register
    return _size_of_register(register) - (0 if before is None else _size_of_register(before))


def _size_of_register(register: Register | bytes) -> int:
    if isinstance(register, bytes):
        return _OVERHEAD + size_of_value(register)
    proposal = register.chosen
    if proposal is None and register.voted is not None:
        proposal = register.voted.proposal
    return _OVERHEAD if proposal is None else _OVERHEAD + len(proposal.value or b"")


def _owner(identity: Identity) -> bytes:
    members = sorted(member.id for member in identity.members)  # their addresses may change
    return cbor2.dumps([FORMAT, identity.cluster, identity.acceptor, members])


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(False)
    # Every byte of the log counts: the default mode drops what follows a bad one, unsaid.
    options.set_wal_recovery_mode(DBRecoveryMode.absolute_consistency())
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(MAX_WRITE_BUFFERS)
    options.set_max_open_files(MAX_OPEN_TABLES)
    options.set_max_log_file_size(MAX_INFO_LOG_BYTES)
    options.set_keep_log_file_num(MAX_INFO_LOGS)
    options.set_max_manifest_file_size(MAX_MANIFEST_BYTES)
    options.set_compression_type(DBCompressionType.none())
    options.set_skip_stats_update_on_db_open(True)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    tables = BlockBasedOptions()
    tables.set_block_cache(Cache(MAX_CACHE_BYTES))
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_bloom_filter(BLOOM_BITS, False)
    options.set_block_based_table_factory(tables)
    return options


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the errors of RocksDB, and of the system, into ours."""
    try:
        yield
    except (StoreError, DirectoryError, AssertionError):
        raise
    except Exception as error:  # noqa: BLE001 - RocksDB's errors have no class of their own
        raise _translated(path, error) from None


def _translated(path: Path, error: Exception) -> StoreError | DirectoryError:
    """Our word for an error of RocksDB, which is known by its text only, or of the system."""
    text = " ".join(str(error).split())
    if "lock hold by" in text or "While lock file" in text:
        return DirectoryError(f"{path} is in use by another process; stop that one first")
    if text.startswith("Corruption"):
        return StoreDamaged(f"{path} is damaged: {text}")
    return StoreError(f"{path} cannot be used: {text}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # RocksDB removes files in the background
        return 0


def sync_directory(path: Path) -> None:
    """Make durable which files a directory has.

    Raises:
        OSError: that cannot be done.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
