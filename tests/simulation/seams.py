"""Where the real code meets the simulated world: the only place that replaces anything.

The real code asks for four things from outside: TCP connections, a thread to flush in, random
ids, and the order in which trio runs its tasks. Each is replaced for the time of a run, under
the name by which the code finds it, and a name that is gone is an error.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import trio

import paxoskv.host
import paxoskv.identity
import paxoskv.link
import paxoskv.server
from paxoskv.identity import Address

from .disk import Store
from .network import Network, Stream

HERE: ContextVar[str] = ContextVar("HERE")
"""On which host a task runs; its child tasks run there as well."""


@contextmanager
def simulated(network: Network, seed: str) -> Iterator[None]:
    """Let the real code, and trio's scheduler, run in the simulated world of a seed."""

    async def connect(address: Address) -> Stream:
        return await network.connect(HERE.get(), address)

    def accepted(stream: Stream) -> Stream:
        return stream

    async def run_sync(function: Callable[[], None], *, limiter: object = None) -> None:
        store = function.__self__  # type: ignore[attr-defined]
        assert isinstance(store, Store), "only a flush goes to a thread"
        await store.flush_in_time()

    ids = random.Random(f"{seed} ids")
    assert vars(paxoskv.host)["trio"] is trio, "it finds threads by another name"
    with ExitStack() as stack:
        for owner, name, double in (
            (paxoskv.link, "connect", connect),
            (paxoskv.server, "Stream", accepted),
            (trio.to_thread, "run_sync", run_sync),
            # Simulated time does not pass while the event loop is held up.
            (paxoskv.host, "QUICK_FLUSH", 0.0),
            (paxoskv.identity, "secrets", SimpleNamespace(token_bytes=ids.randbytes)),
        ):
            stack.enter_context(replaced(owner, name, double))
        stack.enter_context(_scheduled(f"{seed} scheduler"))
        yield


@contextmanager
def replaced(owner: Any, name: str, double: object) -> Iterator[None]:
    """Replace an attribute, which must be there, for the time of a block."""
    original = getattr(owner, name)
    setattr(owner, name, double)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def _scheduled(seed: str) -> Iterator[None]:
    """Let the seed decide in which order trio runs its tasks.

    There is no public way; hypothesis and pytest-trio use these private names as well, but for
    the last: no socket is real here, so to ask the system for them at each turn is in vain.
    """
    run = trio._core._run

    class Unpolled(run.TheIOManager):  # type: ignore[misc, name-defined, unused-ignore]
        def get_events(self, timeout: float) -> object:
            return super().get_events(timeout) if timeout else []

    assert isinstance(run._r, random.Random)
    assert isinstance(run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    state = run._r.getstate()
    run._r.seed(seed)
    try:
        with (
            replaced(run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            replaced(run, "TheIOManager", Unpolled),
        ):
            yield
    finally:
        run._r.setstate(state)
