"""Acceptors in processes of their own: killed, stopped and continued."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import trio

import paxoskv
from bench.cluster import acceptor_processes, free_addresses, start_acceptor
from paxoskv import Entry, open_kv
from paxoskv.limits import MAX_BATCH_BYTES, MAX_UNANSWERED_BYTES
from paxoskv.storage.directory import init_cluster


async def goes_on(kv: paxoskv.KV, key: str) -> None:
    """Writes and reads work, and nobody waits for who is away (generously)."""
    began = time.monotonic()
    for ver in range(20):
        assert await kv.set(key, ver, ver) == Entry(key, ver, ver)
        assert await kv.get(key, ver) == Entry(key, ver, ver)
    assert time.monotonic() - began < 2.0, "somebody waited for an acceptor that is away"


@pytest.mark.parametrize("away", [signal.SIGKILL, signal.SIGSTOP])
async def test_set_and_get_go_on_without_one_acceptor(away: signal.Signals) -> None:
    async with acceptor_processes(3, "--memory") as acceptors:
        addresses = [acceptor.address for acceptor in acceptors]
        async with open_kv(addresses) as kv:
            await goes_on(kv, "before")
            acceptors[1].signal(away)
            await goes_on(kv, "after")
        async with open_kv(addresses) as kv:  # also a client that never knew it
            await goes_on(kv, "later")


async def test_without_two_unavailable_and_with_them_back_the_same_client_works() -> None:
    async with acceptor_processes(3, "--memory") as acceptors:
        addresses = [acceptor.address for acceptor in acceptors]
        async with open_kv(addresses, timeout=1.0) as kv:
            await kv.set("foo", 0, 5)
            for acceptor in acceptors[:2]:
                acceptor.signal(signal.SIGSTOP)
            for ver in (1, 2, 3, 4):  # long enough for the links to be given up
                began = time.monotonic()
                with pytest.raises(paxoskv.Unavailable) as caught:
                    await kv.set("foo", ver, 5)
                assert 0.9 < time.monotonic() - began < 3.0
                assert addresses[0] in str(caught.value)
                assert addresses[1] in str(caught.value)
                assert addresses[2] not in str(caught.value)
            acceptors[0].signal(signal.SIGCONT)
            with trio.fail_after(10):
                while True:
                    try:
                        entry = await kv.set("foo", 1, 5)
                        break
                    except paxoskv.Unavailable:
                        continue
            assert entry == Entry("foo", 1, 5)
            assert await kv.get("foo", 0) == Entry("foo", 0, 5)


async def test_r12_a_stopped_process_costs_a_client_no_memory() -> None:
    async with (
        acceptor_processes(3, "--memory") as acceptors,
        open_kv([acceptor.address for acceptor in acceptors]) as kv,
    ):
        await kv.set("foo", 0, 5)
        acceptors[2].signal(signal.SIGSTOP)
        for ver in range(1, 1000):
            await kv.set("foo", ver, b"x" * 10_000)
        for link in kv._client._cluster.links.values():
            owed = sum(exchange.size for exchange in link._unanswered)
            assert owed <= MAX_UNANSWERED_BYTES + MAX_BATCH_BYTES


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_says_where_it_listens_and_stops_cleanly(number: signal.Signals) -> None:
    async with acceptor_processes(1, "--memory") as (acceptor,):
        assert acceptor.said[-1] == f"listening on {acceptor.address}"
        async with open_kv([acceptor.address]) as kv:
            await kv.set("foo", 0, 5)
            acceptor.signal(number)
            with trio.fail_after(10):
                assert await acceptor.process.wait() == 0


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.005, 0.02])
async def test_told_again_to_stop_it_stops_as_cleanly(pause: float) -> None:
    async with acceptor_processes(1) as (acceptor,):
        async with open_kv([acceptor.address]) as kv:
            await kv.set("foo", 0, 5)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            acceptor.signal(number)
            await trio.sleep(pause)
        with trio.fail_after(10):
            assert await acceptor.process.wait() == 0


async def test_r10_a_directory_that_was_served_from_memory_is_refused(tmp_path: Path) -> None:
    (directory,) = init_cluster(tmp_path / "cluster", free_addresses(1))
    acceptor = await start_acceptor(directory, "--memory", "--listen", "127.0.0.1:0")
    with pytest.raises(RuntimeError, match="in use by another process"):
        await start_acceptor(directory, "--memory")
    assert await acceptor.end() == 0
    with pytest.raises(RuntimeError, match="forgotten what it promised"):
        await start_acceptor(directory, "--memory")
