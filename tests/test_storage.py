"""Stores: what they keep, what they promise to keep, and what they refuse to show."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rocksdict import Options

from paxoskv.errors import DirectoryError, StoreDamaged, StoreError
from paxoskv.identity import Address, Identity, new_cluster
from paxoskv.paxos.acceptor import BLANK, UNHEARD, Acceptor, Register, Summary
from paxoskv.paxos.messages import (
    END,
    FAST,
    Accept,
    Ballot,
    Commit,
    Instance,
    Prepare,
    Proposal,
    ProposalId,
    Vote,
)
from paxoskv.storage import disk, records
from paxoskv.storage.disk import DiskStore
from paxoskv.storage.memory import MemoryStore
from paxoskv.storage.recent import Recent

from .builds import changes_code

AnyStore: TypeAlias = MemoryStore | DiskStore

IDENTITY = Identity(b"c" * 16, b"a" * 16, ())
BALLOT = Ballot(3, b"x" * 16)
CHUNK = 1000


def proposal(serial: int, value: bytes | None = b"value") -> Proposal:
    return Proposal(ProposalId(b"p" * 16, serial), value)


def chosen(serial: int, value: bytes | None = b"value") -> Register:
    return Register(chosen=proposal(serial, value))


def put(store: AnyStore, number: int, value: bytes = b"value") -> None:
    """One record of a series, which `found` looks for."""
    store.save(store.ledger(f"k{number}"), Summary(0, 0, (0,)), {0: chosen(number, value)})


def found(store: AnyStore) -> list[int]:
    """Which records of the series are there, and whole."""
    numbers = sorted(int(key[1:]) for key, _ in store.keys("k", ""))
    for number in numbers:
        decided = store.ledger(f"k{number}").register(0).chosen
        assert decided is not None
        assert decided.id.serial == number
        assert store.ledger(f"k{number}").summary == Summary(0, 0, (0,))
    assert store.statistics()[0] == len(numbers)
    return numbers


def dirty(store: AnyStore) -> bool:
    """Whether something is saved that no flush has made durable."""
    return store.flushed < store.saved


def crash(path: Path, copy: Path) -> Path:
    """What a process that is killed now leaves behind."""
    for _ in range(100):
        shutil.rmtree(copy, ignore_errors=True)
        names = {each.name for each in path.iterdir()}
        with suppress(shutil.Error):
            shutil.copytree(path, copy)
            if names == {each.name for each in path.iterdir()}:
                return copy
        # RocksDB has made or removed a file meanwhile: that was no moment.
    raise AssertionError("there is no copy of a single moment")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    DiskStore.create(tmp_path / "store", IDENTITY)
    return tmp_path / "store"


@pytest.fixture
def on_disk(path: Path) -> Iterator[DiskStore]:
    store = DiskStore(path, IDENTITY)
    yield store
    store.close()


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest) -> AnyStore:
    if request.param == "memory":
        return MemoryStore()
    made: DiskStore = request.getfixturevalue("on_disk")
    return made


# --- The contract, of both stores -----------------------------------------------------


def test_what_was_never_saved_is_blank(store: AnyStore) -> None:
    assert store.ledger("k").summary == UNHEARD
    assert store.ledger("k").register(0) == BLANK
    assert store.ledger("k").below(END) is None
    assert list(store.keys("", "")) == []
    assert store.statistics()[0] == 0
    assert store.saved == store.flushed == 0


@pytest.mark.parametrize(
    "register",
    [
        BLANK,
        Register(BALLOT),
        Register(BALLOT, Vote(FAST, proposal(0, None))),
        Register(BALLOT, Vote(BALLOT, proposal(2**53 - 1, b""))),
        Register(BALLOT, Vote(BALLOT, proposal(1, b"x" * 2**20))),
        chosen(1),
        chosen(2, None),
    ],
)
def test_a_register_comes_back_as_it_was_saved(store: AnyStore, register: Register) -> None:
    assert records.load_register(records.dump_register(register)) == register
    for ver in (0, 1, 255, 256, 2**53 - 1):
        store.save(store.ledger("k"), Summary(ver), {ver: register})
        store.flush()
        assert store.ledger("k").register(ver) == register
        assert store.ledger("k").summary == Summary(ver)
        assert store.ledger("k").register(ver + 1) == BLANK


@pytest.mark.parametrize("chosen", [(), (0,), (3, 4, 5), (0, 2, 3), (2**53 - 1,)])
def test_a_summary_comes_back_as_it_was_saved(chosen: tuple[int, ...]) -> None:
    summary = Summary(2**53 - 1, 0, chosen) if chosen else UNHEARD
    assert records.load_summary(records.dump_summary(summary, 2**53 - 1)) == (summary, 2**53 - 1)


@pytest.mark.parametrize("value", [None, b"", b"value", b"x" * 2**20])
def test_r1_a_first_vote_and_its_choice_are_saved_as_any_other(
    store: AnyStore, value: bytes | None
) -> None:
    own, other = proposal(7, value), ProposalId(b"p" * 16, 8)
    voted = Register(FAST, Vote(FAST, own, append=True))
    assert records.dump_first_vote(own.id, value) == records.dump_register(voted)
    for ver in (0, 5):
        saved = store.saved
        store.cast(store.ledger("k"), ver, own.id, value)
        assert store.ledger("k").summary == Summary(ver, 0, (0,) if ver else ())
        for decoded in (False, True):
            if decoded:
                assert store.ledger("k").register(ver) == voted
            assert store.ledger("k").has_vote_for(ver, own.id)
            assert not store.ledger("k").has_vote_for(ver, other)
            assert not store.ledger("k").has_vote_for(ver, ProposalId(b"q" * 16, 7))
            assert not store.ledger("k").has_vote_for(ver + 1, own.id)
        store.summarize(store.ledger("k"), Summary(ver, 0, (0, ver) if ver else (0,)))
        assert store.ledger("k").summary.knows(ver)
        assert store.ledger("k").register(ver) == voted
        if isinstance(store, DiskStore):
            assert store.saved == saved + 2, "a flush must see that there is something"
    assert store.statistics()[0] == 1


@pytest.mark.parametrize("flushed", [0, 1, 2])
def test_r1_a_first_vote_and_its_choice_are_durable_once_flushed(
    path: Path, tmp_path: Path, flushed: int
) -> None:
    own = proposal(7)
    with closing(DiskStore(path, IDENTITY)) as store:
        store.flush()
        store.cast(store.ledger("k"), 3, own.id, own.value)
        assert dirty(store)
        if flushed >= 1:
            store.flush()
        store.summarize(store.ledger("k"), Summary(3, 0, (3,)))
        assert dirty(store)
        if flushed >= 2:
            store.flush()
        left = crash(path, tmp_path / "copy")
    with closing(DiskStore(left, IDENTITY)) as store:
        expected = Register(FAST, Vote(FAST, own, append=True)) if flushed else BLANK
        assert store.ledger("k").register(3) == expected
        assert store.ledger("k").summary == (
            UNHEARD,
            Summary(3),
            Summary(3, 0, (3,)),
        )[flushed]  # fmt: skip
        assert store.ledger("k").has_vote_for(3, own.id) == (flushed > 0)
        assert store.statistics()[0] == (flushed > 0)


def test_a_first_vote_beside_higher_promises_leaves_them_in_reach(path: Path) -> None:
    with closing(DiskStore(path, IDENTITY)) as store:
        store.save(store.ledger("k"), UNHEARD, {9: Register(BALLOT)})
        store.cast(store.ledger("k"), 3, proposal(1).id, b"")
        store.flush()
        assert store.statistics()[0] == 1
    with closing(DiskStore(path, IDENTITY)) as store:
        assert store.ledger("k").register(9) == Register(BALLOT)
        assert store.ledger("k").summary.top == 3


@changes_code
def test_r12_first_votes_and_choices_that_nobody_flushes_are_written_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MAX_UNWRITTEN_BYTES", 64 * 1024)
    with closing(DiskStore(path, IDENTITY)) as store:
        for number in range(300):
            store.cast(store.ledger(f"k{number}"), 0, proposal(number + 1).id, b"value")
            assert store._unwritten.size <= 64 * 1024
        store.flush()
        for number in range(300):
            store.summarize(store.ledger(f"k{number}"), Summary(0, 0, (0,)))
            assert store._unwritten.size <= 64 * 1024


def test_r12_what_a_key_takes_in_memory_is_counted_to_the_byte(on_disk: DiskStore) -> None:
    """Else a key that is written again and again would seem to fill it."""
    ledger = on_disk.ledger("k")
    empty = ledger.size
    for number in range(1, 50):
        on_disk.cast(ledger, number, proposal(number).id, b"x" * number)
        assert ledger.register(number).voted is not None
        for register in (
            chosen(number),
            Register(BALLOT),
            Register(BALLOT, Vote(BALLOT, proposal(1))),
        ):
            on_disk.save(ledger, ledger.summary, {number: register})
            assert ledger.register(number) == register
        on_disk.flush()
    on_disk.ledger("k").register(1)
    on_disk._make_room(ledger)
    held = sum(map(disk._size_of_register, ledger.registers.values()))
    assert ledger.size == empty + held


@changes_code
@pytest.mark.parametrize("fast", [False, True])
def test_r12_what_waits_for_a_flush_is_counted_with_long_summaries(
    path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    with closing(DiskStore(path, IDENTITY)) as store:
        put = 0

        class Counting:
            def __init__(self, batch: Any) -> None:
                self._batch = batch

            def put(self, name: bytes, data: bytes) -> None:
                nonlocal put
                put += len(data)

        chosen = tuple(range(0, 8000, 2))  # not one after the other, so that each is written
        ledger = store.ledger("k")
        store.save(ledger, Summary(8000, 0, chosen), {})
        store.flush()
        monkeypatch.setattr(store._unwritten, "batch", Counting(store._unwritten.batch))
        before = store._unwritten.size
        for number in range(20):
            if fast:
                store.cast(ledger, 9000 + number, proposal(1).id, b"")
            else:
                store.summarize(ledger, Summary(8000, 0, (*chosen, 9000 + number)))
        assert put > 20 * 8 * len(chosen)
        assert put <= store._unwritten.size - before


def test_r12_a_commit_keeps_nothing_of_the_vote_that_it_is_for(path: Path) -> None:
    large = b"x" * 2**20
    with closing(DiskStore(path, IDENTITY)) as store:
        for ver in range(3):
            store.cast(store.ledger("k"), ver, proposal(ver + 1).id, large)
        store.flush()
    with closing(DiskStore(path, IDENTITY)) as store:
        acceptor = Acceptor(store)
        for ver in range(3):
            acceptor.handle(Commit(Instance("k", ver), proposal(ver + 1).id, None))
            assert store.ledger("k").summary.chosen == (*range(ver + 1),)
        assert not store.ledger("k").registers
        assert not store.ledger("k").has_vote_for(0, proposal(2).id)
        assert not store.ledger("k").has_vote_for(3, proposal(1).id)
        assert store.ledger("k").register(2).voted is not None


def test_ledgers_of_several_keys_are_those_of_each(store: AnyStore) -> None:
    put(store, 1)
    store.flush()
    put(store, 2)
    keys = ["k2", "new", "k1", "k2", "new", "other"]
    found = store.ledgers(keys)
    assert [each.key for each in found] == keys
    assert found[0] is found[3]
    assert found[1] is found[4], "what is saved by one is seen by the other"
    assert [each.summary for each in found] == [store.ledger(key).summary for key in keys]
    store.cast(found[1], 3, proposal(1).id, b"")
    assert found[4].summary == store.ledger("new").summary == Summary(3)


def test_a_key_with_promises_only_is_no_key_yet(store: AnyStore) -> None:
    store.save(store.ledger("k"), UNHEARD, {4: Register(BALLOT)})
    assert list(store.keys("", "")) == []
    assert store.statistics()[0] == 0
    assert store.ledger("k").register(4) == Register(BALLOT)
    assert store.ledger("k").below(END) is None, "a promise is nothing to show"


def test_keys_come_in_the_order_of_their_code_points(store: AnyStore) -> None:
    keys = ["a", "a\0", "aa", "b", "é", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
    for number, key in enumerate(reversed(keys)):
        store.save(store.ledger(key), Summary(number), {number: chosen(number)})
    assert [key for key, _ in store.keys("", "")] == keys == sorted(keys)
    assert list(store.keys("a", "a")) == [("a\0", Summary(8)), ("aa", Summary(7))]
    assert [key for key, _ in store.keys("a", "")] == ["a", "a\0", "aa"]
    assert [key for key, _ in store.keys("", "b")] == keys[4:]
    assert list(store.keys("a", "b")) == list(store.keys("c", "")) == []
    assert store.statistics()[0] == len(keys)


def test_below_is_the_highest_version_with_a_sight_of_that_key(store: AnyStore) -> None:
    vote = Register(BALLOT, Vote(BALLOT, proposal(5)))
    store.save(
        store.ledger("k"), Summary(9), {2: chosen(2), 5: vote, 7: Register(BALLOT), 9: chosen(9)}
    )
    for other in ("", "j", "k\0", "l", "\0k"):  # neighbours, in one way or another
        store.save(store.ledger(other), Summary(3), {3: chosen(0)})
    assert store.ledger("k").below(END) == (9, chosen(9))
    assert store.ledger("k").below(9) == store.ledger("k").below(6) == (5, vote)
    assert store.ledger("k").below(5) == store.ledger("k").below(3) == (2, chosen(2))
    assert store.ledger("k").below(2) is store.ledger("k").below(0) is None


def test_r9_below_the_floor_everything_is_dropped_and_nothing_else(store: AnyStore) -> None:
    store.save(store.ledger("k"), Summary(9, 0, (9,)), {ver: chosen(ver) for ver in (0, 3, 4, 9)})
    store.save(store.ledger("j"), Summary(9, 0, (9,)), {ver: chosen(ver) for ver in (0, 3, 4, 9)})
    store.save(store.ledger("k"), Summary(9, 4, (4, 9)), {1: chosen(1)})
    assert [store.ledger("k").register(ver) for ver in (0, 1, 3)] == [BLANK] * 3
    assert [store.ledger("k").register(ver) for ver in (4, 9)] == [chosen(4), chosen(9)]
    assert store.ledger("k").below(4) is None
    assert store.ledger("j").below(4) == (3, chosen(3))


# --- The store on disk is the one in memory, but for what it survives -----------------

_KEYS = st.sampled_from(["", "a", "aa", "b", "\0", "é"])
_VALUES = st.none() | st.binary(max_size=40)
_COMMITTED = 77  # all that is ever committed
_PROPOSALS = st.builds(proposal, st.integers(0, 9) | st.just(_COMMITTED), _VALUES)
_BALLOTS = st.builds(lambda n: Ballot(n, b"x" * 16), st.integers(1, 9))
_VERS = st.integers(0, 12)
_INSTANCES = st.builds(Instance, _KEYS, _VERS)
_REQUESTS = (
    st.builds(Prepare, _INSTANCES, _BALLOTS)
    | st.builds(Accept, _INSTANCES, _BALLOTS, _PROPOSALS, st.booleans(), st.none())
    | st.builds(
        Accept,
        st.builds(Instance, _KEYS, st.integers(1, 12)),
        _BALLOTS,
        _PROPOSALS,
        st.booleans(),
        st.just(proposal(_COMMITTED, None).id),
    )
    | st.builds(
        lambda instance, made: Commit(instance, made.id, made),
        _INSTANCES,
        st.builds(proposal, st.just(_COMMITTED), _VALUES),
    )
)
_STEPS = st.lists(_REQUESTS | st.sampled_from(["flush", "reload", "reopen"]), max_size=40)


@given(steps=_STEPS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_store_on_disk_is_like_the_one_in_memory(tmp_path: Path, steps: list[object]) -> None:
    path = tmp_path / "store"
    shutil.rmtree(path, ignore_errors=True)
    DiskStore.create(path, IDENTITY)
    real, model = DiskStore(path, IDENTITY), MemoryStore()
    try:
        assert real.empty
        for step in steps:
            match step:
                case "flush":
                    real.flush()
                    assert not dirty(real)
                case "reload":
                    real.reload()
                case "reopen":
                    real.close()
                    real = DiskStore(path, IDENTITY)
                case _:
                    replies = [Acceptor(each, keep=3).handle(step) for each in (real, model)]  # type: ignore[arg-type]
                    assert replies[0] == replies[1]
                    assert not real.empty
        for key in ("", "a", "aa", "b", "\0", "é"):
            assert real.ledger(key).summary == model.ledger(key).summary
            for ver in range(14):
                assert real.ledger(key).register(ver) == model.ledger(key).register(ver)
                assert real.ledger(key).below(ver) == model.ledger(key).below(ver)
            assert list(real.keys(key, "")) == list(model.keys(key, ""))
            assert list(real.keys("", key)) == list(model.keys("", key))
        assert real.statistics()[0] == model.statistics()[0]
    finally:
        real.close()


# --- R1: what was flushed is there ----------------------------------------------------


def test_r1_what_was_flushed_survives_a_kill(tmp_path: Path, path: Path) -> None:
    code = f"""
import os
from pathlib import Path
import signal
from tests.test_storage import *
store = DiskStore(Path({str(path)!r}), IDENTITY)
for number in range(50):
    put(store, number)
store.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    store = DiskStore(path, IDENTITY)
    assert found(store) == list(range(50))
    store.close()


def test_r1_only_a_flush_makes_clean(on_disk: DiskStore) -> None:
    assert not dirty(on_disk)
    put(on_disk, 0)
    assert dirty(on_disk)
    on_disk.flush()
    assert not dirty(on_disk)
    on_disk.save(on_disk.ledger("k0"), on_disk.ledger("k0").summary, {})
    assert not dirty(on_disk), "nothing was written"


class Rocks:
    """RocksDB, but for one method."""

    def __init__(self, rocks: object, **replaced: Callable[..., object]) -> None:
        self._rocks = rocks
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> object:
        return getattr(self._rocks, name)


def fail(*_: object, **__: object) -> None:
    """In place of a method of RocksDB."""
    raise Exception("IO error: Input/output error: While fdatasync")  # noqa: TRY002 - as it does


def test_r1_only_a_flush_makes_a_promise_durable(on_disk: DiskStore) -> None:
    acceptor = Acceptor(on_disk)
    acceptor.handle(Prepare(Instance("foo", 0), BALLOT))
    assert dirty(on_disk)
    on_disk.flush()
    assert not dirty(on_disk)
    acceptor.handle(Prepare(Instance("foo", 0), Ballot(4, b"x" * 16)))
    assert dirty(on_disk)


def test_r1_what_is_saved_during_a_flush_stays_dirty(on_disk: DiskStore) -> None:
    rocks = on_disk._db
    flushing, go_on = threading.Event(), threading.Event()

    def flush_wal(sync: bool) -> None:
        flushing.set()
        assert go_on.wait(10)
        rocks.flush_wal(sync=sync)

    put(on_disk, 0)
    on_disk._db = Rocks(rocks, flush_wal=flush_wal)  # type: ignore[assignment]
    thread = threading.Thread(target=on_disk.flush)
    thread.start()
    assert flushing.wait(10)
    put(on_disk, 1)
    assert found(on_disk) == [0, 1], "reads go on during a flush"
    go_on.set()
    thread.join()
    assert dirty(on_disk)
    on_disk.flush()
    assert not dirty(on_disk)
    on_disk._db = rocks


def test_r1_the_flush_syncs(on_disk: DiskStore) -> None:
    rocks, synced = on_disk._db, []
    on_disk._db = Rocks(rocks, flush_wal=lambda sync: synced.append(sync))  # type: ignore[assignment]
    put(on_disk, 0)
    on_disk.flush()
    on_disk._db = rocks
    assert synced == [True]


@pytest.mark.parametrize("method", ["flush_wal", "write"])
def test_r1_after_a_failure_nothing_is_answered_until_it_reloads(
    on_disk: DiskStore, method: str
) -> None:
    put(on_disk, 0)
    on_disk.flush()
    put(on_disk, 1)
    rocks = on_disk._db
    on_disk._db = Rocks(rocks, **{method: fail})  # type: ignore[assignment]
    put(on_disk, 2)
    with pytest.raises(StoreError, match="Input/output error"):
        on_disk.flush()
    on_disk._db = rocks
    for call in (
        lambda: on_disk.ledger("k0").summary,
        lambda: on_disk.ledger("k0").register(0),
        lambda: list(on_disk.keys("", "")),
        lambda: on_disk.save(on_disk.ledger("k0"), UNHEARD, {}),
        on_disk.flush,
        on_disk.statistics,
        lambda: on_disk.empty,
    ):
        with pytest.raises(StoreError, match="Input/output error"):
            call()
    del rocks
    on_disk.reload()
    assert not dirty(on_disk)
    assert found(on_disk) == ([0, 1, 2] if method == "flush_wal" else [0])
    put(on_disk, 3)
    on_disk.flush()


def test_r1_what_a_reload_shows_is_in_synced_tables(path: Path, on_disk: DiskStore) -> None:
    for number in range(20):
        put(on_disk, number, b"needle %d" % number)
    on_disk._write_out()  # and no sync follows
    on_disk.reload()
    tables = b"".join(table.read_bytes() for table in path.glob("*.sst"))
    logs = b"".join(log.read_bytes() for log in path.glob("*.log"))
    assert all(b"needle %d" % number in tables for number in range(20))
    assert logs == b""


# --- R10: it belongs to one acceptor --------------------------------------------------


def test_r10_a_store_that_is_gone_is_never_made_again(tmp_path: Path, path: Path) -> None:
    shutil.rmtree(path)
    for _ in range(2):
        with pytest.raises(DirectoryError, match="has forgotten its promises"):
            DiskStore(path, IDENTITY)
        assert not path.exists()
    path.mkdir()
    with pytest.raises(DirectoryError, match="has forgotten its promises"):
        DiskStore(path, IDENTITY)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("which", ["cluster", "acceptor"])
def test_r10_the_store_of_another_is_refused(path: Path, which: str) -> None:
    other = IDENTITY._replace(**{which: b"o" * 16})
    with pytest.raises(DirectoryError, match="another acceptor"):
        DiskStore(path, other)
    DiskStore(path, IDENTITY).close()  # and the refusal left it as it was


@changes_code
def test_r10_the_store_of_another_version_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "FORMAT", disk.FORMAT + 1)
    with pytest.raises(DirectoryError, match="another version"):
        DiskStore(path, IDENTITY)


def test_r10_the_store_of_an_acceptor_with_other_members_is_refused(tmp_path: Path) -> None:
    identity = new_cluster([Address("127.0.0.1", port) for port in (1, 2, 3)])[0]
    DiskStore.create(tmp_path / "store", identity)
    fewer = identity._replace(members=identity.members[:2])
    with pytest.raises(DirectoryError, match="of other members"):
        DiskStore(tmp_path / "store", fewer)
    moved = [member._replace(address=Address("127.0.0.1", 4)) for member in identity.members]
    DiskStore(tmp_path / "store", identity._replace(members=tuple(moved))).close()


def test_r10_a_store_in_use_is_refused(path: Path, on_disk: DiskStore) -> None:
    with pytest.raises(DirectoryError, match="in use"):
        DiskStore(path, IDENTITY)
    code = f"from tests.test_storage import *; DiskStore(Path({str(path)!r}), IDENTITY)"
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "DirectoryError" in ran.stderr
    assert "in use" in ran.stderr


def test_r10_it_tells_whether_there_are_promises(path: Path) -> None:
    store = DiskStore(path, IDENTITY)
    assert store.empty
    store.save(store.ledger("k"), UNHEARD, {0: Register(BALLOT)})
    assert not store.empty
    store.close()
    store = DiskStore(path, IDENTITY)
    assert not store.empty
    store.close()


def test_a_store_can_be_moved_and_is_made_once(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StoreError):
        DiskStore.create(path, IDENTITY)
    store = DiskStore(path.rename(tmp_path / "moved"), IDENTITY)
    put(store, 0)
    store.close()
    assert not path.exists()


# --- Damage ---------------------------------------------------------------------------

SAVED = 60
"""Records in the store that is damaged: half of them in tables, half in the log."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after a crash, all of it flushed."""
    path = tmp_path_factory.mktemp("sound") / "store"
    DiskStore.create(path, IDENTITY)
    store = DiskStore(path, IDENTITY)
    for number in range(SAVED):
        if number == SAVED // 2:
            store.close()
            store = DiskStore(path, IDENTITY)
        put(store, number, b"%d" % number * CHUNK)
        store.flush()
    crash(path, path.with_name("copy"))
    store.close()
    return path.with_name("copy")


def outcome(path: Path) -> int | StoreError:
    """How many records of the series there are, without a gap; or why it is refused."""
    try:
        store = DiskStore(path, IDENTITY)
        try:
            numbers = found(store)
        finally:
            store.close()
    except StoreError as error:
        return error
    assert numbers == list(range(len(numbers))), "a gap"
    return len(numbers)


@pytest.mark.parametrize("kind", ["sst", "log", "MANIFEST", "CURRENT"])
@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_r1_a_flipped_bit_is_never_taken_for_what_was_written(
    tmp_path: Path, sound: Path, kind: str, flip: int
) -> None:
    assert outcome(crash(sound, tmp_path / "copy")) == SAVED
    refused = 0
    for victim in sorted(file.name for file in sound.iterdir() if kind in file.name):
        data = (sound / victim).read_bytes()
        for at in range(0, len(data), 1 + len(data) // 120):
            copy = crash(sound, tmp_path / "copy")
            bad = bytearray(data)
            bad[at] ^= flip
            (copy / victim).write_bytes(bad)
            match outcome(copy):
                case int(count):
                    last_record = kind == "log" and at > len(data) - 3 * CHUNK
                    assert count == SAVED or (last_record and count == SAVED - 1), (victim, at)
                case error:
                    assert isinstance(error, StoreDamaged)
                    # Of some damage at the end of a table, RocksDB names the list of them.
                    assert victim in str(error) or (kind == "sst" and "MANIFEST" in str(error))
                    refused += 1
    assert refused > 10


def frames(data: bytes) -> list[int]:
    """Where the frames of a log of RocksDB begin."""
    at, starts = 0, []
    while at < len(data):
        if 32768 - at % 32768 >= 7:
            starts.append(at)
            at += 7 + int.from_bytes(data[at + 4 : at + 6], "little")
        else:
            at += 32768 - at % 32768
    return starts


def test_r1_a_wrong_length_in_the_log_is_no_torn_record(tmp_path: Path, sound: Path) -> None:
    (victim,) = (file.name for file in sound.glob("*.log") if file.stat().st_size)
    data = (sound / victim).read_bytes()
    starts = frames(data)
    assert len(starts) > SAVED // 2, "records go over the end of a block"
    for start in [*starts[::9], *starts[-3:]]:
        for byte, flip in ((4, 0x01), (4, 0xFF), (5, 0x40), (5, 0x80)):
            copy = crash(sound, tmp_path / "copy")
            bad = bytearray(data)
            bad[start + byte] ^= flip
            (copy / victim).write_bytes(bad)
            error = outcome(copy)
            assert isinstance(error, StoreDamaged), (start, byte, error)
            assert victim in str(error)


def test_r1_a_page_of_zeros_in_the_log_is_damage(tmp_path: Path, sound: Path) -> None:
    (victim,) = (file.name for file in sound.glob("*.log") if file.stat().st_size)
    data = (sound / victim).read_bytes()
    for start in frames(data)[1:-4:7]:
        copy = crash(sound, tmp_path / "copy")
        (copy / victim).write_bytes(data[:start] + bytes(100) + data[start + 100 :])
        assert isinstance(outcome(copy), StoreDamaged)


def test_r1_a_torn_end_of_the_log_loses_the_torn_record_only(tmp_path: Path, sound: Path) -> None:
    (victim,) = (file.name for file in sound.glob("*.log") if file.stat().st_size)
    data = (sound / victim).read_bytes()
    for cut in (1, 6, 7, 100, 900):
        for tail in (b"", bytes(cut), bytes(5000)):  # torn short, or not written over
            copy = crash(sound, tmp_path / "copy")
            (copy / victim).write_bytes(data[:-cut] + tail)
            assert outcome(copy) == SAVED - 1, (cut, len(tail))
            assert outcome(copy) == SAVED - 1, "what was cut off stays so"


@pytest.mark.parametrize("payload", [b"x", struct.pack("<QI", 10**15, 1), struct.pack("<QI", 0, 1)])
def test_what_looks_like_a_record_in_a_torn_value_is_no_damage(
    path: Path, tmp_path: Path, payload: bytes
) -> None:
    """Else a client could write a value with which a power cut makes a store unusable."""
    masked = rocks_checksum(b"\x01" + payload)
    frame = struct.pack("<IHB", masked, len(payload), 1) + payload
    with closing(DiskStore(path, IDENTITY)) as store:
        put(store, 0)
        store.flush()
        put(store, 1, frame + bytes(2000))
        store.flush()
        copy = crash(path, tmp_path / "copy")
    log = max(copy.glob("*.log"), key=lambda each: int(each.stem))
    os.truncate(log, log.stat().st_size - 100)
    assert outcome(copy) == 1


def rocks_checksum(data: bytes) -> int:
    """The CRC-32C of bytes, computed bit by bit, masked as RocksDB does."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_r1_a_shortened_table_and_a_lost_file_are_damage(tmp_path: Path, sound: Path) -> None:
    for victim in [file.name for file in sound.iterdir() if _needed(file.name)]:
        copy = crash(sound, tmp_path / "copy")
        (copy / victim).unlink()
        error = outcome(copy)
        assert isinstance(error, StoreDamaged), victim
        if victim.endswith("sst"):
            copy = crash(sound, tmp_path / "copy")
            os.truncate(copy / victim, (copy / victim).stat().st_size - 1)
            error = outcome(copy)
            assert isinstance(error, StoreDamaged)
            assert victim in str(error)


def _needed(name: str) -> bool:
    return name.endswith((".sst", ".log")) or name.startswith("MANIFEST")


@changes_code
def test_r1_an_older_log_must_be_whole(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "WRITE_BUFFER_BYTES", 64 * 1024)
    options = disk._options

    def with_several_logs() -> Options:
        made = options()
        made.set_min_write_buffer_number_to_merge(3)  # until then it writes no table
        return made

    monkeypatch.setattr(disk, "_options", with_several_logs)
    with closing(DiskStore(path, IDENTITY)) as store:
        for number in range(1000):
            put(store, number, b"%d" % number * 200)
            store.flush()
            logs = sorted(log for log in path.glob("*.log") if log.stat().st_size)
            if len(logs) > 1:
                break
        assert len(logs) > 1
        copy = crash(path, tmp_path / "copy")
        assert outcome(crash(copy, tmp_path / "whole")) == number + 1
    older = copy / logs[0].name
    os.truncate(older, frames(older.read_bytes())[-2])
    error = outcome(copy)
    assert isinstance(error, StoreDamaged)
    assert older.name in str(error)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x80", b"p" * 23, b"v" * 50, b"c" * 9, b"x" * 99])
def test_records_that_decode_to_something_else_are_damage(path: Path, data: bytes) -> None:
    store = DiskStore(path, IDENTITY)
    put(store, 0)
    store.flush()
    names = list(store._db.keys())
    store.close()
    assert len(names) == 4, "an identity, a count, a summary and a register"
    for name in names:
        rocks = disk.Rdict(str(path), options := disk._options(), {"default": options})
        before, rocks[name] = rocks[name], data
        rocks.close()
        with pytest.raises((StoreDamaged, DirectoryError)):  # noqa: PT012 - to read is to be told
            store = DiskStore(path, IDENTITY)
            with closing(store):
                found(store)
        rocks = disk.Rdict(str(path), options, {"default": options})
        rocks[name] = before
        rocks.close()


@changes_code
def test_what_could_not_be_read_again_can_be_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskStore(path, IDENTITY)

    def no_room(*_: object, **__: object) -> bool:
        raise StoreError("no room")

    monkeypatch.setattr(disk, "check_logs", no_room)
    for _ in range(2):
        with pytest.raises(StoreError, match="no room"):
            store.reload()
    store.close()


# --- What is in memory ------------------------------------------------------------------


def test_what_is_saved_is_seen_by_every_way_to_look_before_it_is_written(
    on_disk: DiskStore,
) -> None:
    written: list[object] = []
    rocks = on_disk._db
    on_disk._db = Rocks(rocks, write=written.append)  # type: ignore[assignment]
    put(on_disk, 0)
    assert on_disk.ledger("k0").summary.top == 0
    assert on_disk.ledger("k0").register(0).chosen is not None
    assert not written, "it waits for the flush"
    on_disk._db = rocks
    assert on_disk.ledger("k0").below(END) is not None
    assert [key for key, _ in on_disk.keys("", "")] == ["k0"]
    assert not on_disk.empty


@changes_code
def test_what_is_written_is_forgotten_in_memory_and_found_on_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MAX_RECENT_BYTES", 8 * 1024)
    monkeypatch.setattr(disk, "MAX_UNWRITTEN_BYTES", 4 * 1024)
    with closing(DiskStore(path, IDENTITY)) as store:
        for number in range(300):
            put(store, number)
            for earlier in (0, max(number - 20, 0)):
                assert store.ledger(f"k{earlier}").register(0).chosen is not None
        assert found(store) == list(range(300))
        assert len(store._recent) < 16


@changes_code
def test_what_is_being_written_is_seen_though_it_is_not_remembered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MAX_RECENT_BYTES", 8 * 1024)
    with closing(DiskStore(path, IDENTITY)) as store:
        rocks = store._db
        writing, go_on = threading.Event(), threading.Event()

        def write(batch: disk.WriteBatch) -> None:
            writing.set()
            assert go_on.wait(10)
            rocks.write(batch)

        put(store, 0)
        store._db = Rocks(rocks, write=write)  # type: ignore[assignment]
        thread = threading.Thread(target=store.flush)
        thread.start()
        try:
            assert writing.wait(10)
            for number in range(1, 20):
                store.ledger(f"k{number}")
            assert store._recent.get("k0") is None
            for ledger in (*store.ledgers(["k0", "k30"])[:1], store.ledger("k0")):
                assert ledger.register(0) == chosen(0)
        finally:
            go_on.set()
            thread.join()
            store._db = rocks


def test_r9_nothing_is_dropped_without_its_floor(on_disk: DiskStore) -> None:
    acceptor = Acceptor(on_disk, keep=1)
    older, newer = proposal(1), proposal(2)
    acceptor.handle(Commit(Instance("foo", 0), older.id, older))
    on_disk.flush()
    on_disk._db = Rocks(on_disk._db, write=fail)  # type: ignore[assignment]
    acceptor.handle(Commit(Instance("foo", 1), newer.id, newer))
    with pytest.raises(StoreError, match="Input/output error"):
        on_disk.flush()
    on_disk.reload()
    assert on_disk.ledger("foo").summary == Summary(0, 0, (0,))
    assert on_disk.ledger("foo").register(0) == Register(chosen=older)


def test_r9_what_was_dropped_is_gone_before_it_is_written(path: Path) -> None:
    with closing(DiskStore(path, IDENTITY)) as store:
        for ver in range(6):
            store.save(store.ledger("k"), Summary(ver), {ver: chosen(ver)})
        store.flush()
    with closing(DiskStore(path, IDENTITY)) as store:
        store.save(store.ledger("k"), Summary(5, 5, (5,)), {})
        assert store.ledger("k").register(2) == BLANK
        store.flush()
        assert store.ledger("k").register(2) == BLANK


def test_r2_a_promise_above_all_versions_is_found_again(path: Path) -> None:
    with closing(DiskStore(path, IDENTITY)) as store:
        store.save(store.ledger("k"), Summary(3), {3: chosen(3)})
        store.save(store.ledger("k"), Summary(3), {7: Register(BALLOT)})
        store.save(store.ledger("new"), UNHEARD, {9: Register(BALLOT)})
        store.flush()
    with closing(DiskStore(path, IDENTITY)) as store:
        assert store.ledger("k").register(7) == Register(BALLOT)
        assert store.ledger("new").register(9) == Register(BALLOT)
        assert [key for key, _ in store.keys("", "")] == ["k"]
        assert store.statistics()[0] == 1


def test_r12_a_summary_that_grows_counts(on_disk: DiskStore) -> None:
    empty = on_disk._recent._size
    for ver in range(1000):
        on_disk.save(on_disk.ledger("k"), Summary(ver, 0, tuple(range(ver))), {})
    assert on_disk.ledger("k").size > 1000 * 32
    assert on_disk._recent._size - empty > 1000 * 32, "and makes others go the sooner"


def test_of_many_versions_of_a_key_few_are_in_memory_once_they_are_written(
    on_disk: DiskStore,
) -> None:
    kept = on_disk.ledger("k")
    empty = kept.size
    for ver in range(20):
        on_disk.save(on_disk.ledger("k"), Summary(ver), {ver: chosen(ver)})
    assert [on_disk.ledger("k").register(ver) for ver in range(20)] == [
        chosen(ver) for ver in range(20)
    ], "what is not written is nowhere else"
    on_disk.flush()
    for ver in range(20, 40):
        on_disk.save(on_disk.ledger("k"), Summary(ver), {ver: chosen(ver)})
        on_disk.flush()
        assert len(kept.registers) <= 4
    for ver in range(40):
        assert on_disk.ledger("k").register(ver) == chosen(ver)
        assert len(kept.registers) <= 4
    assert on_disk.ledger("k") is kept
    assert kept.size - empty < 5 * 1100
    assert on_disk._recent._size == kept.size


def test_a_flush_in_a_thread_misses_nothing_that_is_saved_beside_it(
    path: Path, tmp_path: Path
) -> None:
    with closing(DiskStore(path, IDENTITY)) as store:
        done = threading.Event()

        def flush() -> None:
            while not done.is_set():
                store.flush()

        thread = threading.Thread(target=flush)
        thread.start()
        for number in range(3000):
            put(store, number)
            if number % 7 == 0:
                assert store.ledger(f"k{number}").below(END) is not None
        done.set()
        thread.join()
        store.flush()
        assert store.flushed == store.saved == 3000
        assert outcome(crash(path, tmp_path / "copy")) == 3000


def test_versions_are_dropped_whether_they_are_written_or_not(on_disk: DiskStore) -> None:
    for gap in (1, 1000):  # a few are named, many are looked for
        key = f"gap {gap}"
        for ver in range(0, 4 * gap, gap):
            on_disk.save(on_disk.ledger(key), Summary(ver, 0, (ver,)), {ver: chosen(ver)})
            if ver == gap:
                on_disk.flush()
        on_disk.save(on_disk.ledger(key), Summary(3 * gap, 3 * gap, (3 * gap,)), {})
        on_disk.flush()
        for ver in range(0, 3 * gap, gap):
            assert on_disk.ledger(key).register(ver) == BLANK
        assert on_disk.ledger(key).below(3 * gap) is None
        assert on_disk.ledger(key).register(3 * gap) == chosen(3 * gap)


def test_the_recently_used_stay_within_their_limit() -> None:
    class Ten:
        size = 10

    recent: Recent[int, Ten] = Recent(100)
    for number in range(100):
        recent.put(number, Ten())
        assert recent.get(0) is not None, "looking at it keeps it"
    assert recent.get(50) is None
    assert recent.get(99) is not None
    assert len(recent) <= 12
    recent.grew(51)
    recent.grew(51)
    assert recent.get(99) is None, "what grows takes the place of others"


# --- A full disk ----------------------------------------------------------------------

_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tests.test_storage import *

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
store = DiskStore(path, IDENTITY)
put(store, 0)
store.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
flushed = 0
try:
    for number in range(1, 1000):
        put(store, number, b"x" * 1000)
        if number % 5 == 0:
            store.flush()
            flushed = number
except StoreError as error:
    assert "File too large" in str(error), error
else:
    raise SystemExit("it never failed")
for _ in range(2):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        store.reload()
    except StoreError as error:
        assert not isinstance(error, StoreDamaged)
    else:
        raise SystemExit("it reloaded without room")
    try:
        store.ledger("k0").summary
    except StoreError:
        pass
    else:
        raise SystemExit("it answered from memory")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.reload()
numbers = found(store)
assert numbers == list(range(len(numbers)))
assert len(numbers) > flushed > 10, (len(numbers), flushed)
put(store, len(numbers))
store.flush()
crash(path, path.with_name("copy"))
store.close()
print(len(numbers) + 1)
"""


def test_r1_a_full_disk_loses_nothing_that_was_flushed(path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert outcome(path) == outcome(path.with_name("copy")) == int(ran.stdout)
