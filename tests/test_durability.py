"""Acceptors with disks, in processes of their own: killed, wiped, and brought back."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
from collections import defaultdict
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
import trio

import paxoskv
from bench.cluster import Acceptor, acceptor_processes, free_addresses, start_acceptor
from paxoskv import Entry, open_kv
from paxoskv.limits import AWAY
from paxoskv.paxos.messages import Instance
from paxoskv.status import cluster_status
from paxoskv.storage.directory import IDENTITY_FILE, STORE, hold_directory, init_cluster
from paxoskv.values import to_entry

CYCLES = int(os.environ.get("PAXOSKV_KILL_CYCLES", "10"))
"""How often acceptors are killed; a hundred times take a minute or two."""


class Writers:
    """Clients that write all the while, and keep what they were told."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.stopping = False
        self.acknowledged: dict[tuple[str, int], object] = {}
        self.seen: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.increments = 0

    def saw(self, entry: Entry) -> None:
        self.seen[entry.key, entry.ver].add(repr(entry.val))
        self.acknowledged[entry.key, entry.ver] = entry.val

    async def put(self, name: str) -> None:
        async with open_kv(self.addresses, timeout=1.0) as kv:
            step = 0
            while not self.stopping:
                step += 1
                with suppress(paxoskv.Unavailable):
                    self.saw(await kv.put(name, [name, step]))
                    self.saw(await kv.put("shared", [name, step]))
                await trio.lowlevel.checkpoint()

    async def set(self, name: str) -> None:
        async with open_kv(self.addresses, timeout=1.0) as kv:
            ver = 0
            while not self.stopping:
                with suppress(paxoskv.Unavailable):
                    try:
                        self.saw(await kv.propose("fought over", ver, name))
                        ver += 1
                    except paxoskv.Compacted as error:  # the other one is far ahead
                        ver = error.latest.ver + 1

    async def count(self) -> None:
        async with open_kv(self.addresses, timeout=1.0) as kv:
            unsettled: paxoskv.Unavailable | None = None
            while not self.stopping or unsettled is not None:
                with suppress(paxoskv.Unavailable):
                    if unsettled is not None:
                        was_chosen = await kv.settle(unsettled)
                        self.increments += was_chosen
                        unsettled = None
                        continue
                    try:
                        self.saw(await kv.update("count", lambda old: (old or 0) + 1))
                        self.increments += 1
                    except paxoskv.Unavailable as error:
                        unsettled = error
                await trio.lowlevel.checkpoint()


async def test_r1_what_was_acknowledged_survives_kill_9_of_any_and_of_all() -> None:
    rng = Random(7)
    # So many are kept that each update of unknown outcome can still be settled.
    async with acceptor_processes(3, "--keep", "4096") as acceptors:
        addresses = [acceptor.address for acceptor in acceptors]
        writers = Writers(addresses)
        async with trio.open_nursery() as nursery:
            for name in ("one", "two"):
                nursery.start_soon(writers.put, name)
                nursery.start_soon(writers.set, name)
            for _ in range(2):
                nursery.start_soon(writers.count)
            for _ in range(CYCLES):
                await trio.sleep(rng.uniform(0.05, 0.5))
                victims = rng.sample(range(3), rng.choice([1, 1, 2, 3]))
                for index in victims:
                    await acceptors[index].kill()
                    await trio.sleep(rng.choice([0, 0.05]))
                for index in victims:
                    acceptors[index] = await acceptors[index].start_again()
            await trio.sleep(0.5)
            writers.stopping = True
        assert len(writers.acknowledged) > 10 * CYCLES
        assert all(len(values) == 1 for values in writers.seen.values()), "two values"
        async with open_kv(addresses) as kv:
            latest: dict[str, Entry] = {}
            for key in {key for key, _ in writers.acknowledged}:
                entry = await kv.get(key)
                assert entry is not None
                latest[key] = entry
            for (key, ver), val in writers.acknowledged.items():
                assert latest[key].ver >= ver
                try:
                    entry = await kv.get(key, ver)
                except paxoskv.Compacted as error:
                    assert error.latest.ver > ver  # noqa: PT017 - either is right
                else:
                    assert entry == Entry(key, ver, val)
            count = await kv.get("count")
            assert count is not None
            assert count.val == writers.increments


async def test_serve_says_what_it_recovered() -> None:
    async with acceptor_processes(1) as acceptors:
        assert re.search(r"recovered 0 keys, \d+ bytes, in \d+\.\d\d s", acceptors[0].said[-2])
        async with open_kv([acceptors[0].address]) as kv:
            for number in range(7):
                await kv.put(f"key {number}", number)
            await acceptors[0].kill()
            acceptors[0] = await acceptors[0].start_again()
            assert "recovered 7 keys" in acceptors[0].said[-2]
            assert (await kv.put("key 3", "more")).ver == 1, "the same client goes on"


async def test_r10_an_acceptor_that_lost_its_store_is_refused(tmp_path: Path) -> None:
    first, second = init_cluster(tmp_path / "cluster", free_addresses(2))
    acceptor = await start_acceptor(first)
    with pytest.raises(RuntimeError, match="in use by another process"):
        await start_acceptor(first)
    assert await acceptor.end() == 0
    async with acceptor_processes(1) as (other,):
        async with open_kv([other.address]) as kv:
            await kv.put("foo", 1)
        with pytest.raises(RuntimeError, match="in use"):
            await start_acceptor(other.directory, "--memory")
        await other.kill()
        with pytest.raises(RuntimeError, match="serve it without --memory"):
            await start_acceptor(other.directory, "--memory")
        shutil.rmtree(second / STORE)
        shutil.copytree(other.directory / STORE, second / STORE)
        with pytest.raises(RuntimeError, match="store of another acceptor"):
            await start_acceptor(second)
        shutil.rmtree(second / STORE)
        with pytest.raises(RuntimeError, match="has forgotten its promises"):
            await start_acceptor(second)
        (second / STORE).mkdir()
        with pytest.raises(RuntimeError, match="has forgotten its promises"):
            await start_acceptor(second)


async def test_damage_is_named_and_never_answered_from() -> None:
    async with acceptor_processes(1) as (acceptor,):
        async with open_kv([acceptor.address]) as kv:
            for number in range(50):
                await kv.put("foo", number)
        await acceptor.kill()
        log = max((acceptor.directory / STORE).glob("*.log"))
        data = bytearray(log.read_bytes())
        data[len(data) // 2] ^= 1
        log.write_bytes(data)
        with pytest.raises(RuntimeError, match=log.name):
            await start_acceptor(acceptor.directory)


async def test_a_full_disk_is_waited_out() -> None:
    async with acceptor_processes(1) as (acceptor,):
        async with open_kv([acceptor.address], timeout=1.0) as kv:
            await kv.put("foo", "before")
            # No file of the process may grow any more, as on a full disk.
            _, hard = resource.prlimit(acceptor.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(acceptor.process.pid, resource.RLIMIT_FSIZE, (0, hard))
            for _ in range(3):
                with pytest.raises(paxoskv.Unavailable, match="File too large"):
                    await kv.put("foo", "never told")
            with pytest.raises(paxoskv.Unavailable, match="cannot serve now"):
                await kv.get("foo")
            resource.prlimit(acceptor.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            with trio.fail_after(20):
                while True:
                    with suppress(paxoskv.Unavailable):
                        entries = await kv.history("foo")
                        break
            assert entries[0] == Entry("foo", 0, "before")
            assert await kv.put("foo", "after") == Entry("foo", len(entries), "after")
        await acceptor.kill()


async def test_an_acceptor_that_was_away_learns_what_it_missed() -> None:
    async with acceptor_processes(3) as acceptors:
        addresses = [acceptor.address for acceptor in acceptors]
        async with open_kv(addresses) as kv:
            await kv.put("old", 1)
            await acceptors[2].kill()
            for number in range(200):
                await kv.put(f"key {number}", number)
            for number in range(2, 25):
                await kv.put("old", number)
            await kv.put("gone", 1)
            await kv.delete("gone")
            acceptors[2] = await acceptors[2].start_again()
            with trio.fail_after(20):
                while (await cluster_status(addresses, 5)).acceptors[2].keys < 202:  # noqa: ASYNC110
                    await trio.sleep(0.1)
                await trio.sleep(1.0)
            # Those that told it what it missed are gone now, one after the other.
            await acceptors[0].kill()
            assert await kv.get("old") == Entry("old", 23, 24)
        acceptors[0] = await acceptors[0].start_again()
        for index in (0, 1):
            await acceptors[index].end()
        store = await alone(acceptors[2])
        assert store["old"] == Entry("old", 23, 24)
        assert {key: store[key].val for key in store if key.startswith("key ")} == {
            f"key {number}": number for number in range(200)
        }
        assert store["gone"].deleted


async def alone(acceptor: Acceptor) -> dict[str, Entry]:
    """What an acceptor by itself knows to be chosen, read from its store."""
    await acceptor.end()
    known = {}
    with hold_directory(acceptor.directory) as directory:
        store = directory.open_store()
        for key, summary in store.keys("", ""):
            instance = Instance(key, summary.top)
            chosen = store.ledger(instance.key).register(instance.ver).chosen
            if chosen is not None:
                known[key] = to_entry(instance, chosen)
        store.close()
    return known


async def test_r8_sigterm_loses_no_commit_that_has_arrived() -> None:
    async with acceptor_processes(3) as acceptors:
        async with open_kv([acceptor.address for acceptor in acceptors]) as kv:
            for number in range(20):
                await kv.put(f"key {number}", number)
        for acceptor in acceptors:
            await acceptor.end()
        for acceptor in acceptors:
            with hold_directory(acceptor.directory) as directory:
                with closing(directory.open_store()) as store:
                    known = [store.ledger(f"key {number}").summary.chosen for number in range(20)]
                assert known == [(0,)] * 20


async def test_an_acceptor_that_was_stopped_learns_what_it_missed() -> None:
    async with acceptor_processes(3) as acceptors:
        addresses = [acceptor.address for acceptor in acceptors]
        async with open_kv(addresses) as kv:
            acceptors[1].signal(signal.SIGSTOP)
            for number in range(300):  # more than may be unanswered: it is left out
                await kv.put("foo", number)
            await trio.sleep(AWAY + 0.5)
        acceptors[1].signal(signal.SIGCONT)
        await trio.sleep(3)
        store = await alone(acceptors[1])
        assert store["foo"] == Entry("foo", 299, 299)


async def test_r10_an_identity_that_was_cut_to_fewer_members_is_refused() -> None:
    async with acceptor_processes(3) as acceptors:
        await acceptors[0].end()
        file = acceptors[0].directory / IDENTITY_FILE
        text = file.read_text()
        own = re.search(r'acceptor = "(\w+)"', text)
        assert own is not None
        head, *members = text.split("[[members]]")
        (mine,) = [member for member in members if own[1] in member]
        file.write_text(head.replace("acceptors = 3", "acceptors = 1") + "[[members]]" + mine)
        with pytest.raises(RuntimeError, match="of other members"):
            await acceptors[0].start_again()


async def test_a_status_of_a_store_that_was_moved_ends_nothing() -> None:
    async with acceptor_processes(1) as (acceptor,):
        store = acceptor.directory / STORE
        store.rename(store.with_name("moved"))
        for _ in range(2):
            await cluster_status([acceptor.address], 0.5)
            assert acceptor.process.poll() is None
        store.with_name("moved").rename(store)
