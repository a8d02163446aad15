"""The last reader: when all is healed, it reads everything that anybody was shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from paxoskv import KV, Compacted, Entry
from tests.linearizability.history import Operation, Outcome, Recorder
from tests.linearizability.versions import SHOWN

AT_A_TIME = 64


async def read_all(kv: KV, recorder: Recorder, history: list[Operation]) -> None:
    """Read each version that is in a history, and of each key the latest and all.

    Raises:
        Unavailable: one of them could not be read.
    """
    limit = trio.CapacityLimiter(AT_A_TIME)

    async def read(
        call: str,
        key: str,
        ver: int | None,
        make: Callable[[], Awaitable[Entry | list[Entry] | None]],
    ) -> None:
        async with limit:
            operation = recorder.invoke(call, key, ver=ver)
            try:
                found = await make()
            except Compacted as error:
                recorder.complete(operation, Outcome.COMPACTED, error.latest)
                return
        told = found if isinstance(found, list) else [found] if found is not None else []
        is_ok = told or isinstance(found, list)
        recorder.complete(operation, Outcome.OK if is_ok else Outcome.NONE, *told)

    shown = {
        (entry.key, entry.ver)
        for operation in history
        if operation.outcome in SHOWN
        for entry in operation.entries
    }
    async with trio.open_nursery() as nursery:
        for key in sorted({key for key, _ in shown}):
            nursery.start_soon(read, "latest", key, None, lambda key=key: kv.latest(key))
            nursery.start_soon(read, "get", key, None, lambda key=key: kv.get(key))
            nursery.start_soon(read, "history", key, None, lambda key=key: kv.history(key))
        for key, ver in sorted(shown):
            nursery.start_soon(read, "get", key, ver, lambda key=key, ver=ver: kv.get(key, ver))
