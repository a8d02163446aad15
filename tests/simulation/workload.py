"""What the clients do: all calls, mixed, on few keys."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import trio

from paxoskv import KV, Unavailable, open_kv
from paxoskv import Entry as Told
from tests.linearizability.history import Attempt, Entry, Operation, Outcome

from .calls import Calls
from .network import Network
from .seams import HERE

Result = Told | list[Told] | bool | None

SAME = ("same", 1, True, None)
"""Values that several clients write: equal ones are nobody's own."""

PATIENCE = 20.0
"""How long a call may take when nothing fails any more, in seconds."""

CALLS = 80
"""How many calls the clients aim at while things fail."""

BURST_SECONDS, BURST_CALLS = 0.1, 12
"""How long a burst may be, and how many calls it may have."""

CONTENDED = 3
"""How often each client writes the key that all write at the end."""


class Workload:
    """The clients of a run. How they behave is drawn from the seed.

    Args:
        rng: where all is drawn from.
        addresses: of the cluster.
        network: that the clients are in.
        calls: where each call is recorded.
        duration: for how long they go on, in seconds.
        keep: how many versions of a key the acceptors keep.

    Attributes:
        hosts: where they run.
        keys: that they use.
    """

    def __init__(
        self,
        rng: Random,
        addresses: list[str],
        network: Network,
        calls: Calls,
        duration: float,
        keep: int,
    ) -> None:
        self.hosts = [f"c{number}" for number in range(1, rng.choice((2, 3, 4)) + 1)]
        self.keys = ["k", "key", "other", "x"][: rng.choice((1, 2, 4))]
        self.rng = rng
        self.addresses = addresses
        self.network = network
        self.calls = calls
        self.timeout = rng.choice((0.05, 0.5, 2.0, 5.0, 5.0, math.inf))
        self.cancels = rng.choice((0.0, 0.05, 0.2))  # how many of the calls are cancelled
        self.sessions = rng.choice((4.0, 15.0, 100.0))  # how long a client lives
        self.tasks = rng.choice((1, 2, 6))  # of one client
        self.weights = [rng.choice((0, 1, 1, 3)) for _ in KINDS]
        if not any(self.weights):
            self.weights = [1 for _ in KINDS]
        self.focus = ""  # the key that all write during a burst
        self.over = trio.Event()
        self.alarm = trio.lowlevel.ParkingLot()  # those who think until there is a burst
        self._duration = duration
        self._keep = keep
        self._burst_ends = 0.0
        self._burst_calls = 0  # that are left in this burst
        self._all_bursts = CALLS // 2  # that are left in all bursts
        self._clients = [_Client(self, host) for host in self.hosts]

    def burst(self, seconds: float) -> None:
        """Let all clients write the same key, without a pause."""
        self.focus = self.rng.choice(self.keys)
        self._burst_ends = trio.current_time() + min(seconds, BURST_SECONDS)
        self._burst_calls = min(BURST_CALLS, self._all_bursts)
        if self._burst_calls:
            self.alarm.unpark_all()

    @property
    def stopped(self) -> bool:
        """Whether no further calls may begin."""
        return self.over.is_set()

    @property
    def bursting(self) -> bool:
        """Whether there is a burst at the moment."""
        is_on = self._burst_calls > 0 and trio.current_time() < self._burst_ends
        return is_on and not self.stopped

    def count_burst(self) -> None:
        """One call of the burst is made."""
        self._burst_calls -= 1
        self._all_bursts -= 1

    @property
    def pause(self) -> float:
        """How long a task thinks on average, for all to make as many calls as they aim at."""
        seconds = max(self._duration - trio.current_time(), 1.0)
        left = max(CALLS - len(self.calls.all), CALLS / 10)
        return seconds * len(self.hosts) * self.tasks / left

    async def run(self) -> None:
        """Let all clients work, until they are told to stop and have ended their calls."""
        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(client.run)

    async def finish(self) -> None:
        """Let all clients do what must work when nothing fails any more.

        They settle what is open, and then all write one key at a time: each gets through.
        Then one looks at all keys.
        """
        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(client.settle_all)
        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(client.contend, self.keys[0])
        await self._clients[0].look()

    def failed(self, call: Operation) -> bool:
        """Whether a call of those in the end did not work, though nothing fails any more.

        Where the acceptors keep fewer versions than are written at a time, one may be dropped
        before its writer was told of it; then nobody knows, and the writer writes again.
        """
        if call.outcome not in (Outcome.UNKNOWN, Outcome.FAILED):
            return False
        writes = CONTENDED * len(self._clients)
        return self._keep >= writes or (call.client, call.id) not in self.calls.dropped

    def stop(self) -> None:
        """Begin no further calls."""
        self.over.set()
        self.alarm.unpark_all()


class _Client:
    """One client host, with one client after the other."""

    def __init__(self, workload: Workload, host: str) -> None:
        self._workload = workload
        self._host = host
        self._rng = workload.rng
        self._calls = workload.calls
        self._latest: dict[str, int] = dict.fromkeys(workload.keys, -1)
        self._count = 0

    async def run(self) -> None:
        HERE.set(self._host)
        while not self._workload.stopped:
            await self._session()

    async def settle_all(self) -> None:
        """Find out about all writes of which nobody knows whether they wrote."""
        async with self._open() as kv:
            while unsettled := self.unsettled():
                await _settle_one(self, kv, *unsettled)

    async def contend(self, key: str) -> None:
        """Write a key that all others write as well."""
        async with self._open() as kv:
            written = 0
            while written < CONTENDED:
                call = await self._rng.choice((_put, _update))(self, kv, key)
                written += call.outcome is Outcome.OK or self._workload.failed(call)

    async def look(self) -> None:
        """Look at all keys."""
        async with self._open() as kv:
            for key in self._workload.keys:
                for kind in (_history, _get, _put):
                    await kind(self, kv, key)
            await _scan(self, kv, "")

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[KV]:
        HERE.set(self._host)
        rng = Random(self._rng.random())
        async with open_kv(self._workload.addresses, timeout=PATIENCE, rng=rng) as kv:
            yield kv

    async def _session(self) -> None:
        """One client, from its opening to its close, or to its sudden end."""
        work, rng = self._workload, self._rng
        given = rng.sample(work.addresses, rng.randint(1, len(work.addresses)))
        ends = trio.current_time() + rng.expovariate(1.0) * work.sessions
        is_killed = rng.random() < 0.5
        with trio.CancelScope() as life:
            async with (
                open_kv(given, timeout=work.timeout, rng=Random(rng.random())) as kv,
                trio.open_nursery() as nursery,
            ):
                for _ in range(work.tasks):
                    nursery.start_soon(self._task, kv, math.inf if is_killed else ends)
                if is_killed:
                    with trio.move_on_at(ends):
                        await work.over.wait()
                    if not work.stopped:
                        work.network.trace.note(self._host, "is killed")
                        work.network.kill(self._host)
                        life.cancel()
        if not work.stopped:
            await trio.sleep(rng.random())

    async def _task(self, kv: KV, ends: float) -> None:
        work, rng = self._workload, self._rng
        while not work.over.is_set() and trio.current_time() < ends:
            if not work.bursting:
                with trio.move_on_after(rng.expovariate(1.0) * work.pause):
                    await work.alarm.park()
                if work.over.is_set():
                    return
            await self._call(kv)

    async def _call(self, kv: KV) -> None:
        work, rng = self._workload, self._rng
        (kind,) = rng.choices(KINDS, work.weights)
        key = rng.choice(work.keys)
        if work.bursting:
            work.count_burst()
            kind, key = rng.choice((_set_next, _put, _update, _get_version)), work.focus
        cancelled = rng.random() < work.cancels
        within = rng.expovariate(1.0) * 0.05 if cancelled else math.inf
        with trio.move_on_after(within):
            await kind(self, kv, key)

    # --- for the calls --------------------------------------------------------------------

    @property
    def rng(self) -> Random:
        return self._rng

    def latest(self, key: str) -> int:
        """The highest version of a key that this client has seen, or -1."""
        return self._latest[key]

    def value(self) -> object:
        """A value to write, mostly one that nobody else writes."""
        if self._rng.random() < 0.1:
            return self._rng.choice(SAME)
        self._count += 1
        return f"{self._host}-{self._count}"

    async def make(
        self,
        name: str,
        key: str,
        function: Callable[[], Awaitable[Result]],
        ver: int | None = None,
        val: object = None,
    ) -> Operation:
        """Make a call, and learn from it."""
        return await self.go_on(self.begin(name, key, ver, val), function)

    def begin(
        self, name: str, key: str, ver: int | None = None, val: object = None, of: int | None = None
    ) -> Operation:
        """Note that a call begins."""
        return self._calls.begin(self._host, name, key, ver, val, of)

    async def go_on(self, call: Operation, function: Callable[[], Awaitable[Result]]) -> Operation:
        """Make a call that has begun, and learn from it."""
        await self._calls.make(call, function)
        for entry in call.entries:
            if call.outcome is not Outcome.UNKNOWN:
                self._latest[entry.key] = max(self._latest[entry.key], entry.ver)
        return call

    def unsettled(self) -> tuple[int, Unavailable] | None:
        """One of the writes of this client of which nobody knows whether they wrote."""
        names = [name for name in self._calls.maybes if name[0] == self._host]
        if not names:
            return None
        name = self._rng.choice(names)
        return name[1], self._calls.maybes.pop(name)


async def _set(client: _Client, kv: KV, key: str, ver: int) -> Operation:
    val = client.value()
    return await client.make("set", key, lambda: kv.set(key, ver, val), ver, val)


async def _set_next(client: _Client, kv: KV, key: str) -> Operation:
    return await _set(client, kv, key, client.latest(key) + 1)


async def _set_above_a_gap(client: _Client, kv: KV, key: str) -> Operation:
    return await _set(client, kv, key, client.latest(key) + client.rng.randint(2, 5))


async def _set_below(client: _Client, kv: KV, key: str) -> Operation:
    return await _set(client, kv, key, _somewhere(client, key))


async def _propose(client: _Client, kv: KV, key: str) -> Operation:
    ver, val = max(0, client.latest(key) + client.rng.randint(-1, 2)), client.value()
    return await client.make("propose", key, lambda: kv.propose(key, ver, val), ver, val)


async def _get_version(client: _Client, kv: KV, key: str) -> Operation:
    # Mostly the version that somebody may be about to write.
    ver = client.latest(key) + 1 if client.rng.random() < 0.6 else _somewhere(client, key)
    return await client.make("get", key, lambda: kv.get(key, ver), ver)


def _somewhere(client: _Client, key: str) -> int:
    latest = client.latest(key)
    return client.rng.randint(max(0, latest - 8), latest + 2)


async def _get(client: _Client, kv: KV, key: str) -> Operation:
    return await client.make("get", key, lambda: kv.get(key))


async def _latest(client: _Client, kv: KV, key: str) -> Operation:
    return await client.make("latest", key, lambda: kv.latest(key))


async def _put(client: _Client, kv: KV, key: str) -> Operation:
    val = client.value()
    return await client.make("put", key, lambda: kv.put(key, val), val=val)


async def _update(client: _Client, kv: KV, key: str) -> Operation:
    call = client.begin("update", key)

    def function(old: object) -> object:
        val = [client.value(), old[0] if isinstance(old, list) else old]
        call.attempts.append(Attempt(old, val))
        return val

    return await client.go_on(call, lambda: kv.update(key, function))


async def _delete(client: _Client, kv: KV, key: str) -> Operation:
    return await client.make("delete", key, lambda: kv.delete(key))


async def _history(client: _Client, kv: KV, key: str) -> Operation:
    return await client.make("history", key, lambda: kv.history(key))


async def _scan(client: _Client, kv: KV, key: str) -> Operation:
    async def scan() -> list[Told]:
        return [entry async for entry in kv.scan(key)]

    return await client.make("scan", key, scan)


async def _settle(client: _Client, kv: KV, key: str) -> Operation:
    unsettled = client.unsettled()
    if unsettled is None:
        return await _latest(client, kv, key)
    return await _settle_one(client, kv, *unsettled)


async def _settle_one(client: _Client, kv: KV, of: int, error: Unavailable) -> Operation:
    assert error.maybe is not None
    call = client.begin("settle", error.maybe.key, error.maybe.ver, of=of)
    await client.go_on(call, lambda: kv.settle(error))
    if call.outcome is Outcome.OK:
        call.entries = [
            Entry(error.maybe.key, error.maybe.ver, error.maybe.val, error.maybe.deleted)
        ]
    return call


Kind = Callable[[_Client, KV, str], Awaitable[Operation]]

KINDS: tuple[Kind, ...] = (
    _set_next,
    _set_above_a_gap,
    _set_below,
    _propose,
    _get_version,
    _get,
    _latest,
    _put,
    _update,
    _delete,
    _history,
    _scan,
    _settle,
)
