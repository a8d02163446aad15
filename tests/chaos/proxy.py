"""The network before one acceptor: a TCP proxy that cuts, holds, loses and delays."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum

import trio

CHUNK = 65536
"""Bytes that it takes at a time."""


class Traffic(Enum):
    """What becomes of the bytes that go one way."""

    FLOWS = "flows"
    WAITS = "waits"  # it arrives late, when it flows again
    VANISHES = "vanishes"  # the connection breaks when it flows again


class Way:
    """One direction. ``delay``: seconds by which each chunk is late."""

    def __init__(self) -> None:
        self.delay = 0.0
        self._traffic = Traffic.FLOWS
        self._flows = trio.Event()
        self._flows.set()

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    @traffic.setter
    def traffic(self, traffic: Traffic) -> None:
        self._traffic = traffic
        if traffic is not Traffic.WAITS:
            self._flows.set()
        elif self._flows.is_set():
            self._flows = trio.Event()

    async def pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        """Carry bytes until either end is closed, or some were lost."""
        is_lost = False
        while data := await source.receive_some(CHUNK):
            await self._flows.wait()
            if self._traffic is Traffic.VANISHES:
                is_lost = True
            elif is_lost:
                return
            else:
                await trio.sleep(self.delay)
                await sink.send_all(data)


class Proxy:
    """Carries the connections to one acceptor.

    Attributes:
        port: where the acceptor listens at the moment.
        forth, back: the two ways.
    """

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.port = 0
        self.forth, self.back = Way(), Way()
        self._is_cut = False
        self._connections: set[trio.CancelScope] = set()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.socket.getsockname()
        return host, port

    async def run(self) -> None:
        await trio.serve_listeners(self._handle, [self._listener])

    def cut(self) -> None:
        """Break all connections, and let no new one through."""
        self._is_cut = True
        for scope in self._connections:
            scope.cancel()

    def heal(self) -> None:
        """Let everything through again."""
        self._is_cut = False
        for way in (self.forth, self.back):
            way.delay = 0.0
            way.traffic = Traffic.FLOWS

    async def _handle(self, outside: trio.SocketStream) -> None:
        if self._is_cut:
            return
        with suppress(OSError, trio.BrokenResourceError), trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                async with await trio.open_tcp_stream("127.0.0.1", self.port) as inside:
                    await self._carry(outside, inside)
            finally:
                self._connections.discard(scope)

    async def _carry(self, outside: trio.SocketStream, inside: trio.SocketStream) -> None:
        async def pump(way: Way, source: trio.SocketStream, sink: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                await way.pump(source, sink)
            pumps.cancel_scope.cancel()

        async with trio.open_nursery() as pumps:
            pumps.start_soon(pump, self.forth, outside, inside)
            pumps.start_soon(pump, self.back, inside, outside)


async def open_proxy() -> Proxy:
    """A proxy at a free port of this machine."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    return Proxy(listener)
