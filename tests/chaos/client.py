"""One client process: ``python -m tests.chaos.client NAME HISTORY SEED ADDRESS...``.

It calls until SIGTERM, ends its last calls, and says goodbye with a write that must succeed.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from random import Random

import trio

from paxoskv import open_kv
from tests.linearizability.history import Recorder, append_to

from .workload import Workload

TASKS = 3
TIMEOUT = 0.8
"""Seconds that a call may take."""

PAUSE = 0.01
"""Seconds between two calls of a task, at most."""


async def run(name: str, history: Path, seed: int, addresses: list[str]) -> None:
    rng = Random(seed)
    with trio.open_signal_receiver(signal.SIGTERM) as signals, append_to(history) as write:
        recorder = Recorder(name, time.monotonic, write)
        async with open_kv(addresses, timeout=TIMEOUT) as kv:
            workload = Workload(kv, recorder, name, rng)
            stopping = False

            async def work() -> None:
                while not stopping:
                    await workload.step()
                    await trio.sleep(rng.uniform(0, PAUSE))

            async with trio.open_nursery() as nursery:
                for _ in range(TASKS):
                    nursery.start_soon(work)
                await anext(signals)
                stopping = True
            while not await workload.put("goodbye"):
                pass


if __name__ == "__main__":
    trio.run(run, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
