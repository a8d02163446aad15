"""A client process of PySyncObj: a node without a vote, whose commands go to the leader.

Calls are chained by callbacks in the thread of PySyncObj: the callers of one process share one
node, also in a duel.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.load import Load, Sample, parse, print_samples, wait_for_go
from bench.peers.pysyncobj_dict import Dict

CALL_TIMEOUT = 5.0
"""Seconds until a caller gives a call up, and makes the next."""


class Caller:
    """Makes one call after the other, each from the callback of the last."""

    def __init__(self, node: Dict, load: Load, number: int, end: float) -> None:
        self.samples: list[Sample] = []
        self.errors = 0
        self.sent = 0.0
        self._node = node
        self._load = load
        self._number = number
        self._own = f"{load.name}-{number}"
        self._end = end
        self._value = b"v" * load.size
        self._calls = 0
        self._attempts = 0
        self._ver = 0
        self._began = 0.0
        self._serial = 0

    def begin(self) -> None:
        """Make the next call."""
        self._began = time.time()
        self._attempts = 0
        self._attempt()

    def _attempt(self) -> None:
        if time.time() >= self._end:
            return
        self.sent = time.time()
        self._serial += 1
        serial = self._serial
        self._attempts += 1

        def callback(result: Any, error: Any) -> None:
            if serial == self._serial:
                self._answered(result, error)

        match self._load.operation:
            case "duel":
                self._node.compare_and_set("duel", self._ver, self._own, callback=callback)
            case "get":
                self._node.read(self._own, callback=callback)
            case _:
                key = f"{self._own}-{self._calls % self._load.keys}"
                self._node.put(key, self._value, callback=callback)

    def _answered(self, result: Any, error: Any) -> None:
        if error:
            self.errors += 1
            time.sleep(0.005)
            self._attempt()
            return
        if self._load.operation == "duel":
            won, latest = result
            self._ver = latest + 1
            if not won:
                self._attempt()
                return
        now = time.time()
        self.samples.append(Sample(now, now - self._began, self._number, self._attempts))
        self._calls += 1
        self.begin()

    def give_up_if_late(self) -> None:
        """Make the call again if there is no answer for long."""
        if time.time() - self.sent > CALL_TIMEOUT:
            self.errors += 1
            self._attempt()


def work(load: Load, addresses: Sequence[str]) -> tuple[list[Sample], int]:
    """Do the load; what was completed, and how many calls failed."""
    logging.disable()  # bench/README.md says what it would say, very often
    node = Dict(None, list(addresses))
    _until(lambda: bool(node.isReady()))
    node.put(f"{load.name}-ready", 0, sync=True, timeout=30)
    wait_for_go()
    end = time.time() + load.seconds
    callers = [Caller(node, load, number, end) for number in range(load.callers)]
    for caller in callers:
        caller.begin()
    while time.time() < end:
        time.sleep(min(0.1, max(0.0, end - time.time())))
        for caller in callers:
            caller.give_up_if_late()
    return [s for caller in callers for s in list(caller.samples)], sum(c.errors for c in callers)


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


if __name__ == "__main__":
    print_samples(*work(*parse(sys.argv[1:])))
    os._exit(0)  # its thread never ends
