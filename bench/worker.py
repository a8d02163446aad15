"""A client process of paxoskv: one client with many callers, or proposers that duel."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import trio

from paxoskv import KV, PaxosKVError, open_kv

from .load import Load, Sample, parse, print_samples, wait_for_go


def call_of(kv: KV, load: Load, caller: int) -> Callable[[int], Awaitable[Any]]:
    """What a caller does; it is given the number of the call."""
    value = b"v" * load.size
    own = f"{load.name}-{caller}"

    async def call(number: int) -> Any:
        match load.operation:
            case "set":
                return await kv.set(f"{own}-{number}", 0, value)
            case "put":
                return await kv.put(f"{own}-{number % load.keys}", value)
            case "get":
                return await kv.get(own)
            case "version":
                return await kv.get(own, 0)
            case "count":
                return await kv.update(load.name, lambda number: (number or 0) + 1)
            case "duel":
                return await kv.put("duel", [own, number])

    return call


async def work(load: Load, addresses: Sequence[str]) -> tuple[list[Sample], int]:
    """Do the load; what was completed, and how many calls failed."""
    samples: list[Sample] = []
    errors = 0
    numbers: Iterator[int] = iter(range(load.count)) if load.count else iter(int, 1)

    async def one(kv: KV, caller: int) -> None:
        nonlocal errors
        call = call_of(kv, load, caller)
        attempts = kv.attempts
        for number, _ in enumerate(numbers):
            began = time.time()
            try:
                await call(number)
            except PaxosKVError:
                errors += 1
                continue
            completed = time.time()
            tries = kv.attempts - attempts if load.operation == "duel" else 1
            attempts = kv.attempts
            samples.append(Sample(completed, completed - began, caller, tries))

    async with AsyncExitStack() as stack:
        clients = load.callers if load.operation == "duel" else 1
        kvs = [await stack.enter_async_context(open_kv(addresses)) for _ in range(clients)]
        for kv in kvs:
            await kv.get("duel")  # connected
        if load.operation in ("get", "version"):
            for caller in range(load.callers):
                await kvs[0].put(f"{load.name}-{caller}", b"v" * load.size)
        wait_for_go()
        with trio.move_on_after(load.seconds if not load.count else float("inf")):
            async with trio.open_nursery() as nursery:
                for caller in range(load.callers):
                    nursery.start_soon(one, kvs[caller % clients], caller)
    return samples, errors


if __name__ == "__main__":
    print_samples(*trio.run(work, *parse(sys.argv[1:])))
