"""Acceptors that become unreachable without a word, and come back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio

import paxoskv
from paxoskv import Entry, link, open_kv
from paxoskv.identity import Address, new_cluster
from paxoskv.server import listen, serve
from paxoskv.storage.memory import MemoryStore


class Door:
    """A TCP proxy before an acceptor. While it is shut, bytes in either direction vanish."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.shut = False

    async def handle(self, outside: trio.SocketStream) -> None:
        async with (
            await trio.open_tcp_stream(*self.address) as inside,
            trio.open_nursery() as pumps,
        ):
            pumps.start_soon(self._pump, inside, outside, pumps.cancel_scope)
            pumps.start_soon(self._pump, outside, inside, pumps.cancel_scope)

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        with suppress(trio.BrokenResourceError):
            while data := await source.receive_some():
                if not self.shut:
                    await sink.send_all(data)
        both.cancel()


@asynccontextmanager
async def cluster_behind_doors() -> AsyncIterator[tuple[list[str], list[Door]]]:
    async with trio.open_nursery() as nursery:
        outer = [await listen(Address("127.0.0.1", 0)) for _ in range(3)]
        addresses = [Address(*each[0].socket.getsockname()) for each in outer]
        doors = []
        for identity, listeners in zip(new_cluster(addresses), outer, strict=True):
            inner = await listen(Address("127.0.0.1", 0))
            doors.append(Door(Address(*inner[0].socket.getsockname())))
            await nursery.start(serve, identity, MemoryStore(), inner)
            nursery.start_soon(trio.serve_listeners, doors[-1].handle, listeners)
        yield [str(address) for address in addresses], doors
        nursery.cancel_scope.cancel()


async def test_one_unreachable_acceptor_delays_nobody() -> None:
    async with cluster_behind_doors() as (addresses, doors), open_kv(addresses) as kv:
        await kv.set("foo", 0, 0)
        doors[1].shut = True
        with trio.fail_after(2):  # 0.05 s would do; a wait for the third would take much more
            for ver in range(1, 50):
                assert await kv.set("foo", ver, ver) == Entry("foo", ver, ver)
                assert await kv.get("foo", ver) == Entry("foo", ver, ver)


async def test_a_restored_link_serves_the_same_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SILENCE_TIMEOUT", 0.2)
    monkeypatch.setattr(link, "CONNECT_TIMEOUT", 0.2)
    async with (
        cluster_behind_doors() as (addresses, doors),
        open_kv(addresses, timeout=0.7) as kv,
    ):
        await kv.set("foo", 0, 0)
        doors[0].shut = doors[2].shut = True
        for _ in range(2):
            with pytest.raises(paxoskv.Unavailable) as caught:
                await kv.set("foo", 1, 1)
            assert addresses[0] in str(caught.value)
            assert addresses[2] in str(caught.value)
        # What vanished does not come back: the links must be opened anew.
        doors[2].shut = False
        with trio.fail_after(10):
            while True:
                with suppress(paxoskv.Unavailable):
                    assert await kv.set("foo", 1, 1) == Entry("foo", 1, 1)
                    break
