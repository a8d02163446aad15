"""What a client calls: everything, at random, with values that name the client and the step."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random
from typing import Any

import trio

from paxoskv import KV, Compacted, Entry, Unavailable, VersionTaken
from tests.linearizability.history import Outcome, Recorder

HOT = ["hot", "warm", "gaps", "gone"]
"""The keys that are called all the time; to ``gaps`` go sets beyond the next version."""

EPOCH = 2.0
"""Seconds after which new keys are used, and what was written to the old ones must stay."""

CALLS = {
    "put": 5, "update": 5, "set": 4, "propose": 2, "delete": 1,
    "get": 3, "get_ver": 3, "latest": 3, "history": 1, "scan": 1,
}  # fmt: skip
"""How often each is called, in proportion."""

CANCELLED = 0.03
"""How many of the calls are cancelled early."""

SETTLE_TRIES = 5

Told = Entry | list[Entry] | None
"""What a call returns."""


class Workload:
    """Calls of one client, each recorded.

    Args:
        kv: what it calls.
        recorder: takes note.
        name: of the client, which no other has.
        rng: draws the calls.
    """

    def __init__(self, kv: KV, recorder: Recorder, name: str, rng: Random) -> None:
        self._kv = kv
        self._recorder = recorder
        self._name = name
        self._rng = rng
        self._steps = count()
        self._known: dict[str, int] = {}  # the latest versions that it heard of

    async def step(self) -> None:
        """One call, and what it takes to learn its outcome."""
        (call,) = self._rng.choices(list(CALLS), list(CALLS.values()))
        key = self._key()
        match call:
            case "put":
                await self.put(key)
            case "update":
                await self._update(key)
            case "set" | "propose":
                await self._decide(call, key, self._version(key), self._value())
            case "delete":
                key = self._rng.choice(["gone", key])
                await self._call("delete", key, lambda: self._kv.delete(key), cancel=False)
            case "get":
                await self._call("get", key, lambda: self._kv.get(key))
            case "get_ver":
                ver = self._version(key)
                await self._call("get", key, lambda: self._kv.get(key, ver), ver=ver)
            case "latest":
                await self._call("latest", key, lambda: self._kv.latest(key))
            case "history":
                await self._call("history", key, lambda: self._kv.history(key))
            case "scan":
                await self._scan()

    async def put(self, key: str) -> bool:
        """Put; whether it was written for certain."""
        value = self._value()
        return await self._call("put", key, lambda: self._kv.put(key, value), val=value)

    async def _update(self, key: str) -> None:
        step = next(self._steps)

        def function(base: Any) -> Any:
            counted = base[2] if isinstance(base, list) and len(base) > 2 else 0
            value = [self._name, step, counted + 1]
            self._recorder.attempt(operation, base, value)
            return value

        operation = self._recorder.invoke("update", key)
        await self._end(operation, "update", lambda: self._kv.update(key, function))

    async def _decide(self, call: str, key: str, ver: int, value: Any) -> bool:
        make = self._kv.set if call == "set" else self._kv.propose
        return await self._call(call, key, lambda: make(key, ver, value), ver=ver, val=value)

    async def _scan(self) -> None:
        prefix, limit = self._rng.choice(["", "e", "g", HOT[0]]), self._rng.choice([None, 3])

        async def scan() -> list[Entry]:
            return [entry async for entry in self._kv.scan(prefix, limit=limit)]

        await self._call("scan", prefix, scan, limit=limit)

    async def _call(
        self,
        call: str,
        key: str,
        make: Callable[[], Awaitable[Told]],
        *,
        cancel: bool = True,
        **given: Any,
    ) -> bool:
        return await self._end(self._recorder.invoke(call, key, **given), call, make, cancel)

    async def _end(
        self,
        operation: int,
        call: str,
        make: Callable[[], Awaitable[Told]],
        cancel: bool = True,
    ) -> bool:
        """Make a call and take note of its end; whether it ended well."""
        told: list[Entry] = []
        outcome = Outcome.UNKNOWN
        unavailable: Unavailable | None = None
        limit = self._rng.expovariate(100) if cancel and self._rng.random() < CANCELLED else 3600
        with trio.move_on_after(limit):
            try:
                found = await make()
            except VersionTaken as error:
                outcome, told = Outcome.TAKEN, [error.entry]
            except Compacted as error:
                outcome, told = Outcome.COMPACTED, [error.latest]
            except Unavailable as error:
                unavailable = error
            else:
                told = found if isinstance(found, list) else [found] if found is not None else []
                outcome = Outcome.OK if told or isinstance(found, list) else Outcome.NONE
        if unavailable is not None:
            if unavailable.maybe is None:
                self._recorder.complete(operation, Outcome.FAILED)
            else:
                self._recorder.complete(operation, Outcome.UNKNOWN, unavailable.maybe)
                await self._find_out(operation, call, unavailable, unavailable.maybe)
            return False
        self._recorder.complete(operation, outcome, *told)
        for entry in told:
            self._known[entry.key] = max(entry.ver, self._known.get(entry.key, -1))
        return outcome is Outcome.OK

    async def _find_out(self, write: int, call: str, error: Unavailable, maybe: Entry) -> None:
        """What to do about an unknown outcome: leave it, repeat it, or settle it."""
        what = self._rng.choice(["leave", "repeat", "settle", "settle", "settle"])
        if what == "repeat" and call in {"set", "propose"}:
            await self._decide(call, maybe.key, maybe.ver, maybe.val)
        elif what == "settle":
            for _ in range(SETTLE_TRIES):
                if await self._settle(write, error, maybe):
                    return

    async def _settle(self, write: int, error: Unavailable, maybe: Entry) -> bool:
        operation = self._recorder.invoke("settle", maybe.key, ver=maybe.ver, of=write)
        try:
            if await self._kv.settle(error):
                self._recorder.complete(operation, Outcome.OK, maybe)
            else:
                self._recorder.complete(operation, Outcome.NONE)
        except Compacted as compacted:
            self._recorder.complete(operation, Outcome.COMPACTED, compacted.latest)
        except Unavailable:
            self._recorder.complete(operation, Outcome.UNKNOWN)
            return False
        return True

    def _value(self) -> list[Any]:
        return [self._name, next(self._steps)]

    def _key(self) -> str:
        if self._rng.random() < 0.6:
            return self._rng.choice(HOT)
        return f"e{int(time.monotonic() // EPOCH):09}.{self._rng.randrange(3)}"

    def _version(self, key: str) -> int:
        """The next version, or one nearby."""
        ahead = [0, 1, 1, 1, 2, 4] if key == "gaps" else [-20, -3, -1, 0, 1, 1, 1, 1]
        return max(0, self._known.get(key, -1) + self._rng.choice(ahead))
