"""Simulated TCP between named hosts.

Each connection is two pipes that keep the order of bytes. What TCP hides, such as lost and
repeated packets, shows as latency; what it does not hide happens: pipes stall, a path between
two hosts is blocked in one direction or in both, connections break, and the two ends learn that
at different times, or one of them never.
"""

from __future__ import annotations

import errno
import math
import os
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Self

import trio

from paxoskv.identity import Address
from paxoskv.limits import RECEIVE_BYTES

from .clock import Clock
from .trace import Trace

SYN_RETRY = 0.5
"""Seconds until an attempt to connect is repeated, when nothing came back."""

WINDOW = 256 * 1024
"""How many bytes a pipe holds, under way and arrived, until its sender has to wait."""

PORTS = 40000
"""Where the ports of those who connect begin."""


@dataclass
class Weather:
    """How the network is at the moment.

    Attributes:
        latency: of most bytes, in seconds.
        jitter: what is added to it at most.
        spikes: how often there is a long latency.
        spike: how long that may be.
        crumbs: how often less is received than has arrived.
    """

    latency: float
    jitter: float
    spikes: float
    spike: float
    crumbs: float


class Network:
    """All hosts, the paths between them, and the connections.

    Args:
        clock: of the world.
        rng: where latencies come from.
        weather: how it is unless something makes it worse.
        trace: takes note of what is sent and lost.
    """

    def __init__(self, clock: Clock, rng: Random, weather: Weather, trace: Trace) -> None:
        self.clock = clock
        self.rng = rng
        self.fair = self.weather = weather
        self.trace = trace
        self._listeners: dict[Address, Listener] = {}
        self._streams: dict[Stream, None] = {}  # whose owners live
        self._dark: set[str] = set()  # hosts without power
        self._blocked: set[tuple[str, str]] = set()
        self._held: dict[Pipe, None] = {}  # have something to deliver on a blocked path
        self._port = PORTS

    # --- connections ---------------------------------------------------------------------

    def listen(self, address: Address) -> Listener:
        """Begin to listen."""
        assert address not in self._listeners
        listener = self._listeners[address] = Listener(self, address)
        return listener

    async def connect(self, host: str, address: Address) -> Stream:
        """Connect from a host to an address; it takes as long as it takes.

        Raises:
            OSError: nobody listens there.
        """
        there = address.host
        while True:
            await trio.sleep(self.latency() + self.latency())
            if there in self._dark or {(host, there), (there, host)} & self._blocked:
                await trio.sleep(SYN_RETRY)
                continue
            listener = self._listeners.get(address)
            if listener is None:
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            self._port += 1
            ours, theirs = self._open(Address(host, self._port), address)
            listener.put(theirs)
            return ours

    def _open(self, here: Address, there: Address) -> tuple[Stream, Stream]:
        ours = Stream(self, here, there)
        theirs = Stream(self, there, here)
        ours.outgoing = theirs.incoming = Pipe(self, ours, theirs)
        theirs.outgoing = ours.incoming = Pipe(self, theirs, ours)
        self._streams[ours] = self._streams[theirs] = None
        return ours, theirs

    def latency(self) -> float:
        """How long something takes to arrive, in seconds."""
        weather, draw = self.weather, self.rng.random
        latency = weather.latency + draw() * weather.jitter
        if draw() < weather.spikes:
            latency += draw() * weather.spike
        return latency

    def streams(self) -> list[Stream]:
        """One end of each connection, of which both are alive."""
        return [each for each in self._streams if each.port > PORTS and not each.lost]

    # --- faults --------------------------------------------------------------------------

    def block(self, source: str, target: str) -> None:
        """Let nothing pass from one host to another."""
        self._blocked.add((source, target))

    def unblock(self, source: str, target: str) -> None:
        """Let it pass again, what was held up included."""
        self._blocked.discard((source, target))
        for pipe in [each for each in self._held if each.path == (source, target)]:
            del self._held[pipe]
            pipe.go_on(self.latency())

    def kill(self, host: str, power: bool = False) -> None:
        """End all that a host has open; without power, nobody is told."""
        for address in [each for each in self._listeners if each.host == host]:
            self._listeners.pop(address).kill()
        if power:
            self._dark.add(host)
        for stream in [each for each in self._streams if each.host == host]:
            stream.die(silently=power)

    def light(self, host: str) -> None:
        """Give a host its power back; who still talks to what it was before is told so."""
        if host in self._dark:
            self._dark.remove(host)
            for stream in list(self._streams):
                if stream.peer_host == host and stream.outgoing.lost_bytes:
                    self.clock.after(self.latency(), stream.lose)

    def is_dark(self, host: str) -> bool:
        """Whether a host has no power."""
        return host in self._dark

    # --- for the streams -----------------------------------------------------------------

    def is_held(self, pipe: Pipe) -> bool:
        """Whether what a pipe has to deliver must wait; if so, it is told when it may go on."""
        if pipe.path in self._blocked:
            self._held[pipe] = None
            return True
        return False

    def forget(self, item: Stream) -> None:
        """Its owner has gone."""
        self._streams.pop(item, None)

    def close(self, listener: Listener) -> None:
        """Listen no more."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]


class Pipe:
    """One direction of a connection.

    Attributes:
        source: the end that sends.
        path: the hosts at its two ends.
        lost_bytes: whether something arrived where nobody was any more.
    """

    def __init__(self, network: Network, source: Stream, target: Stream) -> None:
        self._network = network
        self.source = source
        self._target = target
        self.path = (source.host, target.host)
        self.lost_bytes = False
        self._under_way: deque[tuple[float, bytes]] = deque()  # b"": the end
        self._bytes = 0  # under way
        self._last = 0.0  # when the latest of it is due
        self._stalled = 0.0  # until when nothing moves
        self._broken = False

    @property
    def room(self) -> int:
        """How many bytes may be sent now."""
        return WINDOW - self._bytes - len(self._target.arrived)

    def send(self, data: bytes) -> None:
        """Send something; b"" is the end."""
        if self._broken:
            return
        network = self._network
        self._last = due = max(self._last, network.clock.now + network.latency())
        self._under_way.append((due, data))
        self._bytes += len(data)
        if len(self._under_way) == 1:
            network.clock.at(due, self._arrive)

    def stall(self, seconds: float) -> None:
        """Move nothing for a while."""
        self._stalled = max(self._stalled, self._network.clock.now + seconds)

    def rush(self) -> None:
        """Stall no more."""
        self._stalled = 0.0

    def go_on(self, latency: float) -> None:
        """The path is open again."""
        self._network.clock.after(latency, self._arrive)

    def sever(self) -> None:
        """Lose what is under way, and all that will be sent."""
        self._broken = True
        self._bytes = 0
        self._under_way.clear()

    def _arrive(self) -> None:
        now = self._network.clock.now
        if not self._under_way or self._network.is_held(self):
            return
        if self._stalled > now:
            self._network.clock.at(min(self._stalled, now + 0.5), self._arrive)
            return
        while self._under_way and self._under_way[0][0] <= now:
            _, data = self._under_way.popleft()
            self._bytes -= len(data)
            self._target.take(data)
        if self._under_way:
            self._network.clock.at(self._under_way[0][0], self._arrive)
        self.source.writable.unpark_all()


class Stream:
    """One end of a connection, as a ``paxoskv.stream.Stream``.

    Attributes:
        incoming, outgoing: its pipes.
        arrived: the bytes that arrived and were not received.
        lost: whether it has learned that the connection is broken.
        socket: knows the addresses.
    """

    incoming: Pipe
    outgoing: Pipe

    def __init__(self, network: Network, here: Address, there: Address) -> None:
        self._network = network
        self._label = f"{here}>{there}"
        self.host, self.port = here
        self.peer_host = there.host
        self.socket = Socket(self, here, there)
        self.arrived = bytearray()
        self.lost = False
        self.writable = trio.lowlevel.ParkingLot()
        self._readable = trio.lowlevel.ParkingLot()
        self._ended = False  # the other end will send no more
        self._closed = False
        self._dead = False  # its owner is no more
        self._sending = False

    # --- what a stream does --------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it: the other end receives what was sent, and then the end."""
        if not self._closed:
            self._closed = True
            self._leave(silently=self._dead or self.lost)

    async def aclose(self) -> None:
        """Close it, as who has accepted it does at last."""
        self.__exit__()
        await trio.lowlevel.checkpoint()

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send as much as there is room for."""
        assert not self._sending, "two tasks send on one stream"
        if self._closed or self.lost or self._dead:
            return 0
        sent = bytes(data[: max(self.outgoing.room, 0)])
        if sent:
            self._network.trace.note(self._label, "sends", sent)
            self.outgoing.send(sent)
        return len(sent)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; cancelled, some of them may have been sent."""
        assert not self._sending, "two tasks send on one stream"
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while True:
            self._check_open()
            rest = rest[self.send_now(rest) :]
            if not rest:
                return
            self._sending = True
            try:
                await self.writable.park()
            finally:
                self._sending = False

    async def receive(self) -> bytes:
        """Receive some of what has arrived, or b"" at the end."""
        if self.arrived or self._ended:
            await trio.lowlevel.checkpoint()
        while not self.arrived:
            self._check_open()
            if self._ended:
                return b""
            await self._readable.park()
        self._check_open()
        size = len(self.arrived)
        if self._network.rng.random() < self._network.weather.crumbs:
            size = self._network.rng.randint(1, size)
        size = min(size, RECEIVE_BYTES)
        data = bytes(self.arrived[:size])
        del self.arrived[:size]
        self.incoming.source.writable.unpark_all()
        return data

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self.lost or self._dead:
            raise trio.BrokenResourceError

    # --- what happens to it --------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Bytes arrive, or the end."""
        if self._closed or self._dead:
            # A host that has power tells who sends to what is there no more.
            self.incoming.lost_bytes = True
            if data and not self._network.is_dark(self.host):
                peer = self.incoming.source
                self._network.clock.after(self._network.latency(), peer.lose)
            return
        if data:
            self.arrived += data
        else:
            self._ended = True
        self._readable.unpark_all()

    def lose(self) -> None:
        """Learn that the connection is broken."""
        if not self.lost:
            self.lost = True
            self.arrived.clear()
            self.outgoing.sever()
            self._network.trace.note(self._label, "is lost")
            self._readable.unpark_all()
            self.writable.unpark_all()

    def break_off(self) -> None:
        """Break the connection; each end learns that at some time, or only when it must."""
        rng = self._network.rng
        peer = self.incoming.source
        for end in (self, peer):
            end.outgoing.sever()
            learns = rng.choice((0.0, self._network.latency(), rng.uniform(0.0, 4.0), math.inf))
            if learns < math.inf:
                self._network.clock.after(learns, end.lose)

    def die(self, silently: bool) -> None:
        """The process that owns it ends."""
        if not self._dead:
            self._dead = True
            if not self._closed:
                self._leave(silently)
            self._readable.unpark_all()
            self.writable.unpark_all()

    def _leave(self, silently: bool) -> None:
        self._network.forget(self)
        unread = bool(self.arrived)
        self.arrived.clear()
        if silently:
            self.outgoing.sever()
        elif unread:  # what was sent is lost on the way, as TCP has it
            self._network.clock.after(self._network.latency(), self.incoming.source.lose)
        else:
            self.outgoing.send(b"")


class Socket:
    """The addresses of a stream."""

    def __init__(self, stream: Stream, here: Address, there: Address) -> None:
        self._stream = stream
        self._here = here
        self._there = there

    def getsockname(self) -> tuple[str, int]:
        """The address of this end."""
        return self._here.host, self._here.port

    def getpeername(self) -> tuple[str, int]:
        """The address of the other end, while there is one."""
        if self._stream.lost:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._there.host, self._there.port


class Listener(trio.abc.Listener[Stream]):
    """Where a host accepts connections."""

    def __init__(self, network: Network, address: Address) -> None:
        self.address = address
        self.socket = self
        self._network = network
        self._waiting: deque[Stream] = deque()
        self._arrived = trio.lowlevel.ParkingLot()

    def getsockname(self) -> tuple[str, int]:
        """The address."""
        return self.address.host, self.address.port

    def put(self, stream: Stream) -> None:
        """Somebody has connected."""
        self._waiting.append(stream)
        self._arrived.unpark()

    def kill(self) -> None:
        """Its host ends."""
        self._waiting.clear()

    async def accept(self) -> Stream:
        """Wait for somebody who connects."""
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            await self._arrived.park()
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Listen no more."""
        self._network.close(self)
        await trio.lowlevel.checkpoint()
